//! Networks in the words of manifests and in those of bridges, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use manifests::action::{Action, Verb};
use manifests::desired::Resource;
use manifests::id::{Address, Uid};
use manifests::kind::{Kind, Spec};
use manifests::kinds::network as spec;
use manifests::observed::{Holds, Item, ObservedSet, Unclear, Unseen};
use manifests::pointer::Pointer;
use manifests::scalar::address::{Subnet4, Subnet6};
use manifests::scalar::mac::Mac;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::definition::Definition;
use super::host::Host;
use super::instance::InstancePicks;
use super::network::addresses;
use super::network::dnsmasq::{DnsmasqSeen, Lease};
use super::network::nft::{Difference, FirewallSeen, Part};
use super::network::port::{guest_seen, links_of};
use super::network::{
    Dhcp4Plan, Dhcp6Plan, DnsMode, DnsPlan, Guests, Ipv4Plan, Ipv6Plan, LinkOwner, NetworkError,
    NetworkPlan, NetworkSeen, PortPlan, PortSeen, Reservation,
};
use crate::error::{Class, RuntimeError};
use crate::runtime::Effected;
use crate::sys::netlink::{Connection, HardwareAddress};

/// What was picked once for a network and is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkPicks {
    /// The name of its bridge.
    pub interface: String,
    /// Its address where the manifest says `auto`.
    pub ipv4: Option<Ipv4Net>,
    /// Its address where the manifest says `auto`.
    pub ipv6: Option<Ipv6Net>,
}

impl NetworkPicks {
    /// The IPv4 address of the bridge.
    pub(super) fn ipv4(&self, network: &spec::Network) -> Option<Ipv4Net> {
        match network.ipv4.address {
            Subnet4::Auto => self.ipv4,
            Subnet4::None => None,
            Subnet4::Net(net) => Some(net),
        }
    }

    /// The IPv6 address of the bridge.
    pub(super) fn ipv6(&self, network: &spec::Network) -> Option<Ipv6Net> {
        match network.ipv6.address {
            Subnet6::Auto => self.ipv6,
            Subnet6::None => None,
            Subnet6::Net(net) => Some(net),
        }
    }
}

/// What the network driver is asked for.
pub(super) fn plan(
    network: &spec::Network,
    picks: &NetworkPicks,
    mark: String,
    ports: Vec<PortPlan>,
) -> NetworkPlan {
    let (ipv4, ipv6) = (&network.ipv4, &network.ipv6);
    let gives = ipv6.dhcp.enabled && ipv6.stateful;
    let ports = ports
        .into_iter()
        .map(|port| match picks.ipv6(network).filter(|_| gives) {
            Some(net) => reserved6(port, net),
            None => port,
        })
        .collect();
    NetworkPlan {
        mark,
        interface: picks.interface.clone(),
        ipv4: picks.ipv4(network).map(|address| Ipv4Plan {
            address,
            nat: ipv4.nat,
            nat_address: ipv4.nat_address,
            dhcp: ipv4.dhcp.enabled.then(|| Dhcp4Plan {
                ranges: ipv4
                    .dhcp
                    .ranges
                    .iter()
                    .map(|range| (range.first, range.last))
                    .collect(),
                expiry: ipv4.dhcp.expiry.seconds(),
                gateway: ipv4.dhcp.gateway,
            }),
            firewall: ipv4.firewall,
            routing: ipv4.routing,
            routes: ipv4.routes.iter().map(|route| route.0).collect(),
        }),
        ipv6: picks.ipv6(network).map(|address| Ipv6Plan {
            address,
            nat: ipv6.nat,
            nat_address: ipv6.nat_address,
            dhcp: ipv6.dhcp.enabled.then(|| Dhcp6Plan {
                stateful: ipv6.stateful,
                ranges: ipv6
                    .dhcp
                    .ranges
                    .iter()
                    .map(|range| (range.first, range.last))
                    .collect(),
                expiry: ipv6.dhcp.expiry.seconds(),
            }),
            firewall: ipv6.firewall,
            routing: ipv6.routing,
            routes: ipv6.routes.iter().map(|route| route.0).collect(),
        }),
        dns: DnsPlan {
            domain: network.dns.domain.clone(),
            mode: match network.dns.mode {
                spec::DnsMode::Managed => DnsMode::Managed,
                spec::DnsMode::Dynamic => DnsMode::Dynamic,
                spec::DnsMode::None => DnsMode::None,
            },
            nameservers: network.dns.nameservers.clone(),
            search: network.dns.search.clone(),
            hosts: network
                .dns
                .hosts
                .iter()
                .map(|(name, address)| (name.clone(), vec![*address]))
                .collect(),
        },
        mtu: network.bridge.mtu,
        hwaddr: network.bridge.hwaddr.map(|mac| HardwareAddress(mac.0)),
        external_interfaces: network.bridge.external_interfaces.clone(),
        multicast_snooping: network.bridge.multicast_snooping,
        reservations: reservations(network),
        ports,
    }
}

