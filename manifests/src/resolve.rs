//! Texts to what they mean: [`resolve`] makes a [`DesiredSet`] of the files of a source, and finds everything that is
//! wrong with them in one run. No IO, no clock.

mod references;
mod unknown;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::decode::{self, Decoder, MISSING_FIELD, UNKNOWN_FIELD, UNKNOWN_WORD, nearest};
use crate::desired::{
    Budget, DesiredSet, Readiness, Reference, Resource, SourceInfo, Window, Windows,
};
use crate::devices::Device;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Origin};
use crate::envelope::{
    self, API_VERSION, DependsOn, Metadata, WrittenLifecycle, WrittenSource, WrittenWindow,
};
use crate::id::{Address, SourceName};
use crate::kind::{Kind, Spec};
use crate::lifecycle::Lifecycle;
use crate::merge;
use crate::parse::{NOT_IN_THE_LANGUAGE, parse};
use crate::pointer::Pointer;
use crate::read::{SOURCE_FILE, Texts};
use crate::rules;
use crate::substitute;
use crate::tree::{Node, Place, Value};
use references::{candidates, dangling, depends_on};
use unknown::{unknown_keys, unknown_kind};

/// A name that its kind does not allow.
pub const BAD_NAME: Code = Code("E0110");
/// Two documents of one object.
pub const TWICE: Code = Code("E0111");
/// An instance without a root disk, or a pool to make one on.
pub const NO_ROOT: Code = Code("E0112");
/// A part of the language that is not taken yet.
pub const NOT_YET: Code = Code("E0113");
/// A reference to nothing.
pub const DANGLING: Code = Code("R0201");

/// What a source means.
#[derive(Debug)]
pub struct Resolved {
    /// What is wanted; only where nothing is wrong.
    pub desired: Option<DesiredSet>,
    /// All findings.
    pub found: Diagnostics,
    /// How many documents there were.
    pub documents: usize,
}

/// One document after parsing.
struct Document {
    kind: Kind,
    metadata: Metadata,
    address: Address,
    node: Node,
    place: Place,
}

/// What the files of a source mean.
pub fn resolve(texts: &Texts, revision: Option<String>) -> Resolved {
    let mut found = Diagnostics::default();
    let mut source = WrittenSource::default();
    let mut nodes = Vec::new();
    let mut defaults: BTreeMap<Kind, Node> = BTreeMap::new();
    let mut variables = BTreeMap::new();
    for (file, text) in &texts.files {
        let (documents, wrong) = parse(file, text);
        found.extend(wrong);
        for node in documents {
            if file.as_str() == SOURCE_FILE {
                source = read_source(&node, &mut defaults, &mut variables, &mut found);
            } else {
                nodes.push(node);
            }
        }
    }
    let count = nodes.len();
    let mut documents: BTreeMap<Address, Document> = BTreeMap::new();
    for node in nodes {
        for node in each(node, &mut found) {
            let Some(document) = read_document(node, &source, &variables, &mut found) else {
                continue;
            };
            if let Some(first) = documents.get(&document.address) {
                found.push(
                    Diagnostic::error(
                        TWICE,
                        document.place.origin(),
                        format!(
                            "{} is declared twice, first in {}",
                            document.address,
                            first.place.origin()
                        ),
                    )
                    .of(&document.address)
                    .related(first.place.origin(), "first declared here"),
                );
            } else {
                documents.insert(document.address.clone(), document);
            }
        }
    }
    let external: Vec<Address> = source
        .external
        .iter()
        .filter_map(|text| match text.parse::<Address>() {
            Ok(address) => Some(address),
            Err(error) => {
                let origin = Origin {
                    file: SOURCE_FILE.to_owned().into(),
                    ..Origin::default()
                };
                found.push(Diagnostic::error(DANGLING, origin, error.to_string()));
                None
            }
        })
        .collect();
    let mut resources = BTreeMap::new();
    for document in documents
        .values()
        .filter(|document| document.kind != Kind::Profile)
    {
        if let Some(resource) = resource(
            document, &documents, &defaults, &source, &external, &mut found,
        ) {
            resources.insert(resource.address.clone(), resource);
        }
    }
    // A profile that nobody uses is checked all the same.
    for profile in documents
        .values()
        .filter(|document| document.kind == Kind::Profile)
    {
        if let Some(spec) = profile.node.get("spec") {
            let mut whole = Node {
                place: spec.place.clone(),
                value: Value::Map(Vec::new()),
            };
            merge::spec(&mut whole, spec);
            if let Err(wrong) = decode_spec(Kind::Profile, &whole) {
                found.extend(wrong);
            }
        }
    }
    // The rest of the tree is there to be referred to, and is not touched by this run.
    let mut external = external;
    if texts.only.is_some() {
        let (meant, rest): (Vec<_>, Vec<_>) = resources
            .into_iter()
            .partition(|(_, resource): &(Address, Resource)| texts.means(&resource.origin.file));
        resources = meant.into_iter().collect();
        external.extend(rest.into_iter().map(|(address, _)| address));
    }
    let windows = |written: &[WrittenWindow]| {
        written
            .iter()
            .map(|window| Window {
                cron: window.cron.clone(),
                seconds: window.duration.seconds(),
                time_zone: window.time_zone.clone(),
            })
            .collect()
    };
    let desired = DesiredSet {
        source: SourceInfo {
            name: source
                .name
                .clone()
                .map_or_else(SourceName::unnamed, SourceName::new),
            root: texts.root.clone(),
            revision,
            partial: texts.partial.clone(),
        },
        resources,
        external,
        budget: Budget {
            data: source.budget.data,
            percent: source.budget.percent,
        },
        windows: Windows {
            interrupting: windows(&source.windows.interrupting),
            destructive: windows(&source.windows.destructive),
        },
        host: source
            .host
            .as_ref()
            .map(|host| (host.name.clone(), host.machine_id.clone())),
    };
    for rule in rules::RULES {
        rule.check(&desired, &mut found);
    }
    let desired = (!found.has_errors()).then_some(desired);
    Resolved {
        desired,
        found,
        documents: count,
    }
}

