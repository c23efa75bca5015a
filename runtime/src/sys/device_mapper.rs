//! Volumes of LVM as block devices: which device one is, and whether somebody has it.
//!
//! Nothing is remembered: the name that the kernel has for a device (`/sys/dev/block/…/dm/name`) decides.

use std::io;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::{FileType, Mode, OFlags};

/// An active volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Its device.
    pub path: PathBuf,
    /// `major:minor`, as in the table of mounts.
    pub number: String,
}

/// The kernel's name of a logical volume: dashes of the two names are doubled (`dm_build_dm_name` of libdevmapper).
pub fn name_of(group: &str, volume: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}

/// The device of a logical volume; `None`: it is not active, or not there.
///
/// # Errors
/// Sysfs cannot be read.
pub fn of_volume(group: &str, volume: &str) -> Result<Option<Mapped>, PathError> {
    let name = name_of(group, volume);
    let path = Path::new("/dev/mapper").join(&name);
    let stat = match rustix::fs::stat(&path).at("look at", &path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Ok(None);
    }
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let number = format!("{major}:{minor}");
    Ok((kernel_name(&number)? == Some(name)).then_some(Mapped { path, number }))
}

/// The kernel's name of a device, as [`name_of`] makes it; `None`: it is none of device mapper.
///
/// # Errors
/// Sysfs cannot be read.
pub fn kernel_name(number: &str) -> Result<Option<String>, PathError> {
    let path = Path::new("/sys/dev/block").join(number).join("dm/name");
    let name = path_io::read_if_exists(path)?;
    Ok(name.map(|name| name.trim_end().to_owned()))
}

/// Whether a file system of a device is mounted anywhere, or somebody else has it for himself: the kernel gives it to one
/// alone (`O_EXCL`, open(2)).
///
/// # Errors
/// It cannot be opened.
pub fn is_held(device: &Path) -> Result<bool, PathError> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::open(device, flags, Mode::empty()) {
        Ok(_) => Ok(false),
        Err(rustix::io::Errno::BUSY) => Ok(true),
        Err(error) => Err(error).at("open", device)?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_kernel_has_them() {
        assert_eq!(name_of("keel_x", "keel_a"), "keel_x-keel_a");
        assert_eq!(name_of("my-group", "a-b"), "my--group-a--b");
    }

    #[test]
    fn a_volume_that_is_not_there_has_no_device() {
        assert_eq!(of_volume("no-such-group", "none").unwrap(), None);
    }
}