/// A port of a network that gives out IPv6 addresses, with one reserved for it: of what is given at random the filter
/// could not know that it is the guest's own. Only a subnet of 64 bits has room for it.
fn reserved6(port: PortPlan, net: Ipv6Net) -> PortPlan {
    let own = (!port.without_ipv6 && net.prefix_len() <= 64)
        .then(|| addresses::eui64(net.network(), port.hwaddr));
    PortPlan {
        ipv6: port.ipv6.or(own),
        ..port
    }
}

/// The reservations of a network, both families of one machine together: of dnsmasq's lines for one machine only the
/// last counts.
fn reservations(network: &spec::Network) -> Vec<Reservation> {
    let four = network.ipv4.dhcp.reservations.iter();
    let four = four.map(|one| (one.hwaddr, one.address, None, &one.name));
    let six = network.ipv6.dhcp.reservations.iter();
    let six = six.map(|one| (one.hwaddr, None, one.address, &one.name));
    let mut all: BTreeMap<HardwareAddress, Reservation> = BTreeMap::new();
    for (hwaddr, ipv4, ipv6, name) in four.chain(six) {
        let Some(hwaddr) = hwaddr.map(|mac| HardwareAddress(mac.0)) else {
            continue;
        };
        let one = all.entry(hwaddr).or_insert_with(|| Reservation {
            hwaddr,
            ipv4: None,
            ipv6: None,
            name: None,
        });
        one.ipv4 = one.ipv4.or(ipv4);
        one.ipv6 = one.ipv6.or(ipv6);
        one.name = one.name.take().or_else(|| name.clone());
    }
    all.into_values().collect()
}

/// The addresses of a network that no new instance may be given.
pub(super) fn taken(network: &spec::Network, ports: &[PortPlan]) -> BTreeSet<Ipv4Addr> {
    let reserved = network
        .ipv4
        .dhcp
        .reservations
        .iter()
        .filter_map(|r| r.address);
    ports
        .iter()
        .filter_map(|port| port.ipv4)
        .chain(reserved)
        .collect()
}

