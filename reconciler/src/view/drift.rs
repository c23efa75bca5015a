//! What the world changed behind git's back: the report as data, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use manifests::diagnostic::Origin;
use manifests::id::Address;
use manifests::lifecycle::DriftMode;
use manifests::pointer::Pointer;
use serde::Serialize;
use serde_json::{Value, json};

use super::style::{CAREFUL, FAINT, STRONG, paint};
use super::text;

/// One field that the world changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftedField {
    /// The object.
    pub id: Address,
    /// Which field; the whole object where it is gone.
    pub path: Pointer,
    /// What git says; null: nothing.
    pub desired: Value,
    /// What is there; null: nothing.
    pub live: Value,
    /// What is done about it.
    pub mode: DriftMode,
    /// When it was seen first; none where it was not seen before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// How many looks have found it, this one among them.
    pub times: u32,
    /// What is known of how it came about: `changed outside git`, `gone`.
    pub cause: String,
    /// The line that declares it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "place")]
    pub source: Option<Origin>,
}

impl DriftedField {
    /// Whether it is the whole object that differs.
    pub fn is_object(&self) -> bool {
        self.path.as_str().is_empty()
    }

    /// The field as people name it.
    pub fn path_words(&self) -> String {
        if self.is_object() {
            "(the object)".to_owned()
        } else {
            self.path.dotted()
        }
    }

    /// Whether the next apply puts it back.
    pub const fn is_put_back(&self) -> bool {
        matches!(self.mode, DriftMode::Correct)
    }

    /// What is done about it.
    pub const fn mode_words(&self) -> &'static str {
        match self.mode {
            DriftMode::Correct => "the next apply puts it back",
            DriftMode::Warn | DriftMode::Ignore => "it is not put back",
        }
    }

    /// How bad it is; 0 is worst: an object is gone, a field is put back, a field is only told.
    pub fn rank(&self) -> u8 {
        match (self.is_object(), self.mode) {
            (true, _) => 0,
            (false, DriftMode::Correct) => 1,
            (false, DriftMode::Warn | DriftMode::Ignore) => 2,
        }
    }
}

/// An object that was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The object.
    pub address: Address,
    /// Where it is declared.
    pub origin: Origin,
    /// Fields of it that differ and that a rule leaves alone.
    pub ignored: Vec<Pointer>,
}

/// A place as plans and reports have it: `{path, line, column}`.
fn place<S: serde::Serializer>(origin: &Option<Origin>, to: S) -> Result<S::Ok, S::Error> {
    origin
        .as_ref()
        .map(super::plan_document::place)
        .serialize(to)
}

/// All that the world changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftReport {
    /// Version of this document.
    pub format_version: &'static str,
    /// The source.
    pub source: String,
    /// The commit.
    pub revision: Option<String>,
    /// The host.
    pub host: String,
    /// The engine.
    pub engine: String,
    /// When it was looked.
    pub at: Timestamp,
    /// How many objects were compared.
    pub objects: usize,
    /// What differs, by object and then in the order of the fields.
    pub drift: Vec<DriftedField>,
    /// What could not be read.
    pub unseen: Vec<crate::plan::NotSeen>,
    /// All that was compared, by name.
    #[serde(skip)]
    pub compared: Vec<Compared>,
}

impl DriftReport {
    /// What was compared with what: `source edge at 3f1c9ad on host edge-1 (native)`.
    pub fn about(&self) -> String {
        let mut words = format!("source {}", self.source);
        if let Some(revision) = &self.revision {
            let _ = write!(words, " at {revision}");
        }
        format!("{words} on host {} ({})", self.host, self.engine)
    }

    /// The fields of the worst objects first; those of one object stay together.
    pub fn worst_first(&self) -> Vec<&DriftedField> {
        let mut worst: BTreeMap<&Address, u8> = BTreeMap::new();
        for field in &self.drift {
            let rank = worst.entry(&field.id).or_insert(u8::MAX);
            *rank = field.rank().min(*rank);
        }
        let mut all: Vec<&DriftedField> = self.drift.iter().collect();
        all.sort_by_key(|field| (worst.get(&field.id), &field.id));
        all
    }

