//! What the native engine cannot do of volumes, and of what their pools give them.

use super::not_yet;
use crate::desired::{DesiredSet, Resource};
use crate::id::Address;
use crate::kind::{Kind, Spec};
use crate::kinds::storage_pool::{PoolDriver, StoragePool, VolumeDefaults};
use crate::kinds::volume::{ContentType, FileSystem, Volume};
use crate::scalar::byte_size::ByteSize;

/// Fields of volumes that are not put in force yet, unless they are as by default.
const VOLUME: &[&str] = &["snapshots/stateful", "config"];

/// Bytes that an XFS has at the least (`mkfs.xfs` since 5.19).
pub const LEAST_XFS: u64 = 300 << 20;

/// Says what is not done of a volume.
pub(super) fn of(
    resource: &Resource,
    volume: &Volume,
    desired: &DesiredSet,
    say: &mut dyn FnMut(&str, String),
) {
    not_yet(resource, VOLUME, say);
    match volume.content_type {
        ContentType::Filesystem => {}
        ContentType::Block if volume.size.is_none() && volume.source.is_none() => say(
            "/spec/contentType",
            "a volume of blocks that is a copy of nothing needs a `size`".to_owned(),
        ),
        ContentType::Block => {}
        ContentType::Iso if volume.size.is_some() => say(
            "/spec/size",
            "the image of a CD is as big as it is".to_owned(),
        ),
        ContentType::Iso => {}
    }
    let file = volume
        .source
        .as_ref()
        .and_then(|source| source.file.as_ref());
    if file.is_some() && volume.content_type == ContentType::Filesystem {
        say(
            "/spec/source/file",
            "a volume of files is no copy of a single file; `keel file push` puts one there"
                .to_owned(),
        );
    }
    if volume.content_type != ContentType::Filesystem {
        for (field, written) in [
            ("shifted", volume.shifted),
            ("unmapped", volume.unmapped),
            ("initial", volume.initial.is_some()),
            ("filesystem", volume.filesystem.is_some()),
            ("mountOptions", volume.mount_options.is_some()),
        ] {
            if written {
                say(
                    &format!("/spec/{field}"),
                    "this counts for volumes of files".to_owned(),
                );
            }
        }
        return;
    }
    if volume.shared {
        say(
            "/spec/shared",
            "this counts for volumes of blocks; one of files can be shared always".to_owned(),
        );
    }
    let pool = Address::new(Kind::StoragePool, volume.pool.as_str());
    let resources = desired.resources.get(&pool);
    let pool = resources.or_else(|| desired.others.get(&pool));
    if let Some(Spec::StoragePool(pool)) = pool.map(|pool| &pool.spec) {
        Mounted {
            at: "/spec",
            driver: pool.driver,
            file_system: volume.filesystem,
            options: volume.mount_options.as_deref(),
            size: volume.size.as_ref(),
        }
        .check(say);
    }
}

/// Says what a pool cannot give to its volumes.
pub(super) fn defaults_of(pool: &StoragePool, say: &mut dyn FnMut(&str, String)) {
    let VolumeDefaults {
        size,
        filesystem,
        mount_options,
        snapshots: _,
    } = &pool.volume_defaults;
    Mounted {
        at: "/spec/volumeDefaults",
        driver: pool.driver,
        file_system: *filesystem,
        options: mount_options.as_deref(),
        size: size.as_ref(),
    }
    .check(say);
}

/// A file system that volumes of files have for themselves, as it is written.
struct Mounted<'a> {
    at: &'a str,
    driver: PoolDriver,
    file_system: Option<FileSystem>,
    options: Option<&'a str>,
    size: Option<&'a ByteSize>,
}

impl Mounted<'_> {
    fn check(&self, say: &mut dyn FnMut(&str, String)) {
        let mut one = |field: &str, what: String| say(&format!("{}/{field}", self.at), what);
        if self.driver != PoolDriver::Lvm {
            for (field, written) in [
                ("filesystem", self.file_system.is_some()),
                ("mountOptions", self.options.is_some()),
            ] {
                if written {
                    one(
                        field,
                        format!(
                            "this counts for pools of driver lvm, where each volume has a file system of its own; this one is {}",
                            self.driver
                        ),
                    );
                }
            }
            return;
        }
        match self.file_system {
            Some(FileSystem::Btrfs) => one(
                "filesystem",
                "this engine makes ext4 and xfs on logical volumes: two snapshots of one btrfs cannot be mounted at once"
                    .to_owned(),
            ),
            Some(FileSystem::Xfs) if self.size.is_some_and(|size| size.bytes() < LEAST_XFS) => {
                one("size", "an xfs has 300MiB at the least".to_owned());
            }
            Some(FileSystem::Xfs | FileSystem::Ext4) | None => {}
        }
        if let Some(why) = self.options.and_then(trouble) {
            one("mountOptions", why);
        }
    }
}

/// Options that say what a mount is and not how it is: they are keel's.
const NOT_OPTIONS: &[&str] = &[
    "bind", "rbind", "move", "remount", "loop", "ro", "rw", "suid", "dev", "user", "users", "auto",
    "noauto", "defaults", "shared", "private", "slave",
];

/// Why these are no options of a mount.
pub(super) fn trouble(options: &str) -> Option<String> {
    let mut each = options.split(',').map(str::trim);
    each.find_map(|option| {
        let name = option.split('=').next().unwrap_or(option);
        let lawful = |letter: char| letter.is_ascii_graphic();
        if name.is_empty() || !option.chars().all(lawful) {
            Some(format!("`{options}` is no list of options such as `noatime,discard`"))
        } else if NOT_OPTIONS.contains(&name) {
            Some(format!("`{name}` is not for people to say: keel decides what is mounted and how it is reached"))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(
        driver: PoolDriver,
        file_system: Option<FileSystem>,
        options: Option<&str>,
        size: Option<&str>,
    ) -> Vec<String> {
        let size = size.map(|size| size.parse().unwrap());
        let mut said = Vec::new();
        Mounted {
            at: "/spec",
            driver,
            file_system,
            options,
            size: size.as_ref(),
        }
        .check(&mut |at, _| said.push(at.to_owned()));
        said
    }

    #[test]
    fn file_systems_and_their_options_are_those_of_logical_volumes() {
        let none: [&str; 0] = [];
        let xfs = Some(FileSystem::Xfs);
        assert_eq!(
            said(
                PoolDriver::Lvm,
                xfs,
                Some("noatime,logbufs=8"),
                Some("1GiB")
            ),
            none
        );
        assert_eq!(
            said(PoolDriver::Lvm, xfs, None, Some("100MiB")),
            ["/spec/size"]
        );
        assert_eq!(
            said(PoolDriver::Lvm, Some(FileSystem::Btrfs), None, None),
            ["/spec/filesystem"]
        );
        assert_eq!(
            said(PoolDriver::Dir, xfs, Some("noatime"), None),
            ["/spec/filesystem", "/spec/mountOptions"]
        );
        for bad in ["", "noatime,,x", "bind", "noatime,remount", "a b"] {
            let told = said(PoolDriver::Lvm, None, Some(bad), None);
            assert_eq!(told, ["/spec/mountOptions"], "{bad:?}");
        }
    }
}
