//! Storage pools in the words of manifests and in those of drivers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use manifests::action::{Action, Verb};
use manifests::desired::Resource;
use manifests::ground::Ground;
use manifests::id::Uid;
use manifests::kind::{Kind, Spec};
use manifests::kinds::storage_pool::{PoolDriver, StoragePool};
use manifests::kinds::volume::FileSystem;
use manifests::observed::{Holds, Item, ObservedSet, Unclear};
use manifests::path_io::{self, AtPath as _};
use manifests::scalar::byte_size::ByteSize;
use manifests::support::{LEAST_BTRFS, LEAST_LVM, LEAST_ZFS};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::definition::Definition;
use super::disk_image::DiskError;
use super::host::Host;
use super::storage::{
    self, Backing, DatasetPlan, DriverKind, GroupOn, OwnFiles, PoolPlan, PoolSeen, StorageDriver,
    StorageError, ThinPoolPlan, VolumeId, ZpoolOn,
};
use crate::error::{Class, RuntimeError};
use crate::runtime::Effected;

/// What was picked once for a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolPicks {
    /// Its folder.
    pub folder: PathBuf,
    /// What that stands on.
    #[serde(default)]
    pub stands_on: StandsOn,
}

/// What the folder of a pool stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(super) enum StandsOn {
    /// The file system that it lies in.
    #[default]
    Folder,
    /// A file of its own.
    LoopFile {
        /// The file.
        file: PathBuf,
        /// Its size in bytes, as it was meant last.
        size: u64,
    },
    /// The device that is its source.
    Device {
        /// The device.
        device: PathBuf,
    },
    /// A thin pool of LVM.
    ThinPool {
        /// The volume group.
        group: String,
        /// The thin pool in it.
        thin_pool: String,
        /// What the group lies on.
        on: GroupStandsOn,
    },
    /// A dataset of ZFS.
    Dataset {
        /// Its name.
        name: String,
        /// What its zpool stands on.
        on: ZpoolStandsOn,
    },
}

/// What the zpool of a pool stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(super) enum ZpoolStandsOn {
    /// A file of its own.
    File {
        /// The file.
        file: PathBuf,
        /// Its size in bytes, as it was meant last.
        size: u64,
    },
    /// The device that is the source of the pool.
    Device {
        /// The device.
        device: PathBuf,
    },
    /// Whatever it stands on: it is somebody's.
    Somebodys,
}

/// What the volume group of a pool lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(super) enum GroupStandsOn {
    /// A file of its own.
    LoopFile {
        /// The file.
        file: PathBuf,
        /// Its size in bytes, as it was meant last.
        size: u64,
    },
    /// The device that is the source of the pool.
    Device {
        /// The device.
        device: PathBuf,
    },
    /// Whatever it lies on: it is somebody's.
    Somebodys {
        /// Bytes of a thin pool of the pool's own.
        thin_pool: Option<u64>,
    },
}

/// The class of a failure of a driver.
pub(super) fn class(error: &StorageError) -> Class {
    match error {
        StorageError::ForeignPool { .. } => Class::Conflict,
        StorageError::PoolMissing { .. }
        | StorageError::PoolUnmounted { .. }
        | StorageError::NotEmpty { .. }
        | StorageError::NotBtrfs { .. }
        | StorageError::DeviceHolds { .. }
        | StorageError::NoGroup { .. }
        | StorageError::GroupTaken { .. }
        | StorageError::VolumeTaken { .. }
        | StorageError::NoThinPool { .. }
        | StorageError::NoRoom { .. }
        | StorageError::NoZfs(_)
        | StorageError::ZpoolTaken { .. }
        | StorageError::NoZpool { .. }
        | StorageError::KeyNotLoaded { .. }
        | StorageError::NoProgram { .. }
        | StorageError::BadName(_) => Class::NeedsOperator,
        StorageError::InUse { .. }
        | StorageError::PoolFull { .. }
        | StorageError::DoesNotFit { .. }
        | StorageError::NeedsRebuild(_)
        | StorageError::TooSmall { .. }
        | StorageError::Shrinks { .. }
        | StorageError::SmallerThanImage { .. }
        | StorageError::NoFiles { .. } => Class::Refused,
        StorageError::NoSize(_) => Class::NeedsOperator,
        StorageError::Disk(DiskError::Path(_)) => Class::Retry,
        StorageError::Disk(DiskError::Size { .. }) => Class::Refused,
        StorageError::Disk(_) => Class::NeedsOperator,
        _ => Class::Retry,
    }
}

