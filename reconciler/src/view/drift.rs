//! What the world changed behind git's back: the report as data, for people and as JSON (`schemas/drift-report/v1.json`).

use std::collections::{BTreeMap, BTreeSet};
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
use crate::diff::WhyStale;
use crate::journal::Author;

/// Commands are cut to so many columns.
const COMMAND: usize = 40;

/// Names of fields begin at this column of a page, and their values at this one.
const INDENT: usize = 4;
const VALUES: usize = INDENT + 10;

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
    /// Who did it, where it was done through keel, or where a server told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Author>,
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

    /// Who did it: `by alice (keel stop web)`.
    pub fn author_words(&self) -> Option<String> {
        let author = self.author.as_ref()?;
        let command = text::cut(&text::visible(&author.command), COMMAND);
        Some(match &author.by {
            Some(by) => format!("by {} ({command})", text::visible(by)),
            None => format!("by {command}"),
        })
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

/// An ignore rule that leaves nothing alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StaleRule {
    /// What it is about, as it is written: `/spec/limits/cpu`.
    pub path: Pointer,
    /// Why it leaves nothing alone.
    pub why: WhyStale,
    /// Why it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last day on which it counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::civil::Date>,
    /// The objects that it is for.
    pub objects: Vec<Address>,
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "place")]
    pub source: Option<Origin>,
}

impl StaleRule {
    /// What it is about, as people find it in the manifest.
    pub fn path_words(&self) -> String {
        match self.path.as_str() {
            "" => "(the object)".to_owned(),
            path => text::visible(path),
        }
    }

