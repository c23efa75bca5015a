//! The container's network interfaces across a restart: taken from the old network namespace, put into the new one.
//!
//! Only for instances that are started again by the companion itself. keel plugged the interfaces once; their host ends,
//! addresses of the hardware and queues stay as they are. What keel configured on the guest's side is configured again,
//! what the guest itself configured goes, as it would with a machine that reboots.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use super::addresses::Addresses;
use super::failure::{Doing as _, Failure};
use super::route_netlink::{attributes, dump, number, perform, socket_in};

// <linux/rtnetlink.h>, <linux/if_link.h>
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
/// Length of `struct ifinfomsg`.
const FIXED: usize = 16;
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
    addresses: Addresses,
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
        let socket = socket_in(&namespace)?;
        let links = list(&socket)?;
        let names = |index| {
            let link = links.iter().find(|link| link.index == index)?;
            Some(link.name.clone())
        };
        let addresses = match links.is_empty() {
            true => Addresses::default(),
            false => Addresses::read(&socket, &names)?,
        };
        Ok(Self {
            namespace,
            links,
            addresses,
        })
    }

    /// Moves them to a new container under their first names, up where they were up, with their first addresses and
    /// routes.
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
        new.links = list(&socket)?;
        for link in &mut new.links {
            if up.contains(&link.name) {
                link.up = change(&socket, link.index, (UP, UP), &[]).is_ok();
            }
        }
        let index = |name: &[u8]| {
            let link = new.links.iter().find(|link| link.name == name)?;
            Some(link.index)
        };
        self.addresses.write(&socket, &index);
        new.addresses = self.addresses.clone();
        Ok(new)
    }
}

fn fixed(index: u32, flags: (u32, u32)) -> [u8; FIXED] {
    let mut bytes = [0; FIXED];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.0.to_ne_bytes());
    bytes[12..].copy_from_slice(&flags.1.to_ne_bytes());
    bytes
}

/// Changes an interface; the error is errno.
fn change(
    socket: impl AsFd,
    index: u32,
    flags: (u32, u32),
    attributes: &[(u16, &[u8])],
) -> Result<(), i32> {
    perform(socket, RTM_NEWLINK, 0, &fixed(index, flags), attributes)
}

/// All interfaces but the loopback.
fn list(socket: impl AsFd) -> Result<Vec<Link>, Failure> {
    let kinds = (RTM_GETLINK, RTM_NEWLINK);
    dump(socket, kinds, &[0; FIXED], "the interfaces", link)
}

fn link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (number(body, 4)?, number(body, 8)?);
    if flags & LOOPBACK != 0 {
        return None;
    }
    let (_, name) = attributes(body, FIXED).find(|(kind, _)| *kind == IFLA_IFNAME)?;
    Some(Link {
        index,
        name: name.strip_suffix(&[0]).unwrap_or(name).to_vec(),
        up: flags & UP != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::route_netlink::{message, messages};
    use super::*;

    #[test]
    fn an_interface_is_read_from_what_asks_for_one() {
        let attributes: &[(u16, &[u8])] = &[(99, b"x"), (IFLA_IFNAME, b"eth0\0")];
        let bytes = message(RTM_NEWLINK, 0, &fixed(7, (UP, UP)), attributes);
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
    fn broken_answers_hold_no_interface() {
        for bytes in [&[][..], &[0; 15], &[0; 64], &[255; 64]] {
            for (_, body) in messages(bytes).take(100) {
                assert_eq!(link(body), None);
            }
        }
    }
}
