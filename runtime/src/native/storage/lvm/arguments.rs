//! What programs of LVM are called with. Pure.
//!
//! Whatever `lvm.conf` of the host says, nobody asks, no udev is waited for (a host may have none), and no logical volume is
//! ever looked into for groups: what a machine writes into its disk is its own business.

use std::path::Path;

/// Says that a volume is not ready yet: what a crash left with it holds nothing.
pub(super) const UNREADY: &str = "keel-unready";
/// Says that a volume holds what a pool has beside its volumes.
pub(super) const FILES: &str = "keel-files";

/// The tag of everything that belongs to a pool. A letter that LVM has in no tag is written as its number.
pub(super) fn tag(mark: &str) -> String {
    let mut tag = String::from("keel:");
    for byte in mark.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'/' | b':' => {
                tag.push(char::from(byte));
            }
            other => tag.push_str(&format!("={other:02x}")),
        }
    }
    tag
}

/// Settings of each call. `only`: the devices of a group that is ours; no other is looked at. A group of somebody else is
/// found where the host says that its devices are.
pub(super) fn config(only: Option<&[&Path]>) -> String {
    let devices = match only {
        None => String::new(),
        Some(paths) => {
            let accepted: String = paths
                .iter()
                .map(|path| format!("\"a|^{}$|\",", literal(&path.display().to_string())))
                .collect();
            format!(
                "use_devicesfile=0 filter=[{accepted}\"r|.*|\"] global_filter=[{accepted}\"r|.*|\"] "
            )
        }
    };
    // What is ours is described nowhere else: the host's copies of descriptions are for groups that its owner made.
    let backup = if only.is_some() { 0 } else { 1 };
    format!(
        "devices{{{devices}scan_lvs=0 obtain_device_list_from_udev=0 external_device_info_source=\"none\"}} \
         activation{{udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 error_when_full=1}} \
         backup{{backup={backup} archive=0}}"
    )
}

/// A path as an expression that only it matches.
fn literal(path: &str) -> String {
    let mut text = String::new();
    for letter in path.chars() {
        if ".*+?()[]{}^$|\\\"".contains(letter) {
            text.push_str(if letter == '"' { "\\\"" } else { "\\\\" });
            if letter != '"' {
                text.push(letter);
            }
        } else {
            text.push(letter);
        }
    }
    text
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

fn bytes(size: u64) -> String {
    format!("{size}b")
}

/// `vgcreate`
pub(super) fn make_group(group: &str, device: &Path, tag: &str) -> Vec<String> {
    let device = device.display().to_string();
    words(["--yes", "--addtag", tag, "--", group, &device])
}

/// `lvcreate` of what a pool has beside its volumes. It has its room for itself, so that something can be removed from a
/// thin pool that is full.
pub(super) fn make_files(group: &str, name: &str, size: u64, tag: &str) -> Vec<String> {
    let size = bytes(size);
    words([
        "--yes",
        "--wipesignatures",
        "n",
        "--zero",
        "n",
        "--name",
        name,
        "--size",
        &size,
        "--addtag",
        tag,
        "--addtag",
        UNREADY,
        "--",
        group,
    ])
}

/// `lvcreate` of a thin pool; without a size it gets all that is left.
pub(super) fn make_thin_pool(
    group: &str,
    name: &str,
    size: Option<u64>,
    metadata: Option<u64>,
    tag: &str,
) -> Vec<String> {
    let mut all = words([
        "--yes",
        "--type",
        "thin-pool",
        "--name",
        name,
        "--addtag",
        tag,
    ]);
    match size {
        Some(size) => all.extend(["--size".to_owned(), bytes(size)]),
        None => all.extend(words(["--extents", "100%FREE"])),
    }
    if let Some(metadata) = metadata {
        all.extend(["--poolmetadatasize".to_owned(), bytes(metadata)]);
    }
    all.extend(words(["--", group]));
    all
}

/// `lvcreate` of an empty volume.
pub(super) fn make_volume(
    group: &str,
    thin_pool: &str,
    name: &str,
    size: u64,
    tag: &str,
) -> Vec<String> {
    let size = bytes(size);
    words([
        "--yes",
        "--type",
        "thin",
        "--thinpool",
        thin_pool,
        "--name",
        name,
        "--virtualsize",
        &size,
        "--addtag",
        tag,
        "--",
        group,
    ])
}

/// `lvcreate` of a volume that is as another one is now. LVM lets the kernel hold its file system still for that moment.
pub(super) fn keep(group: &str, origin: &str, name: &str, tag: &str) -> Vec<String> {
    let origin = format!("{group}/{origin}");
    words([
        "--yes",
        "--snapshot",
        "--name",
        name,
        "--permission",
        "r",
        "--setactivationskip",
        "y",
        "--addtag",
        tag,
        "--",
        &origin,
    ])
}

/// `lvcreate` of a volume to write to that is as a kept one.
pub(super) fn unkeep(group: &str, origin: &str, name: &str, tag: &str) -> Vec<String> {
    let origin = format!("{group}/{origin}");
    words([
        "--yes",
        "--snapshot",
        "--name",
        name,
        "--permission",
        "rw",
        "--setactivationskip",
        "n",
        "--addtag",
        tag,
        "--",
        &origin,
    ])
}

/// `lvchange`: makes a volume a device.
pub(super) fn activate(group: &str, name: &str) -> Vec<String> {
    let name = format!("{group}/{name}");
    words([
        "--yes",
        "--activate",
        "y",
        "--ignoreactivationskip",
        "--",
        &name,
    ])
}

/// `lvchange`: it is no device any more.
pub(super) fn deactivate(group: &str, name: &str) -> Vec<String> {
    let name = format!("{group}/{name}");
    words(["--yes", "--activate", "n", "--", &name])
}

/// `lvchange`: nobody writes to it any more.
pub(super) fn seal(group: &str, name: &str) -> Vec<String> {
    let name = format!("{group}/{name}");
    words([
        "--yes",
        "--permission",
        "r",
        "--setactivationskip",
        "y",
        "--",
        &name,
    ])
}

/// `lvchange`: what was not ready is what a pool has beside its volumes.
pub(super) fn ready(group: &str, name: &str) -> Vec<String> {
    let name = format!("{group}/{name}");
    words(["--yes", "--deltag", UNREADY, "--addtag", FILES, "--", &name])
}

/// `lvextend`
pub(super) fn extend(group: &str, name: &str, size: u64) -> Vec<String> {
    let (name, size) = (format!("{group}/{name}"), bytes(size));
    words(["--yes", "--size", &size, "--", &name])
}

/// `lvextend` of a thin pool by all that is free.
pub(super) fn extend_to_the_end(group: &str, name: &str) -> Vec<String> {
    let name = format!("{group}/{name}");
    words(["--yes", "--extents", "+100%FREE", "--", &name])
}

/// `lvreduce`; the file system has been made smaller before.
pub(super) fn reduce(group: &str, name: &str, size: u64) -> Vec<String> {
    let (name, size) = (format!("{group}/{name}"), bytes(size));
    words(["--yes", "--force", "--size", &size, "--", &name])
}

/// `lvremove` of those among these names that bear our tag; LVM itself looks at that.
pub(super) fn remove(group: &str, names: &[String], tag: &str) -> Vec<String> {
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("lv_name=\"{name}\""))
        .collect();
    let which = format!("({}) && lv_tags={{\"{tag}\"}}", names.join(" || "));
    words(["--yes", "--select", &which, "--", group])
}

