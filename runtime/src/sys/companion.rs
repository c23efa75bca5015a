//! Starting the companion program with a socket as its standard input.
#![expect(
    clippy::disallowed_methods,
    reason = "a companion outlives its caller and is given a socket: it is no command that is run to its end"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts `program` with `socket` as standard input and without any environment.
///
/// The socket is passed as standard input and not under a number of its own: a descriptor that is inherited otherwise
/// would leak into whatever another thread starts at the same moment. The child hears its order, forks
/// the real companion and ends; wait for it after that.
///
/// # Errors
/// The program cannot be executed.
pub fn spawn(program: &Path, name: &str, socket: OwnedFd) -> io::Result<Child> {
    Command::new(program)
        .arg0("keel-shim")
        .arg(name)
        .env_clear()
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
