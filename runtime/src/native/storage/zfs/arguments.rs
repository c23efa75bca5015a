//! What `zfs` and `zpool` are told.

use std::ffi::OsString;
use std::path::Path;

/// Whose a dataset is. Those below it have it too, inherited.
pub(super) const MARK: &str = "org.evenkeel:mark";
/// Where a dataset was mounted before it became a pool, and why: `local /srv/keel`.
pub(super) const BEFORE: &str = "org.evenkeel:mountpoint";
/// Bytes of the file that a zpool fills.
pub(super) const FILLS: &str = "org.evenkeel:size";

/// What a pool needs that may be otherwise above it: mounted by nobody else, and with all that overlays and containers
/// write beside files.
const NEEDED: [&str; 3] = ["mountpoint=legacy", "xattr=sa", "acltype=posixacl"];
/// What is good for one that is made.
const WISHED: [&str; 3] = ["atime=on", "relatime=on", "compression=on"];

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

fn pairs(option: &str, pairs: impl IntoIterator<Item = String>, out: &mut Vec<OsString>) {
    for pair in pairs {
        out.push(option.into());
        out.push(pair.into());
    }
}

fn needed(mark: &str) -> impl Iterator<Item = String> + use<> {
    let mark = format!("{MARK}={mark}");
    NEEDED.into_iter().map(str::to_owned).chain([mark])
}

fn wished() -> impl Iterator<Item = String> {
    WISHED.into_iter().map(str::to_owned)
}

/// No cache file: the pool is found by what it stands on, and nobody else brings it in when the host starts. Freed blocks of
/// a file go back to the file system that it lies in.
pub(super) fn make_zpool(
    name: &str,
    on: &Path,
    mark: &str,
    fills: Option<u64>,
    wipe: bool,
) -> Vec<OsString> {
    let mut all = words(["create"]);
    if wipe {
        all.push("-f".into());
    }
    let of_zpool = ["cachefile=none", "ashift=12", "autotrim=on"];
    pairs("-o", of_zpool.map(str::to_owned), &mut all);
    let fills = fills.map(|bytes| format!("{FILLS}={bytes}"));
    // The folder of its root dataset is an option of its own.
    let needed = needed(mark).filter(|pair| !pair.starts_with("mountpoint="));
    pairs("-O", wished().chain(needed).chain(fills), &mut all);
    all.extend(words(["-m", "legacy", "--", name]));
    all.push(on.into());
    all
}

/// Where a zpool may lie that was made on a file or device: a whole disk gets a partition for it, which is called after the
/// disk in one of these ways (`zfs_append_partition` of OpenZFS). Places that are not there are passed over.
fn places(on: &Path, out: &mut Vec<OsString>) {
    for end in ["", "1", "p1", "-part1"] {
        let mut place = on.as_os_str().to_owned();
        place.push(end);
        out.extend(["-d".into(), place]);
    }
}

/// Without mounting anything.
pub(super) fn import(name: &str, on: &Path) -> Vec<OsString> {
    let mut all = words(["import", "-N", "-o", "cachefile=none"]);
    places(on, &mut all);
    all.extend(words(["--", name]));
    all
}

/// What could be imported from a device.
pub(super) fn importable(on: &Path) -> Vec<OsString> {
    let mut all = words(["import"]);
    places(on, &mut all);
    all
}

pub(super) fn fill(name: &str, on: &Path) -> Vec<OsString> {
    let mut all = words(["online", "-e", "--", name]);
    all.push(on.into());
    all
}

/// A dataset that is to be a pool.
pub(super) fn make_base(name: &str, mark: &str) -> Vec<OsString> {
    let mut all = words(["create"]);
    pairs("-o", wished().chain(needed(mark)), &mut all);
    all.extend(words(["--", name]));
    all
}

/// One that is there becomes a pool.
pub(super) fn claim(name: &str, mark: &str, before: &str) -> Vec<OsString> {
    let mut all = words(["set"]);
    let before = format!("{BEFORE}={before}");
    all.extend(needed(mark).chain([before]).map(OsString::from));
    all.push(name.into());
    all
}

/// What a claim sets besides where it is mounted and whose it is.
pub(super) const CLAIMED: [&str; 2] = ["xattr", "acltype"];

/// A property as it is where nobody has set it.
pub(super) fn inherit(property: &str, name: &str) -> Vec<OsString> {
    words(["inherit", property, name])
}

pub(super) fn set(property: &str, value: &str, name: &str) -> Vec<OsString> {
    vec![
        "set".into(),
        format!("{property}={value}").into(),
        name.into(),
    ]
}

fn limit(size: Option<u64>) -> String {
    let size = size.map_or_else(|| "none".to_owned(), |size| size.to_string());
    format!("refquota={size}")
}

/// A tree. Its limit counts what it holds and not what its snapshots keep.
pub(super) fn make_tree(name: &str, size: Option<u64>) -> Vec<OsString> {
    let mut all = words(["create", "-o", "canmount=noauto", "-o"]);
    all.extend([limit(size).into(), "--".into(), name.into()]);
    all
}

