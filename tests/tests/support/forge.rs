//! A forge of tests: `ci/forge.py`, and what it knows.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manifests::path_io;
use serde_json::{Value, json};

/// A forge that listens on the loopback until it is dropped.
pub(crate) struct Forge {
    server: Child,
    folder: tempfile::TempDir,
    /// The address of its API.
    pub(crate) api: String,
}

impl Forge {
    /// One that knows nothing but who asks.
    #[expect(clippy::disallowed_methods, reason = "a program of tests, waited for")]
    pub(crate) fn of(me: &str, script: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (state, address) = (folder.path().join("state"), folder.path().join("address"));
        let nothing = json!({
            "me": me, "comments": [], "issues": [], "artifacts": [], "requests": [],
        });
        path_io::write(&state, nothing.to_string()).expect("a state");
        let server = Command::new("python3")
            .args([script, &state, &address])
            .stdin(Stdio::null())
            .spawn()
            .expect("python3");
        let deadline = Instant::now() + Duration::from_secs(20);
        let api = loop {
            if let Some(text) = path_io::read_if_exists(&address).expect("readable") {
                break text;
            }
            assert!(Instant::now() < deadline, "the forge does not listen");
            std::thread::sleep(Duration::from_millis(10));
        };
        Self {
            server,
            folder,
            api,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// What it knows.
    pub(crate) fn state(&self) -> Value {
        let text = path_io::read_to_string(self.file()).expect("a state");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Makes it know something.
    pub(crate) fn set(&self, key: &str, value: Value) {
        let mut state = self.state();
        state[key] = value;
        path_io::write(self.file(), state.to_string()).expect("a state");
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        // It ended by itself: nothing is left to end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
