//! What a pool stands on: a zpool of its own in a file or on a device, or a dataset in one of somebody's.

use std::fs::File;
use std::path::Path;

use manifests::path_io::{self, AtPath as _};

use super::dataset::{Base, is_gone, look, says, zfs, zpool};
use super::report::{self, Found};
use super::{arguments, module};
use crate::native::storage::driver::{Ensured, ZpoolOn};
use crate::native::storage::error::StorageError;
use crate::sys::command::CommandError;

/// Zpools of pools are named so (`runtime/src/native/pools.rs`).
const OURS: &str = "keel-";

/// What there is to be mounted.
pub(super) enum Raised {
    /// Nothing, and none is to be made.
    Nothing,
    /// The pool's dataset.
    Ours,
    /// One of nobody's, which becomes the pool's if it is empty.
    Unclaimed(Found),
}

impl Base {
    /// Whether what it stands on is there.
    pub(super) fn is_there(&self) -> Result<bool, StorageError> {
        match &self.plan.on {
            ZpoolOn::File { file: path, .. } | ZpoolOn::Device { device: path, .. } => {
                Ok(path.try_exists().at("look at", path)?)
            }
            ZpoolOn::Somebodys => Ok(look(self.name())?.is_some_and(|found| self.owns(&found))),
        }
    }

    fn owns(&self, found: &Found) -> bool {
        !found.inherited && found.mark.as_ref() == Some(&self.mark)
    }

    fn foreign(&self, owner: Option<String>) -> StorageError {
        StorageError::ForeignPool {
            path: self.name().into(),
            owner: owner.unwrap_or_else(|| "nobody we know".to_owned()),
        }
    }

    /// Imports it, or makes it where it may be made.
    pub(super) fn raise(&self, may_create: bool) -> Result<Raised, StorageError> {
        if let Some(trouble) = module::trouble() {
            return Err(StorageError::NoZfs(trouble));
        }
        self.look_anew();
        if let Some(found) = look(self.name())? {
            return self.take(found, may_create);
        }
        let (on, fills, wipe) = match &self.plan.on {
            ZpoolOn::Somebodys if !may_create => return Ok(Raised::Nothing),
            ZpoolOn::Somebodys => {
                zfs(arguments::make_base(self.name(), &self.mark)).map_err(
                    |error| match is_gone(&error) {
                        true => StorageError::NoZpool {
                            dataset: self.name().to_owned(),
                        },
                        false => error,
                    },
                )?;
                return Ok(Raised::Ours);
            }
            ZpoolOn::File { file, size } => (file, Some(*size), false),
            ZpoolOn::Device { device, wipe } => (device, None, *wipe),
        };
        if on.try_exists().at("look at", on)? {
            if self.import(on)? {
                return Ok(Raised::Ours);
            }
            if !may_create {
                return Err(StorageError::Broken {
                    path: on.clone(),
                    problem: format!("it holds no zpool {} any more", self.zpool()),
                });
            }
        } else if !may_create {
            return Ok(Raised::Nothing);
        }
        if let Some(size) = fills {
            // What is there was never a whole zpool.
            path_io::remove_file(on)?;
            let open = File::create_new(on).at("create", on)?;
            open.set_len(size).at("extend", on)?;
            open.sync_all().at("sync", on)?;
        }
        if wipe {
            self.spare_pools(on)?;
        }
        let made = zpool(arguments::make_zpool(
            self.name(),
            on,
            &self.mark,
            fills,
            wipe,
        ));
        if made.is_err() && fills.is_some() {
            path_io::remove_file(on)?;
        }
        made.map_err(|error| not_made(error, on))?;
        Ok(Raised::Ours)
    }

    /// One that is imported, or is somebody's.
    fn take(&self, found: Found, may_create: bool) -> Result<Raised, StorageError> {
        if self.owns(&found) {
            return Ok(Raised::Ours);
        }
        match (&self.plan.on, found.mark.is_some()) {
            (ZpoolOn::Somebodys, false) if may_create => Ok(Raised::Unclaimed(found)),
            (_, true) | (ZpoolOn::Somebodys, false) => Err(self.foreign(found.mark)),
            (ZpoolOn::File { .. } | ZpoolOn::Device { .. }, false) => {
                Err(StorageError::ZpoolTaken {
                    zpool: self.zpool().to_owned(),
                })
            }
        }
    }

    /// Imports the pool's own zpool; answers whether it is there.
    fn import(&self, on: &Path) -> Result<bool, StorageError> {
        match zpool(arguments::import(self.zpool(), on)) {
            Err(error) if says(&error, "no such pool") || says(&error, "no pools available") => {
                return Ok(false);
            }
            other => other?,
        };
        let found = look(self.name())?.unwrap_or_default();
        if self.owns(&found) {
            return Ok(true);
        }
        zpool(vec!["export".into(), self.zpool().into()])?;
        Err(self.foreign(found.mark))
    }

