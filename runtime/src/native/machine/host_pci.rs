//! PCI devices of the host, by what sysfs tells of them (`Documentation/ABI/testing/sysfs-bus-pci`).

use std::path::Path;

use manifests::feature::PciFacts;
use manifests::path_io;

/// Where the kernel lists them.
pub const LIST: &str = "/sys/bus/pci/devices";
/// Where it lists the groups that its IOMMU tells apart.
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// Those of this host, by address.
pub fn devices() -> Vec<PciFacts> {
    listed(Path::new(LIST))
}

/// Whether an IOMMU of this host keeps devices from its memory.
pub fn is_kept_apart() -> bool {
    path_io::list(GROUPS).is_ok_and(|groups| !groups.is_empty())
}

/// As [`devices`], in a folder that is laid out as the kernel's.
fn listed(list: &Path) -> Vec<PciFacts> {
    // A host without PCI has no such folder.
    let folders = path_io::list(list).unwrap_or_default();
    let mut found: Vec<PciFacts> = folders.iter().filter_map(|folder| one(folder)).collect();
    found.sort_by(|one, other| one.address.cmp(&other.address));
    found
}

/// What a folder tells; none: the device is just leaving.
fn one(folder: &Path) -> Option<PciFacts> {
    // Each number is written as `0x10de`.
    let digits = |name: &str| {
        let text = path_io::read_to_string(folder.join(name)).ok()?;
        Some(text.trim().strip_prefix("0x")?.to_owned())
    };
    let leads_to = |name: &str| {
        let target = rustix::fs::readlink(folder.join(name), Vec::new()).ok()?;
        let target = target.into_string().ok()?;
        Some(target.rsplit('/').next()?.to_owned())
    };
    let cards = path_io::list(folder.join("drm")).unwrap_or_default();
    let number = |card: &std::path::PathBuf| {
        let name = card.file_name()?.to_str()?;
        name.strip_prefix("card")?.parse().ok()
    };
    Some(PciFacts {
        address: folder.file_name()?.to_str()?.to_owned(),
        class: u32::from_str_radix(&digits("class")?, 16).ok()?,
        vendor: digits("vendor")?,
        product: digits("device")?,
        driver: leads_to("driver"),
        group: leads_to("iommu_group").and_then(|group| group.parse().ok()),
        card: cards.iter().find_map(number),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn devices_are_found_with_their_drivers_groups_and_cards() {
        let list = tempfile::tempdir().expect("a folder");
        let device = |address: &str, files: &[(&str, &str)]| {
            let folder = list.path().join(address);
            path_io::create_dir_all(&folder).expect("a folder");
            for (file, text) in files {
                path_io::write(folder.join(file), format!("0x{text}\n")).expect("a file");
            }
            folder
        };
        let card = [("class", "030000"), ("vendor", "10de"), ("device", "1c82")];
        let folder = device("0000:01:00.0", &card);
        symlink("../../../../bus/pci/drivers/nouveau", folder.join("driver")).expect("a link");
        symlink(
            "../../../../kernel/iommu_groups/12",
            folder.join("iommu_group"),
        )
        .expect("a link");
        for name in ["card1", "card1-DP-1", "renderD128"] {
            path_io::create_dir_all(folder.join("drm").join(name)).expect("a folder");
        }
        device(
            "0000:00:1f.0",
            &[("class", "060100"), ("vendor", "8086"), ("device", "2918")],
        );
        // One that leaves has lost its numbers.
        device("0000:02:00.0", &[("class", "020000")]);
        let found = listed(list.path());
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            ["0000:00:1f.0 (8086:2918)", "0000:01:00.0 (10de:1c82)"]
        );
        assert_eq!((found[0].driver.as_deref(), found[0].group), (None, None));
        let card = &found[1];
        assert!(card.is_graphics() && card.card == Some(1));
        assert_eq!(
            (card.driver.as_deref(), card.group),
            (Some("nouveau"), Some(12))
        );
        assert!(listed(&list.path().join("nowhere")).is_empty());
    }
}
