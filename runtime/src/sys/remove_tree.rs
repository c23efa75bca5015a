//! Removing a tree without ever leaving it: no mount is crossed, no symbolic link followed.
//!
//! The fear behind this file: a host folder bind-mounted below an instance's root, deleted through. Three walls stand
//! against it. The mount table is asked first, and a mount at or below the tree refuses the whole removal before
//! anything is touched. The walk then opens every folder by `openat2(RESOLVE_NO_XDEV)`, which compares mounts, not
//! devices, so a bind mount of the same file system is seen too (`openat2(2)`). And a name is unlinked relative to
//! its folder's descriptor, so a path swapped for a link leads nowhere.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::thread::Scope;

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::mount_table;

/// Folders below this depth are moved up to the top first, so that neither descriptors nor stack grow with the tree.
const DEEP: usize = 48;

/// How often a folder that somebody keeps filling is emptied again before giving up.
const ROUNDS: usize = 16;

/// After this many files others help: a disk that is told of every freed block (`mount -o discard`) lets each removal
/// wait for it.
const MANY: usize = 256;

/// How many help. They wait for the disk, so this has nothing to do with processors.
const HELPERS: u64 = 4;

/// Into folders below this depth no helper goes.
const DEEP_FOR_HELPERS: usize = 16;

/// Why a tree was not (wholly) removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveTreeError {
    /// Something is mounted at or below it; it has to be unmounted first.
    #[error("something is mounted on {}", path.display())]
    Mounted {
        /// The mount point.
        path: PathBuf,
    },
    /// The path has no parent or ends in `..`.
    #[error("{} is not a path of something removable", path.display())]
    NotRemovable {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The kernel refused a step.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Removes a file, a link or a whole folder; what is not there is fine.
///
/// The folders *above* `path` are trusted and resolved as usual; the last component and everything below are not.
/// When the tree has a mount inside, nothing is removed. A mount that appears during the walk stops it there.
///
/// # Errors
/// [`RemoveTreeError::Mounted`] with the mount point; else the step that the kernel refused.
pub fn remove_tree(path: &Path) -> Result<(), RemoveTreeError> {
    let not_removable = || RemoveTreeError::NotRemovable {
        path: path.to_path_buf(),
    };
    let name = path.file_name().ok_or_else(not_removable)?;
    let parent_path = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(not_removable()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent_path, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error).at("open", parent_path)?,
    };
    // The last component may be a link, so only the parent is made canonical.
    let canonical = parent_path.canonicalize().at("resolve", parent_path)?;
    if let Some(mount) = mount_table::at_or_below(&canonical.join(name))?.first() {
        return Err(RemoveTreeError::Mounted {
            path: mount.mount_point.clone(),
        });
    }
    let name = CString::new(name.as_bytes()).map_err(|_| not_removable())?;
    remove_entry(parent.as_fd(), &name, parent_path)
}

/// Removes `name` of the folder `parent`, as [`remove_tree`] does, but without asking the mount table: a mount inside
/// stops the walk where it is met, after other entries may be gone. For trees into which nothing is ever mounted.
///
/// `parent_path` is only used to name things in errors.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_entry(
    parent: BorrowedFd<'_>,
    name: &CStr,
    parent_path: &Path,
) -> Result<(), RemoveTreeError> {
    let path = parent_path.join(OsStr::from_bytes(name.to_bytes()));
    if unlink(parent, name, &path)? == Unlinked::Gone {
        return Ok(());
    }
    let Some(folder) = open_folder(parent, name, &path)? else {
        // It was a folder a moment ago: whatever took its place is no folder.
        return unlink(parent, name, &path).map(|_| ());
    };
    std::thread::scope(|scope| {
        let mut walk = Walk {
            scope,
            top: folder.as_fd(),
            top_path: &path,
            moved_up: 0,
            files: 0,
        };
        walk.remove_folder(parent, name, folder.as_fd(), &path, 0)
    })
}

/// Removes files of a share from a folder and the folders below, as far as it goes. What goes wrong is met again by the
/// walk, which looks at everything and alone removes folders.
fn help(folder: BorrowedFd<'_>, share: u64, depth: usize) {
    let Ok(mut entries) = Dir::read_from(folder) else {
        return;
    };
    while let Some(Ok(entry)) = entries.read() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            let sum: u64 = name.to_bytes().iter().map(|byte| u64::from(*byte)).sum();
            if sum % HELPERS == share {
                let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
            }
        } else if depth < DEEP_FOR_HELPERS
            && let Ok(Some(child)) = open_folder(folder, name, Path::new(""))
        {
            help(child.as_fd(), share, depth + 1);
        }
    }
}

