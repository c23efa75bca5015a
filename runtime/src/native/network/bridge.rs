//! The bridge driver: a bridge of the kernel, its addresses and routes, its rules, its dnsmasq, its ports.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use ipnet::IpNet;

use super::addresses::{overlap, own_hwaddr};
use super::dnsmasq::{self, DnsmasqError, DnsmasqSeen};
use super::nft::{Firewall, NftError};
use super::plan::{NetworkHost, NetworkPlan, PortPlan};
use super::port::{self, Attached, Gone};
use super::seen::{BridgeSeen, GuestSeen, LinkOwner, NetworkSeen, PortSeen};
use super::{Guests, NetworkDriver, NetworkError, forwarding, ruleset, watched};
use crate::native::at_once;
use crate::native::cgroup::Patience;
use crate::native::known_files::KnownFiles;
use crate::sys::netlink::{
    Address, Connection, Link, LinkChange, Namespace, NewLink, Route, RouteTarget,
};

/// Networks that are bridges of the kernel.
#[derive(Debug)]
pub struct Bridge {
    host: NetworkHost,
    firewall: Firewall,
    known: KnownFiles,
}

/// Where routes to the subnets of a network lead.
fn wanted_routes(plan: &NetworkPlan) -> Vec<(IpNet, Option<std::net::IpAddr>)> {
    let mut routes = Vec::new();
    if let Some(ip) = &plan.ipv4 {
        routes.extend(ip.routes.iter().map(|r| (IpNet::V4(r.trunc()), None)));
    }
    if let Some(ip) = &plan.ipv6 {
        routes.extend(ip.routes.iter().map(|r| (IpNet::V6(r.trunc()), None)));
    }
    for port in &plan.ports {
        for route in &port.routes {
            let gateway = match route {
                IpNet::V4(_) => port.ipv4.map(Into::into),
                IpNet::V6(_) => port.ipv6.map(Into::into),
            };
            routes.push((route.trunc(), gateway));
        }
    }
    routes
}

fn wanted_addresses(plan: &NetworkPlan) -> Vec<IpNet> {
    let four = plan.ipv4.as_ref().map(|ip| IpNet::V4(ip.address));
    let six = plan.ipv6.as_ref().map(|ip| IpNet::V6(ip.address));
    four.into_iter().chain(six).collect()
}

/// The subnets that the host uses, besides those of one interface: for picking a free one, and against overlap.
fn taken_subnets(
    links: &[Link],
    addresses: &[Address],
    routes: &[Route],
    except: &str,
) -> Vec<(IpNet, String)> {
    let name = |index: u32| {
        links
            .iter()
            .find(|link| link.index == index)
            .map(|link| link.name.clone())
            .filter(|name| name != except)
    };
    let by_address = addresses
        .iter()
        .filter(|a| !a.link_local)
        .filter_map(|a| Some((a.address.trunc(), name(a.link)?)));
    let by_route = routes
        .iter()
        .filter(|r| r.destination.prefix_len() > 0)
        .filter(|r| match r.destination {
            IpNet::V4(subnet) => !subnet.addr().is_link_local(),
            IpNet::V6(subnet) => {
                !subnet.addr().is_unicast_link_local() && !subnet.addr().is_multicast()
            }
        })
        .filter_map(|r| Some((r.destination, r.links.iter().find_map(|l| name(*l))?)));
    by_address.chain(by_route).collect()
}

/// Refuses a subnet that the host uses already: pure.
fn refuse_overlap(plan: &NetworkPlan, taken: &[(IpNet, String)]) -> Result<(), NetworkError> {
    for subnet in wanted_addresses(plan) {
        let subnet = subnet.trunc();
        if let Some((other, by)) = taken.iter().find(|(other, _)| overlap(&subnet, other)) {
            return Err(NetworkError::Overlap {
                interface: plan.interface.clone(),
                subnet,
                other: *other,
                by: by.clone(),
            });
        }
    }
    Ok(())
}

