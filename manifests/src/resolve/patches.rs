//! `patches` of keel.yaml: which documents one changes, and how: by merging, or by the operations of a JSON patch.

use super::*;
use crate::name_pattern;
use crate::substitute::{Group, Known, filled};
use json_patch::Operation;

/// A patch that cannot be made.
pub const BAD_PATCH: Code = Code("E0113");

/// One patch.
pub(super) struct Patch {
    target: WrittenTarget,
    /// The target as it is written, for places.
    written: Node,
    change: Change,
}

enum Change {
    Merge(Node),
    Operations(Vec<Operation>),
}

/// Reads a list of patches.
pub(super) fn read(written: &Node, found: &mut Diagnostics) -> Vec<Patch> {
    let at = Pointer::new("/patches");
    let items = match &written.value {
        Value::List(items) => items,
        Value::Null => return Vec::new(),
        _ => {
            found.push(wrong_type("patches", written, "a list of patches").at(at));
            return Vec::new();
        }
    };
    let read = |(index, item)| one(item, &at.index(index), found);
    items.iter().enumerate().filter_map(read).collect()
}

fn one(item: &Node, at: &Pointer, found: &mut Diagnostics) -> Option<Patch> {
    let Value::Map(_) = &item.value else {
        found.push(
            wrong_type("a patch", item, "a map")
                .at(at.clone())
                .hint(FORM),
        );
        return None;
    };
    unknown_keys(item, &["target", "patch"], found);
    let (Some(written), Some(body)) = (item.get("target"), item.get("patch")) else {
        let field = if item.get("target").is_none() {
            "target"
        } else {
            "patch"
        };
        let message = format!("field `{field}` is missing in a patch");
        let one = Diagnostic::error(MISSING_FIELD, item.place.origin(), message);
        found.push(one.at(at.clone()).hint(FORM));
        return None;
    };
    let target = decode::decode(written, &at.field("target"), |decoder| {
        WrittenTarget::deserialize(decoder)
    });
    let target = target.map_err(|wrong| found.extend(wrong)).ok();
    let body_at = at.field("patch");
    let change = match &body.value {
        Value::Map(_) => Some(Change::Merge(body.clone())),
        Value::List(items) => json_patch::read(items, &body_at, found).map(Change::Operations),
        _ => {
            let one = wrong_type(
                "patch",
                body,
                "a map that is merged, or a list of operations",
            );
            found.push(one.at(body_at).hint(FORM));
            None
        }
    };
    Some(Patch {
        target: target?,
        written: written.clone(),
        change: change?,
    })
}

const FORM: &str = "write `{ target: { kind: Instance, name: web-* }, patch: { spec: { … } } }`";

impl Patch {
    /// Changes all documents that it is for; that there is none is an error.
    pub(super) fn apply(&self, documents: &mut [Written], found: &mut Diagnostics) {
        let mut matched = false;
        for document in documents.iter_mut() {
            match self.is_for(&document.node) {
                Ok(true) => {
                    matched = true;
                    if let Err(wrong) = self.change(&mut document.node) {
                        found.push(wrong);
                    }
                }
                Ok(false) => {}
                Err(wrong) => {
                    matched = true;
                    found.push(wrong);
                }
            }
        }
        if !matched {
            found.push(self.matches_nothing(documents));
        }
    }

    /// Whether the document is meant. One with `forEach` is meant by the names that it makes, if all of them are.
    fn is_for(&self, node: &Node) -> Result<bool, Diagnostic> {
        if !self.is_of_kind(node) || !self.has_labels(node) {
            return Ok(false);
        }
        let Some(pattern) = &self.target.name else {
            return Ok(true);
        };
        let names = names(node);
        let not: Vec<&String> = names
            .iter()
            .filter(|name| !name_pattern::matches(pattern, name))
            .collect();
        if not.len() == names.len() {
            return Ok(false);
        }
        let Some(first) = not.first() else {
            return Ok(true);
        };
        let message = format!("`{pattern}` means some objects of a `forEach` and not `{first}`");
        Err(
            Diagnostic::error(BAD_PATCH, self.place("name").origin(), message)
                .related(
                    node.place.origin(),
                    "the document that stands for all of them",
                )
                .hint("a patch changes the document: mean all of its objects, or none"),
        )
    }

    fn is_of_kind(&self, node: &Node) -> bool {
        let word = node.get("kind").and_then(Node::text);
        self.target
            .kind
            .is_none_or(|kind| Some(kind.name()) == word)
    }

    fn has_labels(&self, node: &Node) -> bool {
        let labels = node.get("metadata").and_then(|below| below.get("labels"));
        self.target.labels.iter().all(|(key, value)| {
            let label = labels.and_then(|labels| labels.get(key));
            label.and_then(|label| substitute::text(&label.value)) == Some(value)
        })
    }

