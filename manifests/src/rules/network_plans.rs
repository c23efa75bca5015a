//! What a network gives out lies in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::unique_addresses::OUTSIDE;
use super::{Rule, devices, instances, wrong};
use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::diagnostic::Diagnostics;
use crate::id::Address;
use crate::kind::{Kind, Spec};
use crate::kinds::network::Network;
use crate::pointer::Pointer;

/// Ranges, reservations, static IPv6 addresses and targets of forwards.
pub(super) struct NetworkPlans;

/// The network that a name means for an object of this address, where it is declared here.
pub(super) fn network_of<'a>(
    desired: &'a DesiredSet,
    from: &Address,
    name: &str,
) -> Option<&'a Network> {
    let own = Address::in_project(Kind::Network, from.project_name(), name);
    let declared = desired
        .resources
        .get(&own)
        .or_else(|| desired.resources.get(&Address::new(Kind::Network, name)))?;
    match &declared.spec {
        Spec::Network(network) => Some(network),
        _ => None,
    }
}

impl Rule for NetworkPlans {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        for resource in desired.resources.values() {
            match &resource.spec {
                Spec::Network(network) => plan(network, resource, found),
                Spec::NetworkForward(forward) => {
                    let Some(network) = network_of(desired, &resource.address, &forward.network)
                    else {
                        continue;
                    };
                    let spec = Pointer::new("/spec");
                    let of_ports = forward
                        .ports
                        .iter()
                        .enumerate()
                        .filter_map(|(index, port)| {
                            Some((
                                port.target_address?,
                                spec.field("ports").index(index).field("targetAddress"),
                            ))
                        });
                    let all = forward
                        .target_address
                        .map(|target| (target, spec.field("targetAddress")));
                    for (target, at) in all.into_iter().chain(of_ports) {
                        if is_in(network, target) == Some(false) {
                            let message = format!("{target} is not in network {}", forward.network);
                            found.push(wrong(OUTSIDE, resource, at, message));
                        }
                    }
                    for (index, port) in forward.ports.iter().enumerate() {
                        let Some(targets) = &port.target_port else {
                            continue;
                        };
                        let (listen, target) = (port.listen_port.count(), targets.count());
                        if target != 1 && target != listen {
                            let message = format!(
                                "{listen} ports are led to {target}: to as many, or to one"
                            );
                            let at = spec.field("ports").index(index).field("targetPort");
                            found.push(wrong(crate::decode::BAD_VALUE, resource, at, message));
                        }
                    }
                }
                _ => {}
            }
        }
        for (resource, instance) in instances(desired) {
            for (_, device, at) in devices(instance) {
                let Device::Nic(nic) = device else { continue };
                let (Some(name), Some(address)) = (&nic.network, nic.ipv6.address.address()) else {
                    continue;
                };
                let Some(network) = network_of(desired, &resource.address, name) else {
                    continue;
                };
                if !network.ipv6.stateful {
                    let message = format!(
                        "{address} cannot be given: network {name} lets its guests choose IPv6 addresses"
                    );
                    found.push(
                        wrong(OUTSIDE, resource, at.field("ipv6"), message)
                            .hint("write `ipv6: { stateful: true }` on the network"),
                    );
                } else if is_in(network, IpAddr::V6(address)) == Some(false) {
                    let message = format!("{address} is not in network {name}");
                    found.push(wrong(OUTSIDE, resource, at.field("ipv6"), message));
                }
            }
        }
    }
}

/// Whether an address is one of a network; none where the network's own are not written.
fn is_in(network: &Network, address: IpAddr) -> Option<bool> {
    match address {
        IpAddr::V4(address) => network.ipv4.address.net().map(|net| net.contains(&address)),
        IpAddr::V6(address) => network.ipv6.address.net().map(|net| net.contains(&address)),
    }
}

fn plan(network: &Network, resource: &Resource, found: &mut Diagnostics) {
    let mut inside = |at: Pointer, what: &str, addresses: &[IpAddr]| {
        if let Some(address) = addresses
            .iter()
            .find(|address| is_in(network, **address) == Some(false))
        {
            found.push(wrong(
                OUTSIDE,
                resource,
                at,
                format!("{what} {address} is not in the network"),
            ));
        }
    };
    let four = |address: Ipv4Addr| IpAddr::V4(address);
    let six = |address: Ipv6Addr| IpAddr::V6(address);
    let (dhcp4, dhcp6) = (&network.ipv4.dhcp, &network.ipv6.dhcp);
    let (at4, at6) = (
        Pointer::new("/spec/ipv4/dhcp"),
        Pointer::new("/spec/ipv6/dhcp"),
    );
    for (index, range) in dhcp4.ranges.iter().enumerate() {
        inside(
            at4.field("ranges").index(index),
            "address",
            &[four(range.first), four(range.last)],
        );
    }
    for (index, range) in dhcp6.ranges.iter().enumerate() {
        inside(
            at6.field("ranges").index(index),
            "address",
            &[six(range.first), six(range.last)],
        );
    }
    if let Some(gateway) = dhcp4.gateway {
        inside(at4.field("gateway"), "the gateway", &[four(gateway)]);
    }
    for (index, one) in dhcp4.reservations.iter().enumerate() {
        let address: Vec<IpAddr> = one.address.map(four).into_iter().collect();
        inside(
            at4.field("reservations").index(index).field("address"),
            "address",
            &address,
        );
    }
    for (index, one) in dhcp6.reservations.iter().enumerate() {
        let address: Vec<IpAddr> = one.address.map(six).into_iter().collect();
        inside(
            at6.field("reservations").index(index).field("address"),
            "address",
            &address,
        );
    }
}