/// Puts what was seen over what was meant.
pub(super) fn overlay(
    network: &mut spec::Network,
    plan: &NetworkPlan,
    seen: &NetworkSeen,
    unseen: &mut Vec<Unseen>,
) {
    if let Some(bridge) = &seen.bridge {
        overlay_addresses(network, plan, &bridge.addresses);
        if plan.mtu.is_some_and(|mtu| mtu != bridge.mtu) {
            network.bridge.mtu = Some(bridge.mtu);
        }
        if plan.hwaddr.is_some() && bridge.hwaddr != plan.hwaddr {
            network.bridge.hwaddr = bridge.hwaddr.map(|mac| Mac(mac.0));
        }
        if let Some(snooping) = bridge.multicast_snooping {
            network.bridge.multicast_snooping = snooping;
        }
        network
            .bridge
            .external_interfaces
            .retain(|name| bridge.external_interfaces.contains(name));
        let routed = |route: IpNet| bridge.routes.contains(&route);
        network
            .ipv4
            .routes
            .retain(|route| routed(IpNet::V4(route.0)));
        network
            .ipv6
            .routes
            .retain(|route| routed(IpNet::V6(route.0)));
    }
    // What no field says (a bridge that is down, a switch that was turned) shows as the field that it breaks being
    // otherwise, whatever that field says.
    let down = seen.bridge.as_ref().is_some_and(|bridge| !bridge.up);
    let turned = |family: &str| {
        let mut switches = seen.forwarding.iter();
        switches.any(|switch| switch.path.starts_with(family))
    };
    network.ipv4.routing ^= turned("ipv4/") || (down && plan.ipv4.is_some());
    network.ipv6.routing ^= turned("ipv6/") || (down && plan.ipv6.is_some());
    match &seen.firewall {
        FirewallSeen::Same => {}
        FirewallSeen::Missing => {
            let (four, six) = (plan.ipv4.is_some(), plan.ipv6.is_some());
            let nat = (four && network.ipv4.nat, six && network.ipv6.nat);
            network.ipv4.nat ^= nat.0;
            network.ipv6.nat ^= nat.1;
            // The filters of guests are gone too.
            network.ipv4.firewall ^= four || !six;
            network.ipv6.firewall ^= six;
        }
        FirewallSeen::Differs(points) => {
            let broken = broken(points, plan);
            network.ipv4.nat ^= broken.contains(&(Rules::Nat, Family::Four));
            network.ipv6.nat ^= broken.contains(&(Rules::Nat, Family::Six));
            network.ipv4.firewall ^= broken.contains(&(Rules::Firewall, Family::Four));
            network.ipv6.firewall ^= broken.contains(&(Rules::Firewall, Family::Six));
        }
        FirewallSeen::Foreign(whose) => unseen.push(Unseen {
            path: Pointer::new("/spec/ipv4/firewall"),
            why: format!("a table of the same name belongs to {whose}"),
        }),
    }
    if !matches!(seen.dnsmasq, None | Some(DnsmasqSeen::Running { .. })) {
        match (&plan.ipv4, &plan.ipv6) {
            (Some(ipv4), _) if ipv4.dhcp.is_some() => network.ipv4.dhcp.enabled = false,
            (_, Some(ipv6)) if ipv6.dhcp.is_some() => network.ipv6.dhcp.enabled = false,
            _ => network.dns.mode = spec::DnsMode::None,
        }
    } else if !seen.stale_reservations.is_empty() {
        network.dns.mode = spec::DnsMode::None;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rules {
    Nat,
    Firewall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Four,
    Six,
}

/// Which rules of which family differ: a rule names its family, what names none concerns those that the network has.
fn broken(points: &[Difference], plan: &NetworkPlan) -> BTreeSet<(Rules, Family)> {
    let mut broken = BTreeSet::new();
    for point in points {
        let (rules, text) = match &point.part {
            Part::Rule(chain, text) if chain == "postrouting" => (Rules::Nat, text.as_str()),
            Part::Chain(chain) if chain == "postrouting" => (Rules::Nat, ""),
            Part::Rule(_, text) => (Rules::Firewall, text.as_str()),
            Part::Set(set) | Part::Element(set, _) => (Rules::Firewall, set.as_str()),
            Part::Table | Part::Chain(_) => (Rules::Firewall, ""),
        };
        let names = |word: &str| text.contains(word);
        let four = plan.ipv4.is_some() && !names("ipv6");
        let six = plan.ipv6.is_some() && !names("ipv4");
        if four || !six {
            broken.insert((rules, Family::Four));
        }
        if six {
            broken.insert((rules, Family::Six));
        }
    }
    broken
}

/// The address that was meant stays where it is there; one put by hand shows as itself, none as `none`.
fn overlay_addresses(network: &mut spec::Network, plan: &NetworkPlan, seen: &[IpNet]) {
    if let Some(ipv4) = &plan.ipv4
        && !seen.contains(&IpNet::V4(ipv4.address))
    {
        let other = seen.iter().find_map(|net| match net {
            IpNet::V4(net) => Some(Subnet4::Net(*net)),
            IpNet::V6(_) => None,
        });
        network.ipv4.address = other.unwrap_or(Subnet4::None);
    }
    if let Some(ipv6) = &plan.ipv6
        && !seen.contains(&IpNet::V6(ipv6.address))
    {
        let other = seen.iter().find_map(|net| match net {
            IpNet::V6(net) => Some(Subnet6::Net(*net)),
            IpNet::V4(_) => None,
        });
        network.ipv6.address = other.unwrap_or(Subnet6::None);
    }
}

/// Whether the bridge itself is there and ours.
pub(super) fn is_there(seen: &NetworkSeen) -> bool {
    seen.owner == LinkOwner::Ours
}

/// Does one deed on a network.
pub(super) fn perform(
    host: &Host,
    action: &Action,
    resource: Option<&Resource>,
) -> Result<Effected, RuntimeError> {
    let stored =
        |error| RuntimeError::new("record", Class::NeedsOperator, error).of(&action.address);
    let failed =
        |doing: &'static str| move |error: NetworkError| super::network_failed(doing, error);
    let before = host
        .definitions
        .read::<NetworkPicks>(Kind::Network, &action.uid)
        .map_err(stored)?;
    match (&action.verb, resource, before) {
        (
            Verb::Create | Verb::Update { .. } | Verb::Adopt | Verb::Replace,
            Some(resource),
            before,
        ) => {
            let Spec::Network(written) = &resource.spec else {
                return Err(super::wrong_kind(&action.address));
            };
            let mut picks = before
                .as_ref()
                .map(|before| before.picks.clone())
                .unwrap_or_default();
            if picks.interface.is_empty() {
                picks.interface = written.interface.clone().unwrap_or_else(|| {
                    super::network::addresses::bridge_interface(&action.address.name)
                });
            }
            let seed = action.uid.to_string();
            if written.ipv4.address == Subnet4::Auto && picks.ipv4.is_none() {
                picks.ipv4 = host
                    .network
                    .pick_ipv4(&seed)
                    .map_err(failed("pick a subnet for"))?;
            }
            if written.ipv6.address == Subnet6::Auto && picks.ipv6.is_none() {
                picks.ipv6 = host
                    .network
                    .pick_ipv6(&seed)
                    .map_err(failed("pick a subnet for"))?;
            }
            let mut definition = Definition {
                address: action.address.clone(),
                mark: Some(action.mark.clone()),
                uid: action.uid,
                complete: before.as_ref().is_some_and(|before| before.complete),
                spec: resource.spec.clone(),
                remembered: super::remember(resource),
                picks,
            };
            let plan_mark = super::network_mark(host, &action.uid);
            if let Some(Spec::Network(old)) = before.as_ref().map(|before| &before.spec) {
                let (mut out, kept) = (old.bridge.external_interfaces.clone(), &written.bridge);
                out.retain(|name| !kept.external_interfaces.contains(name));
                host.network
                    .release_external(&definition.picks.interface, &plan_mark, &out)
                    .map_err(failed("take interfaces out of"))?;
            }
            host.definitions.write(&definition).map_err(stored)?;
            if let Err(error) = host.ensure_network(&definition) {
                // Nothing of a network that could not be made stays behind; what cannot be removed keeps its definition,
                // and with that its identity for the next try.
                let (interface, mark) = (&definition.picks.interface, plan_mark);
                if !definition.complete
                    && error.class != Class::Retry
                    && host.network.remove(interface, &mark).is_ok()
                {
                    let _ = host.definitions.remove(Kind::Network, &action.uid);
                }
                return Err(error);
            }
            definition.complete = true;
            host.definitions.write(&definition).map_err(stored)?;
            super::instance::plug_again(host, before.as_ref(), &definition)?;
            Ok(Effected::Done)
        }
        (Verb::Rename { .. }, Some(resource), Some(mut before)) => {
            before.address = action.address.clone();
            before.remembered = super::remember(resource);
            host.definitions.write(&before).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Adopt | Verb::Forget, _, Some(mut before)) => {
            before.mark = matches!(action.verb, Verb::Adopt).then(|| action.mark.clone());
            host.definitions.write(&before).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. }, _, Some(before)) => {
            host.network
                .remove(
                    &before.picks.interface,
                    &super::network_mark(host, &before.uid),
                )
                .map_err(failed("delete"))?;
            host.definitions
                .remove(Kind::Network, &action.uid)
                .map_err(|error| {
                    RuntimeError::new("delete", Class::NeedsOperator, error).of(&action.address)
                })?;
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. } | Verb::Forget, _, None) => Ok(Effected::NotNeeded),
        (Verb::Adopt, None, None) => Err(super::not_made_here(&action.address)),
        (verb, ..) => Err(super::cannot(verb, &action.address)),
    }
}

