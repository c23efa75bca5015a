//! Backups: one file with all that an instance or a volume is, which restores on any pool of any state folder.
//!
//! ```text
//! zstd( tar, POSIX pax:
//!   backup.json                what it is, of which format, what else is in it
//!   manifest.yaml              the configuration, as somebody could have written it: the instance, then each volume
//!   image/rootfs/…             the image below a container's root
//!   image/disk, kernel, initrd or what a machine starts from
//!   root/…                     a container's own files, with an overlay's whiteouts
//!   disk/N.qcow2, disk/N/…     a machine's layers, and what firmware keeps beside them
//!   tpm/…                      its TPM
//!   snapshots/NAME/…           a container's snapshots; those of a machine are layers
//!   volumes/N/files/…          a volume that is files, with snapshots/NAME/…
//!   volumes/N/disk             a volume that is a disk, with its snapshots disks/M
//!   streams/TREE/N             instead of any of these trees: the pieces of a stream of `btrfs send` (`send_stream`), which
//!                              may stand on one of the same object that comes before it
//!   sums/N                     the SHA-256 of each member since the sums before, headers included, a line a member
//!   index.json                 how much of what there is, and the SHA-256 of all sums
//! )
//! ```
//! Members of a tree are in the order of their names, folders before what is in them: so that a reader knows in constant
//! memory that nothing is there twice and all that is above an entry is a folder. Owners are those that a container sees.
//! The frames of zstd follow one another, each of so many bytes before they are packed: [`part`] says what for.
//! It is written and read as a stream; nothing in it is believed before all of it was checked.

mod error;
mod format;
mod judge;
mod making;
mod noted;
mod packer;
mod part;
mod reader;
#[cfg(test)]
mod stream_tests;
mod streams;
mod tar_writer;
mod target;
#[cfg(test)]
mod tests;
mod trees;
mod unpack;

pub use error::BackupError;
pub(in crate::native) use format::{FORMAT_VERSION, MAGIC};
pub use format::{
    Form, Head, ImageHead, Index, LayersHead, SectionCount, SnapshotHead, VolumeHead,
};
pub(in crate::native) use judge::{Blob, Member, Rules, Tree, VARIABLES};
pub(in crate::native) use making::{From, Making, Part, parts_of};
pub use noted::{Kept, Noted, delete, kept_in, sweep};
pub use packer::Sink;
pub use part::{PART, part_of};
pub use reader::{Checked, Unseal};
pub(in crate::native) use reader::{Source, Visitor, read};
pub(in crate::native) use target::Target;
pub(in crate::native) use unpack::{Places, Unpacking};