/// Findings that several ways lead to are told once: a profile's mistake shows in each instance.
fn decode_spec(kind: Kind, node: &Node) -> Result<Spec, Diagnostics> {
    decode::decode(node, &Pointer::new("/spec"), |decoder| {
        Spec::deserialize(kind, decoder)
    })
}

fn read_source(
    node: &Node,
    defaults: &mut BTreeMap<Kind, Node>,
    variables: &mut BTreeMap<String, String>,
    found: &mut Diagnostics,
) -> WrittenSource {
    unknown_keys(node, envelope::SOURCE_KEYS, found);
    for key in ["bases", "patches", "namePrefix"] {
        if let Some((key, _)) = node.entry(key) {
            found.push(Diagnostic::error(
                NOT_YET,
                key.place.origin(),
                format!("`{}` is not taken by this version", key.name),
            ));
        }
    }
    if let Some(Value::Map(entries)) = node.get("variables").map(|node| &node.value) {
        for (key, variable) in entries {
            match variable.get("default").map(|default| &default.value) {
                Some(Value::Text(text) | Value::Integer(text) | Value::Float(text)) => {
                    variables.insert(format!("var.{}", key.name), text.to_string());
                }
                Some(Value::Bool(yes)) => {
                    variables.insert(format!("var.{}", key.name), yes.to_string());
                }
                _ => found.push(
                    Diagnostic::error(
                        MISSING_FIELD,
                        key.place.origin(),
                        format!("variable `{}` has no default", key.name),
                    )
                    .hint("write `{type: string, default: …}`"),
                ),
            }
        }
    }
    if let Some(Value::Map(entries)) = node.get("defaults").map(|node| &node.value) {
        for (key, node) in entries {
            match Kind::from_word(&key.name) {
                Some(kind) => {
                    defaults.insert(kind, node.clone());
                }
                None => found.push(unknown_kind(&key.name, key.place.origin())),
            }
        }
    }
    let source = decode::decode(node, &Pointer::root(), |decoder| {
        WrittenSource::deserialize(decoder)
    });
    let source = source.unwrap_or_else(|wrong| {
        found.extend(wrong);
        WrittenSource::default()
    });
    if let Some(name) = &source.name
        && let Some(wrong) = envelope::wrong_name(Kind::Project, name)
    {
        let origin = node
            .get("name")
            .map(|name| name.place.origin())
            .unwrap_or_default();
        found.push(Diagnostic::error(BAD_NAME, origin, wrong));
    }
    source
}