/// Refuses an interface of the host that is not there, or in another bridge: pure.
fn refuse_external(plan: &NetworkPlan, links: &[Link]) -> Result<(), NetworkError> {
    let find = |name: &str| links.iter().find(|link| link.name == name);
    let own = find(&plan.interface).map(|link| link.index);
    for name in &plan.external_interfaces {
        let Some(link) = find(name) else {
            return Err(NetworkError::NoInterface {
                interface: name.clone(),
            });
        };
        if link.master.is_some() && link.master != own {
            return Err(NetworkError::Foreign {
                interface: name.clone(),
                alias: link.alias.clone(),
            });
        }
    }
    Ok(())
}

impl Bridge {
    /// The driver for one state folder.
    pub fn new(host: NetworkHost) -> Self {
        Self {
            host,
            firewall: Firewall::default(),
            known: KnownFiles::default(),
        }
    }

    fn folders(&self, interface: &str) -> dnsmasq::Folders {
        dnsmasq::Folders {
            state: self.host.state.join(interface),
            run: self.host.run.join(interface),
        }
    }

    fn nft_record(&self, interface: &str) -> std::path::PathBuf {
        self.host.run.join(format!("{interface}.nft"))
    }

    fn user(&self, interface: &str) -> String {
        format!("{}/{interface}", self.host.state_id)
    }

    fn taken(&self) -> Result<Vec<IpNet>, NetworkError> {
        let mut connection = Connection::open()?;
        let (links, addresses, routes) = (
            connection.links()?,
            connection.addresses()?,
            connection.routes()?,
        );
        Ok(taken_subnets(&links, &addresses, &routes, "")
            .into_iter()
            .map(|(subnet, _)| subnet)
            .collect())
    }

    /// Makes the link and answers it.
    fn ensure_link(
        &self,
        connection: &mut Connection,
        plan: &NetworkPlan,
        changed: &mut bool,
    ) -> Result<Link, NetworkError> {
        let name = plan.interface.as_str();
        let missing = || NetworkError::NoInterface {
            interface: name.to_owned(),
        };
        let existing = connection.link(name)?;
        let hwaddr = plan.hwaddr.unwrap_or_else(|| own_hwaddr(&plan.mark, name));
        match port::owner(existing.as_ref(), &plan.mark) {
            LinkOwner::Foreign(alias) => {
                return Err(NetworkError::Foreign {
                    interface: name.to_owned(),
                    alias,
                });
            }
            LinkOwner::Missing => {
                *changed = true;
                connection.create_link(&NewLink {
                    name,
                    kind: "bridge",
                    // The one that proves it ours comes first; the wished one with the alias.
                    hwaddr: own_hwaddr(&plan.mark, name),
                    mtu: plan.mtu,
                })?;
            }
            LinkOwner::Ours => {}
        }
        let link = connection.link(name)?.ok_or_else(missing)?;
        let differs = link.alias.as_deref() != Some(plan.mark.as_str())
            || link.hwaddr != Some(hwaddr)
            || plan.mtu.is_some_and(|mtu| mtu != link.mtu)
            || link.multicast_snooping != Some(plan.multicast_snooping);
        if differs {
            *changed = true;
            connection.change_link(
                link.index,
                &LinkChange {
                    alias: Some(&plan.mark),
                    hwaddr: (link.hwaddr != Some(hwaddr)).then_some(hwaddr),
                    mtu: plan.mtu.filter(|mtu| *mtu != link.mtu),
                    multicast_snooping: Some(plan.multicast_snooping),
                    ..LinkChange::default()
                },
            )?;
        }
        Ok(link)
    }

