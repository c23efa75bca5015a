//! Where tokens are, and who is trusted: what lets us in is read when it is needed, and never shown.

use std::path::{Path, PathBuf};

use manifests::controller::Token;
use manifests::path_io;
use reqwest::Certificate;

/// The most bytes that a file with a token or certificates has.
const MOST_OF_FILE: u64 = 1 << 20;

/// The cause of an error that another crate made.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What the settings name cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct AccessError {
    /// What was done: `read the token`.
    pub what: String,
    /// Why not.
    #[source]
    pub source: Cause,
}

impl AccessError {
    /// What was done, and why not.
    pub fn new(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(hidden)")
    }
}

/// A variable of the environment.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where a token is, as far as it does not change while the controller runs.
#[derive(Debug, Clone)]
pub enum TokenPlace {
    /// A file, which is read each time: tokens are renewed.
    File(PathBuf),
    /// The value of a variable.
    Value(Hidden),
}

impl TokenPlace {
    /// Where it is, once the surroundings are known.
    ///
    /// # Errors
    /// It is not there.
    pub fn of(token: &Token, variable: Variable<'_>) -> Result<Self, AccessError> {
        if let Some(file) = &token.file {
            return Ok(Self::File(file.as_path().to_path_buf()));
        }
        if let Some(name) = &token.environment {
            let value = variable(name).filter(|value| !value.is_empty());
            let what = || format!("read the token in the variable {name}");
            let value = value.ok_or_else(|| AccessError::new(what(), "it is not set"))?;
            return Ok(Self::Value(Hidden(value)));
        }
        let name = token.credential.as_deref().unwrap_or_default();
        let what = || format!("read the token in the credential `{}`", name.escape_debug());
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(AccessError::new(what(), "it is no name of one"));
        }
        let folder = variable("CREDENTIALS_DIRECTORY");
        let none = "systemd gave keel none: the unit needs `LoadCredential=`";
        let folder = folder.ok_or_else(|| AccessError::new(what(), none))?;
        Ok(Self::File(Path::new(&folder).join(name)))
    }

    /// The token as it is now.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn read(&self) -> Result<Hidden, AccessError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::File(path) => Ok(Hidden(small(path, "read the token")?)),
        }
    }
}

/// The certificates in a file.
///
/// # Errors
/// It cannot be read, or there are none in it.
pub fn authority(path: &Path) -> Result<Vec<Certificate>, AccessError> {
    let what = || format!("read the certificates in {}", path.display());
    let text = small(path, &what())?;
    let certificates = Certificate::from_pem_bundle(text.as_bytes());
    let certificates = certificates.map_err(|error| AccessError::new(what(), error))?;
    match certificates.is_empty() {
        true => Err(AccessError::new(what(), "there are none in it")),
        false => Ok(certificates),
    }
}

/// A small file, without the line end that editors put there.
fn small(path: &Path, what: &str) -> Result<String, AccessError> {
    let wrong = |source: Cause| AccessError::new(what, source);
    let found = path.metadata().map_err(|error| wrong(error.into()))?;
    if !found.is_file() || found.len() > MOST_OF_FILE {
        return Err(wrong(
            format!("{} is no file of at most 1 MiB", path.display()).into(),
        ));
    }
    let text = path_io::read_to_string(path).map_err(|error| wrong(error.into()))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
