//! The client of keel-shim: adopt what runs, ask it, and read how it ended.

pub mod console;
mod freezer;
mod running;
pub mod state;
#[cfg(test)]
mod upgrade_tests;

pub use self::running::{
    Found, Running, ShimError, Stopped, Witness, adopt, exit_record, stop_restarting, stop_signal,
};
pub use crate::shim::record::{End, ExitRecord};