/// The driver of a defined pool.
pub(super) fn driver(host: &Host, pool: &Definition<PoolPicks>) -> Box<dyn StorageDriver> {
    let mark = pool
        .mark
        .as_ref()
        .map_or_else(|| pool.uid.to_string(), |mark| mark.uid.to_string());
    // The marker in the pool names the pool and not its owner: adopting and forgetting do not touch what it holds.
    let mark = format!("keel:{}:{mark}", host.config.state_id);
    let (kind, wipe, metadata) = match &pool.spec {
        Spec::StoragePool(spec) => {
            let kind = match spec.driver {
                PoolDriver::Btrfs => DriverKind::Btrfs,
                PoolDriver::Lvm => DriverKind::Lvm,
                PoolDriver::Zfs => DriverKind::Zfs,
                _ => DriverKind::Dir,
            };
            let metadata = spec.lvm.as_ref();
            let metadata = metadata.and_then(|lvm| lvm.thin_pool_metadata_size.as_ref());
            (kind, spec.wipe, metadata.map(ByteSize::bytes))
        }
        _ => (DriverKind::Dir, false, None),
    };
    let mount_options = match &pool.spec {
        Spec::StoragePool(spec) => mount_options(spec).map(str::to_owned),
        _ => None,
    };
    let backing = match pool.picks.stands_on.clone() {
        StandsOn::Folder => Backing::Folder,
        StandsOn::LoopFile { file, size } => Backing::LoopFile { file, size },
        StandsOn::Device { device } => Backing::Device { device, wipe },
        StandsOn::ThinPool {
            group,
            thin_pool,
            on,
        } => Backing::ThinPool(ThinPoolPlan {
            group,
            thin_pool,
            metadata,
            on: match on {
                GroupStandsOn::LoopFile { file, size } => GroupOn::LoopFile { file, size },
                GroupStandsOn::Device { device } => GroupOn::Device { device, wipe },
                GroupStandsOn::Somebodys { thin_pool } => GroupOn::Somebodys { thin_pool },
            },
        }),
        StandsOn::Dataset { name, on } => Backing::Dataset(DatasetPlan {
            name,
            on: match on {
                ZpoolStandsOn::File { file, size } => ZpoolOn::File { file, size },
                ZpoolStandsOn::Device { device } => ZpoolOn::Device { device, wipe },
                ZpoolStandsOn::Somebodys => ZpoolOn::Somebodys,
            },
        }),
    };
    storage::open(
        kind,
        PoolPlan {
            folder: pool.picks.folder.clone(),
            mark,
            backing,
            mount_options,
        },
    )
}

/// The options with which a pool's own file system is mounted.
fn mount_options(pool: &StoragePool) -> Option<&str> {
    let btrfs = pool.btrfs.as_ref()?;
    btrfs.mount_options.as_deref()
}

/// The file system of its own that a volume has, where its driver gives it one.
pub(super) fn own_files(kind: Option<FileSystem>, mount_options: Option<&String>) -> OwnFiles {
    OwnFiles {
        kind: match kind {
            Some(FileSystem::Xfs) => storage::FileSystem::Xfs,
            // That of btrfs is told while planning.
            Some(FileSystem::Ext4 | FileSystem::Btrfs) | None => storage::FileSystem::Ext4,
        },
        mount_options: mount_options.cloned(),
    }
}

/// The same of roots of instances that are made in a pool.
pub(super) fn own_files_of_roots(pool: &Definition<PoolPicks>) -> OwnFiles {
    match &pool.spec {
        Spec::StoragePool(pool) => {
            let defaults = &pool.volume_defaults;
            own_files(defaults.filesystem, defaults.mount_options.as_ref())
        }
        _ => OwnFiles::default(),
    }
}

type Pool = (Arc<Definition<PoolPicks>>, Box<dyn StorageDriver>);

/// The pool of a name and its driver.
pub(super) fn pool_of(host: &Host, name: &str) -> Result<Pool, RuntimeError> {
    let pool = host
        .pool_named(name)
        .map_err(|error| RuntimeError::new("find the pool of", Class::NeedsOperator, error))?
        .ok_or_else(|| {
            RuntimeError::new(
                "find the pool of",
                Class::NeedsOperator,
                format!("there is no storage pool {name}"),
            )
        })?;
    let driver = driver(host, &pool);
    Ok((pool, driver))
}

