//! Macvtaps: links over another link of the host, whose other end is a character device.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Opens the other end of a macvtap of the caller's network namespace, with the headers that virtio-net wants. The link
/// stays when the last copy of the descriptor is closed.
///
/// # Errors
/// `ENOENT`: there is no such link, or it is no macvtap. Else the kernel's answer to mounting, making the node or opening it.
pub fn open(name: &str, index: u32) -> io::Result<OwnedFd> {
    let (major, minor) = numbers(name, index)?;
    // The node of devtmpfs is named by a number that another network namespace may have given, too; and where /run is, no
    // node can be opened.
    let nodes = detached("tmpfs", MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    let device = rustix::fs::makedev(major, minor);
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(&nodes, "tap", FileType::CharacterDevice, mode, device)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&nodes, "tap", flags, Mode::empty())?)
}

/// Whether what [`open`] mounts can be mounted here.
///
/// # Errors
/// The kernel's answer.
pub fn can_be_opened() -> io::Result<()> {
    detached("sysfs", MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    detached("tmpfs", MountAttrFlags::MOUNT_ATTR_NOSUID).map(drop)
}

/// The numbers of the device of a macvtap.
fn numbers(name: &str, index: u32) -> io::Result<(u32, u32)> {
    // The one at /sys may be that of another network namespace: a mount shows the links of who made it.
    let links = detached("sysfs", MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    let path = format!("class/net/{name}/macvtap/tap{index}/dev");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&links, path, flags, Mode::empty())?;
    let mut text = [0; 64];
    let length = rustix::io::read(&file, &mut text)?;
    let text = text.get(..length).unwrap_or_default();
    parse(&String::from_utf8_lossy(text)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads `246:1`.
fn parse(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A mount of a new file system that is nowhere, and gone with its descriptor.
fn detached(kind: &str, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse("246:1\n"), Some((246, 1)));
        for other in ["", "246", "a:1", "1:-1"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }
}
