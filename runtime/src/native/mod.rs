//! The native engine: this host's kernel. Parts return data; this file only dispatches.
//!
//! One room a subject: `container` and `shim` start and supervise, `cgroup` limits, `network`, `storage`, `image` and
//! `disk_image` do what their names say, and know no manifests. `instance`, `networks`, `pools` and `image_documents` translate
//! between them and the words of manifests; `definition` keeps what this engine was last told.

mod at_once;
pub mod backup;
mod backups;
mod busy;
pub mod cgroup;
pub mod cloud_init;
pub mod container;
mod deadline;
pub mod definition;
pub mod disk_image;
mod host;
pub mod id_ranges;
pub mod image;
mod image_documents;
mod imports;
mod instance;
mod known_files;
pub mod machine;
mod machine_facts;
mod moving;
pub mod network;
mod networks;
mod operate;
mod pools;
pub mod probe;
mod publish;
pub(crate) mod schedules;
mod secrets;
pub mod send_stream;
pub mod shim;
mod snapshots;
pub mod storage;
mod stored_images;
mod sweep;
mod volumes;
pub mod watch;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use manifests::action::{Action, Verb};
use manifests::desired::{DesiredSet, Resource};
use manifests::feature::Capabilities;
use manifests::id::{Address, Uid};
use manifests::kind::{Kind, Spec};
use manifests::observed::{Item, ObservedSet, Remembered, Unclear};

use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, Effected, Runtime};

pub use self::backups::{
    BackupExport, BackupImport, Exported, Exporting, MadeBy, Seal, VolumeImport, check_backup,
};
use self::host::Host;
pub use self::host::NativeConfig;
use self::image_documents::ImagePicks;
use self::instance::InstancePicks;
use self::network::{Guests, NetworkError};
use self::networks::NetworkPicks;
use self::pools::PoolPicks;
pub use self::publish::ImagePublish;
use self::schedules::SchedulePicks;
pub use self::secrets::{KeyError, SecretStore};
pub use self::stored_images::{ImageImport, StoredImage, StoredImages};
use self::volumes::VolumePicks;

/// This host as an engine.
pub struct NativeRuntime {
    host: Host,
}

impl NativeRuntime {
    /// The engine of a state folder. Nothing is started or changed.
    ///
    /// # Errors
    /// The host's hierarchies or folders cannot be read.
    pub fn open(config: NativeConfig) -> Result<Self, RuntimeError> {
        Host::open(config).map(|host| Self { host })
    }

    /// What this host can do where machines are involved; that takes longer to find out than [`Runtime::capabilities`].
    /// `desired` is what is to be planned; absent: anything may be.
    ///
    /// # Errors
    /// The host could not be asked.
    pub fn capabilities_for_machines(
        &self,
        desired: Option<&DesiredSet>,
    ) -> Result<Capabilities, RuntimeError> {
        let mut host = self.capabilities()?;
        machine_facts::add(&self.host, desired, &mut host);
        Ok(host)
    }

    /// What is known of secrets here: a value has to be sealed by it before an instance that uses it is made or changed.
    pub const fn secrets(&self) -> &SecretStore {
        &self.host.secrets
    }
}

/// An error with all its reasons in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn wrong_kind(address: &Address) -> RuntimeError {
    RuntimeError::new("understand", Class::Bug, "its spec is of another kind").of(address)
}

fn cannot(verb: &Verb, address: &Address) -> RuntimeError {
    let why = format!(
        "this engine has no way to {} a {}",
        verb.word(),
        address.kind.word()
    );
    RuntimeError::new(verb.word(), Class::Unsupported, why).of(address)
}

/// Nothing is known here of an object that is to be taken over.
fn not_made_here(address: &Address) -> RuntimeError {
    let why = "keel did not make it, so it cannot look after it";
    RuntimeError::new("adopt", Class::Refused, why).of(address)
}

fn remember(resource: &Resource) -> Remembered {
    Remembered {
        prune: resource.lifecycle.prune,
        protect: resource.lifecycle.protect,
    }
}

fn network_failed(doing: &str, error: NetworkError) -> RuntimeError {
    let class = match error {
        NetworkError::Foreign { .. } => Class::Conflict,
        NetworkError::Overlap { .. } | NetworkError::NoInterface { .. } => Class::NeedsOperator,
        _ => Class::Retry,
    };
    RuntimeError::new(doing, class, error)
}

/// The text that marks what belongs to a network. It names no owner: adopting and forgetting leave the wires alone.
fn network_mark(host: &Host, uid: &Uid) -> String {
    format!("keel:{}:network:{uid}", host.config.state_id)
}

/// The network namespaces of the instances that run, by the links that lead there.
fn guests(instances: &[Sighting]) -> Guests {
    let mut guests = Guests::new();
    for (one, found) in instances {
        let Ok(shim::Found::Running(running)) = found else {
            continue;
        };
        // The network of a machine is inside its guest; that of its process is empty.
        if matches!(&one.spec, Spec::Instance(instance) if !instance.is_container()) {
            continue;
        }
        for nic in one.picks.nics.values() {
            if let Ok(namespace) = running.open("ns/net", rustix::fs::OFlags::RDONLY) {
                guests.insert(nic.host_interface.clone(), namespace.into());
            }
        }
    }
    guests
}

