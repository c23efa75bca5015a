//! [`Diagnostic`]: one finding about manifests, with its place, and the nearest right word.

use std::fmt;
use std::sync::Arc;

use crate::pointer::Pointer;

/// The name of a file, shared by all that was written in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<str>);

impl Default for FileName {
    fn default() -> Self {
        Self("".into())
    }
}

impl std::ops::Deref for FileName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for FileName {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl serde::Serialize for FileName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for FileName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(deserializer).map(Self::from)
    }
}

/// Where a value was written.
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Origin {
    /// The file, relative to the root of its source.
    pub file: FileName,
    /// The line, from 1; 0 where no line is known.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The bytes of the value in the file: begin and end.
    #[serde(skip)]
    pub bytes: (u32, u32),
}

impl fmt::Display for Origin {
    /// `web.yaml:14`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// How bad a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Nothing is done while it stands.
    Error,
    /// Worth a look.
    Warning,
}

/// A stable code: `E0104`. E schema, R reference, U unsupported by this engine, G guard, S source, P policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Which rule found it.
    pub code: Code,
    /// One sentence without a full stop.
    pub message: String,
    /// Where it was written.
    pub origin: Origin,
    /// Which object it concerns, `instance/web-1`, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Which value of the document it concerns.
    pub path: Pointer,
    /// Said under the caret: "did you mean `memory`?".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Other places that belong to it, with a word each: "first defined here".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<(Origin, String)>,
    /// Said below: "known fields: …".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: Code, origin: Origin, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            origin,
            object: None,
            path: Pointer::root(),
            hint: None,
            related: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A warning.
    pub fn warning(code: Code, origin: Origin, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, origin, message)
        }
    }

    /// Names the value of the document.
    #[must_use]
    pub fn at(mut self, path: Pointer) -> Self {
        self.path = path;
        self
    }

    /// Names the object.
    #[must_use]
    pub fn of(mut self, object: impl fmt::Display) -> Self {
        self.object = Some(object.to_string());
        self
    }

    /// Adds the words under the caret.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a line below.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds another place that belongs to it.
    #[must_use]
    pub fn related(mut self, origin: Origin, words: impl Into<String>) -> Self {
        self.related.push((origin, words.into()));
        self
    }
}

/// All findings of a run.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// Adds all of another run.
    pub fn extend(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    /// Changes each finding.
    pub fn each(&mut self, change: impl FnMut(&mut Diagnostic)) {
        self.found.iter_mut().for_each(change);
    }

    /// Tells each finding once: a mistake in a profile shows in each of its instances.
    pub fn tell_once(&mut self) {
        let mut seen = std::collections::BTreeSet::new();
        self.found
            .retain(|one| seen.insert((one.code, one.origin.clone(), one.message.clone())));
    }

    /// Whether anything forbids going on.
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The findings by file and place.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut all: Vec<&Diagnostic> = self.found.iter().collect();
        all.sort_by(|a, b| {
            (&a.origin, a.severity, a.code, &a.message)
                .cmp(&(&b.origin, b.severity, b.code, &b.message))
        });
        all
    }
}
