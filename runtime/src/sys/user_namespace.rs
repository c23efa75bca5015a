//! User namespaces that are only held: what an id-mapped mount takes its map from, and what locks the flags of mounts.

use std::io::{Error, Read as _, Result};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};

/// A process in new namespaces that does nothing. It ends when its input does, so at the latest with this one.
#[derive(Debug)]
pub struct Holder {
    child: Child,
}

impl Holder {
    /// Starts it from the calling thread, whose mount namespace it sees or copies; `namespaces` as unshare(1) calls them.
    ///
    /// # Errors
    /// `unshare` (util-linux) cannot be run, or such namespaces are not allowed here.
    pub fn start(namespaces: &[&str]) -> Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the process must live while its namespaces are used; nothing it says matters"
        )]
        let child = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", "echo; read wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut holder = Self { child };
        let mut line = [0u8; 1];
        let output = holder.child.stdout.as_mut();
        // Only what runs inside writes it.
        output
            .ok_or(Error::other("no output"))?
            .read_exact(&mut line)?;
        Ok(holder)
    }

    /// Writes a file of its folder in `/proc`.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = format!("/proc/{}/{name}", self.child.id());
        manifests::path_io::write_kernel_file(path, text).map_err(|error| error.source)
    }

    /// Opens one of its namespaces: `user`, `mnt`.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn namespace(&self, name: &str) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/{name}", self.child.id());
        Ok(rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Makes a user namespace in which ids 0 to `count` are `base` and up outside. Its process has ended when this returns.
///
/// # Errors
/// `unshare` (util-linux) cannot be run, user namespaces are not allowed here, or the map is refused.
pub fn user_namespace(base: u32, count: u32) -> Result<OwnedFd> {
    let holder = Holder::start(&["--user"])?;
    let map = format!("0 {base} {count}");
    holder.write("uid_map", &map)?;
    holder.write("gid_map", &map)?;
    holder.namespace("user")
}
