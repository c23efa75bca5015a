//! `keel explain`: a field, a code, a guard, an object.

use crate::secrets::masks::Masks;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use manifests::codes::Entry;
use manifests::desired::Resource;
use manifests::effect::Effect;
use manifests::explain::Field;
use manifests::id::Address;
use manifests::observed::Item;
use manifests::pointer::Pointer;
use serde_json::Value;

use super::findings::Rule;
use super::style::{FAINT, STRONG, paint};
use super::text;
use crate::diff::known::Owned;
use crate::plan::gates::Gate;
use crate::plan::{Because, Plan};

/// A text in lines of at most 100 columns, each after `margin`.
fn wrapped(words: &str, margin: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && text::width(&line) + text::width(word) + margin.len() >= 100 {
            let _ = writeln!(out, "{margin}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(out, "{margin}{line}");
    }
    out
}

fn indented(yaml: &str) -> String {
    yaml.lines().map(|line| format!("    {line}\n")).collect()
}

/// What a code means.
pub fn code(entry: &Entry) -> String {
    let (wrong, right) = entry.example;
    format!(
        "{}: {}\n\n{}\nwrong:\n\n{}\nright:\n\n{}",
        paint(STRONG, entry.code.0),
        entry.title,
        wrapped(entry.explanation, ""),
        indented(wrong),
        indented(right),
    )
}

/// What a guard protects.
pub fn gate(gate: &Gate) -> String {
    let approve = if gate.approvable {
        format!("\n`--approve {}` passes it for one plan.\n", gate.code)
    } else {
        "\nNo `--approve` passes it.\n".to_owned()
    };
    format!(
        "{}: {}\n\n{}{approve}",
        paint(STRONG, gate.code.0),
        gate.title,
        wrapped(gate.explanation, ""),
    )
}

/// What a rule of drift reports means.
pub fn rule(rule: &Rule) -> String {
    format!(
        "{}: {}\n\n{}",
        paint(STRONG, rule.id),
        rule.title,
        wrapped(rule.explanation, ""),
    )
}

/// What a change costs, in a sentence.
const fn cost(effect: Effect) -> &'static str {
    match effect {
        Effect::Live => "live: in force at once, nobody notices",
        Effect::Replug => "replug: the device blinks",
        Effect::NextStart => "next start: accepted now, in force after a restart",
        Effect::StopNeeded => "stop needed: refused while it runs",
        Effect::Rebuild => "rebuild: the root file system is wiped, volumes stay",
        Effect::Replace => "replace: the object is deleted and made again",
        Effect::DataLoss => "data loss: data goes with it",
        Effect::Forbidden => "forbidden: it cannot be changed",
    }
}

/// What a field is.
pub fn field(field: &Field) -> String {
    let mut out = format!(
        "{}\n\n{}",
        paint(STRONG, &field.path),
        wrapped(&field.description, "  ")
    );
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "  {}{value}", text::pad(name, 10));
    };
    row("type", &field.r#type);
    if let Some(default) = &field.default {
        row("default", &text::shown(default));
    }
    if let Some(effect) = field.change {
        row("change", cost(effect));
    }
    if !field.words.is_empty() {
        let _ = writeln!(out, "\nwords:\n");
        let widest = field
            .words
            .iter()
            .map(|(word, _)| text::width(word))
            .max()
            .unwrap_or(0);
        for (word, meaning) in &field.words {
            let _ = writeln!(out, "  {}{meaning}", text::pad(word, widest + 3));
        }
    }
    if !field.fields.is_empty() {
        let _ = writeln!(out, "\nfields:\n");
        let widest = field
            .fields
            .iter()
            .map(|(name, ..)| text::width(name))
            .max()
            .unwrap_or(0);
        for (name, _, meaning) in &field.fields {
            let line = format!("  {}{meaning}", text::pad(name, widest + 3));
            let _ = writeln!(out, "{}", text::cut(line.trim_end(), 110));
        }
    }
    let _ = write!(out, "\nexample:\n\n{}", indented(&field.example));
    out
}

/// One field of an object.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectField {
    /// Which one.
    pub path: Pointer,
    /// What is wanted; null: nothing, or hands off.
    pub desired: Value,
    /// What lives; null: nothing.
    pub live: Value,
    /// What was last applied; null: nothing, or not known.
    pub applied: Value,
    /// Where it was declared; none: a default.
    pub declared: Option<String>,
}

/// All that is known of an object.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Which one.
    pub object: Address,
    /// Where it is declared.
    pub declared: Option<String>,
    /// Who owns what lives; none: nobody, or nothing lives.
    pub owner: Option<String>,
    /// Whether it lives.
    pub lives: bool,
    /// Field by field: what is written, and what differs.
    pub fields: Vec<ObjectField>,
    /// What the next apply would do.
    pub planned: Vec<String>,
    /// Why it would not do something.
    pub held: Vec<Because>,
}

