//! Network interfaces in the words of manifests and in those of ports, both ways.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use manifests::devices::nic::NicType;
use manifests::devices::{Device, Nic};
use manifests::kinds::instance::Instance;
use manifests::scalar::address::{NicAddress4, NicAddress6};
use manifests::scalar::mac::Mac;

use super::picks::{InstancePicks, NicPicks};
use crate::native::network::{Filtering, GuestPlan, LinkOwner, PortPlan, PortSeen, RateLimits};

/// The network interfaces of an instance by device.
pub(super) fn nics(instance: &Instance) -> impl Iterator<Item = (&str, &Nic)> {
    instance
        .devices
        .iter()
        .filter_map(|(name, device)| match device {
            Device::Nic(nic) => Some((name.as_str(), nic.as_ref())),
            _ => None,
        })
}

/// The port that a NIC asks a network for; none while nothing is picked for it.
pub(super) fn port(
    name: &str,
    mark: &str,
    device: &str,
    nic: &Nic,
    picks: &InstancePicks,
) -> Option<PortPlan> {
    let picked = picks.nics.get(device)?;
    let most = nic.limits.max.as_ref();
    let rate = |one: &Option<manifests::scalar::rate::BitRate>| {
        one.as_ref()
            .or(most)
            .map(manifests::scalar::rate::BitRate::bits)
    };
    Some(PortPlan {
        mark: mark.to_owned(),
        instance: name.to_owned(),
        host_interface: picked.host_interface.clone(),
        hwaddr: picked.hardware_address()?,
        ipv4: picked.ipv4,
        ipv6: nic.ipv6.address.address(),
        without_ipv6: nic.ipv6.address == NicAddress6::None,
        parent: nic
            .parent
            .clone()
            .filter(|_| nic.nic_type == Some(NicType::Macvlan)),
        guest_interface: nic.interface(device).to_owned(),
        mtu: nic.mtu,
        isolated: nic.isolated,
        filtering: Filtering {
            mac: nic.filtering.mac,
            ipv4: nic.filtering.ipv4,
            ipv6: nic.filtering.ipv6,
        },
        limits: RateLimits {
            ingress: rate(&nic.limits.ingress),
            egress: rate(&nic.limits.egress),
        },
        routes: routes(nic),
        connected: nic.connected,
    })
}

/// The prefixes that are led to a NIC: under whichever of the three names.
fn routes(nic: &Nic) -> Vec<IpNet> {
    let four = nic.ipv4.routes.iter().map(|route| IpNet::V4(route.0));
    let six = nic.ipv6.routes.iter().map(|route| IpNet::V6(route.0));
    let both = nic.routes.iter().map(|route| route.0);
    both.chain(four).chain(six).collect()
}

/// What is set at the guest's end: written addresses, with the routers of their networks. A guest without a written
/// address asks DHCP itself. An address outside its network (one of the two was changed first) reaches no router.
pub(super) fn guest(nic: &Nic, ipv4: Option<Ipv4Net>, ipv6: Option<Ipv6Net>) -> GuestPlan {
    let mut plan = GuestPlan::default();
    if let NicAddress4::Static(address) = nic.ipv4.address {
        let ipv4 = ipv4.filter(|net| net.contains(&address));
        let length = ipv4.map_or(32, |net| net.prefix_len());
        plan.addresses
            .extend(Ipv4Net::new(address, length).ok().map(IpNet::V4));
        let gateway = match nic.ipv4.gateway {
            Some(NicAddress4::Static(gateway)) => Some(gateway),
            Some(NicAddress4::None) => None,
            _ => ipv4.map(|net| net.addr()),
        };
        plan.gateways.extend(gateway.map(IpAddr::V4));
    }
    if let NicAddress6::Static(address) = nic.ipv6.address {
        let ipv6 = ipv6.filter(|net| net.contains(&address));
        let length = ipv6.map_or(128, |net| net.prefix_len());
        plan.addresses
            .extend(Ipv6Net::new(address, length).ok().map(IpNet::V6));
        let gateway = match nic.ipv6.gateway {
            Some(NicAddress6::Static(gateway)) => Some(gateway),
            Some(NicAddress6::None) => None,
            _ => ipv6.map(|net| net.addr()),
        };
        plan.gateways.extend(gateway.map(IpAddr::V6));
    }
    plan
}

