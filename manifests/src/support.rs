//! What the native engine cannot do yet: a static table, so that a continuous-integration machine and a host agree.
//!
//! Nothing is dropped in silence: each is a finding with its line, a warning in `validate` and an error in `plan`.

mod devices;
mod host;
mod incus;
mod lvm;
mod machines;
mod macvtaps;
mod passed;
mod volumes;
mod zfs;

pub use self::host::beyond;
pub use self::lvm::LEAST_LVM;
pub use self::machines::MOST_PROCESSORS;
pub use self::volumes::LEAST_XFS;
pub use self::zfs::LEAST_ZFS;

use crate::desired::{DesiredSet, Readiness, Resource};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::id::Address;
use crate::instance::boot::ShutdownAction;
use crate::kind::{Kind, Spec};
use crate::kinds::backup::Compression;
use crate::kinds::instance::{Instance, PowerState};
use crate::kinds::network::NetworkType;
use crate::kinds::storage_pool::{PoolDriver, StoragePool};
use crate::pointer::Pointer;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::cpu::{CpuLimit, CpuSet};
use crate::scalar::image_ref::{ImageRef, ImageSource};

/// A kind that this engine does not have yet.
pub const KIND: Code = Code("U0301");
/// A field that this engine does not put in force yet.
pub const FIELD: Code = Code("U0302");
/// Something that this host does not grant.
pub const HOST: Code = Code("U0303");

/// Bytes that a btrfs needs at the least, with its metadata twice (`btrfs_min_dev_size` of btrfs-progs).
pub const LEAST_BTRFS: u64 = 109 << 20;

/// Fields of instances that are not put in force yet, unless they are as by default.
const INSTANCE: &[&str] = &[
    "credentials",
    "kernelModules",
    "placement",
    "config",
    "security/intercept",
    "security/apparmor",
    "security/selinux",
    "security/iommu",
];
/// The same of containers.
const CONTAINER: &[&str] = &["cloudInit", "snapshots/stateful"];
/// Fields that count for machines only, unless they are as by default.
const OF_MACHINES: &[&str] = &[
    "boot/mode",
    "limits/memoryHotplug",
    "health/agent",
    "health/cloudInit",
];
/// Fields that count for containers only: a machine has a kernel of its own, and its process is keel's business.
const OF_CONTAINERS: &[&str] = &[
    "command",
    "oci",
    "sysctl",
    "timeNamespace",
    "limits/kernel",
    "limits/memoryEnforce",
    "limits/memorySwap",
    "limits/processes",
    "security/capabilities",
    "security/deviceAccess",
    "security/idmap/extra",
    "security/mounts",
    "security/nesting",
    "security/privileged",
    "security/seccomp",
];
/// The same of networks.
const NETWORK: &[&str] = &[
    "tunnels",
    "acls",
    "aclDefaults",
    "parent",
    "vlan",
    "uplink",
    "members",
    "config",
];
/// The same of pools.
const POOL: &[&str] = &["volumeDefaults/snapshots/stateful", "members", "config"];
/// The same of images.
const IMAGE: &[&str] = &["autoUpdate", "config"];

/// What does the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Engine {
    /// This host.
    #[default]
    Native,
    /// A server of Incus.
    Incus,
}

/// Everything that an engine would not do as it is written.
pub fn unsupported_by(engine: Engine, desired: &DesiredSet) -> Diagnostics {
    match engine {
        Engine::Native => unsupported(desired),
        Engine::Incus => incus::unsupported(desired),
    }
}

