//! The program under test, and how a command [`Ended`].

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The program under test; where nextest runs it from an archive, that says where it is.
pub(crate) fn program() -> PathBuf {
    let keel = std::env::var_os("NEXTEST_BIN_EXE_keel")
        .map_or_else(|| env!("CARGO_BIN_EXE_keel").into(), PathBuf::from);
    let shim = keel.with_file_name("keel-shim");
    assert!(
        shim.exists(),
        "{} is not built: cargo build -p runtime --bin keel-shim",
        shim.display()
    );
    keel
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Demands an exit code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "\n--- stdout\n{}--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Demands words on stderr.
    #[track_caller]
    pub(crate) fn saying(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no {words:?} in {self:#?}");
        self
    }

    /// Its output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.stdout))
    }
}

/// Runs a command to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    of_output(&command.output().expect("it starts"))
}

/// How a command ended.
pub(crate) fn of_output(output: &std::process::Output) -> Ended {
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
