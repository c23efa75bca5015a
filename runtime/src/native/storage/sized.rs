//! A volume with a size: an ext4 in a sparse file on a loop device, mounted at a folder beside the file.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{FlockOperation, SeekFrom, flock};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::thread::CapabilitySet;

use super::driver::VolumeId;
use super::error::StorageError;
use super::unmounting::{Users, unmount_ours};
use crate::native::cgroup::Patience;
use crate::sys::command::{self, CommandError};
use crate::sys::{loop_device, mount_table};

/// Below this an ext4 with a journal makes no sense.
const LEAST: u64 = 16 << 20;
/// How long a device that nobody uses may take to let go of its file.
const LETTING_GO: Duration = Duration::from_millis(500);
/// How long a program may go on that a killed keel has left at work.
const STILL_AT_WORK: Duration = Duration::from_mins(10);
/// Bytes that stay free on the disk while a file system in it gets another size.
const SPARE: u64 = 8 << 20;
/// Sizes are rounded up to whole blocks.
const BLOCK: u64 = 4096;

/// The size that a file gets for a wish.
pub(super) fn rounded(size: u64) -> Result<u64, StorageError> {
    if size < LEAST {
        return Err(StorageError::TooSmall { size, least: LEAST });
    }
    Ok(size.div_ceil(BLOCK).saturating_mul(BLOCK))
}

/// Makes the file with an empty file system. What is there already is overwritten.
pub(super) fn make(path: &Path, size: u64) -> Result<(), StorageError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .at("create", path)?;
    file.set_len(rounded(size)?).at("extend", path)?;
    make_file_system(path)?;
    file.sync_all().at("sync", path)?;
    Ok(())
}

/// Makes an empty file system in a file or on a device. What is there already is overwritten.
pub(super) fn make_file_system(path: &Path) -> Result<(), StorageError> {
    tool("mke2fs", &make_arguments(path))
}

