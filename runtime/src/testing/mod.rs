//! Helpers for tests of this and other crates (feature `testing`): namespaces of a test's own, what a test wants of an
//! engine, and what every engine must do.

pub mod conformance;
pub mod host;
pub mod wanted;

use std::path::{Path, PathBuf};

/// A program that belongs to the tests. `built` is where it was built; where tests come from an archive, it lies beside
/// the folder of their own program.
pub fn built_program(name: &str, built: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().and_then(Path::parent);
    beside
        .map(|folder| folder.join(name))
        .filter(|path| path.exists())
        .unwrap_or_else(|| built.into())
}

/// The socket of the server of Incus that `tests/incus.sh` started.
///
/// # Panics
/// It did not: tests with a server are never skipped in silence.
#[expect(
    clippy::disallowed_methods,
    reason = "the script says by the environment where its server is"
)]
pub fn incus_socket() -> PathBuf {
    let is_there = std::env::var_os("KEEL_TEST_INCUS").is_some();
    let socket = std::env::var_os("INCUS_SOCKET").filter(|_| is_there);
    let Some(socket) = socket else {
        panic!("there is no server of Incus: run these by tests/incus.sh, as tests/run.sh does");
    };
    socket.into()
}
