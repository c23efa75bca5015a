//! What volumes, and roots of instances, have of the `volumeDefaults` of their pool where they do not say.

use super::*;
use crate::kinds::instance::Instance;
use crate::kinds::storage_pool::PoolDriver;
use crate::kinds::volume::ContentType;
use crate::scalar::byte_size::ByteSize;

/// What the pool of a name gives, as it is written; `None`: nothing, or its pool is not declared here.
fn of_pool(tree: &Tree, name: &str) -> Option<(Node, Option<String>)> {
    let pool = tree.documents.get(&Address::new(Kind::StoragePool, name))?;
    let mut spec = empty_map(&pool.place);
    let scope = tree.scopes.get(pool.scope);
    if let Some(defaults) = scope.and_then(|scope| scope.defaults.get(&Kind::StoragePool)) {
        merge::spec(&mut spec, defaults);
    }
    if let Some(written) = pool.node.get("spec") {
        merge::spec(&mut spec, written);
    }
    let driver = word(&spec, "driver").map(str::to_owned);
    Some((spec.take("volumeDefaults")?, driver))
}

fn word<'a>(spec: &'a Node, field: &str) -> Option<&'a str> {
    spec.get(field)
        .and_then(|node| substitute::text(&node.value))
}

/// Lays it under what is said of a volume. `written` is what the volume itself says.
pub(super) fn under_volume(spec: &mut Node, written: Option<&Node>, tree: &Tree) {
    let said = |field: &str| {
        let own = written.and_then(|written| word(written, field));
        own.or_else(|| word(spec, field)).map(str::to_owned)
    };
    let has = |field: &str| written.is_some_and(|written| written.get(field).is_some());
    let Some((mut defaults, driver)) = said("pool").and_then(|pool| of_pool(tree, &pool)) else {
        return;
    };
    let content = said("contentType");
    let content = content.as_deref().unwrap_or(ContentType::Filesystem.word());
    let is_files = content == ContentType::Filesystem.word();
    // A disk that is a copy is as big as its original.
    if !is_files && (has("source") || content != ContentType::Block.word()) {
        defaults.take("size");
    }
    // It is a part of the file system of its pool.
    if !is_files || driver.as_deref() != Some(PoolDriver::Lvm.word()) {
        defaults.take("filesystem");
        defaults.take("mountOptions");
    }
    merge::spec(spec, &defaults);
}

/// Gives the root of an instance the size of all volumes of its pool.
pub(super) fn size_of_root(instance: &mut Instance, tree: &Tree) {
    let Some((name, root)) = instance.root() else {
        return;
    };
    let default = root.pool.as_deref().filter(|_| root.size.is_none());
    let Some((defaults, _)) = default.and_then(|pool| of_pool(tree, pool)) else {
        return;
    };
    let size: Option<ByteSize> = word(&defaults, "size").and_then(|size| size.parse().ok());
    let name = name.to_owned();
    if let (Some(size), Some(Device::Disk(disk))) = (size, instance.devices.get_mut(&name)) {
        disk.size = Some(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::volume::{FileSystem, Volume};

    const POOLS: &str = "apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: {name: thin}\nspec:\n  driver: lvm\n  volumeDefaults:\n    size: 1GiB\n    filesystem: xfs\n    mountOptions: noatime\n    snapshots: {schedule: '@daily', expiry: 7d}\n---\n\
        apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: {name: plain}\n";

    fn meant(of: &str) -> (DesiredSet, Volume) {
        let volume = format!(
            "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: {{name: data}}\nspec: {of}\n---\n\
             apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{name: one}}\nspec: {{image: busybox, devices: {{root: {{type: disk, path: /, pool: thin}}}}}}\n"
        );
        let texts = Texts {
            root: "/".into(),
            files: vec![
                ("pools.yaml".to_owned(), POOLS.to_owned()),
                ("volume.yaml".to_owned(), volume),
            ],
            ..Texts::default()
        };
        let resolved = resolve(&texts, None);
        let desired = resolved
            .desired
            .unwrap_or_else(|| panic!("{:?}", resolved.found));
        let mut all = desired.resources.values();
        let volume = all.find_map(|resource| match &resource.spec {
            Spec::Volume(volume) => Some(volume.as_ref().clone()),
            _ => None,
        });
        let volume = volume.expect("the volume");
        (desired, volume)
    }

    fn size(volume: &Volume) -> Option<u64> {
        volume.size.as_ref().map(ByteSize::bytes)
    }

    #[test]
    fn what_a_volume_does_not_say_its_pool_says() {
        let (desired, volume) = meant("{pool: thin}");
        assert_eq!(size(&volume), Some(1 << 30));
        assert_eq!(volume.filesystem, Some(FileSystem::Xfs));
        assert_eq!(volume.mount_options.as_deref(), Some("noatime"));
        assert!(volume.snapshots.expiry.is_some());
        let address = desired
            .resources
            .keys()
            .find(|one| one.kind == Kind::Volume);
        let resource = &desired.resources[address.expect("the volume")];
        let origin = resource.origin_of(&Pointer::new("/spec/size"));
        assert_eq!(origin.to_string(), "pools.yaml:7", "where it is written");
        let root = desired.resources.values().find_map(|one| match &one.spec {
            Spec::Instance(instance) => instance.root().and_then(|(_, root)| root.size.clone()),
            _ => None,
        });
        assert_eq!(root.map(|size| size.bytes()), Some(1 << 30));
        // What it says itself counts, also that it has none.
        let (_, volume) = meant("{pool: thin, size: 2GiB, mountOptions: null}");
        assert_eq!(size(&volume), Some(2 << 30));
        assert_eq!(volume.mount_options, None);
        let (_, volume) = meant("{pool: plain}");
        assert_eq!((size(&volume), volume.filesystem), (None, None));
    }

    #[test]
    fn what_does_not_fit_a_volume_is_not_given_to_it() {
        let (_, disk) = meant("{pool: thin, contentType: block}");
        assert_eq!((size(&disk), disk.filesystem), (Some(1 << 30), None));
        let (_, copy) = meant("{pool: thin, contentType: block, source: {file: /srv/disk.qcow2}}");
        assert_eq!(size(&copy), None, "as big as its original");
        let (_, cd) = meant("{pool: thin, contentType: iso, source: {file: /srv/cd.iso}}");
        assert_eq!((size(&cd), cd.mount_options), (None, None));
    }
}
