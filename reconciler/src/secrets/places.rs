//! Where values are: variables and credentials of this process, files of the host, files of the repository, and the age
//! keys that open these.

use std::path::{Path, PathBuf};

use manifests::attached::{self, Attached, AttachedFiles};
use manifests::path_io;
use manifests::secret::SecretValue;

use super::age::{self, Identity};

/// Keys of age of this host, for keel alone.
const KEYS: &str = "/etc/keel/age.keys";
/// The most bytes of a file of the host.
const MOST: u64 = 1 << 20;

/// The process around, as far as secrets come from it. Only the command line reads the environment.
pub struct Places<'a> {
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Places<'_> {
    fn variable_of(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn variable(&self, name: &str) -> Result<SecretValue, String> {
        (self.variable)(name)
            .map(SecretValue::new)
            .ok_or_else(|| format!("keel has no environment variable {name}"))
    }

    pub(super) fn credential(&self, name: &str) -> Result<SecretValue, String> {
        let folder = self
            .variable_of("CREDENTIALS_DIRECTORY")
            .ok_or("systemd gave keel no credentials: the unit needs `LoadCredential=`")?;
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(format!("`{name}` is no name of a credential"));
        }
        host_file(&format!("{folder}/{name}"))
    }

    /// The keys of age that this host has.
    pub(super) fn identities(&self) -> Result<Vec<Identity>, String> {
        let mut all = Vec::new();
        let mut add = |from: &str, text: &str| {
            let found = Identity::parse_all(text).map_err(|error| format!("{from}: {error}"))?;
            all.extend(found);
            Ok::<(), String>(())
        };
        if let Some(keys) = self.variable_of("SOPS_AGE_KEY") {
            add("SOPS_AGE_KEY", &keys)?;
        }
        if let Some(path) = self.variable_of("SOPS_AGE_KEY_FILE") {
            add(&path, host_file(&path)?.reveal())?;
        }
        let configuration = self
            .variable_of("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&self.variable_of("HOME")?).join(".config")));
        let usual = configuration.map(|folder| folder.join("sops/age/keys.txt"));
        for path in [Some(PathBuf::from(KEYS)), usual].into_iter().flatten() {
            let name = path.display().to_string();
            if path.is_file() {
                add(&name, host_file(&name)?.reveal())?;
            }
        }
        Ok(all)
    }
}

/// A file of the host, without the line end that editors put there.
pub(super) fn host_file(path: &str) -> Result<SecretValue, String> {
    if !path.starts_with('/') {
        return Err(format!("{path}: a file of the host has an absolute path"));
    }
    let kind = Path::new(path)
        .metadata()
        .map_err(|error| format!("{path}: {error}"))?;
    if !kind.is_file() || kind.len() > MOST {
        return Err(format!(
            "{path}: it is no file of at most {} KiB",
            MOST >> 10
        ));
    }
    let text = path_io::read_to_string(path).map_err(|error| super::chain(path, &error))?;
    Ok(SecretValue::new(without_line_end(text)))
}

/// A file of the repository that a manifest names.
pub(super) fn attached<'a>(
    files: &'a AttachedFiles,
    root: &Path,
    manifest: &str,
    path: &str,
) -> Result<&'a str, String> {
    let name = attached::name_of(root, manifest, path)
        .ok_or_else(|| format!("{path} {}", attached::OUTSIDE))?;
    match files.get(&name) {
        Some(Attached::Text(text)) => Ok(text),
        Some(Attached::Refused(why)) => Err(format!("{path} {why}")),
        None => Err(format!("{path} was not read")),
    }
}

/// Opens a file that age encrypted whole.
pub(super) fn age(places: &Places<'_>, path: &str, text: &str) -> Result<SecretValue, String> {
    let identities = places.identities()?;
    let plain =
        age::decrypt(text.as_bytes(), &identities).map_err(|error| super::chain(path, &error))?;
    let text = String::from_utf8(plain.to_vec()).map_err(|_| format!("{path}: it is not UTF-8"))?;
    Ok(SecretValue::new(without_line_end(text)))
}

fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