/// `lvs` of a group.
pub(super) fn report_volumes(group: &str) -> Vec<String> {
    words([
        "--reportformat",
        "json",
        "--units",
        "b",
        "--nosuffix",
        "--options",
        "lv_name,lv_size,lv_tags,pool_lv,data_percent,metadata_percent",
        "--",
        group,
    ])
}

/// `vgs`
pub(super) fn report_groups() -> Vec<String> {
    words([
        "--reportformat",
        "json",
        "--units",
        "b",
        "--nosuffix",
        "--options",
        "vg_name,vg_tags,vg_extent_size,vg_size,vg_free",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_only_letters_that_lvm_takes() {
        assert_eq!(tag("keel:1-2:3"), "keel:keel:1-2:3");
        assert_eq!(tag("edge/pool 1{}"), "keel:edge/pool=201=7b=7d");
    }

    #[test]
    fn a_group_of_ours_is_looked_for_on_its_own_device_only() {
        let path = Path::new("/dev/loop7");
        let ours = config(Some(&[path]));
        assert!(
            ours.starts_with(
                "devices{use_devicesfile=0 filter=[\"a|^/dev/loop7$|\",\"r|.*|\"] global_filter=["
            ),
            "{ours}"
        );
        assert!(
            ours.contains("scan_lvs=0") && ours.contains("backup=0"),
            "{ours}"
        );
        let theirs = config(None);
        assert!(
            !theirs.contains("filter") && !theirs.contains("use_devicesfile"),
            "{theirs}"
        );
        assert!(
            theirs.contains("scan_lvs=0") && theirs.contains("backup=1"),
            "{theirs}"
        );
        assert_eq!(literal("/dev/disk/by-id/a.b"), "/dev/disk/by-id/a\\\\.b");
        assert!(config(Some(&[])).contains(" filter=[\"r|.*|\"]"));
    }

    #[test]
    fn only_what_bears_our_tag_is_removed() {
        let names = ["keel_a".to_owned(), "keel_b".to_owned()];
        assert_eq!(
            remove("g", &names, "keel:m"),
            [
                "--yes",
                "--select",
                "(lv_name=\"keel_a\" || lv_name=\"keel_b\") && lv_tags={\"keel:m\"}",
                "--",
                "g"
            ]
        );
    }

    #[test]
    fn a_thin_pool_takes_what_is_left_or_what_is_asked() {
        let all = make_thin_pool("g", "thin", None, None, "t").join(" ");
        assert_eq!(
            all,
            "--yes --type thin-pool --name thin --addtag t --extents 100%FREE -- g"
        );
        let some = make_thin_pool("g", "thin", Some(1 << 20), Some(2 << 20), "t").join(" ");
        assert!(
            some.ends_with("--size 1048576b --poolmetadatasize 2097152b -- g"),
            "{some}"
        );
    }

    #[test]
    fn a_snapshot_is_read_only_and_skipped_where_all_are_activated() {
        let kept = keep("g", "keel_a", "keel_b", "t").join(" ");
        assert_eq!(
            kept,
            "--yes --snapshot --name keel_b --permission r --setactivationskip y --addtag t -- g/keel_a"
        );
        let back = unkeep("g", "keel_b", "keel_c", "t").join(" ");
        assert!(
            back.contains("--permission rw --setactivationskip n"),
            "{back}"
        );
    }
}