/// An instance, and what the kernel and its companion say of it.
type Sighting = (
    Arc<definition::Definition<InstancePicks>>,
    Result<shim::Found, shim::ShimError>,
);

/// The machines that run.
fn machines(instances: &[Sighting]) -> (Vec<Uid>, Vec<instance::machine::Machine<'_>>) {
    let running = instances.iter().filter_map(|(one, found)| {
        let (Spec::Instance(meant), Ok(shim::Found::Running(running))) = (&one.spec, found) else {
            return None;
        };
        (!meant.is_container()).then(|| (one.uid, (meant.as_ref(), running.as_ref())))
    });
    running.unzip()
}

/// Asks after each instance, once for all that is to be known of it.
fn sightings(
    host: &Host,
    instances: &[Arc<definition::Definition<InstancePicks>>],
) -> Vec<Sighting> {
    at_once::each(instances, |one| {
        (Arc::clone(one), shim::adopt(&host.run_folder(&one.uid)))
    })
}

impl Runtime for NativeRuntime {
    fn capabilities(&self) -> Result<Capabilities, RuntimeError> {
        let uname = rustix::system::uname();
        let machine_id = manifests::path_io::read_if_exists("/etc/machine-id")
            .ok()
            .flatten()
            .map(|text| text.trim().to_owned());
        Ok(Capabilities {
            engine: "native".to_owned(),
            host: uname.nodename().to_string_lossy().into_owned(),
            machine_id,
            state_id: self.host.config.state_id.clone(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            memory: self.host.memory,
            processors: u32::try_from(self.host.cgroup.cpus.len()).unwrap_or(u32::MAX),
            ceilings: probe::ceilings(),
            missing: probe::missing(),
            machines: None,
            config_keys: BTreeMap::new(),
        })
    }

    fn observe(&self) -> Result<ObservedSet, RuntimeError> {
        let _timed = tracing::debug_span!("observe").entered();
        self.host.definitions.forget();
        let host = &self.host;
        let failed = |error| RuntimeError::new("read the state folder", Class::Retry, error);
        let mut out = ObservedSet::default();
        let unclear = |kind: Kind, bad: Vec<(Uid, definition::DefinitionError)>| {
            bad.into_iter().map(move |(uid, error)| {
                let named = host.definitions.address(kind, &uid);
                Unclear {
                    nameless: named.is_none().then_some(uid),
                    address: named.unwrap_or_else(|| Address::new(kind, uid.to_string())),
                    why: chain(&error),
                }
            })
        };
        let (mut instances, bad_instances) = host
            .definitions
            .all::<InstancePicks>(Kind::Instance)
            .map_err(failed)?;
        let (volumes, bad_volumes) = host
            .definitions
            .all::<VolumePicks>(Kind::Volume)
            .map_err(failed)?;
        out.trash = instance::trashed(host, &instances, &volumes)?;
        instances.retain(|one| !instance::is_on_its_way(one, &out.trash));
        let sightings = sightings(host, &instances);
        // They answer while everything else is looked at.
        let (uids, machines) = machines(&sightings);
        let asking = instance::machine::Asking::begin(&machines);
        let (pools, bad) = host
            .definitions
            .all::<PoolPicks>(Kind::StoragePool)
            .map_err(failed)?;
        out.unclear.extend(unclear(Kind::StoragePool, bad));
        for pool in &pools {
            pools::observe(host, pool, &mut out);
        }
        let (images, bad) = host
            .definitions
            .all::<ImagePicks>(Kind::Image)
            .map_err(failed)?;
        out.unclear.extend(unclear(Kind::Image, bad));
        for image in &images {
            image_documents::observe(host, image, &mut out);
        }
        for kind in [Kind::SnapshotSchedule, Kind::Backup] {
            let (schedules, bad) = host
                .definitions
                .all::<SchedulePicks>(kind)
                .map_err(failed)?;
            out.unclear.extend(unclear(kind, bad));
            for schedule in &schedules {
                schedules::observe(schedule, &mut out);
            }
        }
        out.unclear.extend(unclear(Kind::Instance, bad_instances));
        out.unclear.extend(unclear(Kind::Volume, bad_volumes));
        pools::count_trash(&mut out);
        let runs = |(one, found): &Sighting| {
            matches!(found, Ok(shim::Found::Running(_))).then_some(one.uid)
        };
        let running = sightings.iter().filter_map(runs).collect();
        let trash = std::mem::take(&mut out.trash);
        volumes::observe(host, &volumes, &instances, &running, &trash, &mut out);
        out.trash = trash;
        let guests = guests(&sightings);
        let (networks, bad) = host
            .definitions
            .all::<NetworkPicks>(Kind::Network)
            .map_err(failed)?;
        out.unclear.extend(unclear(Kind::Network, bad));
        let mut ports = BTreeMap::new();
        for network in &networks {
            networks::observe(host, network, &guests, &mut ports, &mut out);
        }
        networks::observe_unattached(host, &instances, &guests, &mut ports);
        networks::observe_foreign(&networks, &mut out);
        let machines = uids.into_iter().zip(asking.end()).collect();
        let healths = instance::healths(host, &sightings, &ports, &machines);
        let surroundings = instance::Surroundings::new(&ports, &machines, &healths);
        let each = at_once::each(&sightings, |(one, found)| {
            let mut seen = ObservedSet::default();
            instance::observe(host, one, found, &surroundings, &mut seen);
            seen
        });
        for seen in each {
            out.items.extend(seen.items);
            out.unclear.extend(seen.unclear);
        }
        Ok(out)
    }

    fn look(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        let host = &self.host;
        let mut seen = ObservedSet::default();
        match address.kind {
            Kind::Instance => {
                let all = host.instances_beside(address)?;
                let found = all.iter().find(|one| one.address == *address);
                // What is not complete may be on its way out of the trash.
                let trash = match found {
                    Some(one) if !one.complete => instance::trashed(host, &all, &[])?,
                    _ => Vec::new(),
                };
                if let Some(one) = found.filter(|one| !instance::is_on_its_way(one, &trash)) {
                    let alone = std::slice::from_ref(one);
                    let sightings = sightings(host, alone);
                    let guests = guests(&sightings);
                    let mut ports = BTreeMap::new();
                    networks::observe_unattached(host, alone, &guests, &mut ports);
                    let (uids, machines) = machines(&sightings);
                    let looks = instance::machine::Asking::begin(&machines).end();
                    let machines = uids.into_iter().zip(looks).collect();
                    let healths = instance::healths(host, &sightings, &ports, &machines);
                    let surroundings = instance::Surroundings::new(&ports, &machines, &healths);
                    for (one, found) in &sightings {
                        instance::observe(host, one, found, &surroundings, &mut seen);
                    }
                }
            }
            Kind::Volume => {
                let failed = |error| RuntimeError::new("find", Class::NeedsOperator, error);
                let (all, bad) = host
                    .definitions
                    .all::<VolumePicks>(Kind::Volume)
                    .map_err(failed)?;
                let found = all.iter().find(|one| one.address == *address);
                match found {
                    // What is not complete may be on its way out of the trash, and what cannot be read may be it.
                    Some(one) if one.complete && bad.is_empty() => {
                        let instances = host.instances_beside(address)?;
                        volumes::look(host, one, &instances, &mut seen)?;
                    }
                    None if bad.is_empty() => {}
                    _ => seen = self.observe()?,
                }
            }
            _ => seen = self.observe()?,
        }
        if let Some(unclear) = seen
            .unclear
            .iter()
            .find(|unclear| unclear.address == *address)
        {
            let error = RuntimeError::new("look at", Class::Retry, unclear.why.clone());
            return Err(error.of(address));
        }
        Ok(seen.items.into_iter().find(|item| item.address == *address))
    }

    fn knows_secret(&self, digest: &str) -> bool {
        self.host.secrets.knows(digest)
    }

    fn measure(&self, kind: Kind, uid: &Uid) -> Result<Option<u64>, RuntimeError> {
        if kind == Kind::Volume {
            return match volumes::bytes(&self.host, uid)? {
                None => instance::trash_bytes(&self.host, uid),
                bytes => Ok(bytes),
            };
        }
        if kind != Kind::Instance {
            return Ok(None);
        }
        let failed = |error| RuntimeError::new("list the instances", Class::Retry, error);
        let all = self.host.instances().map_err(failed)?;
        match all.iter().find(|one| one.uid == *uid) {
            Some(own) => Ok(Some(instance::root_bytes(&self.host, own))),
            None => instance::trash_bytes(&self.host, uid),
        }
    }

    fn perform(
        &self,
        action: &Action,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let resource = desired.resources.get(&action.address);
        let host = &self.host;
        backups::undisturbed(host, action, resource)?;
        match action.address.kind {
            Kind::StoragePool => pools::perform(host, action, resource),
            Kind::Image => image_documents::perform(host, action, resource, desired, context),
            Kind::Network => networks::perform(host, action, resource),
            Kind::Instance => instance::perform(host, action, resource, desired, context),
            Kind::SnapshotSchedule | Kind::Backup => {
                schedules::perform(&host.definitions, action, resource)
            }
            Kind::Volume => volumes::perform(host, action, resource, context),
            _ => Err(cannot(&action.verb, &action.address)),
        }
    }

    fn sweep(&self) -> Result<(), RuntimeError> {
        sweep::sweep(&self.host)
    }

    fn is_littered(&self) -> bool {
        busy::is_littered(&self.host) || moving::is_unsettled(&self.host)
    }

    fn rest(&self) {
        self.host.definitions.forget();
    }

    fn settle(&self, _: &Context<'_>) -> Result<(), RuntimeError> {
        // Rules and reservations are in force before a port is plugged.
        sweep::secrets(&self.host)
            .map_err(|error| RuntimeError::new("forget secrets", Class::Retry, error))
    }
}
