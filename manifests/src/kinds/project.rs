//! [`Project`]: a namespace of names with limits and restrictions.

use std::collections::BTreeMap;

use crate::desired::Reference;
use crate::kind::{Kind, ResourceKind};
use crate::pointer::Pointer;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::text::Text;

crate::fields! {
    /// What a project has for itself; what it has not is looked up in project `default`.
    pub struct Features {
        /// Images.
        images: bool = true,
        /// Profiles.
        profiles: bool = true,
        /// Volumes.
        volumes: bool = true,
        /// Buckets.
        buckets: bool = true,
        /// Networks.
        networks: bool = false,
        /// Network zones.
        network_zones: bool = false,
    }
}

crate::fields! {
    /// How much all of a project may be and use; absent: no limit. What is limited must be written on every instance.
    pub struct ProjectLimits {
        /// Instances.
        instances: Option<u32> = None,
        /// Containers.
        containers: Option<u32> = None,
        /// Virtual machines.
        virtual_machines: Option<u32> = None,
        /// Processors.
        cpu: Option<u32> = None,
        /// Memory.
        memory: Option<ByteSize> = None,
        /// Root disks and volumes.
        disk: Option<ByteSize> = None,
        /// Root disks and volumes, by pool.
        disk_pools: BTreeMap<String, ByteSize> = BTreeMap::new(),
        /// Processes.
        processes: Option<u32> = None,
        /// Networks.
        networks: Option<u32> = None,
    }
}

crate::words! {
    /// Whether something is allowed.
    pub enum Permission {
        /// No.
        Block "block",
        /// Yes.
        Allow "allow",
        /// For what the engine manages, such as volumes of pools and managed networks.
        Managed "managed",
    }
}

crate::fields! {
    /// Which devices instances may have.
    pub struct DeviceRestrictions {
        /// Disks.
        disk: Permission = Permission::Managed,
        /// Network interfaces.
        nic: Permission = Permission::Managed,
        /// Proxies.
        proxy: Permission = Permission::Block,
        /// Character devices of the host.
        unix_char: Permission = Permission::Block,
        /// Block devices of the host.
        unix_block: Permission = Permission::Block,
        /// USB devices.
        usb: Permission = Permission::Block,
        /// Graphics cards.
        gpu: Permission = Permission::Block,
        /// PCI devices.
        pci: Permission = Permission::Block,
    }
}

crate::fields! {
    /// What instances of a project may not do.
    pub struct Restrictions {
        /// Whether any of this counts.
        enabled: bool = false,
        /// `security.privileged`.
        privileged: Permission = Permission::Block,
        /// `security.nesting` of containers.
        nesting: Permission = Permission::Block,
        /// `security.intercept`.
        syscall_interception: Permission = Permission::Block,
        /// What reaches below the engine: `config`, device access, AppArmor rules.
        low_level: Permission = Permission::Block,
        /// Folders of the host that disks may come from; none: all.
        disk_paths: Vec<String> = Vec::new(),
        /// Networks that interfaces may join; none: all.
        network_access: Vec<String> = Vec::new(),
        /// Snapshots.
        snapshots: Permission = Permission::Block,
        /// Exports.
        backups: Permission = Permission::Block,
        /// Ids of the host that `security.idmap.extra` may name: `1000`, `2000-3000`.
        idmap: Vec<String> = Vec::new(),
        /// Servers that images may come from; none: all.
        image_servers: Vec<String> = Vec::new(),
        /// Which devices instances may have.
        devices: DeviceRestrictions = DeviceRestrictions::default(),
    }
}

crate::fields! {
    /// A namespace of names with limits and restrictions.
    pub struct Project {
        /// Free text.
        description: String = String::new(),
        /// What it has for itself.
        features: Features = Features::default(),
        /// How much all of it may be and use.
        limits: ProjectLimits = ProjectLimits::default(),
        /// What its instances may not do.
        restrictions: Restrictions = Restrictions::default(),
        /// Keys of Incus that are newer than this language; refused by the native engine.
        config: BTreeMap<String, Text> = BTreeMap::new(),
    }
}

impl ResourceKind for Project {
    fn references(&self, out: &mut Vec<Reference>) {
        let at = Pointer::new("/spec/limits/diskPools");
        out.extend(self.limits.disk_pools.keys().map(|pool| Reference {
            kind: Kind::StoragePool,
            pool: None,
            name: pool.clone(),
            at: at.field(pool),
        }));
    }
}
