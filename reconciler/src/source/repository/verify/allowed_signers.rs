//! A file of allowed signers, as `ssh-keygen -Y` and `git` have it: whose keys count, for what, and when.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// One line of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Signer {
    /// Who, as it is written.
    principals: String,
    /// The key in its wire form.
    key: Vec<u8>,
    /// What it counts for; none: all.
    namespaces: Option<Vec<String>>,
    /// From when and until when it counts, in seconds of Unix time.
    after: Option<i64>,
    before: Option<i64>,
    /// It signs keys of others, and nothing itself.
    is_authority: bool,
}

/// Reads the file.
///
/// # Errors
/// A line cannot be understood: whom it means is not guessed.
pub(super) fn parse(text: &str) -> Result<Vec<Signer>, String> {
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let signer = signer(line).map_err(|why| format!("line {}: {why}", number + 1))?;
        all.push(signer);
    }
    Ok(all)
}

fn signer(line: &str) -> Result<Signer, String> {
    let words = split(line, char::is_whitespace);
    let is_kind = |word: &str| {
        ["ssh-", "sk-", "ecdsa-"]
            .iter()
            .any(|start| word.starts_with(start))
    };
    let at = match words.as_slice() {
        [_, kind, _, ..] if is_kind(kind) => 1,
        [_, _, kind, _, ..] if is_kind(kind) => 2,
        _ => return Err("it is not `principals [options] kind key`".to_owned()),
    };
    let mut out = Signer {
        principals: words[0].replace('"', ""),
        key: BASE64_STANDARD
            .decode(&words[at + 1])
            .map_err(|_| "its key is no base64".to_owned())?,
        ..Signer::default()
    };
    if at == 2 {
        for option in split(&words[1], |c| c == ',') {
            let (name, value) = option.split_once('=').unwrap_or((&option, ""));
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "cert-authority" => out.is_authority = true,
                "namespaces" => {
                    out.namespaces = Some(value.split(',').map(str::to_owned).collect());
                }
                "valid-after" => out.after = Some(time(value)?),
                "valid-before" => out.before = Some(time(value)?),
                other => {
                    return Err(format!(
                        "the option `{}` is not known",
                        other.escape_debug()
                    ));
                }
            }
        }
    }
    Ok(out)
}

/// Splits a text where it is not between quotes.
fn split(text: &str, at: impl Fn(char) -> bool) -> Vec<String> {
    let mut is_quoted = false;
    let words = text.split(|character| {
        is_quoted ^= character == '"';
        at(character) && !is_quoted
    });
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// `20260131`, `202601311200`, `20260131120030`; with `Z` in UTC, else in the time of this host.
fn time(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "`{}` is no time such as 20260131 or 202601311200Z",
            text.escape_debug()
        )
    };
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return Err(wrong());
    }
    let whole = format!("{digits:0<14}");
    let time = DateTime::strptime("%Y%m%d%H%M%S", &whole).map_err(|_| wrong())?;
    let time = time.to_zoned(zone).map_err(|_| wrong())?;
    Ok(time.timestamp().as_second())
}

/// Who a key belongs to, where it counts for that at that time.
///
/// # Errors
/// It does not, and why.
pub(super) fn who<'a>(
    signers: &'a [Signer],
    key: &[u8],
    namespace: &str,
    at: i64,
) -> Result<&'a str, String> {
    let mut why = "nobody among the allowed signers has its key";
    for signer in signers.iter().filter(|signer| signer.key == key) {
        let is_meant = |names: &Vec<String>| {
            let refused = names.iter().filter_map(|name| name.strip_prefix('!'));
            !refused.into_iter().any(|name| matches(name, namespace))
                && names.iter().any(|name| matches(name, namespace))
        };
        if signer.is_authority {
            why = "its key is that of an authority, which signs keys alone";
        } else if !signer.namespaces.as_ref().is_none_or(is_meant) {
            why = "its key counts for something else than git";
        } else if signer.after.is_some_and(|after| at < after) {
            why = "its key was not valid yet when it was made";
        } else if signer.before.is_some_and(|before| at >= before) {
            why = "its key was not valid any more when it was made";
        } else {
            return Ok(&signer.principals);
        }
    }
    Err(why.to_owned())
}

/// Whether a pattern with `*` and `?` is of a text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut characters = pattern.chars();
    match characters.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = characters.as_str();
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|at| matches(rest, text.get(at..).unwrap_or_default()))
        }
        Some(wanted) => {
            let mut here = text.chars();
            here.next()
                .is_some_and(|found| wanted == '?' || wanted == found)
                && matches(characters.as_str(), here.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAA";

    fn ask(line: &str, at: &str) -> Result<String, String> {
        let signers = parse(line)?;
        let at = time(at).expect("a time");
        who(&signers, &[0, 0, 0], "git", at).map(str::to_owned)
    }

    #[test]
    fn a_key_counts_for_what_and_when_it_is_said() {
        let now = "202601010000Z";
        for (options, counts) in [
            ("", true),
            ("namespaces=\"git\"", true),
            ("namespaces=\"file,git\"", true),
            ("namespaces=\"file\"", false),
            ("namespaces=\"*\"", true),
            ("namespaces=\"*,!git\"", false),
            ("namespaces=\"g?t\"", true),
            ("valid-after=\"20250101Z\"", true),
            ("valid-after=\"20270101Z\"", false),
            ("valid-before=\"20270101Z\"", true),
            ("valid-before=\"202601010000Z\"", false),
            (
                "valid-after=\"20250101Z\",valid-before=\"20270101120000Z\",namespaces=\"git\"",
                true,
            ),
            ("cert-authority", false),
        ] {
            let line = format!("# who\n\nann@example.org {options} ssh-ed25519 {KEY} Ann's key\n");
            let asked = ask(&line, now);
            assert_eq!(asked.is_ok(), counts, "{options}: {asked:?}");
        }
        let another = ask("ann ssh-ed25519 AAAB", now).expect_err("another key");
        assert!(another.contains("nobody"), "{another}");
    }

    #[test]
    fn what_is_not_understood_lets_nobody_in() {
        for line in [
            "ann",
            "ann ssh-ed25519",
            "ann ssh-ed25519 %%%",
            "ann nonsense ssh-ed25519 AAAA",
            "ann valid-after=\"tomorrow\" ssh-ed25519 AAAA",
            "ann valid-after=\"20261301Z\" ssh-ed25519 AAAA",
        ] {
            let error = parse(&format!("\n{line}\n")).expect_err(line);
            assert!(error.starts_with("line 2: "), "{error}");
        }
    }
}
