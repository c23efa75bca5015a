//! What a pool of LVM stands on: its volume group, its thin pool, and the volume that holds what is beside its volumes.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _};

use super::arguments::{self, UNREADY};
use super::group::{Group, run, unfinished};
use crate::native::cgroup::Patience;
use crate::native::storage::driver::{Ensured, GroupOn};
use crate::native::storage::error::StorageError;
use crate::native::storage::folders::fresh_name;
use crate::native::storage::folders::sync_folder;
use crate::native::storage::sized;
use crate::sys::command;
use crate::sys::device_mapper::Mapped;
use crate::sys::loop_device::{self, LoopDevice};

/// How long a device that nobody uses may take to let go of its file.
const LETTING_GO: Duration = Duration::from_secs(2);
/// What the volume beside the others has at the least and at the most: records, of each volume and snapshot a few blocks.
const FILES: std::ops::RangeInclusive<u64> = 32 << 20..=1 << 30;
/// What LVM needs of a device for itself, and rounding.
const OWN_NEEDS: u64 = 8 << 20;

/// What is there to be mounted. A loop device stays as long as this, or as a volume on it is active.
pub(super) struct Raised {
    pub(super) files: Mapped,
    _shown: Option<LoopDevice>,
}

impl Group {
    /// Whether what it lies on is there, as far as that is seen at a glance or LVM knows.
    pub(super) fn is_there(&self) -> Result<bool, StorageError> {
        match &self.plan.on {
            GroupOn::LoopFile { file, .. } => Ok(file.try_exists().at("look at", file)?),
            GroupOn::Device { device, .. } => {
                if !device.try_exists().at("look at", device)? {
                    return Ok(false);
                }
                let ours = self.found()?;
                Ok(ours.is_some_and(|group| group.tags.contains(&self.tag))
                    && self.files()?.is_some())
            }
            GroupOn::Somebodys { .. } => {
                if self.found()?.is_none() {
                    return Err(self.missing());
                }
                Ok(self.files()?.is_some())
            }
        }
    }

    fn missing(&self) -> StorageError {
        StorageError::NoGroup {
            group: self.name().to_owned(),
        }
    }

    fn taken(&self) -> StorageError {
        StorageError::GroupTaken {
            group: self.name().to_owned(),
        }
    }

    /// Makes the volume with the pool's own files active. With `may_create` all that is not there is made; otherwise
    /// `None`: it is not there.
    pub(super) fn raise(&self, may_create: bool) -> Result<Option<Raised>, StorageError> {
        self.look_anew();
        match &self.plan.on {
            GroupOn::LoopFile { file, size } => {
                if !file.try_exists().at("look at", file)? {
                    return match may_create {
                        true => self.make_in_file(file, *size).map(Some),
                        false => Ok(None),
                    };
                }
                let shown = self.show(file)?;
                self.raised(false, shown)
            }
            GroupOn::Device { device, wipe } => {
                match self.found()? {
                    Some(group) if group.tags.contains(&self.tag) => {}
                    Some(_) => return Err(self.taken()),
                    None if !may_create => return Ok(None),
                    None => {
                        self.nobody_has_the_name()?;
                        self.empty(device, *wipe)?;
                        let make = arguments::make_group(self.name(), device, &self.tag);
                        self.change("vgcreate", make)?;
                    }
                }
                self.raised(may_create, None)
            }
            GroupOn::Somebodys { .. } => {
                if self.found()?.is_none() {
                    return Err(self.missing());
                }
                self.raised(may_create, None)
            }
        }
    }

    fn raised(
        &self,
        may_create: bool,
        shown: Option<LoopDevice>,
    ) -> Result<Option<Raised>, StorageError> {
        let name = match self.files()? {
            Some(name) => name,
            None if may_create => self.make_files()?,
            None => return Ok(None),
        };
        // LVM tells how full a pool is only while it is active.
        self.device(&self.plan.thin_pool)?;
        Ok(Some(Raised {
            files: self.device(&name)?,
            _shown: shown,
        }))
    }

    /// Shows the file as a device, if it is not shown already.
    fn show(&self, file: &Path) -> Result<Option<LoopDevice>, StorageError> {
        if !loop_device::showing(file)?.is_empty() {
            return Ok(None);
        }
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .open(file)
            .at("open", file)?;
        Ok(Some(loop_device::attach(&open)?))
    }

