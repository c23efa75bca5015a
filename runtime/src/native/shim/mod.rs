//! The client of keel-shim: adopt what runs, ask it, and read how it ended.

mod running;
pub mod state;

pub use self::running::{Found, Running, ShimError, adopt, exit_record};
pub use crate::shim::record::{End, ExitRecord};
