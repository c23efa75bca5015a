//! How many bytes a folder occupies.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

/// Bytes of all blocks below a folder, files with several names counted once, mounts not counted.
pub(super) fn bytes_below(path: &Path) -> Result<u64, PathError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
    let mut seen = HashSet::new();
    let mut sum = 0;
    add(folder.as_fd(), &mut seen, &mut sum, 0).at("count what is in", path)?;
    Ok(sum)
}

/// The deepest folder that is counted: descriptors are limited, and a container can make any depth.
const DEEPEST: usize = 512;

fn add(
    folder: BorrowedFd<'_>,
    seen: &mut HashSet<(u64, u64)>,
    sum: &mut u64,
    depth: usize,
) -> rustix::io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // What vanishes meanwhile is not counted.
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if stat.st_nlink > 1
            && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
            && !seen.insert((stat.st_dev, stat.st_ino))
        {
            continue;
        }
        *sum += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth < DEEPEST {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
            if let Ok(child) = rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve) {
                add(child.as_fd(), seen, sum, depth + 1)?;
            }
        }
    }
    Ok(())
}
