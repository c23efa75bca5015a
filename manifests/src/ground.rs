//! What of a host a storage pool takes for itself, and whether two of them take the same.

use std::path::{Path, PathBuf};

use crate::kinds::storage_pool::{PoolDriver, StoragePool};

/// What of a host one pool has, and no other may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ground {
    /// A folder with all that is in it, or a device.
    Path(PathBuf),
    /// A dataset of ZFS with all that is in it.
    Dataset(PathBuf),
    /// A volume group of LVM that the pool makes.
    Group(String),
    /// A thin pool in a volume group that is there. Pools with thin pools of their own may share a group.
    ThinPool(String, String),
}

impl Ground {
    /// All that a pool takes; nothing where it makes all of it itself, under names that no other has.
    pub fn of(pool: &StoragePool) -> Vec<Self> {
        let lvm = pool.lvm.as_ref();
        let group = lvm.and_then(|lvm| lvm.volume_group.clone());
        let thin_pool = lvm.and_then(|lvm| lvm.thin_pool.clone());
        let source = pool.source.as_deref();
        match (pool.driver, source) {
            (PoolDriver::Lvm, Some(source)) if !source.starts_with('/') => thin_pool
                .map(|thin_pool| Self::ThinPool(source.to_owned(), thin_pool))
                .into_iter()
                .collect(),
            (PoolDriver::Lvm, source) => {
                let device = source.map(|source| Self::Path(whole(source)));
                device.into_iter().chain(group.map(Self::Group)).collect()
            }
            (PoolDriver::Zfs, Some(source)) if !source.starts_with('/') => {
                vec![Self::Dataset(whole(source))]
            }
            (_, Some(source)) => vec![Self::Path(whole(source))],
            (_, None) => Vec::new(),
        }
    }

    /// Whether both cannot be had by two pools: they are the same, or one lies in the other.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(one), Self::Path(other)) | (Self::Dataset(one), Self::Dataset(other)) => {
                one.starts_with(other) || other.starts_with(one)
            }
            (one, other) => one == other,
        }
    }
}

/// Without the slashes that say nothing.
fn whole(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::storage_pool::Lvm;

    fn pool(driver: PoolDriver, source: Option<&str>) -> StoragePool {
        StoragePool {
            driver,
            source: source.map(str::to_owned),
            ..StoragePool::default()
        }
    }

    fn meet(one: &StoragePool, other: &StoragePool) -> bool {
        let others = Ground::of(other);
        let mut all = Ground::of(one).into_iter();
        all.any(|one| others.iter().any(|other| one.meets(other)))
    }

    #[test]
    fn folders_devices_and_datasets_are_had_once() {
        use PoolDriver::{Btrfs, Dir, Zfs};
        for (one, other, expected) in [
            ((Dir, Some("/srv/a")), (Dir, Some("/srv/a/")), true),
            ((Dir, Some("/srv/a")), (Btrfs, Some("/srv//a/b")), true),
            ((Dir, Some("/srv/ab")), (Dir, Some("/srv/a")), false),
            ((Btrfs, Some("/dev/sdb")), (Zfs, Some("/dev/sdb")), true),
            ((Zfs, Some("tank/keel")), (Zfs, Some("tank")), true),
            ((Zfs, Some("tank/keel")), (Zfs, Some("tank/other")), false),
            ((Dir, None), (Dir, None), false),
        ] {
            let (one, other) = (pool(one.0, one.1), pool(other.0, other.1));
            assert_eq!(meet(&one, &other), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_volume_group_is_shared_and_its_thin_pools_are_not() {
        let of = |source: Option<&str>, group: Option<&str>, thin_pool: Option<&str>| StoragePool {
            lvm: Some(Lvm {
                volume_group: group.map(str::to_owned),
                thin_pool: thin_pool.map(str::to_owned),
                ..Lvm::default()
            }),
            ..pool(PoolDriver::Lvm, source)
        };
        let thin = |thin_pool| of(Some("vg"), None, thin_pool);
        assert!(!meet(&thin(None), &thin(None)));
        assert!(!meet(&thin(Some("a")), &thin(Some("b"))));
        assert!(meet(&thin(Some("a")), &thin(Some("a"))));
        let own = |source, group| of(source, Some(group), Some("thin"));
        assert!(meet(&own(None, "g"), &own(Some("/dev/sdb"), "g")));
        assert!(!meet(&own(None, "g"), &own(None, "h")));
    }
}
