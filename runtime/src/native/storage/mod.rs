//! Storage pools and volumes behind one driver trait.
//!
//! To add a driver: a file here that implements [`StorageDriver`], a word in [`DriverKind`] with its arm in [`open`], and
//! a line in `conformance.rs`, which runs every suite on it.

mod block;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod conformance_block;
mod dir;
mod driver;
mod error;
mod folders;
mod kept_trees;
mod layers;
mod marker;
mod root_view;
mod sized;
mod usage;

pub use driver::{
    ContentType, DiskBelow, Ensured, Initial, Placed, PoolPlan, PoolSeen, Sized, StorageDriver,
    StorageFeatures, TrashEntry, VolumeContent, VolumeId, VolumePlan, VolumeSeen,
};
pub use error::StorageError;
pub use kept_trees::{KeptTree, KeptTrees};
pub use layers::{Kept, LayeredDisk, Layers, Pending};
pub use root_view::open_stopped_root;

/// The drivers that this engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// A folder.
    Dir,
}

/// The driver for a pool. Nothing is read or made yet.
pub fn open(kind: DriverKind, plan: PoolPlan) -> Box<dyn StorageDriver> {
    match kind {
        DriverKind::Dir => Box::new(dir::DirPool::new(plan)),
    }
}
