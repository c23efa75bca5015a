//! Pools of driver `btrfs`: every tree is a subvolume, its size the limit of its quota group.
//!
//! A pool is a folder of a btrfs that somebody else keeps, or the root of one on a device or in a file of its own. Quotas
//! cost every writer of a file system something, so they are turned on with the first volume that has a size.
//!
//! The disks of machines are files without copy on write: QEMU keeps their layers itself, a guest's random writes would
//! tear a file that is copied on every write into pieces, and a guest that changes a buffer while it is written past the
//! page cache would spoil the checksums of btrfs. They have none, as on any other file system.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::io::{self, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _};
use rustix::fs::{IFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::driver::{Backing, Ensured, FileSystem, PoolPlan, Sized, StorageFeatures, VolumeId};
use super::error::StorageError;
use super::file_system;
use super::files::{Files, Ground, Limited, TREE};
use super::folders::{list_or_nothing, make_private};
use super::kept_trees::{OwnFileSystem, SNAPSHOTS, Subvolume};
use super::sized;
use super::unmounting::{Users, unmount_pool};
use crate::native::cgroup::Patience;
use crate::sys::command::{self, CommandError};
use crate::sys::remove_tree::{RemoveTreeError, remove_tree};
use crate::sys::{btrfs, loop_device, mount_table};

/// The first superblock is 64 KiB behind the start of the device, and this so far behind its own start
/// (`struct btrfs_super_block`).
const MAGIC_AT: u64 = 0x1_0040;
const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// How long a device that nobody uses may take to let go of its file.
const LETTING_GO: Duration = Duration::from_secs(2);

/// Trees that are subvolumes.
#[derive(Debug)]
pub(super) struct Subvolumes {
    backing: Backing,
    mount_options: Option<String>,
}

impl Subvolumes {
    pub(super) fn new(plan: &PoolPlan) -> Self {
        Self {
            backing: plan.backing.clone(),
            mount_options: plan.mount_options.clone(),
        }
    }

    /// The devices that show what the pool stands on.
    fn devices(&self) -> Result<Vec<PathBuf>, StorageError> {
        Ok(match &self.backing {
            Backing::Folder | Backing::ThinPool(_) | Backing::Dataset(_) => Vec::new(),
            Backing::LoopFile { file, .. } => loop_device::showing(file)?,
            Backing::Device { device, .. } => vec![device.clone()],
        })
    }

    /// The device that is mounted on the pool's folder, if it is one of ours.
    fn mounted(&self, pool: &Path) -> Result<Option<PathBuf>, StorageError> {
        let canonical = pool.canonicalize().unwrap_or_else(|_| pool.to_path_buf());
        let table = mount_table::read()?;
        // The last one lies on top.
        let Some(mount) = table.iter().rev().find(|m| m.mount_point == canonical) else {
            return Ok(None);
        };
        let number = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_rdev).ok();
        let source = number(&mount.source);
        let ours = match &self.backing {
            Backing::Device { device, .. } => number(device) == source,
            Backing::LoopFile { file, .. } => source.is_some_and(|source| {
                let (major, minor) = (rustix::fs::major(source), rustix::fs::minor(source));
                loop_device::shows(&format!("{major}:{minor}"), file)
            }),
            Backing::Folder | Backing::ThinPool(_) | Backing::Dataset(_) => false,
        };
        if !ours || mount.filesystem != "btrfs" || mount.root != Path::new("/") {
            return Err(RemoveTreeError::Mounted { path: canonical }.into());
        }
        Ok(Some(mount.source.clone()))
    }

    /// Makes the file system, whole or not at all.
    fn make(&self) -> Result<(), StorageError> {
        match &self.backing {
            Backing::Folder | Backing::ThinPool(_) | Backing::Dataset(_) => Ok(()),
            Backing::LoopFile { file, size } => {
                let new = unfinished(file);
                path_io::remove_file(&new)?;
                let open = File::create(&new).at("create", &new)?;
                let made = (|| {
                    open.set_len(*size).at("extend", &new)?;
                    make_file_system(&new, false)?;
                    open.sync_all().at("sync", &new)?;
                    Ok(path_io::rename(&new, file)?)
                })();
                if made.is_err() {
                    path_io::remove_file(&new)?;
                }
                made
            }
            Backing::Device { device, wipe } => make_file_system(device, *wipe),
        }
    }

    fn attach(&self) -> Result<(PathBuf, Option<loop_device::LoopDevice>), StorageError> {
        if let Some(device) = self.devices()?.into_iter().next() {
            // A file that is shown already has its file system in use: btrfs is mounted from the same device again.
            return Ok((device, None));
        }
        match &self.backing {
            Backing::LoopFile { file, .. } => {
                let open = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(file)
                    .at("open", file)?;
                let device = loop_device::attach(&open)?;
                Ok((device.path.clone(), Some(device)))
            }
            Backing::Folder
            | Backing::Device { .. }
            | Backing::ThinPool(_)
            | Backing::Dataset(_) => Err(io::Error::from(io::ErrorKind::NotFound))
                .at("find a device for", Path::new("/"))?,
        }
    }

    /// Mounts what is mounted with the options that are asked for now. Those that nobody asks for any more stay until it is
    /// mounted the next time: btrfs knows no word for most of them.
    fn mount_otherwise(&self, pool: &Path) -> Result<(), StorageError> {
        let Some(options) = self.mount_options.as_deref() else {
            return Ok(());
        };
        let (flags, own) = file_system::options(Some(options));
        let data = file_system::as_data(&own);
        rustix::mount::mount_remount(pool, flags, data.as_c_str())
            .at("mount with other options", pool)?;
        Ok(())
    }

    /// Lets the file, its device and the file system be as big as they are to be. May be repeated after a crash.
    fn grow(&self, pool: &Path, device: &Path) -> Result<Ensured, StorageError> {
        let Backing::LoopFile { file, size } = &self.backing else {
            return Ok(Ensured::Already);
        };
        let open = OpenOptions::new().write(true).open(file).at("open", file)?;
        let length = open.metadata().at("look at", file)?.len();
        let space = rustix::fs::statvfs(pool).at("look at", pool)?;
        let has = space.f_blocks * space.f_frsize;
        if length >= *size && has >= length / 4096 * 4096 {
            return Ok(Ensured::Already);
        }
        if length < *size {
            open.set_len(*size).at("extend", file)?;
        }
        loop_device::take_over_size(device)?;
        btrfs::fill_device(open_folder(pool)?).at("grow the file system on", pool)?;
        Ok(Ensured::Done)
    }
}

