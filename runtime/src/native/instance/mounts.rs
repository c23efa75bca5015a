//! What is mounted in a running container, and how disks differ from it.

use std::collections::BTreeMap;

use manifests::devices::Disk;
use manifests::devices::disk::DiskSource;
use manifests::scalar::byte_size::ByteSize;

use super::io_failed;
use crate::error::RuntimeError;
use crate::native::shim::Running;

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
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
    let (mount, file_system) = line.split_once(" - ")?;
    let mut words = mount.split(' ').skip(4);
    let path = words.next()?.replace("\\040", " ").replace("\\134", "\\");
    let options = words.next()?;
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
            read_only: has(options, "ro") || (kind == "tmpfs" && has(super_options, "ro")),
            size: size.map(|kib| kib * 1024),
        },
    ))
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
        for (line, path, read_only, size) in [
            (
                "40 35 8:1 /srv/a /data\\040x ro,nosuid,nodev shared:1 - ext4 /dev/sda1 rw",
                "/data x",
                true,
                None,
            ),
            (
                "41 35 0:50 / /shm rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=1777",
                "/shm",
                false,
                Some(64 << 20),
            ),
            ("42 35 0:51 / /proc rw - proc proc rw", "/proc", false, None),
        ] {
            let mount = Mount { read_only, size };
            assert_eq!(parse(line), Some((path.to_owned(), mount)), "{line}");
        }
    }
}
