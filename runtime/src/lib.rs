//! The hands of Evenkeel: what starts, changes, observes and removes things in the world.

pub mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod incus;
pub mod native;
pub mod runtime;
pub mod shim;
pub mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod watch;
