//! Plans of pull requests: whoever reads a change sees in the forge what it would do on this host, and no pipeline needs a
//! way to the host.
//!
//! `judge` says what a proposed tree would do to the world as the controller last saw it (pure): nobody's secrets are
//! looked up, nothing of it is carried out, no program is run. `forge` has the words of the forges (pure), `told` what was
//! said before, `watcher` is the thread that looks again and again, of each source its own.

mod forge;
mod judge;
mod told;
mod watcher;

#[cfg(test)]
mod tests;

pub use self::watcher::{WatchError, Watching, watch};
