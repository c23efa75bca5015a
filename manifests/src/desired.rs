//! What is wanted: [`DesiredSet`], all objects of a source after profiles, defaults and references are settled.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::diagnostic::Origin;
use crate::id::{Address, SourceName};
use crate::kind::{Kind, Spec};
use crate::lifecycle::Lifecycle;
use crate::pointer::Pointer;
use crate::repository::Repository;
use crate::tree::{Node, Place};

/// Another object that one names in its spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it is.
    pub kind: Kind,
    /// The pool of a volume.
    pub pool: Option<String>,
    /// Its name as written.
    pub name: String,
    /// Which field names it: `/spec/devices/eth0/network`.
    pub at: Pointer,
}

/// How far an object must be before one that depends on it begins.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    /// Its start has been seen.
    Started,
    /// It runs.
    Running,
    /// Its health checks pass; it runs, where it has none.
    Healthy,
}

/// One object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Which one.
    pub address: Address,
    /// What it should be.
    pub spec: Spec,
    /// For selectors.
    pub labels: BTreeMap<String, String>,
    /// For other tools.
    pub annotations: BTreeMap<String, String>,
    /// How it is treated.
    pub lifecycle: Lifecycle,
    /// Names that it had before: a rename is a rename.
    pub previous: Vec<Address>,
    /// Objects that must be there first: by reference and by `dependsOn`.
    pub needs: Vec<(Address, Readiness)>,
    /// Where its document begins.
    pub origin: Origin,
    /// Where each written value came from.
    pub provenance: Provenance,
}

impl Resource {
    /// Where a field was written: the nearest written value at or above it, else the document.
    pub fn origin_of(&self, path: &Pointer) -> Origin {
        self.provenance
            .nearest(path)
            .unwrap_or_else(|| self.origin.clone())
    }
}

/// Where each value of a spec was written; a value that is missing here is a default. Shared, since copies of a resource
/// were written in the same places.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Provenance(Option<Arc<Node>>);

impl Provenance {
    /// Of a spec after profiles and defaults.
    pub const fn new(spec: Arc<Node>) -> Self {
        Self(Some(spec))
    }

    /// What was written, after profiles and defaults; none for what nobody wrote.
    pub fn written(&self) -> Option<&Node> {
        self.0.as_deref()
    }

    /// Where exactly this value was written: `/spec/limits/memory`.
    pub fn at(&self, path: &Pointer) -> Option<Origin> {
        let below = Pointer::new(path.as_str().strip_prefix("/spec")?);
        self.0.as_ref()?.at(&below).map(|node| node.place.origin())
    }

    /// Where this value or the nearest written one above it was written: of a block, the line of its key, by which a
    /// person finds it.
    fn nearest(&self, path: &Pointer) -> Option<Origin> {
        let mut node: &Node = self.0.as_ref()?;
        let mut key = None;
        for step in path.steps().skip(1) {
            let Some(below) = node.child(&step) else {
                break;
            };
            key = node.entry(&step).map(|(key, _)| &key.place);
            node = below;
        }
        let is_above = |key: &&Place| key.file == node.place.file && key.line < node.place.line;
        Some(key.filter(is_above).unwrap_or(&node.place).origin())
    }

    /// Every written value with its place, parents first.
    pub fn each(&self, visit: &mut dyn FnMut(&Pointer, Origin)) {
        if let Some(spec) = &self.0 {
            spec.walk(&Pointer::new("/spec"), &mut |at, node| {
                visit(at, node.place.origin());
            });
        }
    }
}

/// Where a set of manifests came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceInfo {
    /// Its name; who owns what is made from here.
    pub name: SourceName,
    /// The folder of its `keel.yaml`, else the path that was given. Absolute.
    pub root: PathBuf,
    /// The commit, `+dirty` where files differ from it; none outside git.
    pub revision: Option<String>,
    /// Where in which repository that folder is; none outside git.
    pub repository: Option<Repository>,
    /// Why this is only a part of the source; a part never deletes.
    pub partial: Option<String>,
}

/// How much one apply may delete, replace or rebuild unasked (guard G102).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Budget {
    /// Objects that hold data.
    pub data: u32,
    /// Of all objects, in percent.
    pub percent: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            data: 1,
            percent: 10,
        }
    }
}

/// The `trash` of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct TrashRule {
    /// How long what is taken away is kept there, in seconds.
    pub keep_seconds: u64,
    /// Bytes that the trash of one pool may hold before a plan warns; none: any.
    pub size: Option<u64>,
}

impl Default for TrashRule {
    fn default() -> Self {
        Self {
            keep_seconds: 7 * 86_400,
            size: None,
        }
    }
}

impl TrashRule {
    /// When what comes there now goes for good.
    pub fn expiry(&self, now: jiff::Timestamp) -> jiff::Timestamp {
        let seconds = i64::try_from(self.keep_seconds).unwrap_or(i64::MAX);
        let span = jiff::SignedDuration::from_secs(seconds);
        now.saturating_add(span).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// A time in which changes of a class are allowed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When it begins, as a five-field cron expression.
    pub cron: String,
    /// How long it lasts, in seconds.
    pub seconds: u64,
    /// The IANA name of its time zone.
    pub time_zone: String,
}

/// The `windows` of a source; an empty list allows always.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Windows {
    /// For what interrupts.
    pub interrupting: Vec<Window>,
    /// For what destroys.
    pub destructive: Vec<Window>,
}

/// All objects that a source wants.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredSet {
    /// Where they came from.
    pub source: SourceInfo,
    /// The objects.
    pub resources: BTreeMap<Address, Resource>,
    /// Where only a part is meant: the objects that the rest of the source declares. Nothing is done to them.
    pub others: BTreeMap<Address, Resource>,
    /// Objects that are referenced here and owned elsewhere: never changed.
    pub external: Vec<Address>,
    /// Rules over plans, also those outside the part that is meant. They are no objects of an engine.
    pub policies: Vec<Resource>,
    /// Projects, also those outside the part that is meant. They are no objects of an engine.
    pub projects: Vec<Resource>,
    /// Where the values of secrets are, also outside the part that is meant. They are no objects of an engine.
    pub secrets: BTreeMap<Address, Resource>,
    /// What one apply may take away unasked.
    pub budget: Budget,
    /// When changes are allowed.
    pub windows: Windows,
    /// What becomes of what is taken away.
    pub trash: TrashRule,
    /// The host that the source is for: its name and machine id, where it says so.
    pub host: Option<(Option<String>, Option<String>)>,
}

impl DesiredSet {
    /// All that the source declares, also outside the part that is meant, by address within each.
    pub fn declared(&self) -> impl Iterator<Item = &Resource> {
        self.resources.values().chain(self.others.values())
    }

    /// What the source declares under a name, also outside the part that is meant.
    pub fn declares(&self, address: &Address) -> Option<&Resource> {
        let own = self.resources.get(address);
        own.or_else(|| self.others.get(address))
    }

    /// Leaves in the part that is meant what `meant` holds of; the rest stays declared.
    pub fn keep(&mut self, meant: impl Fn(&Resource) -> bool) {
        let (kept, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.resources)
            .into_iter()
            .partition(|(_, resource)| meant(resource));
        self.resources = kept;
        self.external.extend(rest.keys().cloned());
        self.others.extend(rest);
    }
}
