//! The start path of system containers: a plan becomes a message and descriptors, `keel-shim` does the rest.

pub mod capabilities;
mod order;
pub mod plan;
pub mod seccomp;
mod start;

pub use self::plan::ContainerPlan;
pub use self::start::{ContainerError, PlugError, Started, start};
pub use crate::shim::messages::Access;