/// Where a file is made that is not there yet.
fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, StorageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty()).at("open", path)?)
}

/// Whether a file or device starts as a btrfs does.
fn holds_btrfs(path: &Path) -> Result<bool, StorageError> {
    let mut open = File::open(path).at("open", path)?;
    open.seek(io::SeekFrom::Start(MAGIC_AT)).at("read", path)?;
    let mut found = [0; 8];
    match open.read_exact(&mut found) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => {
            other.at("read", path)?;
            Ok(&found == MAGIC)
        }
    }
}

/// What is there already makes the program refuse, unless it is told to wipe.
fn make_file_system(path: &Path, wipe: bool) -> Result<(), StorageError> {
    let force = wipe.then_some(OsStr::new("-f"));
    let arguments = [OsStr::new("-q"), OsStr::new("-K")]
        .into_iter()
        .chain(force)
        .chain([OsStr::new("--"), path.as_os_str()]);
    match command::run("mkfs.btrfs", arguments, None) {
        Err(CommandError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(StorageError::NoProgram {
                program: "mkfs.btrfs",
                package: "btrfs-progs",
            })
        }
        Err(CommandError::Failed { stderr, .. }) if stderr.contains("appears to contain") => {
            let line = stderr.lines().find(|line| line.contains("appears to"));
            Err(StorageError::DeviceHolds {
                path: path.to_path_buf(),
                found: line
                    .unwrap_or_default()
                    .trim_start_matches("ERROR: ")
                    .to_owned(),
            })
        }
        other => Ok(other.map(|_| ())?),
    }
}

