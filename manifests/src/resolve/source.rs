//! `keel.yaml`: the name of a source, its defaults, its patches, what is external.

use super::*;
use crate::schema::SOURCE_KIND;
use crate::substitute::{Group, Known};
use patches::Patch;

/// What one `keel.yaml` says, with its variables filled in.
#[derive(Default)]
pub(super) struct Source {
    pub(super) written: WrittenSource,
    /// What specs of a kind have where they do not say.
    pub(super) defaults: BTreeMap<Kind, Node>,
    /// Referenced here, owned elsewhere.
    pub(super) external: BTreeSet<Address>,
    /// Changes of the documents of this layer and of those under it.
    pub(super) patches: Vec<Patch>,
}

/// Keys of which no value has variables: they say what variables are, and what is read at all.
const WITHOUT_VARIABLES: [&str; 2] = ["variables", "bases"];

/// The document of a `keel.yaml`; there is one.
pub(super) fn the_one(nodes: Vec<Node>, found: &mut Diagnostics) -> Option<Node> {
    if let [first, second, ..] = nodes.as_slice() {
        found.push(
            Diagnostic::error(TWICE, second.place.origin(), "keel.yaml has one document")
                .related(first.place.origin(), "the first one")
                .hint("write other documents into files of their own"),
        );
    }
    nodes.into_iter().next().filter(|node| is_map(node, found))
}

/// Reads what a `keel.yaml` says, without its variables.
pub(super) fn read_source(mut node: Node, known: &Known, found: &mut Diagnostics) -> Source {
    let mut source = Source::default();
    if let Value::Map(entries) = &mut node.value {
        for (key, below) in entries {
            if !WITHOUT_VARIABLES.contains(&key.name.as_str()) {
                substitute::fill(below, Group::Variables, known, found);
            }
        }
    }
    let node = &node;
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
    defaults(node, &mut source.defaults, found);
    let written = decode::decode(node, &Pointer::root(), |decoder| {
        WrittenSource::deserialize(decoder)
    });
    source.written = written.unwrap_or_else(|wrong| {
        found.extend(wrong);
        WrittenSource::default()
    });
    if let Some(block) = node.get("lifecycle") {
        source.written.lifecycle.placed(block);
    }
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
    names(node, &mut source.written, found);
    if let Some(written) = node.get("patches") {
        source.patches = patches::read(written, found);
    }
    source
}

/// The names that keel.yaml gives.
fn names(node: &Node, source: &mut WrittenSource, found: &mut Diagnostics) {
    let with_prefix = format!("{}x", source.name_prefix);
    if envelope::wrong_name(Kind::StoragePool, &with_prefix).is_some() {
        let origin = node.get("namePrefix").unwrap_or(node).place.origin();
        let words =
            "a prefix has letters, digits, `-`, `_` and `.`, and begins with a letter or digit";
        let one = bad_name(&source.name_prefix, origin, words);
        found.push(one.at(Pointer::new("/namePrefix")));
        source.name_prefix.clear();
    }
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
        match decode::decode(&whole, &at, |decoder| Spec::deserialize(*kind, decoder)) {
            Ok(_) => {
                out.insert(*kind, spec.clone());
            }
            Err(wrong) => found.extend(wrong),
        }
    }
}
