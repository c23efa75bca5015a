//! Texts to what they mean: [`resolve`] makes a [`DesiredSet`] of the files of a source, and finds everything that is
//! wrong with them in one run. No clock; of the disk, only the names of time zones.

mod cloud_config;
mod document;
mod findings;
mod for_each;
mod json_patch;
mod layers;
mod patches;
mod paths;
mod prefix;
mod project;
mod references;
mod root_disk;
mod source;
mod texts;
mod unknown;
mod variables;
mod volume_defaults;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use crate::decode::{self, Decoder, MISSING_FIELD, UNKNOWN_FIELD, UNKNOWN_WORD, WRONG_TYPE};
use crate::desired::{
    Budget, DesiredSet, Provenance, Readiness, Reference, Resource, SourceInfo, TrashRule, Window,
    Windows,
};
use crate::devices::Device;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Origin};
use crate::envelope::{
    self, API_VERSION, DependsOn, Metadata, WrittenLifecycle, WrittenSource, WrittenTarget,
    WrittenTrash, WrittenWindow,
};
use crate::id::{Address, SourceName};
use crate::kind::{Kind, Spec};
use crate::lifecycle::Lifecycle;
use crate::merge;
use crate::near_miss::{self, nearest};
use crate::parse::parse;
use crate::pointer::Pointer;
use crate::read::{SOURCE_FILE, Texts};
use crate::rules;
use crate::substitute;
use crate::tree::{Key, Node, Place, Value};
use document::{Document, read_document};
use findings::{bad_name, empty_map, hinted, is_map, not_an_address, wrong_type};
use for_each::each;
use layers::{Layered, Scope, Whole, Written, put_together};
use project::Projects;
use references::{depends_on, needs_of, secrets_of};
use root_disk::complete_root;
use texts::take_in;
use unknown::{misplaced, unknown_keys, unknown_kind};

pub use for_each::MOST;
pub use layers::BAD_BASE;
pub use patches::BAD_PATCH;
pub(crate) use unknown::api_version;

pub use texts::{NOT_TAKEN, PLACES as TEXT_PLACES};

/// A name that its kind does not allow.
pub const BAD_NAME: Code = Code("E0110");
/// Two documents of one object.
pub const TWICE: Code = Code("E0111");
/// An instance without a root disk, or a pool to make one on.
pub const NO_ROOT: Code = Code("E0112");
/// A `forEach` that cannot be understood.
pub const BAD_EACH: Code = Code("E0114");
/// A source within a source.
pub const NESTED: Code = Code("E0116");
/// A reference to nothing.
pub const DANGLING: Code = Code("R0201");
/// An object in a project that has no objects of its kind.
pub const NOT_OF_PROJECT: Code = Code("R0205");

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

/// All documents of a source.
struct Tree {
    documents: BTreeMap<Address, Document>,
    /// What layers say of all of their documents.
    scopes: Vec<Scope>,
    /// Referenced here, owned elsewhere.
    external: BTreeSet<Address>,
    projects: Projects,
    /// The pools of the host, of which one may be the only one.
    pools: Vec<Address>,
}

impl Tree {
    fn knows(&self, address: &Address) -> bool {
        self.documents.contains_key(address) || self.external.contains(address)
    }

    /// The names of all that is known of a kind.
    fn names(&self, kind: Kind) -> Vec<&str> {
        self.documents
            .keys()
            .chain(&self.external)
            .filter(|address| address.kind == kind)
            .map(|address| address.name.as_str())
            .collect()
    }
}