/// Deletes a subvolume and those in it, which whoever used it may have made, read-only ones too.
fn delete(above: &Path, name: &OsStr) -> Result<(), StorageError> {
    let path = above.join(name);
    let folder = open_folder(above)?;
    let tree = open_folder(&path)?;
    let id = btrfs::id(&tree).at("look at", &path)?;
    let mut result = btrfs::delete(&folder, name);
    if result == Err(Errno::NOTEMPTY) {
        // A full one could not be changed.
        limit(above, &tree, None)?;
        let nested = btrfs::nested(&tree).at("list the subvolumes in", &path)?;
        btrfs::make_writable(&tree).at("make writable", &path)?;
        for inner in &nested {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
            let inner_path = path.join(&inner.path);
            let open = rustix::fs::openat2(&tree, &inner.path, flags, Mode::empty(), resolve)
                .at("open", &inner_path)?;
            btrfs::make_writable(&open).at("make writable", &inner_path)?;
        }
        for inner in nested.iter().rev() {
            btrfs::delete_by_id(&folder, inner.id).at("delete", path.join(&inner.path))?;
            btrfs::forget_group(&folder, inner.id);
        }
        result = btrfs::delete(&folder, name);
    }
    result.at("delete", &path)?;
    btrfs::forget_group(&folder, id);
    Ok(())
}

/// Limits a tree in the folder of a volume.
fn limit(volume: &Path, tree: &OwnedFd, size: Option<u64>) -> Result<(), StorageError> {
    let path = volume.join(TREE);
    let id = btrfs::id(tree).at("look at", &path)?;
    Ok(btrfs::limit(open_folder(volume)?, id, size).at("limit", &path)?)
}

/// Limits a tree that came from elsewhere, to which nobody writes any more.
///
/// # Errors
/// It holds more than that.
pub(super) fn limit_to(path: &Path, size: u64, id: &VolumeId) -> Result<(), StorageError> {
    let tree = open_folder(path)?;
    limit(path.parent().unwrap_or(path), &tree, Some(size))?;
    // What is not committed yet is not counted yet.
    rustix::fs::syncfs(&tree).at("sync", path)?;
    let counted = btrfs::referenced(&tree).at("count what is in", path)?;
    match counted.is_some_and(|bytes| bytes > size) {
        false => Ok(()),
        true => Err(StorageError::DoesNotFit {
            volume: id.clone(),
            size,
        }),
    }
}

/// Keeps a subvolume as it is now, as another one in a folder.
pub(super) fn keep(tree: &Path, above: &Path, name: &str) -> Result<(), StorageError> {
    let from = open_folder(tree)?;
    btrfs::snapshot(from, open_folder(above)?, OsStr::new(name), true)
        .at("make a snapshot of", tree)?;
    Ok(())
}

/// A tree to write to that is as a kept one was, beside the tree of a volume, with its limit.
pub(super) fn unkeep(
    kept: &Path,
    volume: &Path,
    name: &OsStr,
    size: Option<u64>,
) -> Result<(), StorageError> {
    let from = open_folder(kept)?;
    btrfs::snapshot(from, open_folder(volume)?, name, false).at("make a copy of", kept)?;
    match size {
        Some(_) => limit(volume, &open_folder(&volume.join(name))?, size),
        None => Ok(()),
    }
}

/// Removes a tree, which may be a subvolume or have such in its folders one step below.
pub(super) fn discard(path: &Path) -> Result<(), StorageError> {
    if is_one(path) {
        let above = path.parent().unwrap_or(path);
        return delete(above, path.file_name().unwrap_or_default());
    }
    for inner in list_or_nothing(path).unwrap_or_default() {
        if is_one(&inner) {
            delete(path, inner.file_name().unwrap_or_default())?;
        }
    }
    Ok(remove_tree(path)?)
}

/// Whether a folder is the root of a subvolume.
pub(super) fn is_one(path: &Path) -> bool {
    open_folder(path).is_ok_and(|folder| btrfs::is_subvolume(folder.as_fd()).unwrap_or(false))
}

