//! The container's network interfaces across a restart: taken from the old network namespace, put into the new one.
//!
//! Only for instances that are started again by the companion itself. keel plugged the interfaces once; their host ends,
//! addresses of the hardware and queues stay as they are, while everything configured on the guest's side goes, as it
//! would with a machine that reboots.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;

use super::failure::{Doing as _, Failure};

// <linux/rtnetlink.h>, <linux/netlink.h>, <linux/if_link.h>
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const HEADER: usize = 16;
const BODY: usize = 16;
const LOOPBACK: u32 = libc::IFF_LOOPBACK as u32;
const UP: u32 = libc::IFF_UP as u32;

/// An interface of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    index: u32,
    name: Vec<u8>,
    up: bool,
}

/// The network namespace of a running container and what was plugged into it.
#[derive(Debug)]
pub struct Links {
    namespace: OwnedFd,
    links: Vec<Link>,
}

impl Links {
    /// Looks at the interfaces of a new container, before its first program runs.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn of(pid: Pid) -> Result<Self, Failure> {
        let path = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open(path.as_str(), flags, Mode::empty())
            .doing(|| format!("open {path}"))?;
        let links = dump(&socket_in(&namespace)?)?;
        Ok(Self { namespace, links })
    }

    /// Moves them to a new container under their first names, and up where they were up.
    ///
    /// # Errors
    /// The kernel's answer; an interface that is gone is no error.
    pub fn move_to(&self, pid: Pid) -> Result<Self, Failure> {
        let old = socket_in(&self.namespace)?;
        let mut new = Self::of(pid)?;
        let target = new.namespace.as_raw_fd().cast_unsigned().to_ne_bytes();
        let mut up = Vec::new();
        for link in &self.links {
            let mut name = link.name.clone();
            name.push(0);
            // The guest may have renamed it, and only one that is down can be renamed. Where this fails, it keeps its name.
            let _ = change(&old, link.index, (0, UP), &[(IFLA_IFNAME, &name)]);
            match change(&old, link.index, (0, 0), &[(IFLA_NET_NS_FD, &target)]) {
                Err(errno) if errno == libc::ENODEV => continue,
                Err(errno) => {
                    let name = String::from_utf8_lossy(&link.name).into_owned();
                    return Err(Failure::new(format!("move the interface {name}"), errno));
                }
                Ok(()) if link.up => up.push(link.name.clone()),
                Ok(()) => {}
            }
        }
        let socket = socket_in(&new.namespace)?;
        new.links = dump(&socket)?;
        for link in &mut new.links {
            if up.contains(&link.name) {
                link.up = change(&socket, link.index, (UP, UP), &[]).is_ok();
            }
        }
        Ok(new)
    }
}

/// A netlink socket of another network namespace; it stays there when this process goes back.
fn socket_in(namespace: &OwnedFd) -> Result<OwnedFd, Failure> {
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

fn message(
    kind: u16,
    flags: u16,
    index: u32,
    change: (u32, u32),
    attributes: &[(u16, &[u8])],
) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + BODY];
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[20..24].copy_from_slice(&index.to_ne_bytes());
    bytes[24..28].copy_from_slice(&change.0.to_ne_bytes());
    bytes[28..32].copy_from_slice(&change.1.to_ne_bytes());
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

/// Changes an interface; the error is errno.
fn change(
    socket: impl AsFd,
    index: u32,
    flags: (u32, u32),
    attributes: &[(u16, &[u8])],
) -> Result<(), i32> {
    let bytes = message(RTM_NEWLINK, REQUEST | ACKNOWLEDGE, index, flags, attributes);
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

/// All interfaces but the loopback.
fn dump(socket: impl AsFd) -> Result<Vec<Link>, Failure> {
    let bytes = message(RTM_GETLINK, REQUEST | DUMP, 0, (0, 0), &[]);
    rustix::net::send(&socket, &bytes, SendFlags::empty()).named("ask for the interfaces")?;
    let mut links = Vec::new();
    // Interfaces come in pieces of at most 32 KiB (net/netlink/af_netlink.c).
    let mut answer = vec![0; 32 << 10];
    loop {
        let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())
            .named("read the interfaces")?;
        for (kind, body) in messages(answer.get(..length).unwrap_or_default()) {
            match kind {
                NLMSG_DONE => return Ok(links),
                NLMSG_ERROR => {
                    let errno = number(body, 0).map_or(libc::EBADMSG, |errno| -errno.cast_signed());
                    return Err(Failure::new("read the interfaces", errno));
                }
                RTM_NEWLINK => links.extend(link(body)),
                _ => {}
            }
        }
    }
}

fn link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (number(body, 4)?, number(body, 8)?);
    if flags & LOOPBACK != 0 {
        return None;
    }
    let mut rest = body.get(BODY..)?;
    while let Some(length) = rest.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)) {
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length.into())?;
        if kind == IFLA_IFNAME {
            let name = value.strip_suffix(&[0]).unwrap_or(value).to_vec();
            let up = flags & UP != 0;
            return Some(Link { index, name, up });
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..)?;
    }
    None
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Kind and body of each message of an answer.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
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
    fn an_interface_is_read_from_what_asks_for_one() {
        let bytes = message(
            RTM_NEWLINK,
            0,
            7,
            (UP, UP),
            &[(99, b"x"), (IFLA_IFNAME, b"eth0\0")],
        );
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        let expected = Link {
            index: 7,
            name: b"eth0".to_vec(),
            up: true,
        };
        assert_eq!(link(all[0].1), Some(expected));
    }

    #[test]
    fn broken_answers_have_an_end() {
        for bytes in [&[][..], &[0; 15], &[0; 64], &[255; 64]] {
            for (_, body) in messages(bytes).take(100) {
                assert_eq!(link(body), None);
            }
        }
    }
}