/// What the files of a source mean.
pub fn resolve(texts: &Texts, revision: Option<String>) -> Resolved {
    let mut found = Diagnostics::default();
    let Whole {
        layered,
        written,
        external,
        external_to_bases,
        count,
    } = put_together(texts, &mut found);
    let mut tree = read_tree(layered, external, external_to_bases, &mut found);
    let mut resources = BTreeMap::new();
    let addresses: Vec<Address> = tree.documents.keys().cloned().collect();
    for address in &addresses {
        let Some(document) = tree.documents.get_mut(address).map(Document::taken) else {
            continue;
        };
        let document = &document;
        if document.kind == Kind::Profile {
            profile(document, texts, &mut found);
        } else if let Some(resource) = resource(document, &tree, texts, &mut found) {
            resources.insert(resource.address.clone(), resource);
        }
    }
    let (limits, open) = (
        written.budget.unwrap_or_default(),
        written.windows.unwrap_or_default(),
    );
    let mut desired = DesiredSet {
        source: source_info(texts, written.name, revision),
        resources,
        others: BTreeMap::new(),
        external: tree.external.into_iter().collect(),
        policies: Vec::new(),
        projects: Vec::new(),
        secrets: BTreeMap::new(),
        budget: Budget {
            data: limits.data,
            percent: limits.percent,
        },
        windows: Windows {
            interrupting: windows(&open.interrupting),
            destructive: windows(&open.destructive),
        },
        trash: written.trash.map(trash).unwrap_or_default(),
        host: written.host.map(|host| (host.name, host.machine_id)),
    };
    for rule in rules::RULES {
        rule.check(&desired, &mut found);
    }
    // The rest of the tree is there to be referred to, and is not touched by this run.
    if texts.only.is_some() {
        desired.keep(|resource| texts.means(&resource.origin.file));
    }
    found.tell_once();
    let desired = (!found.has_errors()).then_some(desired);
    Resolved {
        desired,
        found,
        documents: count,
    }
}

fn trash(written: WrittenTrash) -> TrashRule {
    TrashRule {
        keep_seconds: written.keep.seconds(),
        size: written.size.map(|size| size.bytes()),
    }
}

fn windows(written: &[WrittenWindow]) -> Vec<Window> {
    let each = |window: &WrittenWindow| {
        let (seconds, zone) = (window.duration.seconds(), window.time_zone.as_str());
        window
            .cron
            .expressions()
            .into_iter()
            .map(|cron| Window {
                cron: cron.to_owned(),
                seconds,
                time_zone: zone.to_owned(),
            })
            .collect::<Vec<_>>()
    };
    written.iter().flat_map(each).collect()
}

/// Which source it is: of its files only the `keel.yaml` is looked at. None where something is wrong with it.
pub fn source_of(texts: &Texts) -> Option<SourceInfo> {
    let mut found = Diagnostics::default();
    let mut written = WrittenSource::default();
    if let Some((file, text)) = texts.files.iter().find(|(file, _)| file == SOURCE_FILE) {
        let (nodes, wrong) = parse(file, text);
        found.extend(wrong);
        if let Some(node) = source::the_one(nodes, &mut found) {
            let mut variables = variables::Variables::default();
            variables.declare(Some(&node), &mut found);
            written = source::read_source(node, &variables.known(), &mut found).written;
        }
    }
    (!found.has_errors()).then(|| source_info(texts, written.name, None))
}

fn source_info(texts: &Texts, name: Option<String>, revision: Option<String>) -> SourceInfo {
    SourceInfo {
        name: name.map_or_else(SourceName::unnamed, SourceName::new),
        root: texts.root.clone(),
        revision,
        repository: None,
        partial: texts.partial.clone(),
    }
}

/// Reads the envelopes of all documents.
fn read_tree(
    layered: Layered,
    mut external: BTreeSet<Address>,
    external_to_bases: BTreeSet<Address>,
    found: &mut Diagnostics,
) -> Tree {
    let Layered {
        documents: written,
        scopes,
    } = layered;
    let mut documents: BTreeMap<Address, Document> = BTreeMap::new();
    for Written { node, scope } in written {
        let project = scopes.get(scope).and_then(|scope| scope.project.as_deref());
        for node in each(node, found) {
            let Some(document) = read_document(node, scope, project, found) else {
                continue;
            };
            let Some(first) = documents.get(&document.address) else {
                documents.insert(document.address.clone(), document);
                continue;
            };
            // A base that comes in twice, and the same both times.
            let is_same = scopes.get(first.scope) == scopes.get(scope);
            if first.scope == scope || !is_same || first.node != document.node {
                found.push(twice(first, &document));
            }
        }
    }
    let not_here = |address: &Address| !documents.contains_key(address);
    external.extend(external_to_bases.into_iter().filter(not_here));
    let projects = Projects::of(&documents);
    let pools = documents
        .keys()
        .chain(&external)
        .filter(|address| address.kind == Kind::StoragePool)
        .cloned()
        .collect();
    let tree = Tree {
        documents,
        scopes,
        external,
        projects,
        pools,
    };
    project::check(&tree, found);
    tree
}