/// One document stands for at most so many.
const MOST: usize = 10_000;

/// The documents that one with `forEach` stands for.
fn each(mut node: Node, found: &mut Diagnostics) -> Vec<Node> {
    let Some(over) = node.take("forEach") else {
        return vec![node];
    };
    let mut wrong = None;
    let values: Vec<String> = match &over.value {
        Value::List(items) => items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Text(text) | Value::Integer(text) | Value::Float(text) => {
                    Some(text.to_string())
                }
                Value::Bool(yes) => Some(yes.to_string()),
                // A value that is left out would be an object that is deleted.
                other => {
                    wrong = Some((
                        item.place.origin(),
                        format!("{} in `forEach`", other.noun()),
                    ));
                    None
                }
            })
            .collect(),
        Value::Map(_) => match over.get("count").map(|count| (&count.value, &count.place)) {
            Some((Value::Integer(count), place)) => match count.parse::<usize>() {
                Ok(count) if count <= MOST => (0..count).map(|index| index.to_string()).collect(),
                _ => {
                    wrong = Some((
                        place.origin(),
                        format!("`forEach` makes at most {MOST} objects"),
                    ));
                    Vec::new()
                }
            },
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let counts = over.get("count").is_some();
    if let Some((origin, message)) = wrong {
        found.push(Diagnostic::error(NOT_IN_THE_LANGUAGE, origin, message));
        return Vec::new();
    }
    if values.is_empty()
        && !counts
        && !matches!(&over.value, Value::List(items) if items.is_empty())
    {
        found.push(
            Diagnostic::error(
                NOT_IN_THE_LANGUAGE,
                over.place.origin(),
                "`forEach` is a list of values or a count",
            )
            .hint("write `[web-1, web-2]` or `{ count: 3 }`"),
        );
    }
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            let mut copy = node.clone();
            let known = BTreeMap::from([
                ("each.value".to_owned(), value),
                ("each.index".to_owned(), index.to_string()),
            ]);
            // A variable is filled in later, with all that are declared.
            let mut later = Diagnostics::default();
            substitute::fill(&mut copy, &known, &mut later);
            copy
        })
        .collect()
}

