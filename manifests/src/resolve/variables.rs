//! `variables` of keel.yaml: what they are, and which layer's value counts.

use super::*;
use crate::substitute::{Known, TYPES};

/// One variable.
#[derive(Clone)]
struct Variable {
    value: Value,
    kind: &'static str,
    place: Place,
    /// Where another base says something else.
    contested: Option<Place>,
}

/// The variables of a layer and of all under it.
#[derive(Clone, Default)]
pub(super) struct Variables(BTreeMap<String, Variable>);

impl Variables {
    /// Adds those of a base beside other bases.
    pub(super) fn add(&mut self, below: &Self) {
        for (name, variable) in &below.0 {
            match self.0.get_mut(name) {
                None => {
                    self.0.insert(name.clone(), variable.clone());
                }
                Some(other) if other.value != variable.value => {
                    other.contested = Some(variable.place.clone());
                }
                Some(_) => {}
            }
        }
    }

    /// Puts what a `keel.yaml` declares over those of its bases.
    pub(super) fn declare(&mut self, source: Option<&Node>, found: &mut Diagnostics) {
        let written = source.and_then(|node| node.get("variables"));
        match written.map(|written| (&written.value, written)) {
            Some((Value::Map(entries), _)) => {
                for (key, node) in entries {
                    let below = self.0.get(&key.name);
                    if let Some(variable) = variable(key, node, below, found) {
                        self.0.insert(key.name.clone(), variable);
                    }
                }
            }
            Some((_, node)) => found.push(wrong_type("variables", node, "a map of variables")),
            None => {}
        }
        for (name, variable) in &mut self.0 {
            let Some(other) = variable.contested.take() else {
                continue;
            };
            let message = format!("variable `{name}` has two values in two bases");
            found.push(
                Diagnostic::error(layers::BAD_BASE, other.origin(), message)
                    .related(variable.place.origin(), "the other one")
                    .hint("say which of them counts: declare it in the keel.yaml over both"),
            );
        }
    }

    /// What `${var.…}` stands for.
    pub(super) fn known(self) -> Known {
        let named = |(name, variable): (String, Variable)| (format!("var.{name}"), variable.value);
        self.0.into_iter().map(named).collect()
    }
}

/// Reads one variable; its type is that of the base that declared it first, where it says none.
fn variable(
    key: &Key,
    node: &Node,
    below: Option<&Variable>,
    found: &mut Diagnostics,
) -> Option<Variable> {
    let Value::Map(_) = &node.value else {
        found.push(
            wrong_type(&format!("variables.{}", key.name), node, "a map")
                .hint("write `{ type: string, default: … }`"),
        );
        return None;
    };
    unknown_keys(node, &["type", "default", "description"], found);
    let word = node.get("type");
    let kind = match word.map(|word| word.text().unwrap_or_default()) {
        None => below.map_or("string", |below| below.kind),
        Some(text) => match TYPES.iter().find(|kind| **kind == text) {
            Some(kind) => kind,
            None => {
                let origin = word.unwrap_or(node).place.origin();
                let message = format!("`{text}` is no type of variables");
                let one = Diagnostic::error(UNKNOWN_WORD, origin, message);
                let one = one.note(format!("possible: {}", TYPES.join(", ")));
                found.push(hinted(one, text, &TYPES));
                return None;
            }
        },
    };
    if let Some(below) = below.filter(|below| below.kind != kind) {
        let origin = word.unwrap_or(node).place.origin();
        let message = format!(
            "variable `{}` is {kind} here and {} in a base",
            key.name, below.kind
        );
        found.push(
            Diagnostic::error(WRONG_TYPE, origin, message)
                .related(below.place.origin(), "declared here"),
        );
        return None;
    }
    let Some(default) = node.get("default") else {
        found.push(
            Diagnostic::error(
                MISSING_FIELD,
                key.place.origin(),
                format!("variable `{}` has no default", key.name),
            )
            .hint("write `{ type: string, default: … }`"),
        );
        return None;
    };
    let value = match (&default.value, kind) {
        (Value::Bool(_), "boolean") | (Value::Integer(_), "integer") => default.value.clone(),
        (value, "string") if substitute::text(value).is_some() => {
            Value::Text(substitute::text(value).unwrap_or_default().into())
        }
        (value, kind) => {
            let message = format!(
                "the default of variable `{}` is {}, expected: {kind}",
                key.name,
                value.noun()
            );
            found.push(Diagnostic::error(
                WRONG_TYPE,
                default.place.origin(),
                message,
            ));
            return None;
        }
    };
    let text = substitute::text(&value).unwrap_or_default();
    if text.contains("${var.") || text.contains("${each.") {
        let message = format!(
            "the default of variable `{}` has a variable in it",
            key.name
        );
        found.push(
            Diagnostic::error(substitute::UNDEFINED, default.place.origin(), message)
                .hint("a default stands for itself"),
        );
        return None;
    }
    Some(Variable {
        value,
        kind,
        place: key.place.clone(),
        contested: None,
    })
}