struct Walk<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    top: BorrowedFd<'env>,
    top_path: &'env Path,
    moved_up: u64,
    /// How many files it has come to.
    files: usize,
}

impl Walk<'_, '_> {
    /// Empties an open folder and removes it by its name in `parent`.
    fn remove_folder(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        folder: BorrowedFd<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<(), RemoveTreeError> {
        for _ in 0..ROUNDS {
            self.empty(folder, path, depth)?;
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::BUSY) => return Err(mounted(path)),
                Err(Errno::PERM) => allow_removal(parent, name),
                // Somebody swapped it; what took its place goes too, and the caller looks again for the rest.
                Err(Errno::NOTDIR) => return unlink(parent, name, path).map(|_| ()),
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error).at("remove", path)?,
            }
        }
        Err(Errno::NOTEMPTY).at("remove", path)?
    }

    /// Removes all entries of an open folder.
    fn empty(
        &mut self,
        folder: BorrowedFd<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<(), RemoveTreeError> {
        let mut entries = Dir::read_from(folder).at("list", path)?;
        loop {
            let mut seen = false;
            while let Some(entry) = entries.read() {
                let entry = entry.at("list", path)?;
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    seen = true;
                    self.remove(folder, name, entry.file_type(), path, depth)?;
                }
            }
            if !seen {
                return Ok(());
            }
            // Entries may be skipped while others go away, and folders moved up land here: look until it is empty.
            entries.rewind();
        }
    }

    fn remove(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        folder_path: &Path,
        depth: usize,
    ) -> Result<(), RemoveTreeError> {
        let path = folder_path.join(OsStr::from_bytes(name.to_bytes()));
        if kind != FileType::Directory && unlink(folder, name, &path)? == Unlinked::Gone {
            self.files += 1;
            if self.files == MANY {
                self.call_helpers();
            }
            return Ok(());
        }
        if depth >= DEEP {
            return self.move_up(folder, name, &path);
        }
        let Some(child) = open_folder(folder, name, &path)? else {
            return unlink(folder, name, &path).map(|_| ());
        };
        self.remove_folder(folder, name, child.as_fd(), &path, depth + 1)
    }

    fn call_helpers(&self) {
        let top = self.top;
        for share in 0..HELPERS {
            let helper = std::thread::Builder::new();
            if let Err(error) = helper.spawn_scoped(self.scope, move || help(top, share, 0)) {
                tracing::debug!(%error, "nobody helps to remove a tree");
            }
        }
    }

    fn move_up(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
    ) -> Result<(), RemoveTreeError> {
        loop {
            self.moved_up += 1;
            let new = format!(".keel-removing-{}", self.moved_up);
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(folder, name, self.top, new.as_str(), flags) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(Errno::BUSY) => return Err(mounted(path)),
                Err(error) => return Err(error).at("move out of the way", self.top_path)?,
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Unlinked {
    /// It is not there (any more).
    Gone,
    /// It is there and a folder.
    IsFolder,
}

/// Unlinks what is no folder.
fn unlink(folder: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<Unlinked, RemoveTreeError> {
    for attempt in 0..2 {
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(Unlinked::Gone),
            Err(Errno::ISDIR) => return Ok(Unlinked::IsFolder),
            Err(Errno::BUSY) => return Err(mounted(path)),
            Err(Errno::PERM) if attempt == 0 => allow_removal(folder, name),
            Err(error) => return Err(error).at("remove", path)?,
        }
    }
    Err(Errno::PERM).at("remove", path)?
}

/// Opens a folder of a folder without crossing a mount or a link; `None` when it is no folder any more.
fn open_folder(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
) -> Result<Option<OwnedFd>, RemoveTreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS;
    match super::beneath::retry(|| rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve))
    {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::XDEV) => Err(mounted(path)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error).at("open", path)?,
    }
}