/// Everything that the native engine would not do as it is written.
pub fn unsupported(desired: &DesiredSet) -> Diagnostics {
    let mut found = Diagnostics::default();
    for resource in desired.resources.values() {
        let mut say = |at: &str, what: String| {
            let at = Pointer::new(at);
            let origin = resource.origin_of(&at);
            found.push(
                Diagnostic::warning(FIELD, origin, what)
                    .of(&resource.address)
                    .at(at),
            );
        };
        match &resource.spec {
            Spec::Instance(instance) => {
                not_yet(resource, INSTANCE, &mut say);
                let (others, why) = match instance.is_container() {
                    true => (OF_MACHINES, "counts for machines"),
                    false => (
                        OF_CONTAINERS,
                        "counts for containers; a machine has a kernel of its own",
                    ),
                };
                if instance.is_container() {
                    not_yet(resource, CONTAINER, &mut say);
                }
                written(resource, others, &mut |field| {
                    let words = field.replace('/', ".");
                    say(&format!("/spec/{field}"), format!("{words} {why}"));
                });
                let guest_api = Pointer::new("/spec/security/guestApi");
                if instance.security.guest_api && resource.provenance.at(&guest_api).is_some() {
                    say(
                        guest_api.as_str(),
                        "there is no /dev/incus/sock in instances of this engine yet".to_owned(),
                    );
                }
                one_instance(instance, &mut say);
                macvtaps::of(resource, instance, &mut say);
            }
            Spec::Network(network) => {
                if network.r#type != NetworkType::Bridge {
                    say(
                        "/spec/type",
                        "this engine makes networks of type bridge only".to_owned(),
                    );
                }
                if network.bridge.driver != crate::kinds::network::BridgeDriver::Native {
                    say(
                        "/spec/bridge/driver",
                        "this engine makes native bridges only".to_owned(),
                    );
                }
                not_yet(resource, NETWORK, &mut say);
            }
            Spec::StoragePool(pool) => {
                not_yet(resource, POOL, &mut say);
                one_pool(resource, pool, &mut say);
            }
            Spec::Image(image) => {
                if let Some(source) = &image.source {
                    one_source(source, "/spec/source", &mut say);
                }
                if image.requirements.cgroup.as_deref() == Some("v1") {
                    say(
                        "/spec/requirements/cgroup",
                        "containers of this engine see cgroup 2 only".to_owned(),
                    );
                }
                not_yet(resource, IMAGE, &mut say);
            }
            Spec::Volume(volume) => volumes::of(resource, volume, desired, &mut say),
            Spec::SnapshotSchedule(_) => {}
            Spec::Backup(backup) => {
                if backup.compression != Compression::Zstd {
                    let why = "this engine packs backups by zstd only";
                    say("/spec/compression", why.to_owned());
                }
            }
            // They are settled before anything is made, or are rules over plans, or values of texts.
            Spec::Project(_) | Spec::Policy(_) | Spec::Secret(_) => {}
            _ => {
                let kind: Kind = resource.address.kind;
                found.push(
                    Diagnostic::warning(
                        KIND,
                        resource.origin.clone(),
                        format!("this engine has no {} yet", kind.name()),
                    )
                    .of(&resource.address),
                );
            }
        }
    }
    found
}

fn one_pool(resource: &Resource, pool: &StoragePool, say: &mut dyn FnMut(&str, String)) {
    volumes::defaults_of(pool, say);
    let options = pool.btrfs.as_ref();
    let options = options.and_then(|btrfs| btrfs.mount_options.as_deref());
    if let Some(why) = options.and_then(volumes::trouble) {
        say("/spec/btrfs/mountOptions", why);
    }
    match pool.driver {
        PoolDriver::Dir => not_yet(resource, &["size", "wipe"], say),
        PoolDriver::Btrfs => {
            if let Some(size) = &pool.size {
                if pool.source.is_some() {
                    say(
                        "/spec/size",
                        "`size` is that of a file of the pool's own, which one with a `source` does not have"
                            .to_owned(),
                    );
                } else if size.bytes() < LEAST_BTRFS {
                    say(
                        "/spec/size",
                        format!("{size} are too few for a btrfs, the least is 109MiB"),
                    );
                }
            }
            if pool.wipe && pool.source.is_none() {
                say(
                    "/spec/wipe",
                    "`wipe` is for a device, and this pool has no `source`".to_owned(),
                );
            }
        }
        PoolDriver::Lvm => lvm::of(pool, say),
        PoolDriver::Zfs => zfs::of(pool, say),
        other => say(
            "/spec/driver",
            format!("this engine has no driver {other} yet"),
        ),
    }
}

