//! Names of images: one small file an alias, with the mark of the Image object that owns it.

use std::path::{Path, PathBuf};

use manifests::path_io;
use serde::{Deserialize, Serialize};

use super::error::ImageError;

/// An alias of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alias {
    /// Version of the file's form: 1.
    pub format_version: u32,
    /// The alias, as people write it: `debian/12`.
    pub alias: String,
    /// The image it names.
    pub fingerprint: String,
    /// Whose it is; `None`: set by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

/// Checks that a word can be an alias: 1 to 128 printable ASCII characters without space, and nothing that could be
/// taken for a fingerprint.
///
/// # Errors
/// [`ImageError::BadAlias`].
pub fn check(alias: &str) -> Result<(), ImageError> {
    let fingerprint_like = alias.starts_with("sha256:")
        || (alias.len() >= 12 && alias.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let printable = alias.bytes().all(|byte| byte.is_ascii_graphic());
    if alias.is_empty() || alias.len() > 128 || !printable || fingerprint_like {
        return Err(ImageError::BadAlias(alias.to_owned()));
    }
    Ok(())
}

/// Letters, digits, `_` and `-` stand for themselves, everything else is `%` and two digits: no dot, no slash, and at most
/// 3 × 128 bytes would be too long for a name, so long ones end in a digest.
fn file_name(alias: &str) -> String {
    use sha2::Digest as _;
    use std::fmt::Write as _;
    let mut name = String::new();
    for byte in alias.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02x}");
        }
    }
    if name.len() > 180 {
        name.truncate(100);
        name.push_str("%%");
        name.push_str(&hex::encode(sha2::Sha256::digest(alias)));
    }
    name.push_str(".json");
    name
}

fn file_of(folder: &Path, alias: &str) -> PathBuf {
    folder.join(file_name(alias))
}

pub(super) fn get(folder: &Path, alias: &str) -> Result<Option<Alias>, ImageError> {
    if check(alias).is_err() {
        return Ok(None);
    }
    let path = file_of(folder, alias);
    match path_io::read_if_exists(&path)? {
        Some(text) => read(&path, &text).map(Some),
        None => Ok(None),
    }
}

pub(super) fn set(folder: &Path, alias: &Alias) -> Result<(), ImageError> {
    check(&alias.alias)?;
    path_io::ensure_dir(folder)?;
    let path = file_of(folder, &alias.alias);
    let text = serde_json::to_string_pretty(alias).map_err(|error| ImageError::Broken {
        path: path.clone(),
        problem: error.to_string(),
    })?;
    Ok(path_io::write_durably(&path, text)?)
}

pub(super) fn remove(folder: &Path, alias: &str) -> Result<(), ImageError> {
    check(alias)?;
    Ok(path_io::remove_file(file_of(folder, alias))?)
}

/// All aliases, by name.
pub(super) fn list(folder: &Path) -> Result<Vec<Alias>, ImageError> {
    let files = match path_io::list(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for path in files {
        // Not the temporary files of a writer.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || !name.ends_with(".json") {
            continue;
        }
        if let Some(text) = path_io::read_if_exists(&path)? {
            found.push(read(&path, &text)?);
        }
    }
    found.sort_by(|a, b| a.alias.cmp(&b.alias));
    Ok(found)
}

fn read(path: &Path, text: &str) -> Result<Alias, ImageError> {
    serde_json::from_str(text).map_err(|error| ImageError::Broken {
        path: path.to_path_buf(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_words_can_be_aliases() {
        for good in [
            "busybox",
            "debian/12",
            "a",
            "web:1",
            "../x",
            "deadbeef",
            "ubuntu 24",
        ] {
            assert_eq!(check(good).is_ok(), !good.contains(' '), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", "deadbeefcafe", "sha256:abc", "ä", "a\nb", long.as_str()] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn file_names_are_flat_short_and_different() {
        let long = |end| format!("{}{end}", "/".repeat(127));
        let aliases = ["a/b", "a%2fb", "a_b", "..", "../../etc/passwd", "A/B"];
        let mut names: Vec<String> = aliases.iter().map(|alias| file_name(alias)).collect();
        names.extend([file_name(&long("a")), file_name(&long("b"))]);
        for name in &names {
            assert!(name.len() < 200 && !name.contains('/') && !name.starts_with('.'));
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
