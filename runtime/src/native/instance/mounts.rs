//! What is mounted in a running container, and how disks differ from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::devices::Disk;
use manifests::devices::disk::DiskSource;
use manifests::scalar::byte_size::ByteSize;

use super::io_failed;
use crate::error::RuntimeError;
use crate::native::shim::Running;
use crate::sys::mount_table::{self, MountEntry};

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Which file system, and which path of it.
    place: (String, PathBuf),
    /// Whether nothing can be written through it.
    read_only: bool,
    /// The most bytes that a tmpfs holds, where that was said when it was mounted.
    size: Option<u64>,
}

/// What is mounted in a running container, by path.
pub(super) fn mount_points(running: &Running) -> Result<BTreeMap<String, Mount>, RuntimeError> {
    let text = running
        .read("mountinfo")
        .map_err(io_failed("read the mounts of"))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// A line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
fn parse(line: &str) -> Option<(String, Mount)> {
    let entry = mount_table::parse_line(line.as_bytes())?;
    let path = entry.mount_point.to_str()?.to_owned();
    let (mount, file_system) = line.split_once(" - ")?;
    let options = mount.split(' ').nth(5)?;
    let mut words = file_system.split(' ');
    let (kind, _, super_options) = (words.next()?, words.next()?, words.next()?);
    let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
    let size = super_options
        .split(',')
        .filter(|_| kind == "tmpfs")
        .find_map(|option| {
            option
                .strip_prefix("size=")?
                .strip_suffix('k')?
                .parse::<u64>()
                .ok()
        });
    Some((
        path,
        Mount {
            place: (entry.device, entry.root),
            read_only: has(options, "ro") || (kind == "tmpfs" && has(super_options, "ro")),
            size: size.map(|kib| kib * 1024),
        },
    ))
}

/// Whether something else is mounted where a folder or file of the host should be. `table` is the host's.
pub(super) fn is_another(
    disk: &Disk,
    mounted: &BTreeMap<String, Mount>,
    table: &[MountEntry],
) -> bool {
    let DiskSource::Host(source) = disk.made_of() else {
        return false;
    };
    let mount = disk
        .path
        .as_ref()
        .and_then(|path| mounted.get(path.as_str()));
    let (Some(mount), Some(place)) = (mount, mount_table::place(Path::new(source), table)) else {
        return false;
    };
    mount.place != place
}

/// Puts what is mounted over what was meant.
pub(super) fn overlay(disk: &mut Disk, mounted: &BTreeMap<String, Mount>) {
    let Some(mount) = disk
        .path
        .as_ref()
        .filter(|_| !disk.is_root())
        .and_then(|path| mounted.get(path.as_str()))
    else {
        return;
    };
    disk.readonly = mount.read_only;
    // The kernel rounds up to whole pages.
    let pages = |bytes: u64| bytes.div_ceil(rustix::param::page_size() as u64);
    if disk.made_of() == DiskSource::Tmpfs
        && disk.size.as_ref().map(|size| pages(size.bytes())) != mount.size.map(pages)
    {
        disk.size = mount.size.map(ByteSize::from_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        for (line, (device, root), path, read_only, size) in [
            (
                "40 35 8:1 /srv/a /data\\040x ro,nosuid,nodev shared:1 - ext4 /dev/sda1 rw",
                ("8:1", "/srv/a"),
                "/data x",
                true,
                None,
            ),
            (
                "41 35 0:50 / /shm rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=1777",
                ("0:50", "/"),
                "/shm",
                false,
                Some(64 << 20),
            ),
            (
                "42 35 0:51 / /proc rw - proc proc rw",
                ("0:51", "/"),
                "/proc",
                false,
                None,
            ),
        ] {
            let place = (device.to_owned(), root.into());
            let mount = Mount {
                place,
                read_only,
                size,
            };
            assert_eq!(parse(line), Some((path.to_owned(), mount)), "{line}");
        }
    }
}