/// Kinds that the native engine has no objects of: they are settled in the objects that they concern, or are rules over
/// plans, or say where values of secrets are. They can still be referred to, and are never counted as missing.
pub fn settle(desired: &mut DesiredSet) {
    settle_for(Engine::Native, desired);
}

/// As [`settle`], for either engine: a server of Incus has objects that are projects.
pub fn settle_for(engine: Engine, desired: &mut DesiredSet) {
    let is_policy = |address: &Address, _: &mut Resource| address.kind == Kind::Policy;
    let meant = desired.resources.extract_if(.., is_policy);
    let others = desired.others.extract_if(.., is_policy);
    desired
        .policies
        .extend(meant.chain(others).map(|(_, policy)| policy));
    let is_project = |address: &Address, _: &mut Resource| address.kind == Kind::Project;
    let outside = desired
        .others
        .extract_if(.., is_project)
        .map(|(_, project)| project);
    let mut projects: Vec<Resource> = outside.collect();
    let meant = desired.resources.iter();
    projects.extend(
        meant
            .filter(|(address, _)| address.kind == Kind::Project)
            .map(|(_, project)| project.clone()),
    );
    desired.projects.extend(projects);
    let has_projects = engine == Engine::Incus;
    let is_settled = |address: &&Address| match address.kind {
        Kind::Project => !has_projects,
        kind => kind == Kind::Profile,
    };
    let settled: Vec<_> = desired
        .resources
        .keys()
        .filter(is_settled)
        .cloned()
        .collect();
    for address in settled {
        desired.resources.remove(&address);
        desired.external.push(address);
    }
    let is_secret = |address: &Address, _: &mut Resource| address.kind == Kind::Secret;
    let meant = desired.resources.extract_if(.., is_secret);
    desired.secrets.extend(meant);
    let others = desired.others.extract_if(.., is_secret);
    desired.secrets.extend(others);
    let projects: Vec<Address> = desired
        .resources
        .keys()
        .filter(|address| address.kind == Kind::Project)
        .cloned()
        .collect();
    for (address, resource) in &mut desired.resources {
        resource.needs.retain(|(need, _)| match need.kind {
            Kind::Project => has_projects,
            kind => kind != Kind::Secret,
        });
        // What is in a project comes after it, and goes before it.
        let own = |project: &&Address| address.project.as_deref() == Some(project.name.as_str());
        if let Some(own) = projects.iter().find(own)
            && !resource.needs.iter().any(|(need, _)| need == own)
        {
            resource.needs.push((own.clone(), Readiness::Started));
            resource.needs.sort_by(|a, b| a.0.cmp(&b.0));
        }
    }
}

/// Says which of these fields are not as by default, though this engine does nothing with them yet.
fn not_yet(resource: &Resource, fields: &[&str], say: &mut dyn FnMut(&str, String)) {
    written(resource, fields, &mut |field| {
        let words = field.replace('/', ".");
        say(
            &format!("/spec/{field}"),
            format!("{words} is not put in force by this engine yet"),
        );
    });
}

/// Tells which of these fields are not as by default.
fn written(resource: &Resource, fields: &[&str], tell: &mut dyn FnMut(&str)) {
    // Most objects have none of them, and a whole spec as a value costs more than all of the reading.
    let is_written = |field: &str| {
        let mut steps = field.split('/');
        let spec = resource.provenance.written();
        spec.is_some_and(|spec| steps.try_fold(spec, |node, step| node.get(step)).is_some())
    };
    let fields: Vec<&str> = fields
        .iter()
        .copied()
        .filter(|field| is_written(field))
        .collect();
    if fields.is_empty() {
        return;
    }
    let written = resource.spec.to_value();
    let plain = Spec::default_of(resource.address.kind).to_value();
    for field in fields {
        let at = format!("/{field}");
        if written.pointer(&at) != plain.pointer(&at) {
            tell(field);
        }
    }
}

