//! [`Wanted`]: what a test wants of an engine, whichever it is, and what it asks of both.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use manifests::action::{Action, Keep, Verb};
use manifests::change::FieldChange;
use manifests::desired::{
    Budget, DesiredSet, Provenance, Resource, SourceInfo, TrashRule, Windows,
};
use manifests::diagnostic::Origin;
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::kind::Spec;
use manifests::lifecycle::Lifecycle;
use manifests::observed::Item;
use serde_json::Value;

use crate::error::Class;
use crate::runtime::{Context, Effected, Runtime};

static NEVER: AtomicBool = AtomicBool::new(false);

/// Objects of one source, without any manifest.
pub struct Wanted {
    /// What the engine is given.
    pub desired: DesiredSet,
}

impl Wanted {
    /// Nothing yet, of the source `test`.
    pub fn new(root: &Path) -> Self {
        Self {
            desired: DesiredSet {
                source: SourceInfo {
                    name: SourceName::new("test"),
                    root: root.to_path_buf(),
                    revision: None,
                    repository: None,
                    partial: None,
                },
                resources: BTreeMap::new(),
                others: BTreeMap::new(),
                external: Vec::new(),
                policies: Vec::new(),
                projects: Vec::new(),
                secrets: BTreeMap::new(),
                budget: Budget::default(),
                windows: Windows::default(),
                trash: TrashRule::default(),
                host: None,
            },
        }
    }

    /// Wants an object to be so.
    ///
    /// # Panics
    /// That is no spec of the kind.
    #[track_caller]
    pub fn want(&mut self, address: Address, spec: &Value) -> Address {
        let kind = address.kind;
        let spec = match Spec::deserialize(kind, spec) {
            Ok(spec) => spec,
            Err(error) => panic!("{spec}: {error}"),
        };
        let resource = Resource {
            address: address.clone(),
            spec,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            lifecycle: Lifecycle::default_of(kind),
            previous: Vec::new(),
            needs: Vec::new(),
            origin: Origin::default(),
            provenance: Provenance::default(),
        };
        self.desired.resources.insert(address.clone(), resource);
        address
    }

    /// Who an object is, by the name that it has now.
    pub fn uid(address: &Address) -> Uid {
        Uid::derive(&uuid::Uuid::nil(), address)
    }

    /// Does something to an object; a failure comes as its class and all its reasons.
    ///
    /// # Errors
    /// What the engine says.
    pub fn tried(
        &self,
        engine: &dyn Runtime,
        address: &Address,
        verb: Verb,
    ) -> Result<Effected, (Class, String)> {
        self.tried_as(engine, address, verb, Self::uid(address), None)
    }

    /// The same to one of another identity.
    ///
    /// # Errors
    /// What the engine says.
    pub fn tried_as(
        &self,
        engine: &dyn Runtime,
        address: &Address,
        verb: Verb,
        uid: Uid,
        keep: Option<Keep>,
    ) -> Result<Effected, (Class, String)> {
        let mark = Mark {
            source: self.desired.source.name.clone(),
            uid,
        };
        let action = Action {
            keep,
            verb,
            address: address.clone(),
            uid,
            mark,
        };
        let context = Context {
            cancel: &NEVER,
            timeout: Duration::from_secs(20),
            now: jiff::Timestamp::UNIX_EPOCH,
            progress: &|_| {},
        };
        engine
            .perform(&action, &self.desired, &context)
            .map_err(|error| {
                let mut text = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(error) = source {
                    text = format!("{text}: {error}");
                    source = error.source();
                }
                (error.class, text)
            })
    }

    /// Does something that must succeed.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn perform(&self, engine: &dyn Runtime, address: &Address, verb: Verb) -> Effected {
        match self.tried(engine, address, verb) {
            Ok(effected) => effected,
            Err((_, text)) => panic!("{text}"),
        }
    }

    /// An object that must be there.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn look(engine: &dyn Runtime, address: &Address) -> Item {
        match engine.look(address) {
            Ok(Some(item)) => item,
            other => panic!("{address} is there: {other:?}"),
        }
    }

    /// The changes that one object waits for.
    #[track_caller]
    pub fn changes(&self, engine: &dyn Runtime, address: &Address) -> Vec<FieldChange> {
        let spec = &self.desired.resources[address].spec;
        spec.compare(&Self::look(engine, address).spec)
    }

    /// The fields in which the world differs from what is wanted.
    ///
    /// # Panics
    /// The world cannot be observed, or something of what is wanted in it.
    #[track_caller]
    pub fn differences(&self, engine: &dyn Runtime) -> Vec<String> {
        let seen = match engine.observe() {
            Ok(seen) => seen,
            Err(error) => panic!("observed: {error:?}"),
        };
        let unclear = seen.unclear.iter();
        let ours = |address: &Address| self.desired.resources.contains_key(address);
        let unclear: Vec<_> = unclear.filter(|one| ours(&one.address)).collect();
        assert!(unclear.is_empty(), "{unclear:?}");
        let mut found = Vec::new();
        for resource in self.desired.resources.values() {
            let address = &resource.address;
            let Some(item) = seen.items.iter().find(|item| item.address == *address) else {
                found.push(format!("{address} is missing"));
                continue;
            };
            assert_eq!(item.unseen, [], "{address}");
            if !item.complete {
                found.push(format!("{address} is not complete"));
            }
            found.extend(resource.spec.compare(&item.spec).iter().map(|change| {
                format!(
                    "{address} {} {} → {}",
                    change.path.dotted(),
                    change.before,
                    change.after
                )
            }));
        }
        found
    }
}
