//! `keel.yaml`: the name of a source, its variables, its defaults, what is external.

use super::*;
use crate::schema::SOURCE_KIND;
use crate::substitute::{Known, TYPES};

/// What `keel.yaml` says.
#[derive(Default)]
pub(super) struct Source {
    pub(super) written: WrittenSource,
    /// What `${var.…}` stands for.
    pub(super) variables: Known,
    /// What specs of a kind have where they do not say.
    pub(super) defaults: BTreeMap<Kind, Node>,
    /// Referenced here, owned elsewhere.
    pub(super) external: BTreeSet<Address>,
}

/// Parts of the language that belong to layers.
const LAYERS: [&str; 3] = ["bases", "patches", "namePrefix"];

/// Reads the documents of `keel.yaml`; there is one.
pub(super) fn read_source(nodes: &[Node], found: &mut Diagnostics) -> Source {
    let mut source = Source::default();
    if let [first, second, ..] = nodes {
        found.push(
            Diagnostic::error(TWICE, second.place.origin(), "keel.yaml has one document")
                .related(first.place.origin(), "the first one")
                .hint("write other documents into files of their own"),
        );
    }
    let Some(node) = nodes.first() else {
        return source;
    };
    if !is_map(node, found) {
        return source;
    }
    unknown_keys(node, envelope::SOURCE_KEYS, found);
    api_version(node, found);
    match node.entry("kind") {
        Some((_, kind)) if kind.text() == Some(SOURCE_KIND) => {}
        Some((_, kind)) => found.push(
            Diagnostic::error(UNKNOWN_WORD, kind.place.origin(), "keel.yaml is a Source")
                .hint(format!("write `kind: {SOURCE_KIND}`"))
                .note("other objects stand in other files of the folder"),
        ),
        None => found.push(
            Diagnostic::error(
                MISSING_FIELD,
                node.place.origin(),
                "field `kind` is missing",
            )
            .hint(format!("write `kind: {SOURCE_KIND}`")),
        ),
    }
    for (key, _) in LAYERS.iter().filter_map(|key| node.entry(key)) {
        found.push(
            Diagnostic::error(
                NOT_YET,
                key.place.origin(),
                format!("layers are not made yet: `{}` would do nothing", key.name),
            )
            .hint("take it out, and write the documents into this folder"),
        );
    }
    variables(node, &mut source.variables, found);
    defaults(node, &mut source.defaults, found);
    let written = decode::decode(node, &Pointer::root(), |decoder| {
        WrittenSource::deserialize(decoder)
    });
    source.written = written.unwrap_or_else(|wrong| {
        found.extend(wrong);
        WrittenSource::default()
    });
    for (index, text) in source.written.external.iter().enumerate() {
        match text.parse::<Address>() {
            Ok(address) => {
                source.external.insert(address);
            }
            Err(error) => {
                let at = Pointer::new("/external").index(index);
                let place = node.at(&at).unwrap_or(node).place.origin();
                found.push(not_an_address(&error, place, std::iter::empty()).at(at));
            }
        }
    }
    names(node, &source.written, found);
    source
}

/// The names that keel.yaml gives.
fn names(node: &Node, source: &WrittenSource, found: &mut Diagnostics) {
    let given = [
        ("name", source.name.as_deref(), Kind::StoragePool),
        ("project", source.project.as_deref(), Kind::Project),
    ];
    for (field, name, rules) in given {
        let Some(wrong) = name.and_then(|name| envelope::wrong_name(rules, name)) else {
            continue;
        };
        let origin = node.get(field).unwrap_or(node).place.origin();
        found.push(
            bad_name(name.unwrap_or_default(), origin, wrong).at(Pointer::root().field(field)),
        );
    }
}

fn variables(node: &Node, out: &mut Known, found: &mut Diagnostics) {
    let Some(written) = node.get("variables") else {
        return;
    };
    let Value::Map(entries) = &written.value else {
        found.push(wrong_type("variables", written, "a map of variables"));
        return;
    };
    for (key, variable) in entries {
        let Value::Map(_) = &variable.value else {
            found.push(
                wrong_type(&format!("variables.{}", key.name), variable, "a map")
                    .hint("write `{ type: string, default: … }`"),
            );
            continue;
        };
        unknown_keys(variable, &["type", "default", "description"], found);
        let word = variable.get("type");
        let kind = match word.map(|word| word.text().unwrap_or_default()) {
            None => "string",
            Some(text) if TYPES.contains(&text) => text,
            Some(text) => {
                let origin = word.unwrap_or(variable).place.origin();
                let one = Diagnostic::error(
                    UNKNOWN_WORD,
                    origin,
                    format!("`{text}` is no type of variables"),
                );
                let one = one.note(format!("possible: {}", TYPES.join(", ")));
                found.push(hinted(one, text, &TYPES));
                continue;
            }
        };
        let Some(default) = variable.get("default") else {
            found.push(
                Diagnostic::error(
                    MISSING_FIELD,
                    key.place.origin(),
                    format!("variable `{}` has no default", key.name),
                )
                .hint("write `{ type: string, default: … }`"),
            );
            continue;
        };
        let value = match (&default.value, kind) {
            (Value::Bool(_), "boolean") | (Value::Integer(_), "integer") => default.value.clone(),
            (value, "string") if substitute::text(value).is_some() => {
                Value::Text(substitute::text(value).unwrap_or_default().into())
            }
            (value, kind) => {
                found.push(Diagnostic::error(
                    WRONG_TYPE,
                    default.place.origin(),
                    format!(
                        "the default of variable `{}` is {}, expected: {kind}",
                        key.name,
                        value.noun()
                    ),
                ));
                continue;
            }
        };
        out.insert(format!("var.{}", key.name), value);
    }
}

fn defaults(node: &Node, out: &mut BTreeMap<Kind, Node>, found: &mut Diagnostics) {
    let Some(written) = node.get("defaults") else {
        return;
    };
    let Value::Map(entries) = &written.value else {
        found.push(wrong_type("defaults", written, "a map of specs by kind"));
        return;
    };
    for (key, spec) in entries {
        let Some(kind) = Kind::ALL.iter().find(|kind| kind.name() == key.name) else {
            found.push(unknown_kind(&key.name, key.place.origin()));
            continue;
        };
        let mut whole = empty_map(&spec.place);
        merge::spec(&mut whole, spec);
        let at = Pointer::new("/defaults").field(kind.name());
        // A default may be a variable, which has its type only where it is filled in.
        match decode::decode(&whole, &at, |decoder| Spec::deserialize(*kind, decoder)) {
            Ok(_) => {
                out.insert(*kind, spec.clone());
            }
            Err(wrong) => found.extend(wrong),
        }
    }
}
