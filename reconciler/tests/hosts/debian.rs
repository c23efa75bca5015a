//! A Debian root file system for tests, and the tests that start from it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The tarball of a small Debian 12 with systemd, which `tests/debian.sh` builds once for all tests.
pub(crate) fn tarball() -> PathBuf {
    // Where tests come from an archive, nextest says where the workspace is now.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let script = here.join("../tests/debian.sh");
    let output = Command::new(&script).output().expect("the script starts");
    assert!(
        output.status.success(),
        "{}: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let path = String::from_utf8(output.stdout).expect("a path");
    Path::new(path.trim()).to_path_buf()
}

/// An `own_processes_test!` before which the tarball is built: inside there is no network.
macro_rules! debian_test {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            crate::debian::tarball();
            let name = stringify!($name);
            if runtime::testing::host::inside_with_own_processes(module_path!(), name) $body
        }
    };
}
pub(crate) use debian_test;
