//! `image.json`: what the store knows about an image beside its files.

use std::collections::BTreeMap;

use manifests::kinds::instance::InstanceType;
use serde::{Deserialize, Serialize};

use crate::native::disk_image::Format;

/// The version of the file's form that is written.
pub const FORMAT_VERSION: u32 = 1;

/// One image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// 64 lower-case hexadecimal digits. Of an archive: SHA-256 of the file (split images: of both, metadata first), as
    /// Incus has it. Of a folder: the digest of its tree. Of the built-in: of the busybox and the recipe. Of a machine with
    /// a kernel of its own: over the digests of all parts.
    pub fingerprint: String,
    /// Where it came from, for people: `builtin: busybox`, a path, or an address without credentials.
    pub source: String,
    /// What the source turned out to be.
    pub form: Form,
    /// Bytes of the archive as it was read; 0 for a folder.
    pub packed_bytes: u64,
    /// Bytes of file content.
    pub unpacked_bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// What it is for machines; none: it is a root file system for containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRecord>,
    /// SHA-256 over names, attributes and contents of the tree, or over the files of a machine, for `verify`.
    pub tree_digest: String,
    /// What the image says about itself.
    pub properties: ImageProperties,
    /// What was not taken over, with reasons; at most 100 lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// How many things were not taken over.
    #[serde(default)]
    pub left_out_count: u64,
}

impl ImageRecord {
    /// Which instances start from it.
    pub const fn made_for(&self) -> InstanceType {
        match self.machine {
            Some(_) => InstanceType::VirtualMachine,
            None => InstanceType::Container,
        }
    }
}

/// What an image for machines has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineRecord {
    /// Its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskRecord>,
    /// The SHA-256 of its kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The SHA-256 of the initial file system of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// The command line of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
}

/// The disk of an image for machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskRecord {
    /// How its bytes lie.
    pub format: Format,
    /// Bytes that a machine sees.
    pub virtual_size: u64,
    /// The SHA-256 of its file.
    pub sha256: String,
}

/// What an import was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Made here from the host's busybox.
    Builtin,
    /// A folder that was copied.
    Folder,
    /// An archive of a root file system.
    Plain,
    /// An archive with `config.json` and `rootfs/` (an OCI runtime bundle).
    OciBundle,
    /// An archive of an OCI image layout, flattened.
    OciLayout,
    /// LXD/Incus: `metadata.yaml` and `rootfs/` in one archive.
    Unified,
    /// LXD/Incus: metadata and root file system in two files.
    Split,
    /// A squashfs of a root file system.
    Squashfs,
    /// The disk of a machine.
    Disk,
    /// A kernel alone.
    Kernel,
}

/// What an image says about itself; all of it is a stranger's word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageProperties {
    /// `x86_64`, `aarch64`, … (kernel names); OCI's `amd64`, `arm64` are translated.
    pub architecture: Option<String>,
    /// What to run as process 1, with arguments; empty: `/sbin/init`.
    pub command: Vec<String>,
    /// Variables of process 1.
    pub environment: BTreeMap<String, String>,
    /// Folder in which process 1 starts.
    pub working_dir: Option<String>,
    /// `uid[:gid]` or names, as OCI spells it.
    pub user: Option<String>,
    /// The signal that asks process 1 for an orderly stop (`SIGUSR2`, `SIGRTMIN+3`).
    pub stop_signal: Option<String>,
    /// Free words: `description`, `os`, `release`, `variant`, …
    pub words: BTreeMap<String, String>,
}
