//! The client of keel-shim: adopt what runs, ask it, and read how it ended.

mod companion;
pub mod console;
mod freezer;
mod helpers;
mod running;
pub mod state;
#[cfg(test)]
mod upgrade_tests;

pub use self::companion::stop_restarting;
pub(super) use self::freezer::stands_still;
pub use self::helpers::HelperSeen;
pub use self::running::{
    Found, Running, ShimError, Stopped, Witness, adopt, exit_record, stop_signal,
};
pub use crate::shim::record::{End, ExitRecord};
