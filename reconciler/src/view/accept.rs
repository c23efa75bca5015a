//! What `keel drift accept` writes: the report as data, for people and as JSON (`schemas/accept-report/v1.json`).

use std::fmt::Write as _;

use manifests::diagnostic::Origin;
use manifests::id::Address;
use manifests::pointer::Pointer;
use serde::Serialize;
use serde_json::{Value, json};

use super::plan_document::place;
use super::style::{BAD, CAREFUL, paint};
use super::text::{counted, shown, visible};

/// A place in the manifests that says something else.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Which field.
    pub path: Pointer,
    /// What it said; null: nothing.
    pub was: Value,
    /// What it says; null: nothing.
    pub is: Value,
    /// Where.
    #[serde(serialize_with = "as_place")]
    pub source: Origin,
}

/// A field that is not accepted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refused {
    /// Which field; the root where it is the object.
    pub path: Pointer,
    /// Why.
    pub why: String,
    /// Where it is declared.
    #[serde(serialize_with = "as_place")]
    pub source: Origin,
}

/// An object that changes as well.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Also {
    /// The object.
    pub id: Address,
    /// What of it.
    pub fields: Vec<String>,
}

/// Another source of the repository that has a file that is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OtherSource {
    /// Its folder, as the source names it.
    pub path: String,
    /// Whether the source stands on it.
    pub base: bool,
    /// Objects of it that change.
    pub changes: Vec<Also>,
    /// Why it is not known what changes, or that it would be wrong then.
    pub problem: Option<String>,
}

fn as_place<S: serde::Serializer>(origin: &Origin, to: S) -> Result<S::Ok, S::Error> {
    place(origin).serialize(to)
}

/// All that is written, or why nothing is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptReport {
    /// Version of this document.
    pub format_version: &'static str,
    /// The object.
    pub object: Address,
    /// Whether all of it is written.
    pub written: bool,
    /// What the manifests say otherwise.
    pub changes: Vec<Change>,
    /// What is not accepted: with one of these nothing is written.
    pub refused: Vec<Refused>,
    /// The other objects of the source that change by it.
    pub also_changes: Vec<Also>,
    /// Other sources of the repository that change by it.
    pub sources: Vec<OtherSource>,
}

impl AcceptReport {
    /// Whether something changes that nobody asked for. What a base is by itself is no such thing: the source says it.
    pub fn changes_others(&self) -> bool {
        !self.also_changes.is_empty() || self.sources.iter().any(|source| !source.base)
    }

    /// The JSON document.
    pub fn json(&self) -> String {
        format!("{:#}\n", json!(self))
    }

    /// The page for people: what changes where, and what changes as well.
    pub fn page(&self) -> String {
        let mut out = String::new();
        for change in &self.changes {
            let _ = writeln!(
                out,
                "{}   {}   {} → {}",
                visible(&full(&change.source)),
                visible(&change.path.dotted()),
                shown(&change.was),
                shown(&change.is)
            );
        }
        if !(self.also_changes.is_empty() && self.sources.is_empty()) {
            let _ = writeln!(out, "\n{}", paint(CAREFUL, "This changes as well:"));
        }
        let objects = |out: &mut String, all: &[Also], indent: &str| {
            for also in all {
                let id = visible(&also.id.to_string());
                let fields = visible(&also.fields.join(", "));
                let _ = writeln!(out, "{indent}{id}   {fields}");
            }
        };
        objects(&mut out, &self.also_changes, "  ");
        for source in &self.sources {
            let words = match source.base {
                true => ", a base of this source that is one itself",
                false => "",
            };
            let _ = writeln!(out, "  source {}{words}", visible(&source.path));
            if let Some(problem) = &source.problem {
                let _ = writeln!(out, "    {}", visible(problem));
            }
            objects(&mut out, &source.changes, "    ");
        }
        out
    }

    /// What is refused, one after the other, for people.
    pub fn refusals(&self) -> String {
        let mut out = String::new();
        for refused in &self.refused {
            let field = match refused.path.as_str() {
                "" => String::new(),
                _ => format!(" {}", refused.path.dotted()),
            };
            let word = paint(BAD.bold(), "error");
            let place = visible(&full(&refused.source));
            let words = visible(&format!("{}{field}: {}", self.object, refused.why));
            let _ = writeln!(out, "{word}: {place}: {words}");
        }
        let refusals = counted(self.refused.len(), "refusal");
        let _ = writeln!(out, "{refusals}: nothing is written");
        out
    }
}

/// `web.yaml:14:5`.
fn full(origin: &Origin) -> String {
    match (origin.line, origin.column) {
        (0, _) | (_, 0) => origin.to_string(),
        (_, column) => format!("{origin}:{column}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Origin {
        Origin {
            file: "web.yaml".into(),
            line,
            column,
            ..Origin::default()
        }
    }

    #[test]
    fn people_and_machines_read_the_same() {
        let report = AcceptReport {
            format_version: "1.0",
            object: "instance/web".parse().expect("an address"),
            written: false,
            changes: vec![Change {
                path: Pointer::new("/spec/limits/memory"),
                was: json!("64MiB"),
                is: json!("128MiB"),
                source: at(8, 13),
            }],
            refused: vec![
                Refused {
                    path: Pointer::new("/spec/state"),
                    why: "no\u{1b}[2J".to_owned(),
                    source: at(7, 3),
                },
                Refused {
                    path: Pointer::root(),
                    why: "it is gone".to_owned(),
                    source: at(1, 1),
                },
            ],
            also_changes: vec![Also {
                id: "instance/two".parse().expect("an address"),
                fields: vec!["limits.memory".to_owned(), "labels".to_owned()],
            }],
            sources: vec![
                OtherSource {
                    path: "../staging".to_owned(),
                    base: false,
                    changes: vec![Also {
                        id: "instance/web".parse().expect("an address"),
                        fields: vec!["limits.memory".to_owned()],
                    }],
                    problem: None,
                },
                OtherSource {
                    path: "../base".to_owned(),
                    base: true,
                    changes: Vec::new(),
                    problem: Some("its manifests are wrong already".to_owned()),
                },
            ],
        };
        assert!(report.changes_others());
        let page = format!("{}---\n{}", report.page(), report.refusals());
        insta::assert_snapshot!(anstream::adapter::strip_str(&page).to_string());
        let json: Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(
            json["changes"][0]["source"],
            json!({ "path": "web.yaml", "line": 8, "column": 13 })
        );
        assert_eq!(json["refused"][1]["path"], "");
        assert_eq!(json["alsoChanges"][0]["id"], "instance/two");
        assert_eq!(json["written"], false);
        assert_eq!(
            json["sources"][0]["changes"][0]["fields"][0],
            "limits.memory"
        );
    }
}
