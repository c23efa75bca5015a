//! Images: a content store of unpacked root file systems and of disks, aliases and fingerprints.
//!
//! An archive is a stranger's: it is parsed with limits (`limits`), its entries are written by one writer that cannot leave
//! its folder (`tree_writer`), and only harmless attributes are kept (`attributes`). The store (`store`) shows an image
//! only when it is complete and on disk.
//!
//! To add a source: a variant of [`ImageSource`], an arm in `import.rs`, a file here that fills a `TreeWriter`.

pub mod aliases;
mod archive;
#[cfg(test)]
mod archive_bench;
#[cfg(test)]
mod archive_tests;
pub(in crate::native) mod attributes;
mod audit;
mod builtin;
pub(in crate::native) mod carried;
mod copy;
mod copy_file;
mod download;
mod error;
#[cfg(test)]
mod hostile_tests;
mod import;
mod layout;
pub(in crate::native) mod limits;
mod machine;
#[cfg(test)]
mod machine_tests;
mod metadata;
pub(in crate::native) mod meter;
mod oci;
pub(in crate::native) mod packing;
pub mod record;
mod squashfs;
mod store;
#[cfg(test)]
mod store_tests;
pub(in crate::native) mod tar_stream;
mod tree_digest;
pub(in crate::native) mod tree_writer;
mod unclaimed;
mod unpack;
pub(in crate::native) mod walk;
mod whole;

pub use aliases::Alias;
pub(crate) use builtin::busybox_archive;
pub use download::AllowedAddresses;
pub use error::{ImageError, Refusal};
pub use import::{GoOn, ImageSource, Imported};
pub use limits::Limits;
pub use machine::{BootParts, MachineDisk, MachineImage};
pub use record::{DiskRecord, Form, ImageProperties, ImageRecord, MachineRecord};
pub use store::{ImageStore, Images};
pub(in crate::native) use whole::{Layer, make_whole};
