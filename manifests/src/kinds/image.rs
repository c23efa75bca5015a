//! [`Image`]: what instances start from.

use std::collections::BTreeMap;

use crate::desired::Reference;
use crate::kind::{Kind, ResourceKind};
use crate::kinds::instance::InstanceType;
use crate::pointer::Pointer;
use crate::scalar::image_ref::ImageSource;
use crate::scalar::text::Text;

crate::fields! {
    /// What an image wants of the instances that start from it.
    pub struct Requirements {
        /// Whether they must be privileged (true) or must not be (false).
        privileged: Option<bool> = None,
        /// Whether they must be allowed to nest.
        nesting: Option<bool> = None,
        /// Whether machines may boot it with secure boot.
        secureboot: Option<bool> = None,
        /// Which cgroup layout its init needs: `v1` or `v2`.
        cgroup: Option<String> = None,
    }
}

crate::fields! {
    /// What instances start from. Its name is its first alias.
    pub struct Image {
        /// Free text.
        description: String = String::new(),
        /// Where it comes from.
        source: Option<ImageSource> = None,
        /// More aliases.
        aliases: Vec<String> = Vec::new(),
        /// The processor architecture; absent: that of the host.
        architecture: Option<String> = None,
        /// For which instances; absent: for both, the instance's type chooses.
        r#type: Option<InstanceType> = None,
        /// Whether it follows its source.
        auto_update: bool = false,
        /// What it wants of instances.
        requirements: Requirements = Requirements::default(),
        /// The kernel of machines that boot directly: a path in the repository or on the host.
        kernel: Option<String> = None,
        /// The initial RAM file system that goes with `kernel`.
        initrd: Option<String> = None,
        /// The command line that goes with `kernel`.
        cmdline: Option<String> = None,
        /// Keys of Incus that are newer than this language; refused by the native engine.
        config: BTreeMap<String, Text> = BTreeMap::new(),
    }
}

impl Image {
    /// For which instances it can only be, and the field that says so; `None`: that is seen when it is there.
    pub fn made_for(&self) -> Option<(InstanceType, &'static str)> {
        let said = self.r#type.map(|said| (said, "type"));
        let booted = self.kernel.as_ref();
        let booted = booted.map(|_| (InstanceType::VirtualMachine, "kernel"));
        let from = self.source.as_ref().and_then(ImageSource::made_for);
        said.or(booted).or(from.map(|from| (from, "source")))
    }
}

impl ResourceKind for Image {
    fn references(&self, out: &mut Vec<Reference>) {
        let (name, field) = match &self.source {
            Some(ImageSource::Instance(name)) => (name.as_str(), "instance"),
            Some(ImageSource::Snapshot(name)) => {
                (name.split('/').next().unwrap_or(name), "snapshot")
            }
            _ => return,
        };
        out.push(Reference {
            kind: Kind::Instance,
            pool: None,
            name: name.to_owned(),
            at: Pointer::new("/spec/source").field(field),
        });
    }
}
