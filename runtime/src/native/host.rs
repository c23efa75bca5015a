//! [`Host`]: what all parts of the native engine share: its folders, its stores, the host's hierarchies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manifests::id::{Address, Uid};
use manifests::kind::{Kind, Spec};
use manifests::path_io;

use super::cgroup::{self, Hierarchies};
use super::definition::{Definition, DefinitionError, Definitions};
use super::id_ranges::IdRanges;
use super::image::ImageStore;
use super::instance::InstancePicks;
use super::machine::Choice;
use super::network::{self, NetworkDriver, NetworkHost};
use super::networks::NetworkPicks;
use super::pools::PoolPicks;
use super::secrets::{SecretStore, cloud_init_digests};
use crate::error::{Class, RuntimeError};

/// Where the native engine works.
#[derive(Debug, Clone)]
pub struct NativeConfig {
    /// The state folder.
    pub state: PathBuf,
    /// Its part of `/run/keel`: gone after a restart of the host.
    pub run: PathBuf,
    /// The part of `/run/keel` that all state folders of the host share.
    pub shared_run: PathBuf,
    /// Where ranges of ids are claimed for the whole host; survives a restart.
    pub claims: PathBuf,
    /// Tells state folders of one host apart: lower-case hexadecimal digits.
    pub state_id: String,
    /// The path of `keel-shim`.
    pub shim: PathBuf,
    /// Who runs the instructions of virtual machines.
    pub accelerator: Choice,
}

/// What all parts share.
pub(super) struct Host {
    pub config: NativeConfig,
    pub definitions: Definitions,
    pub images: ImageStore,
    pub ranges: IdRanges,
    pub secrets: SecretStore,
    pub hierarchies: Hierarchies,
    pub cgroup: cgroup::Host,
    pub network: Box<dyn NetworkDriver>,
    pub memory: u64,
    /// Held while something is picked that no two may have: addresses, hardware addresses.
    picking: Mutex<()>,
    /// Of each bridge, up to which request its rules and reservations hold.
    ensured: Mutex<BTreeMap<String, u64>>,
    requests: AtomicU64,
}