/// What is picked for a new pool.
fn pick(host: &Host, name: &str, uid: &Uid, pool: &StoragePool) -> Result<PoolPicks, RuntimeError> {
    let failed = |error| RuntimeError::new("make", Class::NeedsOperator, error);
    let own = host.state().join("pools");
    let size = |least: u64| match &pool.size {
        Some(size) => Ok(size.bytes()),
        None => {
            let space = rustix::fs::statvfs(&own);
            let space = space.at("look at", &own).map_err(failed)?;
            let fifth = space.f_bavail * space.f_frsize / 5;
            Ok(fifth.max(least) >> 20 << 20)
        }
    };
    let is_device = |path: &str| {
        rustix::fs::stat(path)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice)
    };
    let (folder, stands_on) = match (&pool.source, pool.driver) {
        (None, PoolDriver::Btrfs) => {
            let size = size(LEAST_BTRFS)?;
            let file = own.join(format!("{name}.btrfs"));
            (own.join(name), StandsOn::LoopFile { file, size })
        }
        (Some(source), PoolDriver::Btrfs) if is_device(source) => {
            let device = PathBuf::from(source);
            (own.join(name), StandsOn::Device { device })
        }
        (source, PoolDriver::Lvm) => {
            let lvm = pool.lvm.clone().unwrap_or_default();
            let group = lvm.volume_group;
            let group =
                group.unwrap_or_else(|| format!("keel_{}", uid.to_string().replace('-', "")));
            let thin_pool = lvm.thin_pool.clone().unwrap_or_else(|| "thin".to_owned());
            let (group, thin_pool, on) = match source {
                None => {
                    let file = own.join(format!("{name}.lvm"));
                    let size = size(LEAST_LVM)?;
                    (group, thin_pool, GroupStandsOn::LoopFile { file, size })
                }
                Some(source) if is_device(source) => {
                    let device = PathBuf::from(source);
                    (group, thin_pool, GroupStandsOn::Device { device })
                }
                Some(source) if source.starts_with('/') => {
                    let why = format!("{source} is no block device");
                    return Err(RuntimeError::new("make", Class::NeedsOperator, why));
                }
                Some(source) => {
                    // One of its own has a name that no other pool takes.
                    let of_pool = || format!("keel_thin_{}", uid.short());
                    let own = lvm.thin_pool.is_none();
                    let thin_pool = lvm.thin_pool.unwrap_or_else(of_pool);
                    let size = pool.size.as_ref().filter(|_| own).map(ByteSize::bytes);
                    let on = GroupStandsOn::Somebodys { thin_pool: size };
                    (source.clone(), thin_pool, on)
                }
            };
            let stands_on = StandsOn::ThinPool {
                group,
                thin_pool,
                on,
            };
            (own.join(name), stands_on)
        }
        (source, PoolDriver::Zfs) => {
            let zpool = format!("keel-{name}-{}", uid.short());
            let (name_of_dataset, on) = match source {
                None => {
                    let file = own.join(format!("{name}.zfs"));
                    let size = size(LEAST_ZFS)?;
                    (zpool, ZpoolStandsOn::File { file, size })
                }
                Some(source) if is_device(source) => {
                    let device = PathBuf::from(source);
                    (zpool, ZpoolStandsOn::Device { device })
                }
                Some(source) if source.starts_with('/') => {
                    let why = format!("{source} is no block device");
                    return Err(RuntimeError::new("make", Class::NeedsOperator, why));
                }
                Some(source) => (source.clone(), ZpoolStandsOn::Somebodys),
            };
            let stands_on = StandsOn::Dataset {
                name: name_of_dataset,
                on,
            };
            (own.join(name), stands_on)
        }
        (Some(source), _) => (PathBuf::from(source), StandsOn::Folder),
        (None, _) => (own.join(name), StandsOn::Folder),
    };
    Ok(PoolPicks { folder, stands_on })
}

