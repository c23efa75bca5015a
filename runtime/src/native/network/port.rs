//! Ports: the pair of links of one NIC, from the host into the guest, with or without a bridge.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use ipnet::IpNet;

use super::NetworkError;
use super::addresses::{own_hwaddr, shaper_interface};
use super::macvtap;
use super::plan::{GuestPlan, PortPlan, RateLimits};
use super::seen::{GuestSeen, LinkOwner, PortSeen};
use crate::sys::netlink::{
    Connection, Link, LinkChange, Namespace, NetlinkError, NewLink, NewVeth, RouteTarget, Shaped,
};
use crate::sys::tap;

/// What attaching did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// The pair was made.
    Made,
    /// It was there; something about it may have been changed.
    Kept,
}

/// A port that was detached and vanishes with its guest's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// Number of its link.
    pub link: u32,
}

/// Whose a link is: ours bears the mark, or in the moment after its making the hardware address derived from it.
pub(super) fn owner(link: Option<&Link>, mark: &str) -> LinkOwner {
    match link {
        None => LinkOwner::Missing,
        Some(link) => match &link.alias {
            Some(alias) if alias == mark => LinkOwner::Ours,
            None if link.hwaddr == Some(own_hwaddr(mark, &link.name)) => LinkOwner::Ours,
            alias => LinkOwner::Foreign(alias.clone()),
        },
    }
}

pub(super) fn foreign(link: &Link) -> NetworkError {
    NetworkError::Foreign {
        interface: link.name.clone(),
        alias: link.alias.clone(),
    }
}

/// The guest's end of a link of ours in a namespace, if it is there.
fn guest_end(inside: &mut Connection, outer: &Link) -> Result<Option<Link>, NetlinkError> {
    Ok(match outer.peer {
        None => None,
        // Numbers are per namespace: the end of another pair may have the number, but then its peer is not ours.
        Some(index) => inside.link_by_index(index)?.filter(|inner| {
            inner.kind.as_deref() == Some("veth") && inner.peer == Some(outer.index)
        }),
    })
}

/// Makes the pair of a port as it shall be, in the bridge of that number or in none (p2p).
///
/// The guest's end is switched on by the guest's own network set-up or by [`configure_guest`].
///
/// # Errors
/// The name is somebody else's, the guest is gone, or the kernel refused.
pub fn attach(
    connection: &mut Connection,
    port: &PortPlan,
    bridge: Option<u32>,
    mtu: Option<u32>,
    guest: &Namespace,
) -> Result<Attached, NetworkError> {
    let name = port.host_interface.as_str();
    let mtu = port.mtu.or(mtu);
    let existing = connection.link(name)?;
    let mut attached = Attached::Kept;
    let link = match (owner(existing.as_ref(), &port.mark), existing) {
        (LinkOwner::Ours, Some(link)) => {
            let mut inside = Connection::open_in(guest)?;
            if let Some(inner) = guest_end(&mut inside, &link)? {
                repair_guest_end(&mut inside, &inner, port, mtu)?;
                Some(link)
            } else {
                // A pair into an older namespace of the guest: its name is needed now.
                detach(connection, name, &port.mark)?;
                None
            }
        }
        (LinkOwner::Foreign(_), Some(link)) => return Err(foreign(&link)),
        _ => None,
    };
    let link = match link {
        Some(link) => link,
        None => {
            attached = Attached::Made;
            connection.create_veth(&NewVeth {
                name,
                hwaddr: own_hwaddr(&port.mark, name),
                guest_name: &port.guest_interface,
                guest_hwaddr: port.hwaddr,
                guest,
                mtu,
            })?;
            connection
                .link(name)?
                .ok_or_else(|| NetworkError::NoInterface {
                    interface: name.to_owned(),
                })?
        }
    };
    settle(connection, port, &link, (bridge, mtu), attached)?;
    Ok(attached)
}