    /// A group in a file, whole or not at all.
    fn make_in_file(&self, file: &Path, size: u64) -> Result<Raised, StorageError> {
        let new = unfinished(file);
        self.drop_file(&new)?;
        self.nobody_has_the_name()?;
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&new)
            .at("create", &new)?;
        let made = (|| {
            open.set_len(size).at("extend", &new)?;
            let shown = loop_device::attach(&open)?;
            let make = arguments::make_group(self.name(), &shown.path, &self.tag);
            self.change("vgcreate", make)?;
            let raised = self.raised(true, Some(shown))?;
            let raised = raised.ok_or_else(|| self.missing())?;
            open.sync_all().at("sync", &new)?;
            path_io::rename(&new, file)?;
            sync_folder(file.parent().unwrap_or(file))?;
            Ok(raised)
        })();
        if made.is_err()
            && let Err(error) = self.drop_file(&new)
        {
            tracing::warn!(path = %new.display(), %error, "left an unfinished file of a pool behind");
        }
        made
    }

    /// Takes a group out of use and removes its file.
    fn drop_file(&self, file: &Path) -> Result<(), StorageError> {
        self.look_anew();
        if !loop_device::showing(file)?.is_empty() && self.found()?.is_some() {
            self.rest()?;
        }
        let mut patience = Patience::new(LETTING_GO);
        while !loop_device::showing(file)?.is_empty() {
            if !patience.wait() {
                let path = file.to_path_buf();
                let problem = "a loop device shows it still".to_owned();
                return Err(StorageError::Broken { path, problem });
            }
        }
        Ok(path_io::remove_file(file)?)
    }

    /// Two groups of one name on one host are nobody's joy.
    fn nobody_has_the_name(&self) -> Result<(), StorageError> {
        let answer = run("vgs", arguments::config(None), arguments::report_groups())?;
        let groups = super::report::groups(&answer).map_err(|problem| self.broken(problem))?;
        match groups.contains_key(self.name()) {
            true => Err(self.taken()),
            false => Ok(()),
        }
    }

    /// Fails where something is on a device, or takes it away where that is wished. A pool of somebody is never taken away.
    fn empty(&self, device: &Path, wipe: bool) -> Result<(), StorageError> {
        let shown = device.display().to_string();
        let look = ["--no-act", "--noheadings", "--output", "TYPE", "--", &shown];
        let found = String::from_utf8_lossy(&command::run("wipefs", look, None)?).into_owned();
        let found: Vec<&str> = found.split_whitespace().collect();
        if found.is_empty() {
            return Ok(());
        }
        if !wipe {
            return Err(StorageError::DeviceHolds {
                path: device.to_path_buf(),
                found: found.join(", "),
            });
        }
        let answer = self.call("vgs", arguments::report_groups())?;
        let groups = super::report::groups(&answer).map_err(|problem| self.broken(problem))?;
        let pools = groups.values().flat_map(|group| &group.tags);
        if let Some(owner) = pools.into_iter().find(|tag| tag.starts_with("keel:")) {
            return Err(StorageError::ForeignPool {
                path: device.to_path_buf(),
                owner: owner.trim_start_matches("keel:").to_owned(),
            });
        }
        // One that is mounted, or has active volumes, is refused by the kernel.
        command::run("wipefs", ["--all", "--quiet", "--", &shown], None)?;
        Ok(())
    }

    /// Makes the thin pool where it is to be ours, and the volume beside the others; answers its name.
    fn make_files(&self) -> Result<String, StorageError> {
        let volumes = self.volumes()?;
        let unready = volumes
            .iter()
            .filter(|(_, volume)| volume.tags.contains(&self.tag) && volume.tags.contains(UNREADY));
        let unready: Vec<String> = unready.map(|(name, _)| name.clone()).collect();
        self.remove(&unready)?;
        let group = self.found()?.ok_or_else(|| self.missing())?;
        let there = volumes.get(&self.plan.thin_pool);
        let (own, size) = match &self.plan.on {
            GroupOn::LoopFile { .. } | GroupOn::Device { .. } => (true, None),
            GroupOn::Somebodys { thin_pool } => (thin_pool.is_some(), *thin_pool),
        };
        let whole = match (own, there) {
            (false, None) => return Err(self.thin_pool().err().unwrap_or_else(|| self.missing())),
            (true, Some(there)) if !there.tags.contains(&self.tag) => {
                return Err(StorageError::VolumeTaken {
                    group: self.name().to_owned(),
                    volume: self.plan.thin_pool.clone(),
                });
            }
            (_, Some(there)) => there.size,
            (true, None) => size.unwrap_or(group.free),
        };
        let files = (whole / 50).clamp(*FILES.start(), *FILES.end());
        let files = files.div_ceil(group.extent).saturating_mul(group.extent);
        let needed = files.saturating_add(match there {
            Some(_) => 0,
            None => size.unwrap_or(OWN_NEEDS),
        });
        if group.free < needed {
            return Err(StorageError::NoRoom {
                group: self.name().to_owned(),
                free: group.free,
                needed,
            });
        }
        let name = fresh_name()?;
        let make = arguments::make_files(self.name(), &name, files, &self.tag);
        self.change("lvcreate", make)?;
        if there.is_none() {
            let (pool, metadata) = (&self.plan.thin_pool, self.plan.metadata);
            let make = arguments::make_thin_pool(self.name(), pool, size, metadata, &self.tag);
            self.change("lvcreate", make)?;
        }
        sized::make_file_system(&self.device(&name)?.path)?;
        self.change("lvchange", arguments::ready(self.name(), &name))?;
        Ok(name)
    }

    /// Lets a file of its own be as big as it is to be, with all that lies in it. May be repeated after a crash.
    pub(super) fn grow(&self) -> Result<Ensured, StorageError> {
        let GroupOn::LoopFile { file, size } = &self.plan.on else {
            return Ok(Ensured::Already);
        };
        let Some(device) = loop_device::showing(file)?.into_iter().next() else {
            return Ok(Ensured::Already);
        };
        let open = OpenOptions::new().write(true).open(file).at("open", file)?;
        let mut length = open.metadata().at("look at", file)?.len();
        if length < *size {
            open.set_len(*size).at("extend", file)?;
            length = *size;
        }
        loop_device::take_over_size(&device)?;
        let group = self.found()?.ok_or_else(|| self.missing())?;
        if length.saturating_sub(group.size) < OWN_NEEDS && group.free < group.extent {
            return Ok(Ensured::Already);
        }
        let device = vec![
            "--yes".to_owned(),
            "--".to_owned(),
            device.display().to_string(),
        ];
        self.change("pvresize", device)?;
        let extend = arguments::extend_to_the_end(self.name(), &self.plan.thin_pool);
        self.change("lvextend", extend)?;
        Ok(Ensured::Done)
    }

    /// No volume of the pool's is a device any more.
    pub(super) fn rest(&self) -> Result<(), StorageError> {
        if self.is_own() {
            let all = ["--yes", "--activate", "n", "--", self.name()].map(str::to_owned);
            return self.change("vgchange", all.to_vec());
        }
        match self.files()? {
            Some(name) => self.change("lvchange", arguments::deactivate(self.name(), &name)),
            None => Ok(()),
        }
    }

    /// Removes what is of no use without the pool, which has no volumes any more. What others have made in it stays, and the
    /// rest with it.
    pub(super) fn clear(&self) -> Result<(), StorageError> {
        self.look_anew();
        let mut shown = None;
        if let GroupOn::LoopFile { file, .. } = &self.plan.on {
            self.drop_file(&unfinished(file))?;
            if !file.try_exists().at("look at", file)? {
                return Ok(());
            }
            shown = self.show(file)?;
        }
        match self.found()? {
            None => return Ok(()),
            Some(group) if self.is_own() && !group.tags.contains(&self.tag) => {
                return Err(self.taken());
            }
            Some(_) => {}
        }
        self.only_ours()?;
        match &self.plan.on {
            GroupOn::LoopFile { file, .. } => {
                drop(shown);
                self.drop_file(file)
            }
            GroupOn::Device { device, .. } => {
                let all = ["--yes", "--force", "--", self.name()].map(str::to_owned);
                self.change("vgremove", all.to_vec())?;
                let device = device.display().to_string();
                let device = ["--yes", "--", device.as_str()].map(str::to_owned);
                self.change("pvremove", device.to_vec())
            }
            GroupOn::Somebodys { .. } => {
                let ours = self.volumes()?.into_iter();
                let ours = ours.filter(|(_, volume)| volume.tags.contains(&self.tag));
                let names: Vec<String> = ours.map(|(name, _)| name).collect();
                match self.remove(&names)? {
                    true => Ok(()),
                    false => Err(self.broken("a volume of the pool is in use".to_owned())),
                }
            }
        }
    }

    /// Fails where somebody else has a volume that would go with the pool.
    pub(super) fn only_ours(&self) -> Result<(), StorageError> {
        let volumes = self.volumes()?;
        let own_thin_pool = volumes
            .get(&self.plan.thin_pool)
            .is_some_and(|pool| pool.tags.contains(&self.tag));
        let in_ours = |thin_pool: Option<&str>| {
            self.is_own() || (own_thin_pool && thin_pool == Some(self.plan.thin_pool.as_str()))
        };
        let other = volumes.iter().find(|(_, volume)| {
            !volume.tags.contains(&self.tag) && in_ours(volume.thin_pool.as_deref())
        });
        match other {
            None => Ok(()),
            Some((name, _)) => Err(StorageError::NotEmpty {
                path: PathBuf::from("/dev").join(self.name()),
                what: format!("the logical volume {name}, which is not keel's"),
            }),
        }
    }

    /// Bytes of its own file.
    pub(super) fn file_size(&self) -> Result<Option<u64>, StorageError> {
        match &self.plan.on {
            GroupOn::LoopFile { file, .. } => Ok(Some(file.metadata().at("look at", file)?.len())),
            GroupOn::Device { .. } | GroupOn::Somebodys { .. } => Ok(None),
        }
    }

    /// Bytes that have data, with those for the pool's own records, and all bytes.
    pub(super) fn space(&self) -> Result<(u64, u64), StorageError> {
        self.look_anew();
        let pool = self.thin_pool()?;
        let files = match self.files()? {
            Some(name) => self.volume(&name)?.map_or(0, |files| files.size),
            None => 0,
        };
        Ok((pool.used() + files, pool.size + files))
    }
}
