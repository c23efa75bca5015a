//! What pools of driver `zfs` ask for and do not get.

use crate::kinds::storage_pool::{CloneCopy, StoragePool};

/// Bytes that a zpool of a pool's own needs at the least: it keeps up to half of so few for itself (`spa_slop_shift` and
/// `spa_min_slop` of OpenZFS).
pub const LEAST_ZFS: u64 = 256 << 20;
/// The longest name of a dataset (`ZFS_MAX_DATASET_NAME_LEN`), with room for what a pool makes in it.
const LONGEST: usize = 255 - 100;

pub(super) fn of(pool: &StoragePool, say: &mut dyn FnMut(&str, String)) {
    let source = pool.source.as_deref();
    let is_device = source.is_some_and(|source| source.starts_with('/'));
    if let Some(dataset) = source.filter(|_| !is_device)
        && let Some(why) = trouble(dataset)
    {
        say(
            "/spec/source",
            format!("`{dataset}` cannot be a dataset: {why}"),
        );
    }
    if let Some(size) = &pool.size {
        if source.is_some() {
            say(
                "/spec/size",
                "`size` is that of a file of the pool's own, which one with a `source` does not have"
                    .to_owned(),
            );
        } else if size.bytes() < LEAST_ZFS {
            say(
                "/spec/size",
                format!("{size} are too few for a zpool, the least is 256MiB"),
            );
        }
    }
    let copies = pool.zfs.as_ref().map(|zfs| zfs.clone_copy);
    if copies == Some(CloneCopy::Rebase) {
        say(
            "/spec/zfs/cloneCopy",
            "instances of this engine share their images as layers: there is no clone of an image to go back to"
                .to_owned(),
        );
    }
    if pool.wipe && !is_device {
        say(
            "/spec/wipe",
            "`wipe` is for a device, and this pool has none as its `source`".to_owned(),
        );
    }
}

/// Why this is no name of a dataset (`zfs_namecheck.c`).
fn trouble(name: &str) -> Option<&'static str> {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let mut parts = name.split('/');
    if name.len() > LONGEST {
        Some("it is too long")
    } else if parts.any(|part| part.is_empty() || part == "." || part == "..") {
        Some("there is an empty name in it")
    } else if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        Some("it does not begin with a letter")
    } else if !name.split('/').all(|part| part.bytes().all(lawful)) {
        Some("names have letters, digits, `-`, `_`, `.` and `:`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::storage_pool::{PoolDriver, Zfs};

    fn said(change: impl FnOnce(&mut StoragePool)) -> Vec<String> {
        let mut pool = StoragePool {
            driver: PoolDriver::Zfs,
            ..StoragePool::default()
        };
        change(&mut pool);
        let mut said = Vec::new();
        of(&pool, &mut |at, _| said.push(at.to_owned()));
        said
    }

    #[test]
    fn what_cannot_be_is_told_where_it_is_written() {
        let bytes = |text: &str| Some(text.parse().unwrap());
        let source = |text: &str| Some(text.to_owned());
        assert_eq!(said(|_| {}), [""; 0]);
        assert_eq!(said(|pool| pool.size = bytes("256MiB")), [""; 0]);
        assert_eq!(said(|pool| pool.size = bytes("255MiB")), ["/spec/size"]);
        assert_eq!(said(|pool| pool.wipe = true), ["/spec/wipe"]);
        let copies = |clone_copy| said(|pool| pool.zfs = Some(Zfs { clone_copy }));
        assert_eq!(copies(CloneCopy::False), [""; 0]);
        assert_eq!(copies(CloneCopy::Rebase), ["/spec/zfs/cloneCopy"]);
        for good in ["tank", "tank/keel", "tank/a b:c".replace(' ', "-").as_str()] {
            assert_eq!(said(|pool| pool.source = source(good)), [""; 0], "{good}");
        }
        for bad in [
            "tank/",
            "tank//a",
            "1tank",
            "tank/../x",
            "tank@a",
            "-r",
            "tank/a b",
            "",
        ] {
            assert_eq!(
                said(|pool| pool.source = source(bad)),
                ["/spec/source"],
                "{bad}"
            );
        }
        let all = said(|pool| {
            pool.source = source("tank/keel");
            pool.size = bytes("1GiB");
            pool.wipe = true;
        });
        assert_eq!(all, ["/spec/size", "/spec/wipe"]);
        let device = said(|pool| {
            pool.source = source("/dev/sdb");
            pool.wipe = true;
        });
        assert_eq!(device, [""; 0]);
    }
}
