//! Containers on the real kernel: started by the built keel-shim, looked at from inside and outside.
#![allow(
    clippy::disallowed_methods,
    reason = "tests measure time and read the world as it is"
)]

mod bombs;
mod companion;
mod escape;
mod exec;
mod joiner;
mod life;
mod mounts;
mod races;
mod restart;
mod speed;
mod world;
