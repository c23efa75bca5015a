//! Whether this kernel has a ZFS that can be what containers lie on.

use manifests::path_io;

/// Where the module tells its version.
const VERSION: &str = "/sys/module/zfs/version";

/// Overlays write to it, and mounts of it can have their owners shifted, since 2.2 (release notes of OpenZFS 2.2.0,
/// "Linux container support").
const LEAST: (u32, u32) = (2, 2);

/// What is missing, and what would mend it.
pub fn trouble() -> Option<String> {
    of(path_io::read_to_string(VERSION).ok().as_deref())
}

fn of(version: Option<&str>) -> Option<String> {
    let Some(version) = version.map(str::trim) else {
        return Some(
            "this kernel has no zfs: apt-get install zfs-dkms zfsutils-linux (of contrib), then modprobe zfs"
                .to_owned(),
        );
    };
    let mut parts = version.split(['.', '-', '~']).map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) < LEAST => Some(format!(
            "zfs {version} cannot be what containers lie on, 2.2 can: on Debian 12 apt-get install -t bookworm-backports zfs-dkms zfsutils-linux"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for good in ["2.2.0", "2.3.2-1~bpo12+2\n", "10.0", "2.2-rc1"] {
            assert_eq!(of(Some(good)), None, "{good}");
        }
        for old in ["2.1.11-1+deb12u1", "0.8.6", "2.1"] {
            assert!(of(Some(old)).unwrap().contains("backports"), "{old}");
        }
        assert!(of(None).unwrap().contains("zfs-dkms"));
    }
}
