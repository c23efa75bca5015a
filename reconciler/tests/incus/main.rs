//! The real `keel` on a real server of Incus: what is made, changed by its own client, killed and taken down.
//!
//! `tests/incus.sh` starts the server and says where it is; without it these tests fail, so that nobody takes a run for
//! one that was none. All tests share the server: each has names of its own.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "tests change the world by hand and run programs; what they share with other tests offers more than is used"
)]

mod cluster;
#[path = "../hosts/ended.rs"]
mod ended;
mod follows;
mod imports;
mod kinds;
mod life;
mod owned;
#[path = "../hosts/running.rs"]
mod running;
mod schedules;
mod world;
