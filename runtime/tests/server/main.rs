//! The engine on a real server of Incus, which `tests/incus.sh` starts; without it these tests fail, so that nobody takes a
//! run for one that was none.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests run the server's own client and tell what it has not"
)]

mod device_keys;
mod instance_keys;
mod keys;
mod other_keys;

use runtime::incus::{Endpoint, IncusRuntime};

/// The engine, with a folder in which it keeps what it knows of secrets.
fn engine() -> (tempfile::TempDir, IncusRuntime) {
    let socket = runtime::testing::incus_socket();
    let folder = tempfile::tempdir().expect("a folder");
    let engine = IncusRuntime::open(Endpoint::Unix(socket), folder.path(), "0123abcd");
    (folder, engine.expect("the server answers"))
}

#[test]
fn it_does_what_every_engine_must() {
    let (folder, engine) = engine();
    runtime::testing::conformance::conforms(&engine, folder.path(), "conf", 75);
}
