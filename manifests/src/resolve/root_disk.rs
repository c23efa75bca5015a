//! The root disk that every instance has.

use super::*;
use crate::kinds::instance::Instance;

/// An instance without a root disk gets one on the only pool; a root disk without a pool as well.
pub(super) fn complete_root(
    document: &Document,
    instance: &mut Instance,
    pools: &[Address],
    found: &mut Diagnostics,
) {
    let root = instance.root();
    let needs_pool = root.is_none_or(|(_, root)| root.pool.is_none());
    if !needs_pool {
        return;
    }
    let [pool] = pools else {
        let address = &document.address;
        let one = Diagnostic::error(
            NO_ROOT,
            document.named.origin(),
            format!("{address} has no pool for its root"),
        )
        .of(address)
        .hint("write `devices: { root: { type: disk, path: /, pool: NAME } }`");
        found.push(if pools.is_empty() {
            one.note(
                "there is no StoragePool here, and none is named under `external` of keel.yaml",
            )
        } else {
            let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
            one.note(format!(
                "there are several pools, so which one must be said: {}",
                names.join(", ")
            ))
        });
        return;
    };
    let name = root.map_or("root", |(name, _)| name).to_owned();
    let mut disk = match instance.devices.get(&name).and_then(Device::as_disk) {
        Some(disk) => disk.clone(),
        None => crate::devices::Disk {
            path: "/".parse().ok(),
            ..crate::devices::Disk::default()
        },
    };
    disk.pool = Some(pool.name.clone());
    instance.devices.insert(name, Device::Disk(Box::new(disk)));
}
