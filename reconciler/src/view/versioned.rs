//! Documents with a `formatVersion`: what is cut short, of a newer format, or none at all is told apart.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Why a document cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It ends in the middle.
    #[error("it is cut short: it ends in line {line} in the middle of the document")]
    Cut {
        /// Where it ends.
        line: usize,
    },
    /// It is no JSON, or another document.
    #[error("it is not what keel saves there: {0}")]
    Form(String),
    /// A newer keel made it.
    #[error("its format {0} is newer than this keel reads (1.x)")]
    Newer(String),
}

impl Unreadable {
    /// Another document, in words that go on after a colon.
    pub fn form(what: impl std::fmt::Display) -> Self {
        Self::Form(what.to_string())
    }
}

/// The one field that every version has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    format_version: Option<String>,
}

/// Reads a document of any format 1.x.
///
/// # Errors
/// It is none, cut short, or of a newer format.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    let read = serde_json::from_str::<T>(text);
    // A document of another format need not look as this version thinks.
    let head = match (&read, text.len()) {
        // What was read has it near its beginning, and nobody wants to read all of a large one twice.
        (Ok(_), 1024..) => head_of(text).map_or_else(|| whole(text), Ok),
        _ => whole(text),
    };
    let format = head?
        .format_version
        .ok_or_else(|| Unreadable::form("it has no `formatVersion`"))?;
    match format.split_once('.') {
        Some(("1", _)) => read.map_err(Unreadable::form),
        Some((major, _)) if major.parse::<u32>().is_ok_and(|major| major > 1) => {
            Err(Unreadable::Newer(format))
        }
        _ => Err(Unreadable::Form(format!(
            "its format `{format}` is unknown"
        ))),
    }
}

fn whole(text: &str) -> Result<Head, Unreadable> {
    serde_json::from_str(text).map_err(|error| {
        if error.is_eof() && !text.trim().is_empty() {
            Unreadable::Cut { line: error.line() }
        } else {
            Unreadable::form(error)
        }
    })
}

/// The head of a document that begins with it, as keel writes them.
fn head_of(text: &str) -> Option<Head> {
    let rest = text.trim_start().strip_prefix('{')?.trim_start();
    let rest = rest.strip_prefix("\"formatVersion\"")?.trim_start();
    let rest = rest.strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let (version, _) = rest.split_once('"')?;
    Some(Head {
        format_version: Some(version.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_bad_document_has_its_reason() {
        let long = format!(
            "{{\"formatVersion\": \"1.0\", \"rest\": {:?}}}",
            "x".repeat(2000)
        );
        assert!(read::<Value>(&long).is_ok());
        assert!(read::<Value>("{\"formatVersion\": \"1.9\", \"added\": 1}").is_ok());
        for (text, why) in [
            (&long[..1500], "cut short"),
            ("", "not what keel saves"),
            ("kind: Network", "not what keel saves"),
            ("{}", "no `formatVersion`"),
            ("[]", "not what keel saves"),
            ("{\"formatVersion\": \"2.0\"}", "newer"),
            ("{\"formatVersion\": \"0.9\"}", "unknown"),
            ("{\"formatVersion\": \"1\"}", "unknown"),
            (&long.replace("1.0", "3.1"), "newer"),
        ] {
            let error = read::<Value>(text).expect_err(why).to_string();
            assert!(error.contains(why), "{error} does not say {why}");
        }
    }
}