/// What a NIC of a running instance is, put over what was meant. None: it is not there. The guest's end of a container
/// is `in_sight`, that of a machine is not.
pub(super) fn overlay(
    nic: &mut Nic,
    device: &str,
    picked: &NicPicks,
    wanted: &GuestPlan,
    seen: &PortSeen,
    in_sight: bool,
) -> Option<()> {
    if seen.owner != LinkOwner::Ours || (nic.connected && !seen.in_bridge && nic.network.is_some())
    {
        return None;
    }
    if nic.nic_type == Some(NicType::Macvlan) {
        overlay_macvtap(nic, picked, seen)?;
    }
    let guest = match &seen.guest {
        None if in_sight && seen.guest_unknown.is_none() => return None,
        guest => guest.as_ref(),
    };
    if !seen.up || guest.is_some_and(|guest| !guest.up) {
        nic.connected = false;
    } else if !nic.connected && seen.carrier {
        nic.connected = true;
    }
    nic.isolated = seen.isolated;
    if nic.network.is_some() {
        let there = |route: IpNet| seen.routes.contains(&route.trunc());
        nic.routes.retain(|route| there(route.0));
        let four = &mut nic.ipv4.0.routes;
        four.retain(|route| there(IpNet::V4(route.0)));
        let six = &mut nic.ipv6.0.routes;
        six.retain(|route| there(IpNet::V6(route.0)));
    }
    let asked = (
        nic.limits.ingress.is_some(),
        nic.limits.egress.is_some(),
        nic.limits.max.is_some(),
    );
    let meant = {
        let most = nic.limits.max.as_ref();
        let bits = |one: Option<&manifests::scalar::rate::BitRate>| one.map(|rate| rate.bits());
        RateLimits {
            ingress: bits(nic.limits.ingress.as_ref().or(most)),
            egress: bits(nic.limits.egress.as_ref().or(most)),
        }
    };
    if seen.limits != meant
        || (asked == (false, false, false) && seen.limits != RateLimits::default())
    {
        let rate = |bits: Option<u64>| bits.map(manifests::scalar::rate::BitRate::from_bits);
        nic.limits.max = None;
        nic.limits.ingress = rate(seen.limits.ingress);
        nic.limits.egress = rate(seen.limits.egress);
    }
    let Some(guest) = guest else {
        return Some(());
    };
    if guest.interface != nic.interface(device) {
        nic.name = Some(guest.interface.clone());
    }
    if guest.hwaddr != picked.hardware_address() {
        nic.hwaddr = guest.hwaddr.map(|mac| Mac(mac.0));
    }
    if nic.mtu.is_some_and(|mtu| mtu != guest.mtu) {
        nic.mtu = Some(guest.mtu);
    }
    // A written address must be at the guest's end; of an address by DHCP only the guest knows when it comes.
    for address in &wanted.addresses {
        if guest.addresses.contains(address) {
            continue;
        }
        match address {
            IpNet::V4(_) => nic.ipv4.0.address = there4(&guest.addresses),
            IpNet::V6(_) => nic.ipv6.0.address = there6(&guest.addresses),
        }
    }
    let routed = wanted
        .gateways
        .iter()
        .all(|gateway| guest.gateways.contains(gateway));
    if !routed {
        let missing = |v4: bool| {
            wanted
                .gateways
                .iter()
                .any(|g| g.is_ipv4() == v4 && !guest.gateways.contains(g))
        };
        if missing(true) {
            nic.ipv4.0.gateway = Some(NicAddress4::None);
        }
        if missing(false) {
            nic.ipv6.0.gateway = Some(NicAddress6::None);
        }
    }
    Some(())
}

/// What the host's side of a macvtap is, put over what was meant. None: it leads nowhere.
fn overlay_macvtap(nic: &mut Nic, picked: &NicPicks, seen: &PortSeen) -> Option<()> {
    let over = seen.over.as_ref()?;
    let parent = over.parent.as_ref()?;
    if nic.parent.as_ref() != Some(parent) {
        nic.parent = Some(parent.clone());
    }
    // Nothing reaches the guest under another address than that of the link.
    if over.hwaddr != picked.hardware_address() {
        nic.hwaddr = over.hwaddr.map(|mac| Mac(mac.0));
    }
    if nic.mtu.is_some_and(|mtu| mtu != seen.mtu) {
        nic.mtu = Some(seen.mtu);
    }
    Some(())
}

fn there4(addresses: &[IpNet]) -> NicAddress4 {
    let other: Option<Ipv4Addr> = addresses.iter().find_map(|net| match net {
        IpNet::V4(net) => Some(net.addr()),
        IpNet::V6(_) => None,
    });
    other.map_or(NicAddress4::None, NicAddress4::Static)
}

fn there6(addresses: &[IpNet]) -> NicAddress6 {
    let other = addresses.iter().find_map(|net| match net {
        IpNet::V6(net) => Some(net.addr()),
        IpNet::V4(_) => None,
    });
    other.map_or(NicAddress6::None, NicAddress6::Static)
}
