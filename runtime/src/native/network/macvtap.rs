//! Macvtaps: interfaces of machines beside others of one link of the host, on whose wire they are with an address of their
//! own.
//!
//! What a guest sends leaves by the link, and what it gets arrives at it: the reverse of a tap, where the host is the other
//! side. The link outlives the machine, until it is deleted or its parent is.

use std::os::fd::OwnedFd;

use super::NetworkError;
use super::addresses::own_hwaddr;
use super::plan::{PortPlan, RateLimits};
use super::port::{Attached, delete, foreign, owner, settle};
use super::seen::{LinkOwner, OverSeen};
use crate::sys::macvtap;
use crate::sys::netlink::{Connection, Link, LinkChange, NewMacvtap};

/// Whether a link is a macvtap.
pub(super) fn is_one(link: &Link) -> bool {
    link.kind.as_deref() == Some("macvtap")
}

/// Limits of the guest as those of a link that looks the other way.
pub(super) const fn turned(limits: RateLimits) -> RateLimits {
    RateLimits {
        ingress: limits.egress,
        egress: limits.ingress,
    }
}

/// What a link is over, where it is a macvtap.
pub(super) fn over(link: &Link, links: &[Link]) -> Option<OverSeen> {
    is_one(link).then(|| OverSeen {
        parent: links
            .iter()
            .find(|parent| Some(parent.index) == link.peer)
            .map(|parent| parent.name.clone()),
        hwaddr: link.hwaddr,
    })
}

fn settled(
    connection: &mut Connection,
    port: &PortPlan,
    link: &Link,
    attached: Attached,
) -> Result<(), NetworkError> {
    let port = PortPlan {
        limits: turned(port.limits),
        ..port.clone()
    };
    settle(connection, &port, link, (None, port.mtu), attached)
}

/// Makes the macvtap of a port over a link of the host; answers the guest's end, which is handed to the machine.
///
/// # Errors
/// The name is somebody else's, there is no such parent or it carries none, or the kernel refused.
pub(super) fn attach(
    connection: &mut Connection,
    port: &PortPlan,
    parent: &str,
) -> Result<OwnedFd, NetworkError> {
    let name = port.host_interface.as_str();
    let missing = |interface: &str| NetworkError::NoInterface {
        interface: interface.to_owned(),
    };
    let existing = connection.link(name)?;
    match (owner(existing.as_ref(), &port.mark), existing) {
        // Of a machine that has ended, or of before it was joined so.
        (LinkOwner::Ours, Some(link)) => delete(connection, link.index)?,
        (LinkOwner::Foreign(_), Some(link)) => return Err(foreign(&link)),
        _ => {}
    }
    let parent = connection.link(parent)?.ok_or_else(|| missing(parent))?;
    connection.create_macvtap(&NewMacvtap {
        name,
        parent: parent.index,
        // By which it is known to be ours, should keel die before it bears the mark.
        hwaddr: own_hwaddr(&port.mark, name),
        mtu: port.mtu,
    })?;
    let link = connection.link(name)?.ok_or_else(|| missing(name))?;
    let ours = LinkChange {
        alias: Some(&port.mark),
        // Only what is for the guest is let through to it.
        hwaddr: Some(port.hwaddr),
        // The host itself has no address there.
        link_local: Some(false),
        ..LinkChange::default()
    };
    connection.change_link(link.index, &ours)?;
    settled(connection, port, &link, Attached::Made)?;
    macvtap::open(name, link.index).map_err(|source| NetworkError::Tap {
        interface: name.to_owned(),
        source,
    })
}

/// Brings the macvtap of a running machine to where it shall be. `false`: there is none, or it is over another link.
///
/// # Errors
/// The name is somebody else's, or the kernel refused.
pub(super) fn repair(
    connection: &mut Connection,
    port: &PortPlan,
    parent: &str,
) -> Result<bool, NetworkError> {
    let existing = connection.link(&port.host_interface)?;
    let link = match (owner(existing.as_ref(), &port.mark), existing) {
        (LinkOwner::Ours, Some(link)) => link,
        (LinkOwner::Foreign(_), Some(link)) => return Err(foreign(&link)),
        _ => return Ok(false),
    };
    let parent = connection.link(parent)?.map(|parent| parent.index);
    if !is_one(&link) || parent.is_none() || parent != link.peer {
        return Ok(false);
    }
    settled(connection, port, &link, Attached::Kept)?;
    Ok(true)
}