/// The leaves of a spec; lists are leaves.
fn leaves(value: &Value, at: &Pointer, out: &mut BTreeMap<Pointer, Value>) {
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                leaves(below, &at.field(key), out);
            }
        }
        Value::Null => {}
        other => {
            out.insert(at.clone(), other.clone());
        }
    }
}

/// Brings together what is wanted, what lives, what was applied, and what the plan says.
pub fn object(
    address: &Address,
    resource: Option<&Resource>,
    live: Option<&Item>,
    known: Option<&Owned>,
    plan: &Plan,
) -> Object {
    let mut masks = Masks::default();
    let mut spec = |value: Option<Value>| {
        let mut out = BTreeMap::new();
        if let Some(mut value) = value {
            masks.mask(&mut value);
            leaves(&value, &Pointer::new("/spec"), &mut out);
        }
        out
    };
    let desired = spec(resource.map(|resource| resource.spec.to_value()));
    let lives = spec(live.map(|item| item.spec.to_value()));
    let applied = known.and_then(|owned| owned.spec.as_deref());
    let applied = spec(applied.and_then(|text| serde_json::from_str(text).ok()));
    let paths: std::collections::BTreeSet<&Pointer> = desired
        .keys()
        .chain(lives.keys())
        .chain(applied.keys())
        .collect();
    let value = |of: &BTreeMap<Pointer, Value>, path: &Pointer| {
        of.get(path).cloned().unwrap_or(Value::Null)
    };
    let fields = paths
        .into_iter()
        .filter_map(|path| {
            let declared = resource.and_then(|resource| resource.provenance.at(path));
            let field = ObjectField {
                desired: value(&desired, path),
                live: value(&lives, path),
                applied: value(&applied, path),
                declared: declared.map(|origin| origin.to_string()),
                path: path.clone(),
            };
            let same =
                field.desired == field.live && (known.is_none() || field.desired == field.applied);
            (field.declared.is_some() || !same).then_some(field)
        })
        .collect();
    let about = |step: &&crate::plan::Step| step.address() == address;
    let planned = plan.steps.iter().filter(about).map(|step| {
        let effect = step
            .effect
            .map_or_else(String::new, |effect| format!(" ({effect})"));
        format!("{}{effect}: {}", step.word(), step.reason)
    });
    let held = plan
        .held
        .iter()
        .filter(|held| held.step.address() == address);
    Object {
        object: address.clone(),
        declared: resource.map(|resource| resource.origin.to_string()),
        owner: live
            .and_then(|item| item.mark.as_ref())
            .map(|mark| mark.source.to_string()),
        lives: live.is_some(),
        fields,
        planned: planned.collect(),
        held: held.flat_map(|held| held.because.iter().cloned()).collect(),
    }
}

impl Object {
    /// For people.
    pub fn page(&self) -> String {
        let mut out = format!(
            "{}   {}\n",
            paint(STRONG, &self.object.to_string()),
            text::visible(self.declared.as_deref().unwrap_or("not declared"))
        );
        let owner = match (&self.owner, self.lives) {
            (Some(owner), _) => format!("owned by source {owner}"),
            (None, true) => "it lives, and nobody owns it".to_owned(),
            (None, false) => "it does not live".to_owned(),
        };
        let _ = writeln!(out, "  {owner}\n");
        let rows: Vec<Vec<String>> = self
            .fields
            .iter()
            .map(|field| {
                let shown = |value: &Value| match value {
                    Value::Null => "-".to_owned(),
                    value => text::cut(&text::shown(value), 30),
                };
                vec![
                    format!("  {}", text::visible(&field.path.dotted())),
                    shown(&field.desired),
                    shown(&field.live),
                    shown(&field.applied),
                    text::visible(field.declared.as_deref().unwrap_or("default")),
                ]
            })
            .collect();
        out.push_str(&text::table(
            &["  FIELD", "DESIRED", "LIVE", "LAST APPLIED", "DECLARED AT"],
            &rows,
        ));
        for planned in &self.planned {
            let _ = writeln!(out, "\n  next apply: {}", text::visible(planned));
        }
        for because in &self.held {
            let _ = writeln!(
                out,
                "\n  held by {}: {}",
                because.code,
                text::visible(&because.message)
            );
        }
        if self.planned.is_empty() && self.held.is_empty() {
            let _ = writeln!(out, "\n  {}", paint(FAINT, "next apply: nothing to do"));
        }
        out
    }
}
