//! The volumes of one pool in its volume group: what is asked of LVM, and what it is told to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::arguments::{self, FILES};
use super::report::{self, Volume};
use crate::native::cgroup::Patience;
use crate::native::storage::driver::{GroupOn, ThinPoolPlan};
use crate::native::storage::error::StorageError;
use crate::sys::command::{self, CommandError};
use crate::sys::device_mapper::{self, Mapped};
use crate::sys::loop_device;

/// Bytes of which volumes in a group of ours are whole multiples: what LVM takes where nothing else is said.
const EXTENT: u64 = 4 << 20;
/// Of ten thousand parts of a thin pool, so many may be in use when another volume is made in it.
const NEARLY_FULL: u64 = 9_500;
/// The same of its metadata: a pool without room for these goes read-only, and is mended by hand.
const METADATA_NEARLY_FULL: u64 = 9_000;
/// How long a volume that was unmounted may take to be let go of.
const LETTING_GO: Duration = Duration::from_secs(2);

/// A pool's part of a volume group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) plan: ThinPoolPlan,
    /// What everything of the pool bears.
    pub(super) tag: String,
    /// As LVM told last, until something is done or looked at anew.
    told: Mutex<Option<BTreeMap<String, Volume>>>,
    /// Bytes of which volumes are whole multiples. They stay as they are.
    extent: OnceLock<u64>,
}