/// Makes the tap of a port of a virtual machine as it shall be; answers the guest's end, which is handed to the machine.
///
/// # Errors
/// The name is somebody else's, or the kernel refused.
pub fn attach_tap(
    connection: &mut Connection,
    port: &PortPlan,
    bridge: Option<u32>,
    mtu: Option<u32>,
) -> Result<OwnedFd, NetworkError> {
    if let Some(parent) = &port.parent {
        return macvtap::attach(connection, port, parent);
    }
    let name = port.host_interface.as_str();
    let mtu = port.mtu.or(mtu);
    let existing = connection.link(name)?;
    match (owner(existing.as_ref(), &port.mark), existing) {
        // Of a machine that is gone, or of one that was a container before.
        (LinkOwner::Ours, Some(link)) => delete(connection, link.index)?,
        (LinkOwner::Foreign(_), Some(link)) => return Err(foreign(&link)),
        _ => {}
    }
    let tap = tap::create(name).map_err(|source| NetworkError::Tap {
        interface: name.to_owned(),
        source,
    })?;
    let link = connection
        .link(name)?
        .ok_or_else(|| NetworkError::NoInterface {
            interface: name.to_owned(),
        })?;
    // If keel dies before this, the tap goes with it.
    let ours = LinkChange {
        alias: Some(&port.mark),
        hwaddr: Some(own_hwaddr(&port.mark, name)),
        ..LinkChange::default()
    };
    connection.change_link(link.index, &ours)?;
    settle(connection, port, &link, (bridge, mtu), Attached::Made)?;
    Ok(tap)
}

/// Brings the host's side of a running machine's port to where it shall be. `false`: it has none.
///
/// # Errors
/// The name is somebody else's, or the kernel refused.
pub fn repair_tap(
    connection: &mut Connection,
    port: &PortPlan,
    bridge: Option<u32>,
    mtu: Option<u32>,
) -> Result<bool, NetworkError> {
    if let Some(parent) = &port.parent {
        return macvtap::repair(connection, port, parent);
    }
    let existing = connection.link(&port.host_interface)?;
    match (owner(existing.as_ref(), &port.mark), existing) {
        (LinkOwner::Ours, Some(link)) => {
            let mtu = port.mtu.or(mtu);
            settle(connection, port, &link, (bridge, mtu), Attached::Kept)?;
            Ok(true)
        }
        (LinkOwner::Foreign(_), Some(link)) => Err(foreign(&link)),
        _ => Ok(false),
    }
}

/// Brings the host's end of a port to where it shall be.
pub(super) fn settle(
    connection: &mut Connection,
    port: &PortPlan,
    link: &Link,
    (bridge, mtu): (Option<u32>, Option<u32>),
    attached: Attached,
) -> Result<(), NetworkError> {
    let differs = link.alias.as_deref() != Some(port.mark.as_str())
        || link.up != port.connected
        || link.master != bridge
        || mtu.is_some_and(|mtu| mtu != link.mtu)
        || bridge.is_some() && link.isolated != Some(port.isolated);
    if differs {
        connection.change_link(
            link.index,
            &LinkChange {
                alias: Some(&port.mark),
                mtu: mtu.filter(|mtu| *mtu != link.mtu),
                master: (link.master != bridge).then(|| bridge.unwrap_or(0)),
                up: Some(port.connected),
                // Not answering by itself in the guest's network; a p2p end is the guest's router.
                link_local: bridge.is_some().then_some(false),
                isolated: bridge.map(|_| port.isolated),
                ..LinkChange::default()
            },
        )?;
    }
    limit(connection, port, link.index, attached)
}

fn repair_guest_end(
    inside: &mut Connection,
    inner: &Link,
    port: &PortPlan,
    mtu: Option<u32>,
) -> Result<(), NetlinkError> {
    let name = (inner.name != port.guest_interface).then_some(port.guest_interface.as_str());
    let hwaddr = (inner.hwaddr != Some(port.hwaddr)).then_some(port.hwaddr);
    let mtu = mtu.filter(|mtu| *mtu != inner.mtu);
    if name.is_none() && hwaddr.is_none() && mtu.is_none() {
        return Ok(());
    }
    // A link that is up keeps its name on kernels before 6.2.
    if name.is_some() {
        let down = LinkChange {
            up: Some(false),
            ..LinkChange::default()
        };
        inside.change_link(inner.index, &down)?;
    }
    inside.change_link(
        inner.index,
        &LinkChange {
            name,
            hwaddr,
            mtu,
            up: name.is_some().then_some(inner.up),
            ..LinkChange::default()
        },
    )
}