fn read_document(
    mut node: Node,
    source: &WrittenSource,
    variables: &BTreeMap<String, String>,
    found: &mut Diagnostics,
) -> Option<Document> {
    let place = node.place.clone();
    if !matches!(node.value, Value::Map(_)) {
        found.push(Diagnostic::error(
            NOT_IN_THE_LANGUAGE,
            place.origin(),
            format!("a document is a map, this is {}", node.value.noun()),
        ));
        return None;
    }
    substitute::fill(&mut node, variables, found);
    unknown_keys(&node, envelope::KEYS, found);
    match node
        .get("apiVersion")
        .map(|version| (version.text(), &version.place))
    {
        Some((Some(API_VERSION), _)) => {}
        Some((_, place)) => found.push(
            Diagnostic::error(
                UNKNOWN_WORD,
                place.origin(),
                "this is no version of the language",
            )
            .hint(format!("write `{API_VERSION}`")),
        ),
        None => found.push(
            Diagnostic::error(
                MISSING_FIELD,
                place.origin(),
                "field `apiVersion` is missing",
            )
            .hint(format!("write `apiVersion: {API_VERSION}`")),
        ),
    }
    let kind = match node.get("kind").map(|kind| (kind.text(), &kind.place)) {
        Some((Some(word), place)) => match Kind::ALL.iter().find(|kind| kind.name() == word) {
            Some(kind) => *kind,
            None => {
                found.push(unknown_kind(word, place.origin()));
                return None;
            }
        },
        Some((None, place)) => {
            found.push(unknown_kind("", place.origin()));
            return None;
        }
        None => {
            found.push(Diagnostic::error(
                MISSING_FIELD,
                place.origin(),
                "field `kind` is missing",
            ));
            return None;
        }
    };
    let metadata = match node.get("metadata") {
        Some(metadata) => {
            let at = Pointer::new("/metadata");
            match decode::decode(metadata, &at, |decoder| Metadata::deserialize(decoder)) {
                Ok(metadata) => metadata,
                Err(wrong) => {
                    found.extend(wrong);
                    return None;
                }
            }
        }
        None => {
            found.push(Diagnostic::error(
                MISSING_FIELD,
                place.origin(),
                "field `metadata` is missing",
            ));
            return None;
        }
    };
    let name = format!("{}{}", source.name_prefix, metadata.name);
    let named = node
        .at(&Pointer::new("/metadata/name"))
        .map_or(&place, |name| &name.place);
    if let Some(wrong) = envelope::wrong_name(kind, &name) {
        let short: String = name.chars().take(40).collect();
        found.push(
            Diagnostic::error(
                BAD_NAME,
                named.origin(),
                format!("`{}` is no name here", short.escape_debug()),
            )
            .hint(wrong)
            .at(Pointer::new("/metadata/name")),
        );
        return None;
    }
    let project = metadata.project.as_deref().or(source.project.as_deref());
    let mut address = match project {
        Some(_) if kind.belongs_to_host() => {
            if metadata.project.is_some() {
                found.push(Diagnostic::error(
                    UNKNOWN_FIELD,
                    named.origin(),
                    format!("a {} belongs to the host and to no project", kind.word()),
                ));
            }
            Address::new(kind, name)
        }
        Some(project) => Address::in_project(kind, project, name),
        None => Address::new(kind, name),
    };
    if kind == Kind::Volume {
        let pool = node.at(&Pointer::new("/spec/pool")).and_then(Node::text);
        address.pool = Some(pool.unwrap_or_default().to_owned());
    }
    Some(Document {
        kind,
        metadata,
        address,
        node,
        place,
    })
}

/// The spec of a document with profiles under it.
fn merged(
    document: &Document,
    documents: &BTreeMap<Address, Document>,
    defaults: &BTreeMap<Kind, Node>,
    found: &mut Diagnostics,
) -> Node {
    let mut spec = Node {
        place: document.place.clone(),
        value: Value::Map(Vec::new()),
    };
    if let Some(defaults) = defaults.get(&document.kind) {
        merge::spec(&mut spec, defaults);
    }
    let written = document.node.get("spec");
    if document.kind == Kind::Instance {
        let named = written.and_then(|spec| spec.get("profiles"));
        let project = document.address.project_name();
        let find = |name: &str| {
            documents
                .get(&Address::in_project(Kind::Profile, project, name))
                .or_else(|| documents.get(&Address::new(Kind::Profile, name)))
        };
        let profiles: Vec<(&str, Option<&Node>)> = match named.map(|named| &named.value) {
            Some(Value::List(names)) => names
                .iter()
                .filter_map(|name| Some((name.text()?, Some(name))))
                .collect(),
            _ => find("default")
                .map(|_| ("default", None))
                .into_iter()
                .collect(),
        };
        for (name, place) in profiles {
            match find(name) {
                Some(profile) => {
                    if let Some(profile) = profile.node.get("spec") {
                        merge::spec(&mut spec, profile);
                    }
                }
                None => {
                    let known: Vec<&str> = documents
                        .keys()
                        .filter(|address| address.kind == Kind::Profile)
                        .map(|address| address.name.as_str())
                        .collect();
                    let origin = place.map(|place| place.place.origin()).unwrap_or_default();
                    let one = Diagnostic::error(
                        DANGLING,
                        origin,
                        format!("there is no profile `{name}`"),
                    )
                    .of(&document.address);
                    found.push(match nearest(name, &known) {
                        Some(near) => one.hint(format!("did you mean `{near}`?")),
                        None => one.hint("declare it, or take it out of the list"),
                    });
                }
            }
        }
    }
    if let Some(written) = written {
        merge::spec(&mut spec, written);
        spec.place = written.place.clone();
    }
    spec
}