impl Host {
    pub(super) fn open(config: NativeConfig) -> Result<Self, RuntimeError> {
        let failed = |doing: &str| {
            let doing = doing.to_owned();
            move |error: path_io::PathError| RuntimeError::new(doing, Class::NeedsOperator, error)
        };
        path_io::create_dir_all(&config.run).map_err(failed("open the run folder"))?;
        // dnsmasq reads its reservations after it has given up being root.
        rustix::fs::chmod(&config.run, rustix::fs::Mode::from_raw_mode(0o711))
            .map_err(|e| RuntimeError::new("open the run folder", Class::NeedsOperator, e))?;
        let hierarchies = Hierarchies::read().map_err(failed("find the cgroup hierarchies"))?;
        let cgroup = cgroup::Host::read(&hierarchies).map_err(failed("read the processors"))?;
        let network = network::open(
            network::DriverKind::Bridge,
            NetworkHost {
                state_id: config.state_id.clone(),
                state: config.state.join("network"),
                run: config.run.join("network"),
                shared: config.shared_run.clone(),
                cgroups: Some(cgroup::InstanceCgroups::of(
                    &hierarchies,
                    &config.state_id,
                    cgroup::instance::NETWORKS,
                )),
            },
        );
        let memory = path_io::read_to_string("/proc/meminfo")
            .map_err(failed("read the memory"))?
            .lines()
            .find_map(|line| {
                line.strip_prefix("MemTotal:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse()
                    .ok()
            })
            .map_or(0, |kib: u64| kib * 1024);
        Ok(Self {
            definitions: Definitions::new(&config.state),
            images: ImageStore::at(config.state.join("images")),
            ranges: IdRanges::new(&config.claims),
            secrets: SecretStore::new(&config.state, &config.run),
            hierarchies,
            cgroup,
            network,
            memory,
            picking: Mutex::new(()),
            ensured: Mutex::new(BTreeMap::new()),
            requests: AtomicU64::new(0),
            config,
        })
    }

    /// Taken while picking; a panic of another thread does not spoil what it guards.
    pub(super) fn picking(&self) -> MutexGuard<'_, ()> {
        self.picking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run folder of an instance.
    pub(super) fn run_folder(&self, uid: &Uid) -> PathBuf {
        self.config.run.join("instances").join(uid.to_string())
    }

    /// The cgroups of an instance.
    pub(super) fn cgroups(&self, uid: &Uid) -> cgroup::InstanceCgroups {
        cgroup::InstanceCgroups::of(&self.hierarchies, &self.config.state_id, &uid.to_string())
    }

    /// Where compiled seccomp filters are kept.
    pub(super) fn filters(&self) -> PathBuf {
        self.config.state.join("filters")
    }

    /// All instances.
    ///
    /// # Errors
    /// One cannot be read: what it has would count as free.
    pub(super) fn instances(&self) -> Result<Vec<Arc<Definition<InstancePicks>>>, DefinitionError> {
        self.definitions.every::<InstancePicks>(Kind::Instance)
    }

    /// All instances for a look at one of them: those that cannot be read do not matter, unless it is one of them.
    ///
    /// # Errors
    /// It is, or may be.
    pub(super) fn instances_beside(
        &self,
        address: &Address,
    ) -> Result<Vec<Arc<Definition<InstancePicks>>>, RuntimeError> {
        let failed = |error: DefinitionError| {
            RuntimeError::new("find", Class::NeedsOperator, error).of(address)
        };
        let all = self.definitions.all::<InstancePicks>(Kind::Instance);
        let (good, bad) = all.map_err(|error| failed(error.into()))?;
        for (uid, error) in bad {
            let named = self.definitions.address(Kind::Instance, &uid);
            if named.is_none_or(|named| named == *address) {
                return Err(failed(error));
            }
        }
        Ok(good)
    }

    /// Writes the definition of an instance.
    pub(super) fn write_instance(
        &self,
        definition: &Definition<InstancePicks>,
    ) -> Result<(), DefinitionError> {
        // Before anything refers to them.
        if let Spec::Instance(instance) = &definition.spec {
            self.secrets.keep(instance)?;
        }
        if let Some(given) = &definition.picks.cloud_init {
            self.secrets.keep_all(cloud_init_digests(&given.data))?;
        }
        self.definitions.write(definition)
    }

    /// Removes the definition of an instance.
    pub(super) fn remove_instance(&self, uid: &Uid) -> Result<(), path_io::PathError> {
        self.definitions.remove(Kind::Instance, uid)
    }

    /// Brings a network to where it shall be, with rules and reservations of all ports that are defined by now. Many
    /// that ask at the same time are served by one transaction.
    pub(super) fn ensure_network(
        &self,
        network: &Definition<NetworkPicks>,
    ) -> Result<(), RuntimeError> {
        let request = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let mut ensured = self.ensured.lock().unwrap_or_else(PoisonError::into_inner);
        if ensured
            .get(&network.picks.interface)
            .is_some_and(|served| *served >= request)
        {
            return Ok(());
        }
        // Everyone who has asked until here has written its definition before it asked.
        let served = self.requests.load(Ordering::SeqCst);
        let plan = super::instance::network_plan(self, network)?;
        self.network
            .ensure(&plan)
            .map_err(|error| super::network_failed("set up", error).of(&network.address))?;
        ensured.insert(network.picks.interface.clone(), served);
        Ok(())
    }

    /// The network of a name in a project, else in the default one.
    pub(super) fn network_named(
        &self,
        project: &str,
        name: &str,
    ) -> Result<Option<Arc<Definition<NetworkPicks>>>, DefinitionError> {
        let all = self.definitions.every::<NetworkPicks>(Kind::Network)?;
        let in_project = |wanted: &str| {
            all.iter()
                .find(|d| d.address.name == name && d.address.project_name() == wanted)
        };
        Ok(in_project(project)
            .or_else(|| in_project("default"))
            .cloned())
    }

    /// The pool of a name.
    pub(super) fn pool_named(
        &self,
        name: &str,
    ) -> Result<Option<Arc<Definition<PoolPicks>>>, DefinitionError> {
        let all = self.definitions.every::<PoolPicks>(Kind::StoragePool)?;
        Ok(all.into_iter().find(|d| d.address.name == name))
    }

    /// The folder for what belongs to no single object.
    pub(super) fn state(&self) -> &Path {
        &self.config.state
    }
}