/// Where an image comes from.
fn one_source(source: &ImageSource, at: &str, say: &mut dyn FnMut(&str, String)) {
    match source {
        ImageSource::Alias { .. } | ImageSource::Oci(_) => say(
            at,
            "images of servers are not fetched by this engine yet".to_owned(),
        ),
        ImageSource::Instance(_) | ImageSource::Snapshot(_) => {
            say(
                at,
                "instances are not published by this engine yet".to_owned(),
            );
        }
        ImageSource::Url { sha256: None, .. } => say(
            at,
            "what a server sends is only taken with its `sha256` beside the `url`".to_owned(),
        ),
        ImageSource::Builtin(name) if name != "busybox" => {
            say(
                at,
                format!("there is no builtin image `{name}`; there is `busybox`"),
            );
        }
        ImageSource::Url { .. }
        | ImageSource::File { .. }
        | ImageSource::Rootfs(_)
        | ImageSource::Builtin(_) => {}
    }
}

/// Words that no part of this engine understands.
fn words(instance: &Instance, say: &mut dyn FnMut(&str, String)) {
    for size in instance.limits.hugepages.keys() {
        if size.parse::<ByteSize>().is_err() {
            say(
                &format!("/spec/limits/hugepages/{size}"),
                format!("`{size}` is no size of huge pages: write `2MiB` or `1GiB`"),
            );
        }
    }
    if let Some(nodes) = &instance.limits.cpu_nodes
        && nodes.parse::<CpuSet>().is_err()
    {
        say(
            "/spec/limits/cpuNodes",
            "this engine takes a set of NUMA nodes such as `0-1`".to_owned(),
        );
    }
    if instance.ephemeral && instance.state.0 == Some(PowerState::Stopped) {
        say(
            "/spec/state",
            "an ephemeral instance that is stopped is gone: it cannot be wanted so".to_owned(),
        );
    }
    match &instance.image {
        Some(ImageRef::Source(source)) => one_source(source, "/spec/image/source", say),
        Some(ImageRef::Alias {
            remote: Some(remote),
            ..
        }) => say(
            "/spec/image",
            format!("images of the server `{remote}` are not fetched by this engine yet"),
        ),
        _ => {}
    }
}

fn one_instance(instance: &Instance, say: &mut dyn FnMut(&str, String)) {
    if let (Some(CpuLimit::Topology { .. }), true) = (&instance.limits.cpu, instance.is_container())
    {
        say(
            "/spec/limits/cpu",
            "sockets, cores and threads count for machines; a container has a number or a set of processors".to_owned(),
        );
    }
    if instance.is_container() && instance.boot.host_shutdown_action == ShutdownAction::StatefulStop
    {
        say(
            "/spec/boot/hostShutdownAction",
            "this engine saves the state of machines only".to_owned(),
        );
    }
    words(instance, say);
    devices::of(instance, say);
    if !instance.is_container() {
        machines::of(instance, say);
    }
}

#[cfg(test)]
mod tests {
    use crate::read::Texts;
    use crate::resolve::resolve;

    fn found(spec: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: {{name: fast}}\n---\n\
             apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{name: one}}\nspec:\n  image: busybox\n{spec}"
        );
        let files = vec![("a.yaml".to_owned(), text)];
        let texts = Texts {
            root: "/".into(),
            files,
            ..Texts::default()
        };
        let resolved = resolve(&texts, None);
        let desired = resolved
            .desired
            .unwrap_or_else(|| panic!("{:?}", resolved.found));
        let found = super::unsupported(&desired);
        found
            .sorted()
            .iter()
            .map(|d| format!("{} {} {}", d.origin, d.code, d.path))
            .collect()
    }

    #[test]
    fn what_is_not_put_in_force_is_told_with_its_line() {
        assert_eq!(found("  limits: {memory: 1GiB}\n"), Vec::<String>::new());
        assert_eq!(
            found("  type: virtual-machine\n  cloudInit: {userData: x}\n  sysctl: {a.b: '1'}\n"),
            ["a.yaml:12 U0302 /spec/sysctl"]
        );
        assert_eq!(
            found("  cloudInit: {userData: x}\n"),
            ["a.yaml:10 U0302 /spec/cloudInit"]
        );
    }
}