/// What a network is; its ports go to `ports`.
pub(super) fn observe(
    host: &Host,
    network: &Definition<NetworkPicks>,
    guests: &Guests,
    ports: &mut BTreeMap<(Uid, String), PortSeen>,
    out: &mut ObservedSet,
) {
    let seen = super::instance::network_plan(host, network).and_then(|plan| {
        let seen = host
            .network
            .seen(&plan, guests)
            .map_err(|error| super::network_failed("look at", error))?;
        Ok((plan, seen))
    });
    let (plan, seen) = match seen {
        Ok(seen) => seen,
        Err(error) => {
            let address = network.address.clone();
            out.unclear.push(Unclear {
                address,
                nameless: None,
                why: super::chain(&error),
            });
            return;
        }
    };
    let mut spec = network.spec.clone();
    let mut unseen = Vec::new();
    if let Spec::Network(written) = &mut spec {
        overlay(written, &plan, &seen, &mut unseen);
    }
    for (uid, device, port) in super::instance::ports(host, network).unwrap_or_default() {
        if let Some(seen) = seen.ports.get(&port.host_interface) {
            ports.insert((uid, device), seen.clone());
        }
    }
    // Put in by hand, or left by a change that was cut short: told, and not ours to take out.
    let unexpected: Vec<&String> = seen
        .bridge
        .iter()
        .flat_map(|bridge| {
            bridge
                .external_interfaces
                .iter()
                .chain(&bridge.unexpected_ports)
        })
        .filter(|name| !plan.external_interfaces.contains(name))
        .collect();
    let addresses: Vec<String> = seen
        .bridge
        .iter()
        .flat_map(|bridge| bridge.addresses.iter().map(ToString::to_string))
        .collect();
    out.items.push(Item {
        address: network.address.clone(),
        mark: network.mark.clone(),
        complete: network.complete && is_there(&seen),
        spec,
        last_told: Some(network.spec.clone()),
        unseen,
        remembered: Some(network.remembered),
        holds: Holds::default(),
        status: json!({
            "uid": network.uid,
            "interface": network.picks.interface,
            "addresses": addresses,
            "leases": seen.leases.iter().map(lease).collect::<Vec<_>>(),
            "ports": plan.ports.iter().map(|port| &port.host_interface).collect::<Vec<_>>(),
            "unexpectedInterfaces": unexpected,
        }),
    });
}

