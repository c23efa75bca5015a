//! Machines on the real QEMU: started by the built keel-shim, looked at from inside and outside.
#![allow(
    clippy::disallowed_methods,
    reason = "tests measure time and read the world as it is"
)]

mod confined;
mod disks;
mod life;
mod world;