    /// Where a part of the target was written, or the whole target.
    fn place(&self, field: &str) -> &Place {
        &self.written.get(field).unwrap_or(&self.written).place
    }

    fn change(&self, node: &mut Node) -> Result<(), Diagnostic> {
        let mut changed = node.clone();
        match &self.change {
            Change::Merge(over) => merge::patch(&mut changed, over),
            Change::Operations(operations) => {
                for operation in operations {
                    operation
                        .apply(&mut changed)
                        .map_err(|wrong| of_document(wrong, node))?;
                }
            }
        }
        for at in ["/kind", "/metadata/name"].map(Pointer::new) {
            let (before, after) = (node.at(&at), changed.at(&at));
            if before.map(|node| &node.value) != after.map(|node| &node.value) {
                let place = after.map_or(&self.written.place, |after| &after.place);
                let message = format!("a patch does not change `{}`", at.dotted());
                return Err(Diagnostic::error(BAD_PATCH, place.origin(), message)
                    .related(node.place.origin(), "the document")
                    .hint("what has another name or kind is another object: declare it, or use `namePrefix`"));
            }
        }
        *node = changed;
        Ok(())
    }

    /// What is said of a patch that no document is meant by, with the nearest that might have been.
    fn matches_nothing(&self, documents: &[Written]) -> Diagnostic {
        let wrong = |field: &str, message: String| {
            let message = format!("this patch changes nothing: {message}");
            Diagnostic::error(BAD_PATCH, self.place(field).origin(), message)
        };
        let of_kind: Vec<&Node> = documents
            .iter()
            .map(|document| &document.node)
            .filter(|node| self.is_of_kind(node))
            .collect();
        let noun = self.target.kind.map_or("document", |kind| kind.name());
        if of_kind.is_empty() {
            return wrong("kind", format!("there is no {noun} here"))
                .hint("patches change the documents of this folder and of its bases");
        }
        let named = |node: &&Node| match &self.target.name {
            Some(pattern) => names(node)
                .iter()
                .any(|name| name_pattern::matches(pattern, name)),
            None => true,
        };
        if let Some(pattern) = &self.target.name
            && !of_kind.iter().any(named)
        {
            let all: Vec<String> = of_kind.iter().flat_map(|node| names(node)).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let one = wrong("name", format!("there is no {noun} `{pattern}`"));
            return match nearest(&pattern.replace('*', ""), &all) {
                Some(near) => one.hint(format!("did you mean `{near}`?")),
                None => one.hint(near_miss::NOT_KNOWN),
            };
        }
        let labels = |node: &&Node| {
            let labels = node.get("metadata").and_then(|below| below.get("labels"));
            let entries = match labels.map(|labels| &labels.value) {
                Some(Value::Map(entries)) => entries.as_slice(),
                _ => &[],
            };
            let pair = |(key, node): &(Key, Node)| {
                format!(
                    "{}: {}",
                    key.name,
                    substitute::text(&node.value).unwrap_or_default()
                )
            };
            entries.iter().map(pair).collect::<Vec<_>>()
        };
        let there: Vec<String> = of_kind
            .into_iter()
            .filter(named)
            .flat_map(|node| labels(&node))
            .collect();
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let wanted: Vec<String> = self
            .target
            .labels
            .iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect();
        let one = wrong("labels", format!("no {noun} has all of these labels"));
        let missing = wanted
            .iter()
            .find(|wanted| !there.contains(&wanted.as_str()));
        match missing.and_then(|missing| nearest(missing, &there)) {
            Some(near) => one.hint(format!("did you mean `{near}`?")),
            None => one.hint(near_miss::NOT_KNOWN),
        }
    }
}

/// Names the document that an operation cannot be made on.
fn of_document(wrong: Diagnostic, node: &Node) -> Diagnostic {
    let name = names(node).into_iter().next().unwrap_or_default();
    let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
    wrong.related(node.place.origin(), format!("in {kind} `{name}`"))
}

/// The names of the objects that a document stands for.
pub(super) fn names(node: &Node) -> Vec<String> {
    let name = node.get("metadata").and_then(|below| below.get("name"));
    let Some(text) = name.and_then(|name| substitute::text(&name.value)) else {
        return Vec::new();
    };
    if !text.contains("${") {
        return vec![text.to_owned()];
    }
    let mut each = for_each::known(node);
    if each.is_empty() {
        // One that stands for none now may stand for some after a patch.
        each.push(Known::new());
    }
    let name = |known: &Known| filled(text, Group::Each, known, |_| {});
    each.iter().map(name).collect()
}
