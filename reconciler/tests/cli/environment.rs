//! [`TestEnv`]: a world of its own for one `keel`: home, state folder, clock, and nothing of ours in the environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use manifests::path_io;

/// When everything happens.
pub(crate) const NOW: &str = "2026-11-23T12:00:00Z";

/// A folder with a home, a state folder and whatever a test writes.
pub(crate) struct TestEnv {
    folder: tempfile::TempDir,
}

/// How a command ended and what it said, with the paths of the test made equal.
pub(crate) struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl TestEnv {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        path_io::create_dir_all(folder.path().join("home")).expect("a home");
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let parent = path.parent().expect("it has a name");
        path_io::create_dir_all(parent).expect("a folder");
        path_io::write(&path, text).expect("a file");
        path
    }

    /// A `keel` with these arguments, in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the program under test")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.path().join("home"))
            .env("KEEL_STATE_DIR", self.path().join("state"))
            .env("KEEL_CLAIMS", self.path().join("claims"))
            .env("KEEL_NOW", NOW)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn keel(&self, arguments: &[&str]) -> Ended {
        self.ended(&mut self.command(arguments))
    }

    /// Runs a command to its end.
    pub(crate) fn ended(&self, command: &mut Command) -> Ended {
        let output = command.output().expect("keel starts");
        let seen = |bytes: &[u8]| {
            let here = self.path().to_str().expect("UTF-8");
            String::from_utf8_lossy(bytes).replace(here, "[TEST]")
        };
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: seen(&output.stdout),
            stderr: seen(&output.stderr),
        }
    }
}