fn resource(
    document: &Document,
    documents: &BTreeMap<Address, Document>,
    defaults: &BTreeMap<Kind, Node>,
    source: &WrittenSource,
    external: &[Address],
    found: &mut Diagnostics,
) -> Option<Resource> {
    let address = &document.address;
    let node = merged(document, documents, defaults, found);
    let mut spec = match decode_spec(document.kind, &node) {
        Ok(spec) => spec,
        Err(wrong) => {
            found.extend(wrong);
            return None;
        }
    };
    let mut provenance = BTreeMap::new();
    node.walk(&Pointer::new("/spec"), &mut |at, node| {
        provenance.insert(at.clone(), node.place.origin());
    });
    if let Spec::Instance(instance) = &mut spec {
        complete_root(
            address,
            instance,
            documents,
            external,
            &document.place,
            found,
        );
    }
    let mut lifecycle = Lifecycle::default_of(document.kind);
    source.lifecycle.apply(&mut lifecycle);
    if let Some(written) = document.node.get("lifecycle") {
        let at = Pointer::new("/lifecycle");
        match decode::decode(written, &at, |decoder: Decoder<'_>| {
            WrittenLifecycle::deserialize(decoder)
        }) {
            Ok(written) => written.apply(&mut lifecycle),
            Err(wrong) => found.extend(wrong),
        }
    }
    let mut needs: Vec<(Address, Readiness)> = Vec::new();
    for reference in spec.references() {
        let known =
            |address: &Address| documents.contains_key(address) || external.contains(address);
        match candidates(address, &reference)
            .into_iter()
            .find(|address| known(address))
        {
            Some(target) => needs.push((target, Readiness::Started)),
            // An image may be in the store already, under this alias.
            None if reference.kind == Kind::Image => {}
            None => found.push(dangling(
                address,
                &reference,
                documents,
                &provenance,
                &document.place,
            )),
        }
    }
    depends_on(document, documents, external, &mut needs, found);
    needs.sort_by(|a, b| a.0.cmp(&b.0));
    needs.dedup_by(|a, b| a.0 == b.0);
    Some(Resource {
        address: address.clone(),
        spec,
        labels: document.metadata.labels.clone(),
        annotations: document.metadata.annotations.clone(),
        lifecycle,
        previous: document
            .metadata
            .previous_names
            .iter()
            .map(|name| Address {
                name: name.clone(),
                ..address.clone()
            })
            .collect(),
        needs,
        origin: document.place.origin(),
        provenance,
    })
}

/// An instance without a root disk gets one on the only pool; a root disk without a pool as well.
fn complete_root(
    address: &Address,
    instance: &mut crate::kinds::instance::Instance,
    documents: &BTreeMap<Address, Document>,
    external: &[Address],
    place: &Place,
    found: &mut Diagnostics,
) {
    let needs_pool = match instance.root() {
        None => true,
        Some((_, root)) => root.pool.is_none(),
    };
    if !needs_pool {
        return;
    }
    let pools: Vec<&Address> = documents
        .keys()
        .chain(external)
        .filter(|a| a.kind == Kind::StoragePool)
        .collect();
    let [pool] = pools.as_slice() else {
        let one = Diagnostic::error(
            NO_ROOT,
            place.origin(),
            format!("{address} has no pool for its root"),
        )
        .of(address)
        .hint("write `devices: { root: { type: disk, path: /, pool: NAME } }`");
        found.push(if pools.is_empty() {
            one.note("there is no StoragePool here, and none is named as `external`")
        } else {
            one.note("there are several pools: which one it is must be said")
        });
        return;
    };
    let name = instance.root().map_or("root", |(name, _)| name).to_owned();
    let mut disk = match instance.devices.get(&name).and_then(Device::as_disk) {
        Some(disk) => disk.clone(),
        None => crate::devices::Disk {
            path: "/".parse().ok(),
            ..crate::devices::Disk::default()
        },
    };
    disk.pool = Some(pool.name.clone());
    instance.devices.insert(name, Device::Disk(Box::new(disk)));
}

#[cfg(test)]
mod tests;
