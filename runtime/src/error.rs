//! [`RuntimeError`]: what could not be done, to which object, and of which class the failure is.

use std::error::Error;
use std::fmt;

use manifests::id::Address;

/// What the caller does next about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// It may work later without anybody's doing.
    Retry,
    /// Somebody else changed or owns the thing: look again.
    Conflict,
    /// This host or engine cannot do it.
    Unsupported,
    /// It is held: the kernel or a rule refuses, nothing was harmed.
    Refused,
    /// A person has to mend something first.
    NeedsOperator,
    /// A fault of ours.
    Bug,
}

/// A failed deed of a runtime. Its `Display` is a fragment that says what was being done; the source says why.
#[derive(Debug)]
pub struct RuntimeError {
    /// What was being done: `start`, `create the bridge`.
    pub doing: String,
    /// To which object, where it was one.
    pub object: Option<Box<Address>>,
    /// What the caller does next.
    pub class: Class,
    /// Why it failed.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl RuntimeError {
    /// A failure with its reason.
    pub fn new(
        doing: impl Into<String>,
        class: Class,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            doing: doing.into(),
            object: None,
            class,
            source: Some(source.into()),
        }
    }

    /// Names the object.
    #[must_use]
    pub fn of(mut self, object: &Address) -> Self {
        self.object = Some(Box::new(object.clone()));
        self
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Some(object) => write!(formatter, "{} {object}", self.doing),
            None => formatter.write_str(&self.doing),
        }
    }
}

impl Error for RuntimeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