/// The subvolume of a volume; `None`: it was deleted by hand, or is a folder.
fn tree_of(volume: &Path) -> Result<Option<OwnedFd>, StorageError> {
    let path = volume.join(TREE);
    let tree = match open_folder(&path) {
        Err(StorageError::Path(error))
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let is_one = btrfs::is_subvolume(tree.as_fd()).at("look at", &path)?;
    Ok(is_one.then_some(tree))
}

impl Files for Subvolumes {
    const DRIVER: &'static str = "btrfs";

    fn features(&self) -> StorageFeatures {
        StorageFeatures {
            sized: Sized::Quota,
            grow_live: true,
            shrink_stopped: true,
            limit_in_place: true,
        }
    }

    fn ground(&self, pool: &Path) -> Result<Ground, StorageError> {
        let there = match &self.backing {
            Backing::Folder | Backing::ThinPool(_) | Backing::Dataset(_) => {
                return Ok(Ground::There);
            }
            Backing::LoopFile { file: path, .. } | Backing::Device { device: path, .. } => {
                path.try_exists().at("look at", path)?
            }
        };
        if self.mounted(pool)?.is_some() {
            return Ok(Ground::There);
        }
        Ok(match there {
            true => Ground::Unmounted,
            false => Ground::Gone,
        })
    }

    fn lay(&self, pool: &Path, may_create: bool) -> Result<Ensured, StorageError> {
        let mut done = Ensured::Already;
        let path = match &self.backing {
            Backing::Folder | Backing::ThinPool(_) | Backing::Dataset(_) => {
                let lies_in = match pool.exists() {
                    true => pool,
                    false => pool.parent().unwrap_or(pool),
                };
                return match btrfs::is_btrfs(lies_in).at("look at", lies_in)? {
                    true => Ok(done),
                    // What was there is away, which is told by who looks for it.
                    false if !may_create => Ok(done),
                    false => Err(StorageError::NotBtrfs {
                        path: pool.to_path_buf(),
                    }),
                };
            }
            Backing::LoopFile { file: path, .. } | Backing::Device { device: path, .. } => path,
        };
        let device = match self.mounted(pool)? {
            Some(device) => {
                self.mount_otherwise(pool)?;
                device
            }
            None => {
                let there = path.try_exists().at("look at", path)?;
                if !there && !may_create {
                    return Ok(done);
                }
                // A mount would hide what is there.
                match path_io::list(pool) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => make_private(pool)?,
                    Ok(entries) if entries.is_empty() => {}
                    Err(error) if error.kind() != io::ErrorKind::NotADirectory => Err(error)?,
                    _ => {
                        return Err(StorageError::ForeignPool {
                            path: pool.to_path_buf(),
                            owner: "nobody we know".to_owned(),
                        });
                    }
                }
                if !there || !holds_btrfs(path)? {
                    if !may_create {
                        let problem = "it holds no btrfs any more".to_owned();
                        let path = path.clone();
                        return Err(StorageError::Broken { path, problem });
                    }
                    self.make()?;
                }
                let (device, _attached) = self.attach()?;
                let (flags, own) = file_system::options(self.mount_options.as_deref());
                let data = file_system::as_data(&own);
                rustix::mount::mount(&device, pool, "btrfs", flags, data.as_c_str())
                    .at("mount a btrfs on", pool)?;
                make_private(pool)?;
                done = Ensured::Done;
                device
            }
        };
        match self.grow(pool, &device)? {
            Ensured::Already => Ok(done),
            Ensured::Done => Ok(Ensured::Done),
        }
    }

    fn wipe(&self, pool: &Path) -> Result<bool, StorageError> {
        let Backing::Device { wipe: true, .. } = &self.backing else {
            return Ok(false);
        };
        self.lift(pool)?;
        self.make()?;
        self.lay(pool, true)?;
        Ok(true)
    }

    fn lift(&self, pool: &Path) -> Result<(), StorageError> {
        if self.backing == Backing::Folder {
            return Ok(());
        }
        unmount_pool(pool, || Ok(self.mounted(pool)?.is_some()))?;
        Ok(())
    }

    fn clear(&self) -> Result<(), StorageError> {
        let Backing::LoopFile { file, .. } = &self.backing else {
            return Ok(());
        };
        let mut patience = Patience::new(LETTING_GO);
        while !loop_device::showing(file)?.is_empty() {
            if !patience.wait() {
                let path = file.clone();
                let problem = "a loop device shows it still".to_owned();
                return Err(StorageError::Broken { path, problem });
            }
        }
        path_io::remove_file(unfinished(file))?;
        Ok(path_io::remove_file(file)?)
    }

    fn total(&self) -> Result<Option<u64>, StorageError> {
        match &self.backing {
            Backing::LoopFile { file, .. } => Ok(Some(file.metadata().at("look at", file)?.len())),
            Backing::Folder
            | Backing::Device { .. }
            | Backing::ThinPool(_)
            | Backing::Dataset(_) => Ok(None),
        }
    }

    fn make_tree(
        &self,
        volume: &Path,
        size: Option<u64>,
        _kind: FileSystem,
    ) -> Result<(), StorageError> {
        if let Some(size) = size {
            sized::rounded(size)?;
        }
        let path = volume.join(TREE);
        btrfs::create(open_folder(volume)?, OsStr::new(TREE)).at("create", &path)?;
        make_private(&path)?;
        if size.is_some() {
            limit(volume, &open_folder(&path)?, size)?;
        }
        Ok(())
    }

    fn make_home(&self, volume: &Path, _id: &VolumeId) -> Result<PathBuf, StorageError> {
        // Files that are made in it have it too.
        let folder = open_folder(volume)?;
        let flags = rustix::fs::ioctl_getflags(&folder).at("look at", volume)?;
        rustix::fs::ioctl_setflags(&folder, flags | IFlags::NOCOW)
            .at("turn copy on write off for", volume)?;
        Ok(volume.to_path_buf())
    }

    fn at_hand(&self, volume: &Path, _asked: Option<u64>) -> Result<bool, StorageError> {
        Ok(tree_of(volume)?.is_some())
    }

    fn mount(
        &self,
        volume: &Path,
        id: &VolumeId,
        _options: Option<&str>,
    ) -> Result<(), StorageError> {
        match tree_of(volume)? {
            Some(_) => Ok(()),
            None => Err(StorageError::NoVolume(id.clone())),
        }
    }

    fn unmount(&self, _volume: &Path, _users: Users, _id: &VolumeId) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn own_file_system(&self, _volume: &Path, _asked: Option<u64>) -> Option<OwnFileSystem> {
        None
    }

    fn limited(&self, volume: &Path, asked: Option<u64>) -> Result<Limited, StorageError> {
        let path = volume.join(TREE);
        let size = match tree_of(volume)? {
            None => Some(0),
            Some(tree) => match btrfs::limit_of(&tree).at("read the limit of", &path)? {
                // Somebody took its limit away: it is as big as the pool, and nobody has to make it anew.
                None if asked.is_some() => {
                    let space = rustix::fs::fstatvfs(&tree).at("look at", &path)?;
                    Some(space.f_blocks * space.f_frsize)
                }
                limit => limit,
            },
        };
        Ok(Limited {
            size,
            mounted: None,
        })
    }

    fn resize(
        &self,
        volume: &Path,
        id: &VolumeId,
        _asked: Option<u64>,
        size: Option<u64>,
    ) -> Result<Ensured, StorageError> {
        let path = volume.join(TREE);
        let tree = tree_of(volume)?.ok_or_else(|| StorageError::NoVolume(id.clone()))?;
        if let Some(size) = size {
            sized::rounded(size)?;
        }
        let before = btrfs::limit_of(&tree).at("read the limit of", &path)?;
        if before == size {
            return Ok(Ensured::Already);
        }
        if let Some(size) = size
            && before.is_none_or(|before| size < before)
            && self.used(volume, before)? > size
        {
            return Err(StorageError::DoesNotFit {
                volume: id.clone(),
                size,
            });
        }
        limit(volume, &tree, size)?;
        Ok(Ensured::Done)
    }

    fn used(&self, volume: &Path, asked: Option<u64>) -> Result<u64, StorageError> {
        let path = volume.join(TREE);
        let Some(tree) = tree_of(volume)? else {
            return Ok(0);
        };
        let counted = match asked {
            None => None,
            Some(_) => {
                // What is not committed yet is not counted yet.
                rustix::fs::syncfs(&tree).at("sync", &path)?;
                btrfs::referenced(&tree).at("count what is in", &path)?
            }
        };
        match counted {
            Some(bytes) => Ok(bytes),
            None => Ok(super::usage::bytes_below(&path)?),
        }
    }

    fn remove(&self, folder: &Path) -> Result<(), StorageError> {
        if let Some(mount) = mount_table::at_or_below(folder)?.first() {
            return Err(RemoveTreeError::Mounted {
                path: mount.mount_point.clone(),
            }
            .into());
        }
        for kept in list_or_nothing(&folder.join(SNAPSHOTS))? {
            discard(&kept)?;
        }
        // Its own, and one that a crash left beside it.
        discard(folder)
    }

    fn subvolume(&self, volume: &Path, asked: Option<u64>) -> Option<Subvolume> {
        Some(Subvolume {
            path: volume.join(TREE),
            size: asked,
        })
    }
}