/// Two documents of one object.
fn twice(first: &Document, second: &Document) -> Diagnostic {
    let address = &second.address;
    let (here, there) = (second.named.origin(), first.named.origin());
    let message = format!("{address} is declared twice");
    if here == there && first.scope != second.scope {
        return Diagnostic::error(
            TWICE,
            here,
            format!("{message}: its layer comes in by two bases, which change it"),
        )
        .of(address)
        .hint("give one of the two a `namePrefix`, or let both say the same of it");
    }
    if here == there {
        return Diagnostic::error(TWICE, here, message).of(address).hint(
            "`forEach` makes one object for each value: write `${each.value}` into the name",
        );
    }
    Diagnostic::error(TWICE, here, format!("{message}, first in {there}"))
        .of(address)
        .related(there, "first declared here")
}

fn decode_spec(kind: Kind, node: &Node) -> Result<Spec, Diagnostics> {
    decode::decode(node, &Pointer::new("/spec"), |decoder| {
        Spec::deserialize(kind, decoder)
    })
    .map_err(|wrong| misplaced(kind, wrong))
}

/// A profile is resolved away; one that nobody uses is checked all the same.
fn profile(document: &Document, texts: &Texts, found: &mut Diagnostics) {
    if let Some(spec) = document.node.get("spec") {
        let mut whole = empty_map(&spec.place);
        merge::spec(&mut whole, spec);
        cloud_config::check(&whole, texts, found);
        take_in(&mut whole, texts, found);
        if let Err(wrong) = decode_spec(Kind::Profile, &whole) {
            found.extend(wrong);
        }
    }
}

/// The spec of a document with profiles under it, and the names of the devices that come from there.
fn merged(document: &Document, tree: &Tree, found: &mut Diagnostics) -> (Node, Vec<String>) {
    let mut spec = empty_map(&document.place);
    let scope = tree.scopes.get(document.scope);
    if let Some(defaults) = scope.and_then(|scope| scope.defaults.get(&document.kind)) {
        merge::spec(&mut spec, defaults);
    }
    let written = document.node.get("spec");
    if document.kind == Kind::Instance {
        let named = written.and_then(|spec| spec.get("profiles"));
        let find = |name: &str| {
            let reference = Reference {
                kind: Kind::Profile,
                pool: None,
                name: name.to_owned(),
                at: Pointer::root(),
            };
            let candidates = tree.projects.candidates(&document.address, &reference);
            candidates.into_iter().find(|address| tree.knows(address))
        };
        let profiles: Vec<(&str, Option<&Node>)> = match named.map(|named| &named.value) {
            Some(Value::List(names)) => names
                .iter()
                .filter_map(|name| Some((substitute::text(&name.value)?, Some(name))))
                .collect(),
            _ => find("default")
                .map(|_| ("default", None))
                .into_iter()
                .collect(),
        };
        for (name, place) in profiles {
            if let Some(address) = find(name) {
                // One of elsewhere lies on the server, under what is written here.
                let profile = tree.documents.get(&address);
                if let Some(profile) = profile.and_then(|profile| profile.node.get("spec")) {
                    merge::spec(&mut spec, profile);
                }
                continue;
            }
            let origin = place.unwrap_or(&document.node).place.origin();
            let one = Diagnostic::error(DANGLING, origin, format!("there is no profile `{name}`"))
                .of(&document.address)
                .at(Pointer::new("/spec/profiles"));
            found.push(match nearest(name, &tree.names(Kind::Profile)) {
                Some(near) => one.hint(format!("did you mean `{near}`?")),
                None => one.hint("declare it, or take it out of the list"),
            });
        }
    }
    let inherited = match spec.get("devices").map(|devices| &devices.value) {
        Some(Value::Map(devices)) => devices.iter().map(|(key, _)| key.name.clone()).collect(),
        _ => Vec::new(),
    };
    if document.kind == Kind::Volume {
        volume_defaults::under_volume(&mut spec, written, tree);
    }
    if let Some(written) = written {
        merge::spec(&mut spec, written);
        spec.place = written.place.clone();
    }
    (spec, inherited)
}