/// A privileged container may have set the immutable or append-only flag, on the entry or on its folder. A failure is
/// found by the removal that is tried again.
fn allow_removal(folder: BorrowedFd<'_>, name: &CStr) {
    let clear = |file: BorrowedFd<'_>| {
        if let Ok(flags) = rustix::fs::ioctl_getflags(file) {
            let _ = rustix::fs::ioctl_setflags(file, flags - IFlags::IMMUTABLE - IFlags::APPEND);
        }
    };
    clear(folder);
    let kind = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|seen| FileType::from_raw_mode(seen.st_mode));
    if matches!(kind, Ok(FileType::RegularFile | FileType::Directory)) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        if let Ok(file) = rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve) {
            clear(file.as_fd());
        }
    }
}

fn mounted(path: &Path) -> RemoveTreeError {
    RemoveTreeError::Mounted {
        path: path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::path_io;
    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind};
    use std::os::unix::fs::symlink;

    struct Scene {
        keep: tempfile::TempDir,
    }

    impl Scene {
        /// A tree to remove, and a host folder that must survive.
        fn new() -> Self {
            let scene = Self {
                keep: tempfile::tempdir().unwrap(),
            };
            path_io::create_dir_all(scene.host().join("deep/er")).unwrap();
            path_io::write(scene.host().join("deep/er/precious"), "data").unwrap();
            path_io::create_dir_all(scene.tree().join("a/b/c")).unwrap();
            path_io::write(scene.tree().join("a/file"), "x").unwrap();
            symlink(scene.host(), scene.tree().join("a/link")).unwrap();
            symlink(
                scene.host().join("deep/er/precious"),
                scene.tree().join("link"),
            )
            .unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, scene.tree().join("pipe"), Mode::RUSR).unwrap();
            scene
        }
        fn host(&self) -> PathBuf {
            self.keep.path().join("host folder")
        }
        fn tree(&self) -> PathBuf {
            self.keep.path().join("tree")
        }
        fn host_is_untouched(&self) {
            let text = path_io::read_to_string(self.host().join("deep/er/precious")).unwrap();
            assert_eq!(text, "data");
        }
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let scene = Scene::new();
        remove_tree(&scene.tree()).unwrap();
        assert!(!scene.tree().exists());
        scene.host_is_untouched();
        remove_tree(&scene.tree()).unwrap();
        remove_tree(&scene.tree().join("not/there")).unwrap();
    }

    #[test]
    fn a_link_or_file_in_place_of_the_tree_is_removed_itself() {
        let scene = Scene::new();
        let link = scene.keep.path().join("instead");
        symlink(scene.host(), &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(link.symlink_metadata().is_err());
        remove_tree(&scene.tree().join("a/file")).unwrap();
        assert!(!scene.tree().join("a/file").exists());
        scene.host_is_untouched();
    }

    #[test]
    fn what_has_no_name_is_refused() {
        for path in ["/", "", "..", "a/.."] {
            assert!(
                matches!(
                    remove_tree(Path::new(path)),
                    Err(RemoveTreeError::NotRemovable { .. })
                ),
                "{path}"
            );
        }
    }

    #[test]
    fn a_very_deep_and_a_very_wide_tree() {
        let scene = Scene::new();
        let start = scene.tree().join("a");
        let mut folder = rustix::fs::open(&start, OFlags::RDONLY, Mode::empty()).unwrap();
        for level in 0..3000 {
            let name = if level == 100 {
                ".keel-removing-1"
            } else {
                "d"
            };
            rustix::fs::mkdirat(&folder, name, Mode::RWXU).unwrap();
            folder = rustix::fs::openat(&folder, name, OFlags::RDONLY, Mode::empty()).unwrap();
        }
        for number in 0..5000 {
            path_io::write(start.join(format!("file-{number}")), "").unwrap();
        }
        path_io::create_dir_all(scene.tree().join(".keel-removing-1")).unwrap();
        drop(folder);
        remove_tree(&scene.tree()).unwrap();
        assert!(!scene.tree().exists());
    }

    /// Somebody keeps swapping a folder of the tree for a link to the host folder.
    #[test]
    fn a_racing_swap_never_leads_outside() {
        for _ in 0..15 {
            let scene = Scene::new();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let top = rustix::fs::open(scene.tree(), flags, Mode::empty()).unwrap();
            for number in 0..200 {
                path_io::create_dir_all(scene.tree().join(format!("a/b/{number}"))).unwrap();
            }
            symlink(scene.host(), scene.tree().join("swap")).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let flags = RenameFlags::EXCHANGE;
                    for _ in 0..10_000 {
                        if rustix::fs::renameat_with(&top, "a", &top, "swap", flags).is_err() {
                            break;
                        }
                    }
                });
                // Such company may make a removal fail, but never lead it outside.
                let _ = remove_tree(&scene.tree());
            });
            remove_tree(&scene.tree()).unwrap();
            assert!(!scene.tree().exists());
            scene.host_is_untouched();
        }
    }

    fn refused_at(scene: &Scene, mount_point: &Path) {
        let before = path_io::list(scene.tree()).ok();
        match remove_tree(&scene.tree()) {
            Err(RemoveTreeError::Mounted { path }) => assert_eq!(path, mount_point),
            other => panic!("removed through a mount: {other:?}"),
        }
        scene.host_is_untouched();
        assert_eq!(
            path_io::list(scene.tree()).ok(),
            before,
            "nothing was removed"
        );
    }

    crate::host_test! {
        fn mounts_refuse_the_whole_removal() {
            // A bind mount of the same file system, of a nested folder, of a file, of the tree itself, and a tmpfs.
            let below = ["", "a", "a/b/c", "a/file", "pipe"];
            for place in below {
                let scene = Scene::new();
                let target = scene.tree().join(place);
                let target = if place.is_empty() { scene.tree() } else { target };
                let source = if target.is_dir() {
                    scene.host()
                } else {
                    scene.host().join("deep/er/precious")
                };
                mount_bind(&source, &target).unwrap();
                refused_at(&scene, &target);
                rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW).unwrap();
                remove_tree(&scene.tree()).unwrap();
                assert!(!scene.tree().exists());
                scene.host_is_untouched();
            }
            let scene = Scene::new();
            let target = scene.tree().join("a/b");
            mount("none", &target, "tmpfs", MountFlags::empty(), None).unwrap();
            path_io::create_dir_all(target.join("inner")).unwrap();
            mount_bind(scene.host(), target.join("inner")).unwrap();
            refused_at(&scene, &target.join("inner"));
            rustix::mount::unmount(target.join("inner"), UnmountFlags::NOFOLLOW).unwrap();
            refused_at(&scene, &target);
        }
    }

    crate::host_test! {
        /// The walk itself, without the mount table before it: what protects when a mount appears during the walk.
        fn the_walk_alone_crosses_no_mount() {
            for place in ["a", "a/b/c", "a/file"] {
                let scene = Scene::new();
                let target = scene.tree().join(place);
                let source = if target.is_dir() {
                    scene.host()
                } else {
                    scene.host().join("deep/er/precious")
                };
                mount_bind(&source, &target).unwrap();
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let parent = rustix::fs::open(scene.keep.path(), flags, Mode::empty()).unwrap();
                match remove_entry(parent.as_fd(), c"tree", scene.keep.path()) {
                    Err(RemoveTreeError::Mounted { path }) => assert_eq!(path, target),
                    other => panic!("removed through a mount: {other:?}"),
                }
                scene.host_is_untouched();
                rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW).unwrap();
            }
        }
    }

    crate::host_test! {
        /// Mounts come and go while trees are removed.
        fn a_mount_that_appears_during_the_walk() {
            for _ in 0..20 {
                let scene = Scene::new();
                for number in 0..300 {
                    path_io::create_dir_all(scene.tree().join(format!("a/b/c/{number}"))).unwrap();
                }
                let target = scene.tree().join("a/b");
                let stop = std::sync::atomic::AtomicBool::new(false);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            if mount_bind(scene.host(), &target).is_ok() {
                                let _ = rustix::mount::unmount(&target, UnmountFlags::DETACH);
                            }
                        }
                    });
                    for _ in 0..200 {
                        if remove_tree(&scene.tree()).is_ok() {
                            break;
                        }
                    }
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                });
                scene.host_is_untouched();
            }
        }
    }

    crate::host_test! {
        fn immutable_files_are_removed() {
            let scene = Scene::new();
            let file = rustix::fs::open(scene.tree().join("a/file"), OFlags::RDONLY, Mode::empty()).unwrap();
            let folder = rustix::fs::open(scene.tree().join("a/b"), OFlags::RDONLY, Mode::empty()).unwrap();
            // tmpfs has the flags since 6.6 only; where there are none, there is nothing to show.
            if rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE).is_ok() {
                rustix::fs::ioctl_setflags(&folder, IFlags::APPEND).unwrap();
            }
            remove_tree(&scene.tree()).unwrap();
            assert!(!scene.tree().exists());
        }
    }
}