pub(super) fn clone(snapshot: &str, name: &str, size: Option<u64>) -> Vec<OsString> {
    let mut all = words(["clone", "-o", "canmount=noauto", "-o"]);
    all.extend([limit(size).into(), snapshot.into(), name.into()]);
    all
}

pub(super) fn resize(name: &str, size: Option<u64>) -> Vec<OsString> {
    vec!["set".into(), limit(size).into(), name.into()]
}

/// With its snapshots, unless somebody has clones of them.
pub(super) fn destroy(name: &str) -> Vec<OsString> {
    words(["destroy", "-r", "--", name])
}

/// A snapshot; where somebody needs it still, as soon as he does not.
pub(super) fn let_go(snapshot: &str) -> Vec<OsString> {
    words(["destroy", "-d", "--", snapshot])
}

/// One line a dataset of a pool.
pub(super) fn list(base: &str) -> Vec<OsString> {
    let columns = "name,refquota,used,referenced,available,written";
    words([
        "list",
        "-Hp",
        "-o",
        columns,
        "-t",
        "filesystem",
        "-r",
        "-d",
        "1",
        "--",
        base,
    ])
}

/// One line a snapshot of a dataset.
pub(super) fn snapshots(name: &str) -> Vec<OsString> {
    let columns = "name,defer_destroy,clones";
    words([
        "list",
        "-Hp",
        "-o",
        columns,
        "-t",
        "snapshot",
        "-s",
        "createtxg",
        "-d",
        "1",
        "--",
        name,
    ])
}

/// Everything below a dataset.
pub(super) fn below(name: &str) -> Vec<OsString> {
    words([
        "list",
        "-Hp",
        "-o",
        "name",
        "-t",
        "filesystem,volume,snapshot",
        "-r",
        "-d",
        "1",
        "--",
        name,
    ])
}

/// What a dataset is as a pool.
pub(super) fn look(name: &str) -> Vec<OsString> {
    let properties = format!("mountpoint,keystatus,{MARK},{BEFORE},{FILLS}");
    words([
        "get",
        "-Hp",
        "-o",
        "property,value,source",
        &properties,
        name,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: Vec<OsString>) -> String {
        let words: Vec<String> = words
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn a_zpool_is_made_with_all_that_containers_need() {
        let file = Path::new("/s/pools/fast.zfs");
        assert_eq!(
            shown(make_zpool(
                "keel-fast-1a2b",
                file,
                "keel:s:u",
                Some(1 << 30),
                false
            )),
            "create -o cachefile=none -o ashift=12 -o autotrim=on -O atime=on -O relatime=on -O compression=on -O xattr=sa -O acltype=posixacl -O org.evenkeel:mark=keel:s:u -O org.evenkeel:size=1073741824 -m legacy -- keel-fast-1a2b /s/pools/fast.zfs"
        );
        assert_eq!(
            shown(make_zpool(
                "keel-fast-1a2b",
                Path::new("/dev/sdb"),
                "m",
                None,
                true
            )),
            "create -f -o cachefile=none -o ashift=12 -o autotrim=on -O atime=on -O relatime=on -O compression=on -O xattr=sa -O acltype=posixacl -O org.evenkeel:mark=m -m legacy -- keel-fast-1a2b /dev/sdb"
        );
    }

    #[test]
    fn a_zpool_is_looked_for_on_a_disk_and_its_first_partition() {
        assert_eq!(
            shown(import("keel-fast-1a2b", Path::new("/dev/sdb"))),
            "import -N -o cachefile=none -d /dev/sdb -d /dev/sdb1 -d /dev/sdbp1 -d /dev/sdb-part1 -- keel-fast-1a2b"
        );
    }

    #[test]
    fn datasets_of_somebody_are_marked_and_give_back_where_they_were() {
        assert_eq!(
            shown(claim("tank/keel", "m", "local /srv/keel")),
            "set mountpoint=legacy xattr=sa acltype=posixacl org.evenkeel:mark=m org.evenkeel:mountpoint=local /srv/keel tank/keel"
        );
        assert_eq!(
            shown(make_base("tank/keel", "m")),
            "create -o atime=on -o relatime=on -o compression=on -o mountpoint=legacy -o xattr=sa -o acltype=posixacl -o org.evenkeel:mark=m -- tank/keel"
        );
    }

    #[test]
    fn limits_count_what_a_tree_holds() {
        assert_eq!(
            shown(make_tree("p/keel_1", Some(5))),
            "create -o canmount=noauto -o refquota=5 -- p/keel_1"
        );
        assert_eq!(
            shown(clone("p/keel_1@keel_2", "p/keel_3", None)),
            "clone -o canmount=noauto -o refquota=none p/keel_1@keel_2 p/keel_3"
        );
        assert_eq!(
            shown(resize("p/keel_1", None)),
            "set refquota=none p/keel_1"
        );
    }
}