    /// Addresses and routes: those wished for are added, others that somebody set are removed, for the bridge is ours.
    fn ensure_addresses(
        connection: &mut Connection,
        plan: &NetworkPlan,
        link: u32,
    ) -> Result<bool, NetworkError> {
        let mut changed = false;
        let wanted = wanted_addresses(plan);
        let existing: Vec<IpNet> = connection
            .addresses()?
            .into_iter()
            .filter(|a| a.link == link && !a.link_local && a.permanent)
            .map(|a| a.address)
            .collect();
        for address in existing.iter().filter(|a| !wanted.contains(a)) {
            connection.delete_address(link, *address)?;
            changed = true;
        }
        for address in wanted.iter().filter(|a| !existing.contains(a)) {
            connection.add_address(link, *address)?;
            changed = true;
        }
        let wanted = wanted_routes(plan);
        let existing: Vec<Route> = connection
            .routes()?
            .into_iter()
            .filter(|r| r.links.contains(&link) && !r.by_kernel)
            .collect();
        let target = |destination, gateway| RouteTarget {
            destination,
            gateway,
            link,
        };
        for route in &existing {
            if !wanted.iter().any(|(to, _)| *to == route.destination) {
                connection.delete_route(target(route.destination, route.gateway))?;
                changed = true;
            }
        }
        for (destination, gateway) in wanted {
            if !existing
                .iter()
                .any(|r| r.destination == destination && r.gateway == gateway)
            {
                connection.set_route(target(destination, gateway))?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn ensure_external(
        connection: &mut Connection,
        plan: &NetworkPlan,
        bridge: u32,
    ) -> Result<bool, NetworkError> {
        let mut changed = false;
        for name in &plan.external_interfaces {
            let link = connection
                .link(name)?
                .ok_or_else(|| NetworkError::NoInterface {
                    interface: name.clone(),
                })?;
            if link.master == Some(bridge) && link.up {
                continue;
            }
            if link.master.is_some_and(|other| other != bridge) {
                return Err(NetworkError::Foreign {
                    interface: name.clone(),
                    alias: link.alias,
                });
            }
            connection.change_link(
                link.index,
                &LinkChange {
                    master: Some(bridge),
                    up: Some(true),
                    ..LinkChange::default()
                },
            )?;
            changed = true;
        }
        Ok(changed)
    }

    fn ports_seen(
        connection: &mut Connection,
        plan: &NetworkPlan,
        links: &[Link],
        bridge: Option<&Link>,
        guests: &Guests,
    ) -> Result<BTreeMap<String, PortSeen>, NetworkError> {
        let shaped = connection.shaped()?;
        let running: Vec<(&str, &Namespace)> = plan
            .ports
            .iter()
            .filter_map(|port| {
                Some((
                    port.host_interface.as_str(),
                    guests.get(&port.host_interface)?,
                ))
            })
            .collect();
        // Each guest has a namespace of its own, which nobody else reads.
        let inside = at_once::shares(&running, |share| {
            let namespaces: Vec<&Namespace> = share.iter().map(|(_, one)| *one).collect();
            let opened = Connection::open_in_each(&namespaces).into_iter();
            opened
                .zip(share)
                .map(|(guest, (name, _))| {
                    let outer = links.iter().find(|link| link.name == *name);
                    port::guest_seen(&mut guest?, outer)
                })
                .collect()
        });
        let mut inside: BTreeMap<&str, Result<Option<GuestSeen>, NetworkError>> =
            running.iter().map(|(name, _)| *name).zip(inside).collect();
        let bridge = bridge.map(|link| link.index);
        let mut ports = BTreeMap::new();
        for port in &plan.ports {
            let guest = inside.remove(port.host_interface.as_str());
            let guest = guest.unwrap_or(Ok(None));
            let seen = port::seen(connection, port, links, &shaped, bridge, guest)?;
            ports.insert(port.host_interface.clone(), seen);
        }
        Ok(ports)
    }

    fn bridge_seen(
        plan: &NetworkPlan,
        link: &Link,
        links: &[Link],
        addresses: &[Address],
        routes: &[Route],
    ) -> BridgeSeen {
        let ports: BTreeSet<&str> = plan
            .ports
            .iter()
            .map(|p| p.host_interface.as_str())
            .collect();
        let inside = || links.iter().filter(|l| l.master == Some(link.index));
        let ours = |l: &&Link| l.alias.as_deref().is_some_and(|a| a.starts_with("keel:"));
        BridgeSeen {
            kind: link.kind.clone(),
            alias: link.alias.clone(),
            hwaddr: link.hwaddr,
            up: link.up,
            mtu: link.mtu,
            multicast_snooping: link.multicast_snooping,
            addresses: addresses
                .iter()
                .filter(|a| a.link == link.index && !a.link_local && a.permanent)
                .map(|a| a.address)
                .collect(),
            routes: routes
                .iter()
                .filter(|r| r.links.contains(&link.index) && !r.by_kernel)
                .map(|r| r.destination)
                .collect(),
            external_interfaces: inside()
                .filter(|l| !ours(l) && !ports.contains(l.name.as_str()))
                .map(|l| l.name.clone())
                .collect(),
            unexpected_ports: inside()
                .filter(|l| ours(l) && !ports.contains(l.name.as_str()))
                .map(|l| l.name.clone())
                .collect(),
        }
    }
}

/// The number of a network's bridge, and how big packets of its ports are.
fn own_bridge(connection: &mut Connection, plan: &NetworkPlan) -> Result<(u32, u32), NetworkError> {
    let bridge = connection.link(&plan.interface)?;
    if let LinkOwner::Foreign(alias) = port::owner(bridge.as_ref(), &plan.mark) {
        return Err(NetworkError::Foreign {
            interface: plan.interface.clone(),
            alias,
        });
    }
    let bridge = bridge.ok_or_else(|| NetworkError::NoInterface {
        interface: plan.interface.clone(),
    })?;
    Ok((bridge.index, plan.mtu.unwrap_or(bridge.mtu)))
}

impl NetworkDriver for Bridge {
    fn pick_ipv4(&self, seed: &str) -> Result<Option<ipnet::Ipv4Net>, NetworkError> {
        Ok(super::addresses::pick_ipv4(seed, &self.taken()?))
    }

    fn pick_ipv6(&self, seed: &str) -> Result<Option<ipnet::Ipv6Net>, NetworkError> {
        Ok(super::addresses::pick_ipv6(seed, &self.taken()?))
    }

    fn seen(&self, plan: &NetworkPlan, guests: &Guests) -> Result<NetworkSeen, NetworkError> {
        let mut connection = Connection::open()?;
        let links = connection.links()?;
        let link = links.iter().find(|link| link.name == plan.interface);
        let owner = port::owner(link, &plan.mark);
        let link = link.filter(|_| owner == LinkOwner::Ours);
        let (addresses, routes) = (connection.addresses()?, connection.routes()?);
        let folders = self.folders(&plan.interface);
        let tables = ruleset::tables(&self.host.state_id, plan);
        let mut ports = Self::ports_seen(&mut connection, plan, &links, link, guests)?;
        for port in &plan.ports {
            if let (Some(link), Some(seen)) = (link, ports.get_mut(&port.host_interface)) {
                let there = |to: &IpNet| {
                    let mut routes = routes.iter();
                    routes.any(|r| r.destination == *to && r.links.contains(&link.index))
                };
                seen.routes = port.routes.iter().map(IpNet::trunc).filter(there).collect();
            }
        }
        let dnsmasq = match dnsmasq::seen(plan, &folders)? {
            DnsmasqSeen::Dead if !dnsmasq::is_needed(plan) => None,
            seen => Some(seen),
        };
        Ok(NetworkSeen {
            bridge: link.map(|link| Self::bridge_seen(plan, link, &links, &addresses, &routes)),
            owner,
            firewall: self
                .firewall
                .seen(&tables, &plan.mark, &self.nft_record(&plan.interface))?,
            dnsmasq,
            stale_reservations: watched::stale(plan, &folders).map_err(DnsmasqError::from)?,
            leases: dnsmasq::leases(&folders)?,
            forwarding: forwarding::seen(plan, &links, &routes)?,
            ports,
        })
    }

    fn ensure(&self, plan: &NetworkPlan) -> Result<bool, NetworkError> {
        let mut connection = Connection::open()?;
        let links = connection.links()?;
        let routes = connection.routes()?;
        let taken = taken_subnets(&links, &connection.addresses()?, &routes, &plan.interface);
        refuse_overlap(plan, &taken)?;
        refuse_external(plan, &links)?;
        let mut changed = false;
        let link = self.ensure_link(&mut connection, plan, &mut changed)?;
        // Before it is switched on, so that it never listens to routers nor answers where it shall not.
        changed |= forwarding::ensure(
            plan,
            (&links, &routes),
            &self.user(&plan.interface),
            &self.host.shared,
        )?;
        // Rules come before anything that they protect can send.
        let folders = self.folders(&plan.interface);
        manifests::path_io::create_dir_all(&self.host.run).map_err(NftError::from)?;
        let tables = ruleset::tables(&self.host.state_id, plan);
        changed |= self
            .firewall
            .ensure(&tables, &plan.mark, &self.nft_record(&plan.interface))?;
        if !link.up {
            let up = LinkChange {
                up: Some(true),
                ..LinkChange::default()
            };
            connection.change_link(link.index, &up)?;
            changed = true;
        }
        changed |= Self::ensure_addresses(&mut connection, plan, link.index)?;
        changed |= Self::ensure_external(&mut connection, plan, link.index)?;
        changed |= dnsmasq::ensure(plan, &folders, &self.known)?;
        if let Some(cgroups) = &self.host.cgroups {
            changed |= dnsmasq::settle(&folders, cgroups)?;
        }
        Ok(changed)
    }

    fn attach(
        &self,
        plan: &NetworkPlan,
        port: &PortPlan,
        guest: &Namespace,
    ) -> Result<Attached, NetworkError> {
        let mut connection = Connection::open()?;
        let (bridge, mtu) = own_bridge(&mut connection, plan)?;
        port::attach(&mut connection, port, Some(bridge), Some(mtu), guest)
    }

    fn attach_tap(&self, plan: &NetworkPlan, port: &PortPlan) -> Result<OwnedFd, NetworkError> {
        let mut connection = Connection::open()?;
        let (bridge, mtu) = own_bridge(&mut connection, plan)?;
        port::attach_tap(&mut connection, port, Some(bridge), Some(mtu))
    }

    fn repair_tap(&self, plan: &NetworkPlan, port: &PortPlan) -> Result<bool, NetworkError> {
        let mut connection = Connection::open()?;
        let (bridge, mtu) = own_bridge(&mut connection, plan)?;
        port::repair_tap(&mut connection, port, Some(bridge), Some(mtu))
    }

    fn detach(&self, host_interface: &str, mark: &str) -> Result<Option<Gone>, NetworkError> {
        port::detach(&mut Connection::open()?, host_interface, mark)
    }

    fn unplug(&self, host_interface: &str, mark: &str) -> Result<(), NetworkError> {
        port::unplug(&mut Connection::open()?, host_interface, mark)
    }

    fn unplug_others(&self, mark: &str, kept: &BTreeSet<String>) -> Result<(), NetworkError> {
        port::unplug_others(&mut Connection::open()?, mark, kept)
    }

    fn release_external(
        &self,
        interface: &str,
        mark: &str,
        names: &[String],
    ) -> Result<(), NetworkError> {
        let mut connection = Connection::open()?;
        let bridge = connection.link(interface)?;
        let Some(bridge) = bridge.filter(|link| port::owner(Some(link), mark) == LinkOwner::Ours)
        else {
            return Ok(());
        };
        for name in names {
            if let Some(link) = connection.link(name)?
                && link.master == Some(bridge.index)
            {
                let out = LinkChange {
                    master: Some(0),
                    ..LinkChange::default()
                };
                connection.change_link(link.index, &out)?;
            }
        }
        Ok(())
    }

    fn remove(&self, interface: &str, mark: &str) -> Result<(), NetworkError> {
        let folders = self.folders(interface);
        dnsmasq::remove(&folders)?;
        if let Some(cgroups) = &self.host.cgroups {
            // One that has ended is not quite gone.
            cgroups.remove_unused(Patience::default());
        }
        let table = ruleset::table_name(&self.host.state_id, interface);
        self.firewall
            .remove(&table, mark, &self.nft_record(interface))?;
        let mut connection = Connection::open()?;
        let link = connection.link(interface)?;
        if port::owner(link.as_ref(), mark) == LinkOwner::Ours
            && let Some(link) = link
        {
            connection.delete_link(link.index)?;
        }
        forwarding::release(&self.user(interface), &self.host.shared)?;
        for folder in [&folders.run, &folders.state] {
            manifests::path_io::remove_empty_dir(folder).map_err(NftError::from)?;
        }
        Ok(())
    }
}