    /// A device that holds another pool is not wiped, whoever asks.
    fn spare_pools(&self, on: &Path) -> Result<(), StorageError> {
        let holds = match zpool(arguments::importable(on)) {
            Err(error) if says(&error, "no pools available") => String::new(),
            other => other?,
        };
        let mut names = report::importable(&holds).into_iter();
        match names.find(|name| name.starts_with(OURS)) {
            Some(other) => Err(StorageError::ForeignPool {
                path: on.to_path_buf(),
                owner: format!("the zpool {other}"),
            }),
            None => Ok(()),
        }
    }

    /// What is in it besides files, which makes it somebody's.
    pub(super) fn first_below(&self) -> Result<Option<String>, StorageError> {
        let all = zfs(arguments::below(self.name()))?;
        let mut all = all.lines().filter(|name| *name != self.name());
        Ok(all.next().map(str::to_owned))
    }

    /// Takes one of nobody's, of which somebody has seen that it is empty.
    pub(super) fn claim(&self, found: &Found) -> Result<(), StorageError> {
        self.change(arguments::claim(self.name(), &self.mark, &found.mountpoint))
    }

    /// Lets its file, and it, be as big as they are to be. May be repeated after a crash.
    pub(super) fn grow(&self) -> Result<Ensured, StorageError> {
        let ZpoolOn::File { file, size } = &self.plan.on else {
            return Ok(Ensured::Already);
        };
        let mut length = file.metadata().at("look at", file)?.len();
        let fills = look(self.name())?.and_then(|found| found.fills);
        if length >= *size && fills == Some(length) {
            return Ok(Ensured::Already);
        }
        if length < *size {
            let open = File::options().write(true).open(file).at("open", file)?;
            open.set_len(*size).at("extend", file)?;
            length = *size;
        }
        self.look_anew();
        zpool(arguments::fill(self.zpool(), file))?;
        let length = length.to_string();
        self.change(arguments::set(arguments::FILLS, &length, self.name()))?;
        Ok(Ensured::Done)
    }

    /// Removes it, or gives it back as it was. What others made in it is left alone, and is an error.
    pub(super) fn clear(&self) -> Result<(), StorageError> {
        let found = match look(self.name()) {
            // Where there is no ZFS, there is no pool of it.
            Err(StorageError::NoProgram { .. }) => None,
            other => other?,
        };
        if let Some(found) = found.filter(|found| self.owns(found)) {
            if let Some(other) = self.first_below()? {
                return Err(StorageError::NotEmpty {
                    path: self.name().into(),
                    what: other,
                });
            }
            self.look_anew();
            match (&self.plan.on, found.before) {
                (ZpoolOn::File { .. } | ZpoolOn::Device { .. }, _) => {
                    zpool(vec!["destroy".into(), self.zpool().into()])?;
                }
                (ZpoolOn::Somebodys, None) => {
                    zfs(vec!["destroy".into(), self.name().into()])?;
                }
                (ZpoolOn::Somebodys, Some(before)) => self.give_back(&before)?,
            }
        }
        match &self.plan.on {
            ZpoolOn::File { file, .. } => Ok(path_io::remove_file(file)?),
            ZpoolOn::Device { .. } | ZpoolOn::Somebodys => Ok(()),
        }
    }

    /// The mark goes last: what was cut short is repeated.
    fn give_back(&self, before: &str) -> Result<(), StorageError> {
        let name = self.name();
        match before.split_once(' ') {
            Some(("local", folder)) => zfs(arguments::set("mountpoint", folder, name))?,
            _ => zfs(arguments::inherit("mountpoint", name))?,
        };
        for property in arguments::CLAIMED {
            zfs(arguments::inherit(property, name))?;
        }
        zfs(arguments::inherit(arguments::BEFORE, name))?;
        zfs(arguments::inherit(arguments::MARK, name))?;
        Ok(())
    }
}

/// Why a zpool was not made.
fn not_made(error: StorageError, on: &Path) -> StorageError {
    let StorageError::Command(CommandError::Failed { stderr, .. }) = &error else {
        return error;
    };
    let holds = ["contains a", "is part of", "is in use", "is currently"];
    let mut lines = stderr.lines().map(str::trim);
    match lines.find(|line| holds.iter().any(|words| line.contains(words))) {
        Some(line) => StorageError::DeviceHolds {
            path: on.to_path_buf(),
            found: line.to_owned(),
        },
        None => error,
    }
}