/// Who writes only a part of a device that a profile has may mean to keep the rest of it.
fn replaced_devices(inherited: &[String], mut found: Diagnostics) -> Diagnostics {
    found.each(|one| {
        let of_a_profile = one.path.steps().nth(2).is_some_and(|name| inherited.contains(&name))
            && one.path.steps().nth(1).as_deref() == Some("devices");
        if one.code == decode::MISSING_FIELD && of_a_profile && one.hint.is_none() {
            one.hint = Some(
                "this replaces the whole device of the profile; `inherit: true` takes the rest from there".to_owned(),
            );
        }
    });
    found
}

fn resource(
    document: &Document,
    tree: &Tree,
    texts: &Texts,
    found: &mut Diagnostics,
) -> Option<Resource> {
    let address = &document.address;
    let (mut node, inherited) = merged(document, tree, found);
    if document.kind == Kind::Instance {
        cloud_config::check(&node, texts, found);
    }
    take_in(&mut node, texts, found);
    let spec = decode_spec(document.kind, &node);
    let lifecycle = lifecycle(document, tree, found);
    let mut needs = depends_on(document, tree, found);
    let mut spec = match spec {
        Ok(spec) => spec,
        Err(wrong) => {
            found.extend(replaced_devices(&inherited, wrong));
            return None;
        }
    };
    if let Spec::Instance(instance) = &mut spec {
        device_names(address, &node, found);
        complete_root(document, instance, &tree.pools, found);
        volume_defaults::size_of_root(instance, tree);
    }
    needs.extend(secrets_of(&node, document, tree, found));
    let provenance = Provenance::new(Arc::new(node));
    needs.extend(needs_of(&spec, document, tree, &provenance, found));
    // What is said of an object by `dependsOn` counts before what a reference to it needs.
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

fn lifecycle(document: &Document, tree: &Tree, found: &mut Diagnostics) -> Lifecycle {
    let mut lifecycle = Lifecycle::default_of(document.kind);
    let scope = tree.scopes.get(document.scope);
    for written in scope.into_iter().flat_map(|scope| &scope.lifecycle) {
        written.apply(&mut lifecycle);
    }
    if let Some(written) = document.node.get("lifecycle") {
        let at = Pointer::new("/lifecycle");
        match decode::decode(written, &at, |decoder: Decoder<'_>| {
            WrittenLifecycle::deserialize(decoder)
        }) {
            Ok(mut wanted) => {
                wanted.placed(written);
                wanted.apply(&mut lifecycle);
            }
            Err(wrong) => found.extend(wrong),
        }
    }
    lifecycle
}

/// The name of a device is part of paths and of names of interfaces.
fn device_names(address: &Address, node: &Node, found: &mut Diagnostics) {
    let Some(Value::Map(devices)) = node.get("devices").map(|devices| &devices.value) else {
        return;
    };
    for (key, _) in devices {
        if let Some(wrong) = envelope::wrong_device(&key.name) {
            let at = Pointer::new("/spec/devices").field(&key.name);
            found.push(
                bad_name(&key.name, key.place.origin(), wrong)
                    .of(address)
                    .at(at),
            );
        }
    }
}

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod tests;
