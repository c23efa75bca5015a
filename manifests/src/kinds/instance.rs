//! [`Instance`]: a container or virtual machine; [`Profile`]: a part of one that many share.
//!
//! The parts are in [`crate::instance`], the devices in [`crate::devices`].

use std::collections::BTreeMap;

use crate::change::HandsOff;
use crate::desired::Reference;
use crate::devices::Device;
use crate::devices::disk::DiskSource;
use crate::instance::boot::Boot;
use crate::instance::cloud_init::CloudInit;
use crate::instance::files::File;
use crate::instance::health::Health;
use crate::instance::limits::Limits;
use crate::instance::placement::Placement;
use crate::instance::process::{Oci, TimeNamespace};
use crate::instance::security::Security;
use crate::instance::snapshots::Snapshots;
use crate::kind::{Kind, ResourceKind};
use crate::pointer::Pointer;
use crate::scalar::image_ref::ImageRef;
use crate::scalar::text::Text;

crate::words! {
    /// What an instance is.
    pub enum InstanceType {
        /// Processes of the host's kernel in namespaces of their own.
        Container "container",
        /// A machine with a kernel of its own.
        VirtualMachine "virtual-machine",
    }
}

crate::words! {
    /// Whether an instance runs.
    pub enum PowerState {
        /// It runs.
        Running "Running",
        /// It does not.
        Stopped "Stopped",
        /// It is there, and its processes do not go on.
        Frozen "Frozen",
    }
}

macro_rules! with_shared_fields {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        crate::fields! {
            $(#[$meta])*
            pub struct $name {
                $($own)*
                /// Free text.
                description: String = String::new(),
                /// The processor architecture; absent: that of the host.
                architecture: Option<String> = None,
                /// Whether it is deleted when it stops.
                ephemeral: bool = false,
                /// What runs as process 1; absent: the image's init or OCI entrypoint.
                command: Option<Vec<String>> = None,
                /// How the first process of an application container runs.
                oci: Oci = Oci::default(),
                /// Environment variables of process 1 and of commands.
                environment: BTreeMap<String, Text> = BTreeMap::new(),
                /// Free keys, visible to the guest.
                user: BTreeMap<String, Text> = BTreeMap::new(),
                /// When it starts and stops with the host.
                boot: Boot = Boot::default(),
                /// How much of the host it may use.
                limits: Limits = Limits::default(),
                /// What it may do.
                security: Security = Security::default(),
                /// What cloud-init finds in the guest.
                cloud_init: CloudInit = CloudInit::default(),
                /// Credentials of systemd, by name.
                credentials: BTreeMap<String, Text> = BTreeMap::new(),
                /// Kernel settings of its namespaces: `net.ipv4.ip_forward: "1"`.
                sysctl: BTreeMap<String, Text> = BTreeMap::new(),
                /// Kernel modules that the host loads before it starts.
                kernel_modules: Vec<String> = Vec::new(),
                /// Clocks of its own; absent: those of the host.
                time_namespace: Option<TimeNamespace> = None,
                /// The engine's own snapshots.
                snapshots: Snapshots = Snapshots::default(),
                /// What must hold before it counts as healthy.
                health: Option<Health> = None,
                /// Files that are put into it, by path; absent: hands off.
                files: HandsOff<BTreeMap<String, File>> = HandsOff(None),
                /// Its devices, by name.
                devices: BTreeMap<String, Device> = BTreeMap::new(),
                /// Where in a cluster it lives.
                placement: Option<Placement> = None,
                /// Keys of Incus that are newer than this language; refused by the native engine.
                config: BTreeMap<String, Text> = BTreeMap::new(),
            }
        }
    };
}

with_shared_fields! {
    /// A container or virtual machine.
    Instance {
        /// What it is.
        r#type: InstanceType = InstanceType::Container,
        /// What it starts from: an alias of an Image document or of the store (`[remote:]alias`), `sha256:…` (at least 12
        /// digits), or `{source: …}`.
        image: Option<ImageRef> = None,
        /// The profiles that are merged before this, in this order; absent: `[default]`, if there is one.
        profiles: Option<Vec<String>> = None,
        /// Whether it runs; absent: it is started when it is made, then left alone.
        state: HandsOff<PowerState> = HandsOff(None),
    }
}

with_shared_fields! {
    /// A part of instances that many share: everything but image, type, profiles and state.
    Profile {}
}

impl Instance {
    /// The root disk and the name of its device.
    pub fn root(&self) -> Option<(&str, &crate::devices::Disk)> {
        self.devices.iter().find_map(|(name, device)| {
            Some((
                name.as_str(),
                device.as_disk().filter(|disk| disk.is_root())?,
            ))
        })
    }

    /// Whether it is a container.
    pub fn is_container(&self) -> bool {
        self.r#type == InstanceType::Container
    }
}

fn device_references(devices: &BTreeMap<String, Device>, out: &mut Vec<Reference>) {
    let mut needs = |kind: Kind, pool: Option<&str>, name: &str, at: Pointer| {
        out.push(Reference {
            kind,
            pool: pool.map(str::to_owned),
            name: name.to_owned(),
            at,
        });
    };
    let all = Pointer::new("/spec/devices");
    for (name, device) in devices {
        let at = all.field(name);
        match device {
            Device::Disk(disk) => {
                if let Some(pool) = &disk.pool {
                    needs(Kind::StoragePool, None, pool, at.field("pool"));
                }
                if let DiskSource::Volume { pool, volume } = disk.made_of() {
                    // A volume may be followed by a folder in it: `data/backups`.
                    let volume = volume.split('/').next().unwrap_or(volume);
                    needs(Kind::Volume, Some(pool), volume, at.field("source"));
                }
            }
            Device::Nic(nic) => {
                if let Some(network) = &nic.network {
                    needs(Kind::Network, None, network, at.field("network"));
                }
                for (index, acl) in nic.acls.iter().enumerate() {
                    needs(Kind::NetworkAcl, None, acl, at.field("acls").index(index));
                }
            }
            _ => {}
        }
    }
}

impl ResourceKind for Instance {
    fn references(&self, out: &mut Vec<Reference>) {
        // An alias without a remote may also be one of the store: the rule for references knows.
        if let Some(ImageRef::Alias {
            remote: None,
            alias,
        }) = &self.image
        {
            out.push(Reference {
                kind: Kind::Image,
                pool: None,
                name: alias.clone(),
                at: Pointer::new("/spec/image"),
            });
        }
        device_references(&self.devices, out);
    }
}

impl ResourceKind for Profile {
    fn references(&self, out: &mut Vec<Reference>) {
        device_references(&self.devices, out);
    }
}