/// Fails where another pool of this state folder has what a new one is to stand on, by whatever path.
fn stands_apart(host: &Host, uid: &Uid, pool: &StoragePool) -> Result<(), RuntimeError> {
    let failed = |error| RuntimeError::new("make", Class::NeedsOperator, error);
    let ground = |pool: &StoragePool| {
        let real = |source: &String| {
            let found = Path::new(source).canonicalize().ok();
            found.and_then(|found| found.to_str().map(str::to_owned))
        };
        let source = pool.source.as_ref();
        let source = source.map(|source| real(source).unwrap_or_else(|| source.clone()));
        Ground::of(&StoragePool {
            source,
            ..pool.clone()
        })
    };
    let mine = ground(pool);
    let all = host.definitions.every::<PoolPicks>(Kind::StoragePool);
    for other in all.map_err(failed)? {
        let Spec::StoragePool(spec) = &other.spec else {
            continue;
        };
        let theirs = ground(spec);
        let meets = |one: &Ground| theirs.iter().any(|other| one.meets(other));
        if other.uid != *uid && mine.iter().any(meets) {
            let why = format!("{} stands on that already", other.address);
            return Err(RuntimeError::new("make", Class::NeedsOperator, why));
        }
    }
    Ok(())
}

/// Takes over the size that is asked for now.
fn resize(picks: &mut PoolPicks, wanted: Option<u64>) -> Result<(), RuntimeError> {
    let (
        StandsOn::LoopFile { file, size }
        | StandsOn::ThinPool {
            on: GroupStandsOn::LoopFile { file, size },
            ..
        }
        | StandsOn::Dataset {
            on: ZpoolStandsOn::File { file, size },
            ..
        },
        Some(wanted),
    ) = (&mut picks.stands_on, wanted)
    else {
        return Ok(());
    };
    let has = file.metadata().map_or(0, |metadata| metadata.len());
    if wanted < has {
        return Err(RuntimeError::new(
            "resize",
            Class::Refused,
            format!("it has {has} bytes and does not shrink to {wanted}"),
        ));
    }
    *size = wanted;
    Ok(())
}

/// Does one deed on a pool.
pub(super) fn perform(
    host: &Host,
    action: &Action,
    resource: Option<&Resource>,
) -> Result<Effected, RuntimeError> {
    let fail = |doing: &str, error: StorageError| {
        let class = class(&error);
        RuntimeError::new(doing, class, error).of(&action.address)
    };
    let stored =
        |error| RuntimeError::new("record", Class::NeedsOperator, error).of(&action.address);
    let before = host
        .definitions
        .read::<PoolPicks>(Kind::StoragePool, &action.uid)
        .map_err(stored)?;
    match (&action.verb, resource, before) {
        (Verb::Create | Verb::Update { .. } | Verb::Adopt, Some(resource), before) => {
            let Spec::StoragePool(spec) = &resource.spec else {
                return Err(super::wrong_kind(&action.address));
            };
            if !matches!(
                spec.driver,
                PoolDriver::Dir | PoolDriver::Btrfs | PoolDriver::Lvm | PoolDriver::Zfs
            ) {
                return Err(RuntimeError::new(
                    "make",
                    Class::Unsupported,
                    format!("the driver {} is not one of this engine yet", spec.driver),
                )
                .of(&action.address));
            }
            path_io::create_dir_all(host.state().join("pools")).map_err(|error| {
                RuntimeError::new("make", Class::NeedsOperator, error).of(&action.address)
            })?;
            // A pool that held something and is gone is not made again in silence.
            let may_create = before.as_ref().is_none_or(|before| !before.complete);
            let complete = before.as_ref().is_some_and(|before| before.complete);
            let of_it = |error: RuntimeError| error.of(&action.address);
            if !complete {
                stands_apart(host, &action.uid, spec).map_err(of_it)?;
            }
            let mut picks = match before {
                Some(before) => before.picks,
                None => pick(host, &action.address.name, &action.uid, spec).map_err(of_it)?,
            };
            resize(&mut picks, spec.size.as_ref().map(ByteSize::bytes)).map_err(of_it)?;
            if mount_options(spec).is_some() && picks.stands_on == StandsOn::Folder {
                let why = "it is a folder of a btrfs that somebody else mounts, with options of his own: \
                           `btrfs.mountOptions` is for pools on a device or in a file of their own";
                let error = RuntimeError::new("mount", Class::NeedsOperator, why);
                return Err(error.of(&action.address));
            }
            let mut definition = Definition {
                address: action.address.clone(),
                mark: Some(action.mark.clone()),
                uid: action.uid,
                complete,
                spec: resource.spec.clone(),
                remembered: super::remember(resource),
                picks,
            };
            host.definitions.write(&definition).map_err(stored)?;
            driver(host, &definition)
                .ensure_pool(may_create)
                .map_err(|error| fail("make", error))?;
            definition.complete = true;
            host.definitions.write(&definition).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Rename { .. }, Some(resource), Some(mut before)) => {
            before.address = action.address.clone();
            before.spec = resource.spec.clone();
            host.definitions.write(&before).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Adopt | Verb::Forget, _, Some(mut before)) => {
            before.mark = matches!(action.verb, Verb::Adopt).then(|| action.mark.clone());
            host.definitions.write(&before).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. }, _, Some(mut before)) => {
            // Said first: a folder that is gone is then a removal that was cut short and not a disk that is away.
            let complete = std::mem::replace(&mut before.complete, false);
            host.definitions.write(&before).map_err(stored)?;
            if let Err(error) = driver(host, &before).remove_pool() {
                before.complete = complete;
                host.definitions.write(&before).map_err(stored)?;
                return Err(fail("delete", error));
            }
            // Below the state folder it is ours also where the removal was cut short before its last step.
            if before.picks.folder.starts_with(host.state().join("pools")) {
                let _still_used = manifests::path_io::remove_empty_dir(&before.picks.folder);
            }
            host.definitions
                .remove(Kind::StoragePool, &action.uid)
                .map_err(|error| {
                    RuntimeError::new("delete", Class::NeedsOperator, error).of(&action.address)
                })?;
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. } | Verb::Forget, _, None) => Ok(Effected::NotNeeded),
        (Verb::Adopt, None, None) => Err(super::not_made_here(&action.address)),
        (verb, ..) => Err(super::cannot(verb, &action.address)),
    }
}