/// Sets the limits: into the guest at the link itself, out of it at an ifb.
fn limit(
    connection: &mut Connection,
    port: &PortPlan,
    link: u32,
    attached: Attached,
) -> Result<(), NetworkError> {
    let fresh = attached == Attached::Made;
    match port.limits.ingress {
        Some(rate) => connection.shape(link, rate)?,
        None if fresh => {}
        None => connection.unshape(link)?,
    }
    let name = shaper_interface(&port.host_interface);
    let shaper = connection.link(&name)?;
    if let Some(shaper) = &shaper
        && let LinkOwner::Foreign(_) = owner(Some(shaper), &port.mark)
    {
        // Without a limit we have no business with it.
        return if port.limits.egress.is_some() {
            Err(foreign(shaper))
        } else {
            Ok(())
        };
    }
    let Some(rate) = port.limits.egress else {
        if let Some(shaper) = shaper {
            connection.stop_redirecting(link)?;
            connection.delete_link(shaper.index)?;
        }
        return Ok(());
    };
    let shaper = match shaper {
        Some(shaper) => shaper,
        None => {
            connection.create_link(&NewLink {
                name: &name,
                kind: "ifb",
                hwaddr: own_hwaddr(&port.mark, &name),
                mtu: None,
            })?;
            connection
                .link(&name)?
                .ok_or(NetworkError::NoInterface { interface: name })?
        }
    };
    let change = LinkChange {
        alias: Some(&port.mark),
        up: Some(true),
        link_local: Some(false),
        ..LinkChange::default()
    };
    connection.change_link(shaper.index, &change)?;
    connection.shape(shaper.index, rate)?;
    if connection.redirected(link)? != Some(shaper.index) {
        connection.redirect_arrivals(link, shaper.index)?;
    }
    Ok(())
}

/// Takes a port away from under its name at once, so that the name is free: switched off and renamed.
///
/// Deleting the pair costs the kernel some 30 ms under the lock of all network changes; when the guest ends, its
/// namespace takes the pair along anyway. Where the guest lives on, call [`unplug`].
///
/// # Errors
/// The kernel refused.
pub fn detach(
    connection: &mut Connection,
    host_interface: &str,
    mark: &str,
) -> Result<Option<Gone>, NetworkError> {
    if let Some(shaper) = connection.link(&shaper_interface(host_interface))?
        && owner(Some(&shaper), mark) == LinkOwner::Ours
    {
        connection.delete_link(shaper.index)?;
    }
    let Some(link) = connection.link(host_interface)? else {
        return Ok(None);
    };
    if owner(Some(&link), mark) != LinkOwner::Ours {
        return Ok(None);
    }
    if macvtap::is_one(&link) {
        // It goes with nobody.
        delete(connection, link.index)?;
        return Ok(None);
    }
    // The mark stays readable even if we die here; one that had none yet gets it.
    let off = LinkChange {
        alias: Some(mark),
        up: Some(false),
        ..LinkChange::default()
    };
    let renamed = format!("kz{:x}", link.index);
    let rename = LinkChange {
        name: Some(&renamed),
        ..LinkChange::default()
    };
    let result = connection
        .change_link(link.index, &off)
        .and_then(|()| connection.change_link(link.index, &rename));
    match result {
        // It went with its guest meanwhile.
        Err(error) if error.is_missing() => Ok(None),
        other => Ok(other.map(|()| Some(Gone { link: link.index }))?),
    }
}

/// Deletes a port whose guest lives on: its name in there is free then. Waits for the kernel, some 30 ms.
///
/// # Errors
/// The kernel refused.
pub fn unplug(
    connection: &mut Connection,
    host_interface: &str,
    mark: &str,
) -> Result<(), NetworkError> {
    for name in [shaper_interface(host_interface), host_interface.to_owned()] {
        if let Some(link) = connection.link(&name)?
            && owner(Some(&link), mark) == LinkOwner::Ours
        {
            delete(connection, link.index)?;
        }
    }
    Ok(())
}

/// Deletes all links of a mark but those of the ports that are kept, by their names on the host: what an earlier plug
/// left behind, under whatever name.
///
/// # Errors
/// The kernel refused.
pub fn unplug_others(
    connection: &mut Connection,
    mark: &str,
    kept: &BTreeSet<String>,
) -> Result<(), NetworkError> {
    let shapers: BTreeSet<String> = kept.iter().map(|name| shaper_interface(name)).collect();
    let others = connection.links()?.into_iter().filter(|link| {
        link.alias.as_deref() == Some(mark)
            && !kept.contains(&link.name)
            && !shapers.contains(&link.name)
    });
    for link in others.collect::<Vec<_>>() {
        delete(connection, link.index)?;
    }
    Ok(())
}