impl Group {
    pub(super) fn new(plan: ThinPoolPlan, mark: &str) -> Self {
        Self {
            plan,
            tag: arguments::tag(mark),
            told: Mutex::new(None),
            extent: OnceLock::new(),
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.plan.group
    }

    /// Whether the group is ours, with all that is in it.
    pub(super) fn is_own(&self) -> bool {
        !matches!(self.plan.on, GroupOn::Somebodys { .. })
    }

    /// The devices that it lies on; `None`: somebody knows them.
    pub(super) fn devices(&self) -> Result<Option<Vec<PathBuf>>, StorageError> {
        Ok(match &self.plan.on {
            GroupOn::LoopFile { file, .. } => {
                let mut shown = loop_device::showing(file)?;
                shown.extend(loop_device::showing(&unfinished(file))?);
                Some(shown)
            }
            GroupOn::Device { device, .. } => Some(vec![
                device.canonicalize().unwrap_or_else(|_| device.clone()),
            ]),
            GroupOn::Somebodys { .. } => None,
        })
    }

    /// Runs a program that looks at or changes the group.
    pub(super) fn call(
        &self,
        program: &'static str,
        arguments: Vec<String>,
    ) -> Result<Vec<u8>, StorageError> {
        let devices = self.devices()?;
        let paths = devices
            .as_ref()
            .map(|paths| paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        let config = arguments::config(paths.as_deref());
        run(program, config, arguments)
    }

    /// As [`Self::call`], for what changes it.
    pub(super) fn change(
        &self,
        program: &'static str,
        arguments: Vec<String>,
    ) -> Result<(), StorageError> {
        self.look_anew();
        self.call(program, arguments)?;
        Ok(())
    }

    /// What was told before counts no longer.
    pub(super) fn look_anew(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The group, if there is one of its name where it is to be.
    pub(super) fn found(&self) -> Result<Option<report::Group>, StorageError> {
        let answer = self.call("vgs", arguments::report_groups())?;
        let mut groups = report::groups(&answer).map_err(|problem| self.broken(problem))?;
        Ok(groups.remove(self.name()))
    }

    /// All volumes in it, also those of others.
    pub(super) fn volumes(&self) -> Result<BTreeMap<String, Volume>, StorageError> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = &*told {
            return Ok(told.clone());
        }
        let answer = self.call("lvs", arguments::report_volumes(self.name()))?;
        let volumes = report::volumes(&answer).map_err(|problem| self.broken(problem))?;
        *told = Some(volumes.clone());
        Ok(volumes)
    }

    /// A volume of the pool's.
    pub(super) fn volume(&self, name: &str) -> Result<Option<Volume>, StorageError> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none() {
            drop(told);
            self.volumes()?;
            told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        }
        let found = told.as_ref().and_then(|told| told.get(name));
        Ok(found
            .filter(|found| found.tags.contains(&self.tag))
            .cloned())
    }

    /// The volume that holds what the pool has beside its volumes.
    pub(super) fn files(&self) -> Result<Option<String>, StorageError> {
        let ours = |volume: &Volume| volume.tags.contains(&self.tag) && volume.tags.contains(FILES);
        let mut all = self.volumes()?.into_iter();
        Ok(all.find_map(|(name, volume)| ours(&volume).then_some(name)))
    }

    /// The thin pool.
    pub(super) fn thin_pool(&self) -> Result<Volume, StorageError> {
        let found = self.volumes()?.remove(&self.plan.thin_pool);
        found.ok_or_else(|| StorageError::NoThinPool {
            group: self.name().to_owned(),
            thin_pool: self.plan.thin_pool.clone(),
        })
    }

    /// Fails where the thin pool is nearly full: whatever is made then could not be written to its end.
    pub(super) fn room(&self) -> Result<(), StorageError> {
        self.look_anew();
        let pool = self.thin_pool()?;
        let full = |what, used: Option<u64>, most: u64| match used {
            Some(used) if used >= most => Err(StorageError::PoolFull {
                group: self.name().to_owned(),
                thin_pool: self.plan.thin_pool.clone(),
                what,
                percent: used / 100,
            }),
            _ => Ok(()),
        };
        full("data", pool.data, NEARLY_FULL)?;
        full("metadata", pool.metadata, METADATA_NEARLY_FULL)
    }

    /// The bytes that a volume gets that is to have so many.
    pub(super) fn rounded(&self, size: u64) -> Result<u64, StorageError> {
        let extent = match self.extent.get() {
            Some(extent) => *extent,
            None if self.is_own() => EXTENT,
            None => {
                let extent = self.found()?.map_or(EXTENT, |group| group.extent);
                *self.extent.get_or_init(|| extent)
            }
        };
        Ok(size.div_ceil(extent).saturating_mul(extent))
    }

    /// The device of a volume, which is made active.
    pub(super) fn device(&self, name: &str) -> Result<Mapped, StorageError> {
        if let Some(found) = device_mapper::of_volume(self.name(), name)? {
            return Ok(found);
        }
        self.change("lvchange", arguments::activate(self.name(), name))?;
        device_mapper::of_volume(self.name(), name)?
            .ok_or_else(|| self.broken(format!("{name} is active and has no device")))
    }

    /// Removes volumes of ours, in use or not there.
    ///
    /// # Errors
    /// Answers `false` where somebody still has one of them.
    pub(super) fn remove(&self, names: &[String]) -> Result<bool, StorageError> {
        if names.is_empty() {
            return Ok(true);
        }
        let mut patience = Patience::new(LETTING_GO);
        loop {
            let arguments = arguments::remove(self.name(), names, &self.tag);
            match self.change("lvremove", arguments) {
                Err(StorageError::Command(CommandError::Failed { stderr, .. }))
                    if stderr.contains("in use") =>
                {
                    if !patience.wait() {
                        return Ok(false);
                    }
                }
                other => return other.map(|()| true),
            }
        }
    }

    pub(super) fn broken(&self, problem: String) -> StorageError {
        StorageError::Broken {
            path: Path::new("/dev").join(self.name()),
            problem,
        }
    }
}

/// Where a file is made that is not there yet.
pub(super) fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Runs a program of LVM; one that is not installed has an error of its own. It is never cut short: one that is killed in
/// the middle may leave a device suspended, and everybody who writes to it waits.
pub(super) fn run(
    program: &'static str,
    config: String,
    arguments: Vec<String>,
) -> Result<Vec<u8>, StorageError> {
    let all = ["--config".to_owned(), config].into_iter().chain(arguments);
    match command::run(program, all, None) {
        Err(CommandError::Start { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Err(StorageError::NoProgram {
                program,
                package: "lvm2",
            })
        }
        other => Ok(other?),
    }
}
