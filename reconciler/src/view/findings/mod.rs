//! [`Findings`]: what the formats of CI have in common. Each command says what it found and which objects it looked at;
//! SARIF, JUnit and annotations of GitHub are three ways to write it down.

mod diagnostics;
mod drift;
mod plan;
mod rules;

use std::collections::HashMap;

use manifests::diagnostic::Origin;

pub use self::diagnostics::{Validated, of_manifests};
pub use self::drift::of_drift;
pub use self::plan::of_plan;
pub use self::rules::{DRIFT, Rule, rule};

use super::places::Places;
use super::text::visible;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing goes on while it stands.
    Error,
    /// Worth a look.
    Warning,
    /// Said for completeness.
    Note,
}

/// What a finding makes of its object in a report that knows passed, failed and skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It failed.
    Fails,
    /// It is left alone.
    Skips,
    /// It passed, with a remark.
    Remarks,
}

/// One finding. Texts are visible: nothing in them drives a terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The stable name of its rule: `E0104`, `G102`, `drift-changed`.
    pub rule: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What it makes of its object.
    pub verdict: Verdict,
    /// One sentence without a full stop.
    pub message: String,
    /// What else is known and what helps, one line each.
    pub more: Vec<String>,
    /// Where it was written.
    pub origin: Option<Origin>,
    /// Other places, with a word each.
    pub related: Vec<(Origin, String)>,
    /// Which object it concerns: `instance/web-1`.
    pub object: Option<String>,
    /// The source of it, where there are several.
    pub source: Option<String>,
    /// Which field of it: `/spec/limits/memory`.
    pub field: Option<String>,
    /// What tells it from others of its rule, object and field, however the files around it move.
    pub key: String,
}

impl Finding {
    fn new(rule: &'static str, level: Level, verdict: Verdict, message: &str) -> Self {
        Self {
            rule,
            level,
            verdict,
            message: visible(message),
            more: Vec::new(),
            origin: None,
            related: Vec::new(),
            object: None,
            source: None,
            field: None,
            key: String::new(),
        }
    }

    /// What people read: the message, and below it all else.
    pub fn text(&self) -> String {
        let mut out = self.message.clone();
        for line in &self.more {
            out.push('\n');
            out.push_str(line);
        }
        out
    }
}

/// One object that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Its name: `instance/web-1`.
    pub name: String,
    /// Its source, where there are several.
    pub source: Option<String>,
    /// Where it is declared.
    pub origin: Option<Origin>,
    /// Why something about it was not looked at, where that is so.
    pub left_alone: Option<String>,
}

/// What a command found.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The command: `validate`.
    pub command: &'static str,
    /// The names of the sources.
    pub sources: Vec<String>,
    /// What was looked at, in words: `source edge at 3f1c9ad`.
    pub about: String,
    /// Where the source lies in its repository.
    pub places: Places,
    /// The findings, in the order in which people read them.
    pub found: Vec<Finding>,
    /// The objects, by name.
    pub objects: Vec<Looked>,
    /// Where findings without a place are shown.
    pub anchor: Option<Origin>,
}

impl Findings {
    /// The place of a finding; none where nothing at all is known.
    pub fn place<'a>(&'a self, finding: &'a Finding) -> Option<&'a Origin> {
        let own = finding.origin.as_ref().filter(|at| !at.file.is_empty());
        own.or(self.anchor.as_ref())
    }

    /// The findings of each object by its source and name; those of none under the empty name.
    pub fn by_object(&self) -> HashMap<(Option<&str>, &str), Vec<&Finding>> {
        let mut all: HashMap<_, Vec<&Finding>> = HashMap::new();
        for finding in &self.found {
            let object = finding.object.as_deref().unwrap_or_default();
            let object = (finding.source.as_deref(), object);
            all.entry(object).or_default().push(finding);
        }
        all
    }
}

/// The first file of a source that stands for all of it: its `keel.yaml`, else its first manifest.
pub fn anchor(files: &[(String, String)]) -> Option<Origin> {
    let source = manifests::read::SOURCE_FILE;
    let own = files.iter().find(|(name, _)| name == source);
    own.or_else(|| files.first()).map(|(name, _)| Origin {
        file: name.as_str().into(),
        line: 1,
        column: 1,
        ..Origin::default()
    })
}

#[cfg(test)]
mod tests;