/// What a pool is.
pub(super) fn observe(host: &Host, pool: &Definition<PoolPicks>, out: &mut ObservedSet) {
    let driver = driver(host, pool);
    let unclear = |why: String| Unclear {
        address: pool.address.clone(),
        nameless: None,
        why,
    };
    let mut complete = pool.complete;
    let (used, total, set) = match driver.seen() {
        Ok(PoolSeen::Ready { used, total, set }) => (used, total, set),
        Ok(PoolSeen::Missing) if !pool.complete => (0, 0, None),
        // It is all there but for the mount, which is put back by making what is not whole.
        Ok(PoolSeen::Unmounted) => {
            complete = false;
            (0, 0, None)
        }
        Ok(PoolSeen::Missing) => {
            let folder = pool.picks.folder.display();
            out.unclear
                .push(unclear(format!("its folder {folder} is gone or empty")));
            return;
        }
        Ok(PoolSeen::Foreign { owner }) => {
            let folder = pool.picks.folder.display();
            let owner = owner.unwrap_or_else(|| "nobody that keel knows".to_owned());
            out.unclear
                .push(unclear(format!("its folder {folder} belongs to {owner}")));
            return;
        }
        Err(error) => {
            out.unclear.push(unclear(super::chain(&error)));
            return;
        }
    };
    let mut spec = pool.spec.clone();
    let mut word = PoolDriver::Dir;
    if let Spec::StoragePool(spec) = &mut spec {
        word = spec.driver;
        if let (Some(size), Some(set)) = (&mut spec.size, set)
            && size.bytes() != set
        {
            *size = ByteSize::from_bytes(set);
        }
    }
    out.items.push(Item {
        address: pool.address.clone(),
        mark: pool.mark.clone(),
        complete,
        spec,
        last_told: Some(pool.spec.clone()),
        unseen: Vec::new(),
        remembered: Some(pool.remembered),
        // What lies in a pool belongs to the instances and volumes that are in it.
        holds: Holds::default(),
        status: json!({
            "uid": pool.uid,
            "driver": word,
            "path": pool.picks.folder,
            "used": used,
            "total": total,
        }),
    });
}

/// Tells of each pool how many objects its trash holds.
pub(super) fn count_trash(out: &mut ObservedSet) {
    for item in &mut out.items {
        if item.address.kind == Kind::StoragePool {
            let name = Some(&item.address.name);
            let own = out.trash.iter().filter(|one| one.pool.as_ref() == name);
            item.status["trash"] = json!(own.count());
        }
    }
}

/// Where the root of an instance lies: the identity of its volume.
pub(super) fn root_volume(uid: &manifests::id::Uid) -> VolumeId {
    VolumeId::Root(uid.to_string())
}
