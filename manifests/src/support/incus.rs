//! What the Incus engine cannot do yet, whatever the server.

use super::{FIELD, KIND, not_yet, written};
use crate::desired::DesiredSet;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kind::Spec;
use crate::kinds::network::NetworkType;
use crate::pointer::Pointer;
use crate::scalar::image_ref::{ImageRef, ImageSource};

/// Fields of instances that are not put in force, unless they are as by default.
const INSTANCE: &[&str] = &[
    "architecture",
    "command",
    "oci",
    "timeNamespace",
    "health",
    "files",
    "placement/enforce",
    "cloudInit/parts",
    "limits/kernel/msgqueue",
    "limits/kernel/rss",
    "limits/kernel/rttime",
    "limits/kernel/stack",
    "security/capabilities",
    "security/mounts",
    "security/deviceAccess",
    "security/seccomp/allow",
    "security/apparmor",
    "security/selinux",
    "snapshots/stateful",
];
/// Fields that count for containers only.
const OF_CONTAINERS: &[&str] = &["security/idmap"];
const NETWORK: &[&str] = &[
    "interface",
    "ipv4/dhcp/reservations",
    "ipv6/dhcp/reservations",
    "dns/hosts",
    "tunnels",
    "parent",
    "vlan",
    "uplink",
];
const POOL: &[&str] = &["volumeDefaults/snapshots"];
const VOLUME: &[&str] = &[
    "initial",
    "source",
    "snapshots/scheduleStopped",
    "snapshots/stateful",
];
const IMAGE: &[&str] = &["kernel", "initrd", "cmdline", "config"];

/// Everything that the Incus engine would not do as it is written.
pub(super) fn unsupported(desired: &DesiredSet) -> Diagnostics {
    let mut found = Diagnostics::default();
    for resource in desired.resources.values() {
        let mut say = |at: &str, what: String| {
            let at = Pointer::new(at);
            let origin = resource.origin_of(&at);
            let told = Diagnostic::warning(FIELD, origin, what);
            found.push(told.of(&resource.address).at(at));
        };
        match &resource.spec {
            Spec::Instance(instance) => {
                not_yet(resource, INSTANCE, &mut say);
                if !instance.is_container() {
                    written(resource, OF_CONTAINERS, &mut |field| {
                        let words = field.replace('/', ".");
                        say(
                            &format!("/spec/{field}"),
                            format!("{words} counts for containers"),
                        );
                    });
                }
                if let Some(ImageRef::Source(source)) = &instance.image {
                    one_source(source, "/spec/image/source", &mut say);
                }
                for (name, device) in &instance.devices {
                    let Some(nic) = device.as_nic() else { continue };
                    let at = format!("/spec/devices/{name}");
                    if !nic.ipv4.routes.is_empty() || !nic.ipv6.routes.is_empty() {
                        let why = "this engine takes them in `routes` of the interface".to_owned();
                        say(&at, why);
                    }
                }
            }
            Spec::Network(network) => {
                if network.r#type != NetworkType::Bridge {
                    let why = "this engine makes networks of type bridge only, so far".to_owned();
                    say("/spec/type", why);
                }
                if resource.address.name.len() > 15 {
                    let why = "the server gives its bridge the name of the network: at most 15 characters".to_owned();
                    say("/metadata/name", why);
                }
                not_yet(resource, NETWORK, &mut say);
            }
            Spec::StoragePool(_) => not_yet(resource, POOL, &mut say),
            Spec::Volume(_) => not_yet(resource, VOLUME, &mut say),
            Spec::Image(image) => {
                if let Some(source) = &image.source {
                    one_source(source, "/spec/source", &mut say);
                }
                not_yet(resource, IMAGE, &mut say);
            }
            // They are settled before anything is made, or are rules over plans, or values of texts.
            Spec::Profile(_) | Spec::Policy(_) | Spec::Secret(_) => {}
            Spec::NetworkForward(forward) => {
                for (index, port) in forward.ports.iter().enumerate() {
                    let target = port.target_address.or(forward.target_address);
                    if target.is_some() && target == forward.target_address {
                        let at = format!("/spec/ports/{index}");
                        let why = "the server leads all ports that are not named to `targetAddress`, and takes none \
                                   with a name that goes there"
                            .to_owned();
                        say(&at, why);
                    }
                }
            }
            Spec::NetworkAcl(_) => {}
            Spec::Project(project) => {
                if project.restrictions.enabled && !project.features.profiles {
                    let why = "the server restricts only projects that have profiles of their own"
                        .to_owned();
                    say("/spec/features/profiles", why);
                }
            }
            Spec::SnapshotSchedule(_) => {}
            Spec::Backup(_) => {
                let why = format!("this engine has no {} yet", resource.address.kind.name());
                let told = Diagnostic::warning(KIND, resource.origin.clone(), why);
                found.push(told.of(&resource.address));
            }
        }
    }
    found
}

fn one_source(source: &ImageSource, at: &str, say: &mut dyn FnMut(&str, String)) {
    match source {
        ImageSource::Builtin(name) if name != "busybox" => {
            say(at, format!("there is no builtin image `{name}`; there is `busybox`"));
        }
        ImageSource::Builtin(_) | ImageSource::Alias { .. } => {}
        ImageSource::File { metadata: None, .. } => {}
        _ => say(
            at,
            "this engine brings images to the server from its aliases, from one file, and `builtin`, so far".to_owned(),
        ),
    }
}