    /// Where an object is declared.
    pub fn declared(&self, address: &Address) -> Option<&Origin> {
        let found = self
            .compared
            .binary_search_by(|compared| compared.address.cmp(address));
        found.ok().map(|at| &self.compared[at].origin)
    }

    /// How many objects differ.
    pub fn differing(&self) -> usize {
        let mut ids: Vec<&Address> = self.drift.iter().map(|field| &field.id).collect();
        ids.sort();
        ids.dedup();
        ids.len()
    }

    /// The JSON document.
    pub fn json(&self) -> String {
        format!("{:#}\n", json!(self))
    }

    /// The page for people; `again` is the command that puts things back.
    pub fn page(&self, milliseconds: u64, columns: usize, again: &str) -> String {
        let mut out = String::new();
        let took = text::span(milliseconds);
        let about = text::visible(&self.about());
        let objects = text::counted(self.objects, "object");
        if self.drift.is_empty() {
            let _ = writeln!(out, "No drift: {objects} of {about} compared · {took}");
        } else {
            let heading = format!(
                "Drift of {about}: {} of {objects} differ · {took}",
                self.differing(),
            );
            let _ = writeln!(out, "{}", paint(STRONG, &heading));
        }
        let mut last = None;
        for field in self.worst_first() {
            if last != Some(&field.id) {
                let name = text::visible(&field.id.to_string());
                let _ = writeln!(out, "\n{}", paint(CAREFUL, &name));
                last = Some(&field.id);
            }
            self.field(&mut out, field, columns);
        }
        if !self.unseen.is_empty() {
            let _ = writeln!(out, "\n{}", paint(CAREFUL, "Could not be seen:"));
            for not_seen in &self.unseen {
                for unseen in &not_seen.unseen {
                    let name = text::visible(&not_seen.address.to_string());
                    let path = text::visible(&unseen.path.dotted());
                    let why = text::visible(&unseen.why);
                    let _ = writeln!(out, "  {name}  {path}: {why}");
                }
            }
        }
        if self
            .drift
            .iter()
            .any(|field| field.mode == DriftMode::Correct)
        {
            let _ = writeln!(out, "\nPut it back:  {again}");
        }
        out
    }

    fn field(&self, out: &mut String, field: &DriftedField, columns: usize) {
        let room = columns.saturating_sub(24) / 2;
        let mut row = |key: &str, value: &str, remark: Option<String>| {
            let remark = remark.map_or_else(String::new, |remark| {
                format!("   {}", paint(FAINT, &format!("# {remark}")))
            });
            let _ = writeln!(out, "    {}{value}{remark}", text::pad(key, 10));
        };
        row("field", &text::visible(&field.path_words()), None);
        let declared = field
            .source
            .as_ref()
            .map(|origin| text::visible(&origin.to_string()));
        row(
            "git",
            &text::cut(&text::shown(&field.desired), room),
            declared,
        );
        let mut how = vec![text::visible(&field.cause)];
        if let Some(first) = field.first_seen {
            how.push(format!("first seen {} ago", text::ago(first, self.at)));
        }
        if field.times > 1 {
            how.push(format!("found {} times", field.times));
        }
        row(
            "live",
            &text::cut(&text::shown(&field.live), room),
            Some(how.join(", ")),
        );
        if field.mode == DriftMode::Warn {
            row("mode", "warn: not put back", None);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::view::samples::drift as report;

    #[test]
    fn each_field_tells_git_live_line_and_since_when() {
        let page = report().page(15, 100, "keel apply");
        insta::assert_snapshot!(anstream::adapter::strip_str(&page).to_string());
    }

    #[test]
    fn no_drift_is_one_line() {
        let mut report = report();
        report.drift.clear();
        assert_eq!(
            report.page(15, 100, "keel apply"),
            "No drift: 126 objects of source edge at 3f1c9ad on host edge-1 (native) compared · 0.02 s\n"
        );
    }

    #[test]
    fn the_json_has_pointers_and_lines() {
        insta::assert_snapshot!(report().json());
    }
}