pub(super) fn delete(connection: &mut Connection, link: u32) -> Result<(), NetworkError> {
    match connection.delete_link(link) {
        // It went with its guest meanwhile.
        Err(error) if error.is_missing() => Ok(()),
        other => Ok(other?),
    }
}

/// Waits until detached ports have vanished: for the kernel's own messages, at most `patience`. Answers those that have
/// not.
///
/// # Errors
/// The kernel refused to look or to tell.
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline over several messages of the kernel"
)]
pub fn wait_gone(
    ports: &[(Gone, String)],
    patience: std::time::Duration,
) -> Result<Vec<Gone>, NetworkError> {
    let deadline = std::time::Instant::now() + patience;
    // Listening begins before looking, so that nothing vanishes unheard in between.
    let mut monitor = Connection::open_monitor()?;
    let mut connection = Connection::open()?;
    let mut left: Vec<&(Gone, String)> = ports.iter().collect();
    loop {
        let mut still = Vec::new();
        for port in left {
            if !is_gone(&mut connection, port.0, &port.1)? {
                still.push(port);
            }
        }
        left = still;
        let rest = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_empty() || rest.is_zero() || !monitor.wait(rest)? {
            return Ok(left.iter().map(|port| port.0).collect());
        }
    }
}

/// A link of ours in this host, by its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Name of the link.
    pub interface: String,
    /// Its mark.
    pub mark: String,
    /// `bridge`, `veth`, `ifb`, `macvtap`.
    pub kind: String,
}

/// All links whose alias begins with a text: what is left of ours where nothing else remembers it.
///
/// # Errors
/// The kernel lists no links.
pub fn marked(prefix: &str) -> Result<Vec<Marked>, NetworkError> {
    Ok(Connection::open()?
        .links()?
        .into_iter()
        .filter_map(|link| {
            let mark = link.alias.filter(|alias| alias.starts_with(prefix))?;
            Some(Marked {
                interface: link.name,
                mark,
                kind: link.kind.unwrap_or_default(),
            })
        })
        .collect())
}

/// Whether a detached port has vanished. The kernel takes namespaces down in the background, many at once.
///
/// # Errors
/// The kernel refused to look.
pub fn is_gone(connection: &mut Connection, gone: Gone, mark: &str) -> Result<bool, NetworkError> {
    let link = connection.link_by_index(gone.link)?;
    Ok(link.is_none_or(|link| link.alias.as_deref() != Some(mark)))
}

/// Sets addresses and routes of the guest's end, and switches it and the loopback on. Addresses and routes that
/// somebody else set stay.
///
/// # Errors
/// The guest is gone or has no such interface; the kernel refused.
pub fn configure_guest(
    guest: &Namespace,
    interface: &str,
    plan: &GuestPlan,
) -> Result<(), NetworkError> {
    let mut inside = Connection::open_in(guest)?;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    if let Some(loopback) = inside.link("lo")?.filter(|link| !link.up) {
        inside.change_link(loopback.index, &up)?;
    }
    let link = inside
        .link(interface)?
        .ok_or_else(|| NetworkError::NoInterface {
            interface: interface.to_owned(),
        })?;
    if !link.up {
        inside.change_link(link.index, &up)?;
    }
    for address in &plan.addresses {
        inside.add_address(link.index, *address)?;
    }
    for (destination, gateway) in plan.all_routes() {
        inside.set_route(RouteTarget {
            destination,
            gateway,
            link: link.index,
        })?;
    }
    Ok(())
}

/// Takes off what was set at the guest's end before and is not wanted any more. What the guest set by itself stays.
///
/// # Errors
/// The kernel refused.
pub fn clear_guest(
    guest: &Namespace,
    interface: &str,
    before: &GuestPlan,
    wanted: &GuestPlan,
) -> Result<(), NetworkError> {
    let stale = |address: &&IpNet| !wanted.addresses.contains(address);
    if before == wanted {
        return Ok(());
    }
    let mut inside = Connection::open_in(guest)?;
    let Some(link) = inside.link(interface)? else {
        return Ok(());
    };
    let there: Vec<IpNet> = inside
        .addresses()?
        .into_iter()
        .filter(|address| address.link == link.index)
        .map(|address| address.address)
        .collect();
    // Routes first: those through an address vanish with it, and a second try would find them missing.
    for (destination, gateway) in before.all_routes() {
        if wanted
            .all_routes()
            .any(|route| route == (destination, gateway))
        {
            continue;
        }
        let gone = inside.delete_route(RouteTarget {
            destination,
            gateway,
            link: link.index,
        });
        match gone {
            Err(error) if !error.is_missing() => return Err(error.into()),
            _ => {}
        }
    }
    for address in before.addresses.iter().filter(stale) {
        if there.contains(address) {
            inside.delete_address(link.index, *address)?;
        }
    }
    Ok(())
}

