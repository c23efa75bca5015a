//! Route netlink in its rawest form, for the companion: one socket in another network namespace, few messages.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::LinkNameSpaceType;

use super::failure::{Doing as _, Failure};

// <linux/netlink.h>
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const HEADER: usize = 16;

/// A netlink socket of another network namespace; it stays there when this process goes back.
///
/// # Errors
/// The kernel's answer.
pub fn socket_in(namespace: &OwnedFd) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::open("/proc/self/ns/net", flags, Mode::empty())
        .named("open the network namespace")?;
    let enter = |namespace: &OwnedFd| {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)
    };
    enter(namespace).named("enter the container's network")?;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is the protocol of number 0, which is what None asks for.
        None,
    );
    enter(&own).named("leave the container's network")?;
    socket.named("open a netlink socket")
}

/// A message with a fixed part and attributes.
pub fn message(kind: u16, flags: u16, fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(fixed);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    for (kind, value) in attributes {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// Has something done; the error is errno.
pub fn perform(
    socket: impl AsFd,
    kind: u16,
    flags: u16,
    fixed: &[u8],
    attributes: &[(u16, &[u8])],
) -> Result<(), i32> {
    let bytes = message(kind, flags | REQUEST | ACKNOWLEDGE, fixed, attributes);
    let errno = |errno: rustix::io::Errno| errno.raw_os_error();
    rustix::net::send(&socket, &bytes, SendFlags::empty()).map_err(errno)?;
    let mut answer = [0; 1024];
    let (length, _) =
        rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).map_err(errno)?;
    for (kind, body) in messages(answer.get(..length).unwrap_or_default()) {
        if kind == NLMSG_ERROR {
            return match number(body, 0).map(u32::cast_signed) {
                Some(0) => Ok(()),
                Some(negative) => Err(-negative),
                None => Err(libc::EBADMSG),
            };
        }
    }
    Err(libc::EBADMSG)
}

/// Lists all objects of a kind: `ask` is answered by messages of the kind `told`.
///
/// # Errors
/// The kernel's answer; `what` names the objects in it.
pub fn dump<T>(
    socket: impl AsFd,
    (ask, told): (u16, u16),
    fixed: &[u8],
    what: &str,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let bytes = message(ask, REQUEST | DUMP, fixed, &[]);
    rustix::net::send(&socket, &bytes, SendFlags::empty()).doing(|| format!("ask for {what}"))?;
    let mut all = Vec::new();
    // Objects come in pieces of at most 32 KiB (net/netlink/af_netlink.c).
    let mut answer = vec![0; 32 << 10];
    loop {
        let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())
            .doing(|| format!("read {what}"))?;
        for (kind, body) in messages(answer.get(..length).unwrap_or_default()) {
            match kind {
                NLMSG_DONE => return Ok(all),
                NLMSG_ERROR => {
                    let errno = number(body, 0).map_or(libc::EBADMSG, |errno| -errno.cast_signed());
                    return Err(Failure::new(format!("read {what}"), errno));
                }
                kind if kind == told => all.extend(read(body)),
                _ => {}
            }
        }
    }
}

/// Kind and value of each attribute behind the fixed part.
pub fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number at a place of a message.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Kind and body of each message of an answer.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = number(bytes, 0)? as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = message(24, 0, &[1; 12], &[(5, b"abc"), (4, &7_u32.to_ne_bytes())]);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        let (kind, body) = all[0];
        assert_eq!(kind, 24);
        let all: Vec<_> = attributes(body, 12).collect();
        assert_eq!(all, [(5, &b"abc"[..]), (4, &7_u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn broken_answers_have_an_end() {
        for bytes in [&[][..], &[0; 15], &[0; 64], &[255; 64]] {
            for (_, body) in messages(bytes).take(100) {
                assert!(attributes(body, 12).take(100).count() < 100);
            }
        }
    }
}