    /// For which objects it is, why it leaves nothing alone, and why it was written.
    pub fn words(&self) -> String {
        let objects = match &self.objects[..] {
            [one] => text::visible(&one.to_string()),
            all => text::counted(all.len(), "object"),
        };
        let why = match (self.why, self.until) {
            (WhyStale::Expired, Some(until)) => format!("it ended on {until}"),
            (WhyStale::Expired, None) => "it ended".to_owned(),
            (WhyStale::NoField, _) => "there is no such field".to_owned(),
            (WhyStale::NothingDiffers, _) => "nothing differs there".to_owned(),
        };
        let reason = self.reason.as_ref();
        let reason = reason.map(|reason| format!(" ({})", text::visible(reason)));
        format!("{objects}: {why}{}", reason.unwrap_or_default())
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
    /// Objects of which git says what was not applied yet: what differs there by that is no drift.
    pub edited: Vec<Address>,
    /// What could not be read.
    pub unseen: Vec<crate::plan::NotSeen>,
    /// Ignore rules that leave nothing alone.
    pub stale_rules: Vec<StaleRule>,
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

    /// What is said of objects that wait for an apply.
    pub fn edited_words(&self) -> Option<String> {
        let (objects, was) = match self.edited.len() {
            0 => return None,
            1 => ("1 object".to_owned(), "was"),
            count => (text::counted(count, "object"), "were"),
        };
        Some(format!(
            "{objects} {was} edited in git and not applied yet: keel plan tells how"
        ))
    }

    /// How many objects are as git says.
    pub fn same(&self) -> usize {
        let drifted = self.drift.iter().map(|field| &field.id);
        let other: BTreeSet<&Address> = drifted.chain(&self.edited).collect();
        self.objects.saturating_sub(other.len())
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
            let heading = format!("Drift of {about}");
            let _ = writeln!(out, "{}", paint(STRONG, &heading));
            let _ = writeln!(out, "  {} of {objects} differ · {took}", self.differing());
        }
        if let Some(words) = self.edited_words() {
            let _ = writeln!(out, "  {words}");
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
        if !self.stale_rules.is_empty() {
            let heading = "Ignore rules that leave nothing alone:";
            let _ = writeln!(out, "\n{}", paint(CAREFUL, heading));
            for rule in &self.stale_rules {
                let place = rule
                    .source
                    .as_ref()
                    .map(|origin| text::visible(&origin.to_string()));
                let remark = place.map(|place| vec![place]).unwrap_or_default();
                row(&mut out, "  ", &rule.path_words(), &remark, columns);
                for line in text::wrapped(&rule.words(), columns.saturating_sub(INDENT)) {
                    let _ = writeln!(out, "{}{line}", " ".repeat(INDENT));
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
        let mut line = |key: &str, value: &str, remark: &[String]| {
            let key = format!("{}{}", " ".repeat(INDENT), text::pad(key, VALUES - INDENT));
            row(out, &key, value, remark, columns);
        };
        line("field", &text::visible(&field.path_words()), &[]);
        let declared = field.source.iter();
        let declared: Vec<String> = declared
            .map(|origin| text::visible(&origin.to_string()))
            .collect();
        line("git", &text::shown(&field.desired), &declared);
        let mut how = vec![text::visible(&field.cause)];
        how.extend(field.author_words());
        if let Some(first) = field.first_seen {
            how.push(format!("first seen {} ago", text::ago(first, self.at)));
        }
        if field.times > 1 {
            how.push(format!("found {} times", field.times));
        }
        line("live", &text::shown(&field.live), &how);
        if field.mode == DriftMode::Warn {
            line("mode", "warn: not put back", &[]);
        }
    }
}

/// A value and a remark about it: behind it where there is room, else below it, broken between its parts. A part is never
/// broken: a place is copied and clicked.
fn row(out: &mut String, key: &str, value: &str, remark: &[String], columns: usize) {
    let begins = text::width(key);
    let value = text::cut(value, columns.saturating_sub(begins));
    let _ = write!(out, "{key}{value}");
    let whole = format!("# {}", remark.join(", "));
    if remark.is_empty() {
        out.push('\n');
        return;
    }
    if begins + text::width(&value) + 3 + text::width(&whole) <= columns {
        let _ = writeln!(out, "   {}", paint(FAINT, &whole));
        return;
    }
    let mut lines: Vec<String> = Vec::new();
    for part in remark {
        match lines.last_mut() {
            Some(last) if begins + 4 + text::width(last) + text::width(part) <= columns => {
                last.push_str(", ");
                last.push_str(part);
            }
            Some(last) => {
                last.push(',');
                lines.push(part.clone());
            }
            None => lines.push(part.clone()),
        }
    }
    for (index, line) in lines.iter().enumerate() {
        let mark = if index == 0 { "# " } else { "  " };
        let margin = " ".repeat(begins);
        let _ = write!(out, "\n{margin}{}", paint(FAINT, &format!("{mark}{line}")));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::journal::Author;
    use crate::view::samples::drift as report;
    use crate::view::text;

    #[test]
    fn each_field_tells_git_live_line_and_since_when() {
        for columns in [80, 140] {
            let page = report().page(15, columns, "keel apply");
            let page = anstream::adapter::strip_str(&page).to_string();
            assert!(
                page.lines().all(|line| text::width(line) <= columns),
                "{page}"
            );
            insta::assert_snapshot!(format!("drift_at_{columns}"), page);
        }
    }

    #[test]
    fn long_values_and_remarks_stay_within_the_page() {
        let mut report = report();
        for field in &mut report.drift {
            field.live = json!("東京".repeat(90));
            field.desired = json!("x".repeat(200));
            field.cause = "stopped by hand until 2026-11-24 12:00:00Z: a new disk".to_owned();
            field.author = Some(Author {
                by: Some("alice".to_owned()),
                command: format!("keel stop {}", "db-1 ".repeat(20)),
                at: report.at,
            });
        }
        for rule in &mut report.stale_rules {
            rule.reason = Some("tuned by hand, until the load is known again ".repeat(3));
        }
        for columns in [80, 140] {
            let page = report.page(15, columns, "keel apply");
            let page = anstream::adapter::strip_str(&page).to_string();
            for line in page.lines() {
                assert!(text::width(line) <= columns, "{columns}: {line}\n{page}");
            }
            insta::assert_snapshot!(format!("long_drift_at_{columns}"), page);
        }
    }

    #[test]
    fn live_values_cannot_drive_the_terminal_and_are_json_escapes_for_machines() {
        let evil = "a\u{1b}]0;x\u{7}\u{1b}[2J\r\n\u{0}\u{7f}\u{202e}";
        let mut report = report();
        report.drift[0].live = json!(evil);
        report.drift[1].live = json!({evil: [evil]});
        let page = report.page(15, 80, "keel apply");
        let page = anstream::adapter::strip_str(&page).to_string();
        assert!(
            !page.chars().any(|c| c != '\n' && c.is_control()),
            "{page:?}"
        );
        let text = report.json();
        assert!(
            !text.chars().any(|c| c != '\n' && (c as u32) < 0x20),
            "{text:?}"
        );
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read["drift"][0]["live"], evil);
        assert_eq!(read["drift"][1]["live"][evil][0], evil);
    }

    #[test]
    fn no_drift_is_one_line() {
        let mut report = report();
        report.drift.clear();
        report.edited.clear();
        report.stale_rules.clear();
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
