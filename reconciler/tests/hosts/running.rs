//! A controller that runs beside a test.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A controller that runs.
pub(crate) struct Running(Child);

impl Running {
    /// Begins it; what it tells goes to a file.
    pub(crate) fn begin(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("a log");
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn();
        Self(child.expect("it starts"))
    }

    /// It is asked to leave, and does.
    pub(crate) fn leave(mut self) {
        let pid = i32::try_from(self.0.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        assert!(self.0.wait().expect("its end").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
