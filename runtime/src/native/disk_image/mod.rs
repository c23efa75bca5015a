//! Disk images: read without trusting them, made and grown without a helper program.
//!
//! A disk image is a stranger's: a name in its header may make whoever opens it read another file of the host. So the
//! header is read here (`header`, pure), and what leads outside or cannot be understood is refused (`inspect`). What
//! is no disk is known by its first bytes (`magic`). `overlay` makes an empty copy-on-write disk over another one,
//! `grow` makes a disk bigger while nobody uses it, `contains` compares what two layers have.
//!
//! The form is that of docs/interop/qcow2.rst of QEMU.

mod contains;
mod error;
mod grow;
mod header;
#[cfg(test)]
mod header_tests;
mod inspect;
mod magic;
mod new_header;
mod overlay;
#[cfg(test)]
mod qemu_tests;

use serde::{Deserialize, Serialize};

pub use contains::has_all_of;
pub use error::DiskError;
pub use grow::{Grown, grow};
pub use inspect::{inspect, inspect_overlay};
pub use overlay::{Below, create_overlay};

/// Disks are made of sectors.
pub const SECTOR: u64 = 512;

/// How the bytes of a disk lie in its file. QEMU is always told: a guest can write any header into a raw disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Byte for byte.
    Raw,
    /// QEMU's copy-on-write form, version 2 or 3.
    Qcow2,
}

impl Format {
    /// As QEMU calls it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What a file is as a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskImage {
    /// How its bytes lie.
    pub format: Format,
    /// Bytes of the disk that a guest sees; whole sectors, never none.
    pub virtual_size: u64,
    /// Bytes of the file that are on disk; holes do not count.
    pub allocated: u64,
    /// The name of the file below it as its header has it. Only ever told of overlays; it is nothing to go by.
    pub backing: Option<String>,
    /// Snapshots inside the file.
    pub snapshots: u32,
}

/// Bytes in whole sectors.
pub const fn whole_sectors(size: u64) -> u64 {
    size.next_multiple_of(SECTOR)
}
