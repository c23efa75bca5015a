//! A user namespace with a map, held by a descriptor: what an id-mapped mount takes its map from.

use std::io::{Error, Read as _, Result};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};

/// Makes a user namespace in which ids 0 to `count` are `base` and up outside. Its process has ended when this returns.
///
/// # Errors
/// `unshare` (util-linux) cannot be run, user namespaces are not allowed here, or the map is refused.
pub fn user_namespace(base: u32, count: u32) -> Result<OwnedFd> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the process must live while its namespace is mapped; nothing it says matters"
    )]
    let mut child = Command::new("unshare")
        .args(["--user", "sh", "-c", "echo; read wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let result = (|| {
        let mut line = [0u8; 1];
        let mut output = child.stdout.take().ok_or(Error::other("no output"))?;
        // Only what runs inside writes it.
        output.read_exact(&mut line)?;
        let process = format!("/proc/{}", child.id());
        let map = format!("0 {base} {count}");
        for file in ["uid_map", "gid_map"] {
            manifests::path_io::write_kernel_file(format!("{process}/{file}"), &map)
                .map_err(|error| error.source)?;
        }
        rustix::fs::open(
            format!("{process}/ns/user"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(Error::from)
    })();
    // Its input ends here, so it does.
    drop(child.stdin.take());
    let ended = child.wait();
    let namespace = result?;
    ended?;
    Ok(namespace)
}