/// Reads the guest's end of a port, whose other end is `outer`, by a connection into the guest.
///
/// # Errors
/// The kernel refused to look.
pub fn guest_seen(
    inside: &mut Connection,
    outer: Option<&Link>,
) -> Result<Option<GuestSeen>, NetworkError> {
    let Some(outer) = outer else {
        return Ok(None);
    };
    let Some(link) = guest_end(inside, outer)? else {
        return Ok(None);
    };
    let addresses = inside
        .addresses()?
        .into_iter()
        .filter(|a| a.link == link.index && !a.link_local)
        .map(|a| a.address)
        .collect();
    let mut gateways = Vec::new();
    let mut routes = Vec::new();
    for route in inside.routes()? {
        if !route.links.contains(&link.index) || route.by_kernel {
            continue;
        }
        match route.gateway {
            Some(gateway) if route.destination.prefix_len() == 0 => gateways.push(gateway),
            gateway => routes.push((route.destination, gateway)),
        }
    }
    Ok(Some(GuestSeen {
        interface: link.name,
        hwaddr: link.hwaddr,
        up: link.up,
        mtu: link.mtu,
        addresses,
        gateways,
        routes,
    }))
}

/// The links of the host that tell how a port is: for one port, so that not all of them are listed for it.
///
/// # Errors
/// The kernel refused to look.
pub fn links_of(connection: &mut Connection, port: &PortPlan) -> Result<Vec<Link>, NetworkError> {
    let mut links = Vec::new();
    if let Some(link) = connection.link(&port.host_interface)? {
        // The other end of a veth has its number in another namespace.
        if let Some(parent) = link.peer.filter(|_| macvtap::is_one(&link)) {
            links.extend(connection.link_by_index(parent)?);
        }
        links.push(link);
    }
    links.extend(connection.link(&shaper_interface(&port.host_interface))?);
    Ok(links)
}

/// Reads a port out of the links of the host and the queues on them; `guest` is what [`guest_seen`] says.
///
/// # Errors
/// The kernel refused to look.
pub fn seen(
    connection: &mut Connection,
    port: &PortPlan,
    links: &[Link],
    shaped: &[Shaped],
    bridge: Option<u32>,
    guest: Result<Option<GuestSeen>, NetworkError>,
) -> Result<PortSeen, NetworkError> {
    let find = |name: &str| links.iter().find(|link| link.name == name);
    let link = find(&port.host_interface);
    let owner = owner(link, &port.mark);
    let Some(link) = link.filter(|_| owner == LinkOwner::Ours) else {
        return Ok(PortSeen {
            owner,
            in_bridge: false,
            up: false,
            carrier: false,
            mtu: 0,
            over: None,
            isolated: false,
            limits: RateLimits::default(),
            routes: Vec::new(),
            guest: None,
            guest_unknown: None,
        });
    };
    let rate = |index: u32| {
        shaped
            .iter()
            .find(|shaped| shaped.link == index)
            .map(|shaped| shaped.bits_per_second)
    };
    let egress = match find(&shaper_interface(&port.host_interface)) {
        Some(shaper) if connection.redirected(link.index)? == Some(shaper.index) && shaper.up => {
            rate(shaper.index)
        }
        _ => None,
    };
    // What goes wrong in a guest concerns its own port only.
    let (inside, guest_unknown) = match guest {
        Err(error) => (None, Some(crate::native::chain(&error))),
        Ok(inside) => (inside, None),
    };
    let over = macvtap::over(link, links);
    let limits = RateLimits {
        ingress: rate(link.index),
        egress,
    };
    Ok(PortSeen {
        in_bridge: bridge.is_some() && link.master == bridge,
        up: link.up,
        carrier: link.carrier,
        mtu: link.mtu,
        limits: match &over {
            Some(_) => macvtap::turned(limits),
            None => limits,
        },
        over,
        isolated: link.isolated == Some(true),
        routes: Vec::new(),
        guest: inside,
        guest_unknown,
        owner,
    })
}