/// No reserved blocks: root inside is nobody special. Inode tables are written later by the kernel, which keeps the file
/// sparse and making it fast.
fn make_arguments(path: &Path) -> Vec<String> {
    [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "0",
        "-E",
        "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
        "--",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([path.display().to_string()])
    .collect()
}

/// Runs a program of e2fsprogs; one that is not installed has an error of its own.
fn tool(program: &'static str, arguments: &[String]) -> Result<(), StorageError> {
    of_package(program, command::run(program, arguments, None))
}

/// As [`tool`], for one that changes a file system in which there is something. Cut short it would leave that half moved, so
/// it goes on when this process is killed; until then `held` tells who comes next.
fn careful_tool(
    program: &'static str,
    arguments: &[String],
    held: &File,
) -> Result<(), StorageError> {
    let held = held.try_clone().map_err(|source| CommandError::Start {
        program: program.to_owned(),
        source,
    })?;
    of_package(program, command::run_holding(program, arguments, held))
}

fn of_package(
    program: &'static str,
    ended: Result<Vec<u8>, CommandError>,
) -> Result<(), StorageError> {
    match ended {
        Err(CommandError::Start { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Err(StorageError::NoProgram {
                program,
                package: "e2fsprogs",
            })
        }
        other => Ok(other.map(|_| ())?),
    }
}

/// Waits until no program of [`careful_tool`] works on a file or device any more, and lets none begin while the answer lives.
pub(super) fn at_rest(path: &Path, id: &VolumeId) -> Result<File, StorageError> {
    let open = File::open(path).at("open", path)?;
    let mut patience = Patience::new(STILL_AT_WORK);
    loop {
        match flock(&open, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if patience.wait() => {}
            Err(Errno::WOULDBLOCK) => return Err(StorageError::InUse(id.clone())),
            other => {
                other.at("lock", path)?;
                return Ok(open);
            }
        }
    }
}

/// The device that is mounted at `at`, if there is a mount and it is of this file.
pub(super) fn mounted_device(
    file: &Path,
    at: &Path,
) -> Result<Option<std::path::PathBuf>, StorageError> {
    let canonical = at.canonicalize().unwrap_or_else(|_| at.to_path_buf());
    let table = mount_table::read()?;
    // The last one lies on top.
    let Some(mount) = table.iter().rev().find(|m| m.mount_point == canonical) else {
        return Ok(None);
    };
    Ok(loop_device::shows(&mount.device, file).then(|| mount.source.clone()))
}

/// Mounts the file's file system at a folder of ours; one that is mounted already stays.
///
/// `nosuid` and `nodev` here do not reach the container: its overlay has flags of its own.
///
/// # Errors
/// [`StorageError::InUse`] also where an earlier mount was cut off and somebody still is in it: a second device over
/// the same file would give the file system two lives.
pub(super) fn mount(file: &Path, at: &Path, id: &VolumeId) -> Result<(), StorageError> {
    if mounted_device(file, at)?.is_some() {
        return Ok(());
    }
    if let Some(foreign) = mount_table::at_or_below(at)?.first() {
        return Err(crate::sys::remove_tree::RemoveTreeError::Mounted {
            path: foreign.mount_point.clone(),
        }
        .into());
    }
    drop(at_rest(file, id)?);
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .at("open", file)?;
    // One attached by hand goes; one in use only hears that it shall go with its last user.
    for device in loop_device::showing(file)? {
        loop_device::detach(&device)?;
    }
    let mut patience = Patience::new(LETTING_GO);
    while !loop_device::showing(file)?.is_empty() {
        if !patience.wait() {
            return Err(StorageError::InUse(id.clone()));
        }
    }
    let device = loop_device::attach(&open)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(&device.path, at, "ext4", flags, None).at("mount an ext4 on", at)?;
    Ok(())
}

/// Unmounts the file's file system from the folder; answers whether it was mounted.
pub(super) fn unmount(
    file: &Path,
    at: &Path,
    users: Users,
    id: &VolumeId,
) -> Result<bool, StorageError> {
    unmount_ours(at, users, id, || Ok(mounted_device(file, at)?.is_some()))
}

/// Whether a mounted ext4 may be grown: the kernel asks for CAP_SYS_RESOURCE (fs/ext4/resize.c, `ext4_resize_begin`),
/// which root of a virtual machine or container host may lack.
pub(super) fn can_grow_live() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

/// Grows the file and the file system in it while it is mounted at `at`. May be repeated after a crash.
pub(super) fn grow_live(file: &Path, at: &Path, size: u64) -> Result<(), StorageError> {
    let size = rounded(size)?;
    let open = OpenOptions::new().write(true).open(file).at("open", file)?;
    if open.metadata().at("look at", file)?.len() < size {
        open.set_len(size).at("extend", file)?;
    }
    let device = mounted_device(file, at)?
        .ok_or(std::io::Error::from(std::io::ErrorKind::NotFound))
        .at("find the mount on", at)?;
    loop_device::take_over_size(&device)?;
    fill_live(at, size)?;
    open.sync_all().at("sync", file)?;
    Ok(())
}

/// Lets a mounted file system be as big as what it lies on.
pub(super) fn fill_live(at: &Path, size: u64) -> Result<(), StorageError> {
    let folder = File::open(at).at("open", at)?;
    rustix::fs::ext4_ioc_resize_fs(&folder, size / BLOCK).at("grow the file system on", at)?;
    Ok(())
}

/// Grows or shrinks the file system and its file while nobody uses it. May be repeated after a crash.
///
/// # Errors
/// It does not fit, or there is no room on the disk: then it is as it was.
pub(super) fn resize_unused(file: &Path, size: u64, id: &VolumeId) -> Result<(), StorageError> {
    let size = rounded(size)?;
    let held = at_rest(file, id)?;
    let open = OpenOptions::new().write(true).open(file).at("open", file)?;
    let before = open.metadata().at("look at", file)?.len();
    room(&open, before, size).at("resize the file system in", file)?;
    if before < size {
        open.set_len(size).at("extend", file)?;
    }
    fit(file, size, id, &held)?;
    open.set_len(size).at("shorten", file)?;
    open.sync_all().at("sync", file)?;
    Ok(())
}

/// Fails where a change of size might find no room on the disk: a file system that is half changed has to be repaired.
fn room(file: &File, before: u64, after: u64) -> rustix::io::Result<()> {
    let needed = match before < after {
        // Tables of new groups: 64 KiB for each GiB are far more than they take.
        true => (after - before) >> 14,
        false => written_behind(file, after)?,
    };
    let disk = rustix::fs::fstatvfs(file)?;
    match disk.f_bfree.saturating_mul(disk.f_frsize) < needed.saturating_add(SPARE) {
        true => Err(Errno::NOSPC),
        false => Ok(()),
    }
}

/// Bytes of a file behind a place, without its holes: as many are written before it at the most.
fn written_behind(file: &File, place: u64) -> rustix::io::Result<u64> {
    let (mut at, mut bytes) = (place, 0_u64);
    loop {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(bytes),
            other => other?,
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(begin))?;
        bytes = bytes.saturating_add(at.saturating_sub(begin));
    }
}

/// Lets a file system that nobody uses be so big. What it lies on is as big at the least.
pub(super) fn fit_unused(path: &Path, size: u64, id: &VolumeId) -> Result<(), StorageError> {
    let held = at_rest(path, id)?;
    fit(path, size, id, &held)
}

/// As [`fit_unused`], for who holds it.
fn fit(path: &Path, size: u64, id: &VolumeId, held: &File) -> Result<(), StorageError> {
    let shown = path.display().to_string();
    // resize2fs wants a fresh check.
    check(&shown, "-p", held)?;
    let arguments = vec!["--".to_owned(), shown.clone(), format!("{}K", size / 1024)];
    match careful_tool("resize2fs", &arguments, held) {
        // It knows how much it needs and refuses before it changes anything.
        Err(StorageError::Command(CommandError::Failed { stderr, .. }))
            if stderr.contains("smaller than minimum") || stderr.contains("Not enough space") =>
        {
            Err(StorageError::DoesNotFit {
                volume: id.clone(),
                size,
            })
        }
        Err(StorageError::Command(CommandError::Failed { stderr, .. }))
            if stderr.contains("No space left on device") =>
        {
            // What it had begun is nothing that anybody but it can repair, and the next check would not.
            check(&shown, "-y", held)?;
            Ok(Err(Errno::NOSPC).at("resize the file system in", path)?)
        }
        other => other,
    }
}

/// Checks a file system; `how`: what may be repaired.
fn check(shown: &str, how: &str, held: &File) -> Result<(), StorageError> {
    let arguments = ["-f", how, "--", shown].map(str::to_owned);
    match careful_tool("e2fsck", &arguments, held) {
        // Its exit status 1 means that something was repaired.
        Err(StorageError::Command(CommandError::Failed { status, .. }))
            if status.code() == Some(1) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Bytes that the file occupies on its own file system.
pub(super) fn occupied(file: &Path) -> Result<u64, PathError> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(file.metadata().at("look at", file)?.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_blocks_and_not_too_small() {
        assert_eq!(rounded(LEAST).unwrap(), LEAST);
        assert_eq!(rounded(LEAST + 1).unwrap(), LEAST + BLOCK);
        assert!(matches!(
            rounded(LEAST - 1),
            Err(StorageError::TooSmall { .. })
        ));
    }

    crate::host_test! {
        fn a_file_system_that_was_cut_off_has_no_second_life() {
            let folder = tempfile::tempdir().unwrap();
            let (file, at) = (folder.path().join("disk.img"), folder.path().join("disk"));
            manifests::path_io::ensure_dir(&at).unwrap();
            let id = VolumeId::Root("one".to_owned());
            make(&file, LEAST).unwrap();
            mount(&file, &at, &id).unwrap();
            let shell_inside = File::open(&at).unwrap();
            assert!(unmount(&file, &at, Users::CutOff, &id).unwrap());
            let again = mount(&file, &at, &id);
            assert!(matches!(&again, Err(StorageError::InUse(_))), "{again:?}");
            assert_eq!(loop_device::showing(&file).unwrap().len(), 1);
            drop(shell_inside);
            mount(&file, &at, &id).unwrap();
            assert!(unmount(&file, &at, Users::Respect, &id).unwrap());
        }
    }

    #[test]
    fn a_path_is_never_an_option() {
        let arguments = make_arguments(Path::new("-x"));
        assert_eq!(arguments[arguments.len() - 2..], ["--", "-x"]);
    }
}