fn lease(lease: &Lease) -> serde_json::Value {
    let expires = i64::try_from(lease.expires)
        .ok()
        .filter(|seconds| *seconds > 0)
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    json!({
        "hwaddr": lease.client,
        "address": lease.address,
        "name": lease.name,
        "expires": expires,
    })
}

/// What the NICs that join no network of ours are.
pub(super) fn observe_unattached(
    host: &Host,
    instances: &[Arc<Definition<InstancePicks>>],
    guests: &Guests,
    ports: &mut BTreeMap<(Uid, String), PortSeen>,
) {
    for one in instances {
        for (device, port) in super::instance::own_ports(host, one) {
            let key = (one.uid, device);
            if ports.contains_key(&key) {
                continue;
            }
            if let Some(seen) = look_at_port(&port, guests) {
                ports.insert(key, seen);
            }
        }
    }
}

/// One port as it is; no other is listed for it.
pub(super) fn look_at_port(port: &PortPlan, guests: &Guests) -> Option<PortSeen> {
    let mut connection = Connection::open().ok()?;
    let links = links_of(&mut connection, port).ok()?;
    let shaped = connection.shaped().ok()?;
    let outer = links.iter().find(|link| link.name == port.host_interface);
    let master = outer.and_then(|link| link.master);
    let guest = match guests.get(&port.host_interface) {
        Some(guest) => {
            let opened = Connection::open_in_each(&[guest]).pop();
            guest_seen(&mut opened?.ok()?, outer)
        }
        None => Ok(None),
    };
    super::network::port::seen(&mut connection, port, &links, &shaped, master, guest).ok()
}

/// Bridges of the host that are not ours: a manifest that declares one of their names must not take them.
pub(super) fn observe_foreign(ours: &[Arc<Definition<NetworkPicks>>], out: &mut ObservedSet) {
    let Ok(links) = Connection::open().and_then(|mut connection| connection.links()) else {
        return;
    };
    for link in links
        .iter()
        .filter(|link| link.kind.as_deref() == Some("bridge"))
    {
        if ours
            .iter()
            .any(|network| network.picks.interface == link.name)
        {
            continue;
        }
        out.items.push(Item {
            address: Address::new(Kind::Network, link.name.clone()),
            mark: None,
            complete: true,
            spec: Spec::Network(Box::new(spec::Network {
                interface: Some(link.name.clone()),
                ..spec::Network::default()
            })),
            last_told: None,
            unseen: vec![Unseen {
                path: Pointer::new("/spec"),
                why: "it is not managed by keel".to_owned(),
            }],
            remembered: None,
            holds: Holds::default(),
            status: json!({ "interface": link.name }),
        });
    }
}
