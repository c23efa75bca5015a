//! Helpers for tests of this and other crates (feature `testing`): namespaces of a test's own.

pub mod host;

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
