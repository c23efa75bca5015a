//! What pools of driver `lvm` ask for and do not get.

use crate::kinds::storage_pool::StoragePool;

/// Bytes that a volume group needs at the least: the pool's own records, the metadata of a thin pool twice, and some data.
pub const LEAST_LVM: u64 = 128 << 20;
/// What LVM lets the metadata of a thin pool be, in bytes (`lvmthin(7)`).
const METADATA: std::ops::RangeInclusive<u64> = 2 << 20..=16 << 30;

/// What the source of a pool is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    File,
    Device,
    Group,
}

pub(super) fn of(pool: &StoragePool, say: &mut dyn FnMut(&str, String)) {
    let lvm = pool.lvm.clone().unwrap_or_default();
    let source = match pool.source.as_deref() {
        None => Source::File,
        Some(path) if path.starts_with('/') => Source::Device,
        Some(_) => Source::Group,
    };
    if let (Source::Group, Some(group)) = (source, &pool.source) {
        name(group, "/spec/source", "a volume group", say);
    }
    if let Some(group) = &lvm.volume_group {
        name(group, "/spec/lvm/volumeGroup", "a volume group", say);
        if source == Source::Group && pool.source.as_ref() != Some(group) {
            say(
                "/spec/lvm/volumeGroup",
                "`volumeGroup` is the name of a group that is made, and this pool has one as its `source`"
                    .to_owned(),
            );
        }
    }
    if let Some(thin_pool) = &lvm.thin_pool {
        name(thin_pool, "/spec/lvm/thinPool", "a thin pool", say);
    }
    if let Some(size) = &pool.size {
        let why = match (source, &lvm.thin_pool) {
            (Source::Device, _) => Some(
                "`size` is that of a file of the pool's own, which one with a device does not have"
                    .to_owned(),
            ),
            (Source::Group, Some(thin_pool)) => Some(format!(
                "`size` is that of a thin pool of its own, and this pool uses {thin_pool}"
            )),
            (Source::File | Source::Group, _) if size.bytes() < LEAST_LVM => Some(format!(
                "{size} are too few for a volume group, the least is 128MiB"
            )),
            (Source::File | Source::Group, _) => None,
        };
        if let Some(why) = why {
            say("/spec/size", why);
        }
    } else if source == Source::Group && lvm.thin_pool.is_none() {
        say(
            "/spec/source",
            "say how much of this volume group the pool may have (`size`), or which thin pool of it is used (`lvm.thinPool`)"
                .to_owned(),
        );
    }
    if pool.wipe && source != Source::Device {
        say(
            "/spec/wipe",
            "`wipe` is for a device, and this pool has none as its `source`".to_owned(),
        );
    }
    if let Some(size) = &lvm.thin_pool_metadata_size {
        let at = "/spec/lvm/thinPoolMetadataSize";
        if !METADATA.contains(&size.bytes()) {
            say(
                at,
                "metadata of a thin pool have 2MiB at the least and 16GiB at the most".to_owned(),
            );
        } else if source == Source::Group && lvm.thin_pool.is_some() {
            say(
                at,
                "a thin pool that is there already keeps the metadata that it has".to_owned(),
            );
        }
    }
}

/// Names that LVM takes (`lvm(8)`, "VALID NAMES").
fn name(name: &str, at: &str, what: &str, say: &mut dyn FnMut(&str, String)) {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte);
    let reserved = ["snapshot", "pvmove"];
    let parts = [
        "_cdata", "_cmeta", "_corig", "_mimage", "_mlog", "_rimage", "_rmeta", "_tdata", "_tmeta",
        "_vorigin",
    ];
    let is_name = !name.is_empty()
        && name.len() <= 100
        && name.bytes().all(lawful)
        && !name.starts_with('-')
        && name != "."
        && name != ".."
        && !reserved.iter().any(|word| name.starts_with(word))
        && !parts.iter().any(|part| name.contains(part));
    if !is_name {
        say(at, format!("`{name}` cannot be the name of {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::storage_pool::{Lvm, PoolDriver};

    fn found(change: impl FnOnce(&mut StoragePool, &mut Lvm)) -> Vec<String> {
        let mut pool = StoragePool {
            driver: PoolDriver::Lvm,
            ..StoragePool::default()
        };
        let mut lvm = Lvm::default();
        change(&mut pool, &mut lvm);
        pool.lvm = Some(lvm);
        let mut found = Vec::new();
        of(&pool, &mut |at, why| found.push(format!("{at}: {why}")));
        found
    }

    fn size(text: &str) -> Option<crate::scalar::byte_size::ByteSize> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn what_goes_together_is_taken() {
        let none: Vec<String> = Vec::new();
        assert_eq!(found(|_, _| {}), none);
        assert_eq!(
            found(|pool, lvm| {
                pool.size = size("1GiB");
                lvm.volume_group = Some("fast".to_owned());
                lvm.thin_pool = Some("thin-1".to_owned());
                lvm.thin_pool_metadata_size = size("8MiB");
            }),
            none
        );
        assert_eq!(
            found(|pool, _| {
                pool.source = Some("/dev/sdb".to_owned());
                pool.wipe = true;
            }),
            none
        );
        assert_eq!(
            found(|pool, lvm| {
                pool.source = Some("vg0".to_owned());
                lvm.thin_pool = Some("data".to_owned());
            }),
            none
        );
    }

    #[test]
    fn what_does_not_is_told() {
        let told = found(|pool, _| pool.source = Some("vg0".to_owned()));
        assert!(
            told[0].contains("how much of this volume group"),
            "{told:?}"
        );
        let told = found(|pool, lvm| {
            pool.source = Some("vg0".to_owned());
            pool.size = size("1GiB");
            pool.wipe = true;
            lvm.thin_pool = Some("a b".to_owned());
            lvm.volume_group = Some("other".to_owned());
            lvm.thin_pool_metadata_size = size("8MiB");
        });
        let at: Vec<&str> = told
            .iter()
            .filter_map(|line| line.split(':').next())
            .collect();
        assert_eq!(
            at,
            [
                "/spec/lvm/volumeGroup",
                "/spec/lvm/thinPool",
                "/spec/size",
                "/spec/wipe",
                "/spec/lvm/thinPoolMetadataSize"
            ]
        );
        let told = found(|pool, lvm| {
            pool.size = size("100MiB");
            lvm.thin_pool_metadata_size = size("1MiB");
        });
        assert_eq!(told.len(), 2, "{told:?}");
    }
}
