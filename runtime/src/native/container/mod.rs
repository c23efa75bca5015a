//! The start path of system containers: a plan becomes a message and descriptors, `keel-shim` does the rest.

pub mod capabilities;
pub mod exec;
mod filter_cache;
pub(super) mod order;
pub mod plan;
pub mod relay;
pub mod seccomp;
mod start;
mod talk;

pub use self::plan::ContainerPlan;
pub use self::start::{ContainerError, PlugError, Started, begin, make_node, make_way, start};
pub use self::talk::Coming;
pub use crate::shim::messages::{Access, Restart};
