//! No two have one address, and every address is one of its network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Rule;
use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Origin};
use crate::kind::Spec;
use crate::kinds::network::Network;
use crate::pointer::Pointer;

/// An address or subnet that two have.
pub(crate) const TAKEN: Code = Code("R0203");
/// An address outside of its network.
pub(crate) const OUTSIDE: Code = Code("R0204");

/// Addresses of NICs, hardware addresses and subnets are claimed once.
pub(super) struct UniqueAddresses;

/// What is claimed, with the place and the object that claimed it first.
type Claims = BTreeMap<String, (Origin, String)>;

impl Rule for UniqueAddresses {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        let mut claims = Claims::new();
        let mut subnets: Vec<(IpNet, &Resource)> = Vec::new();
        for resource in desired.resources.values() {
            match &resource.spec {
                Spec::Network(network) => {
                    subnet(network, resource, &mut subnets, found);
                    for (address, at) in reserved(network) {
                        let what = address_of(address, &resource.address.name);
                        claim(&mut claims, resource, at, what, found);
                    }
                }
                Spec::Instance(instance) => {
                    for (name, device) in &instance.devices {
                        let Device::Nic(nic) = device else { continue };
                        let at = Pointer::new("/spec/devices").field(name);
                        let network = nic.network.as_deref().unwrap_or_default();
                        let four = nic.ipv4.address.address().map(IpAddr::V4);
                        let six = nic.ipv6.address.address().map(IpAddr::V6);
                        for (address, field) in [(four, "ipv4"), (six, "ipv6")] {
                            if let Some(address) = address {
                                let what = address_of(address, network);
                                claim(&mut claims, resource, at.field(field), what, found);
                            }
                        }
                        if let Some(mac) = nic.hwaddr {
                            let what = format!("hardware address {mac}");
                            claim(&mut claims, resource, at.field("hwaddr"), what, found);
                        }
                        if let Some(address) = nic.ipv4.address.address() {
                            inside(
                                desired,
                                resource,
                                network,
                                address,
                                &at.field("ipv4"),
                                found,
                            );
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn address_of(address: IpAddr, network: &str) -> String {
    format!("address {address} of network {network}")
}

/// The addresses that a network keeps for machines that are no instances.
fn reserved(network: &Network) -> Vec<(IpAddr, Pointer)> {
    let at = |family: &str, index: usize| {
        let dhcp = Pointer::new("/spec").field(family).field("dhcp");
        dhcp.field("reservations").index(index).field("address")
    };
    let four = network.ipv4.dhcp.reservations.iter().enumerate();
    let four = four.filter_map(|(index, one)| Some((one.address?.into(), at("ipv4", index))));
    let six = network.ipv6.dhcp.reservations.iter().enumerate();
    let six = six.filter_map(|(index, one)| Some((one.address?.into(), at("ipv6", index))));
    four.chain(six).collect()
}

fn claim(
    claims: &mut Claims,
    resource: &Resource,
    at: Pointer,
    what: String,
    found: &mut Diagnostics,
) {
    let origin = resource.origin_of(&at);
    match claims.get(&what) {
        Some((first, whose)) => found.push(
            Diagnostic::error(
                TAKEN,
                origin,
                format!("{what} is claimed by {whose} already"),
            )
            .of(&resource.address)
            .at(at)
            .related(first.clone(), "first claimed here"),
        ),
        None => {
            claims.insert(what, (origin, resource.address.to_string()));
        }
    }
}

fn subnet<'a>(
    network: &Network,
    resource: &'a Resource,
    subnets: &mut Vec<(IpNet, &'a Resource)>,
    found: &mut Diagnostics,
) {
    let ipv4 = network
        .ipv4
        .address
        .net()
        .map(|net| (IpNet::V4(net.trunc()), "/spec/ipv4/address"));
    let ipv6 = network
        .ipv6
        .address
        .net()
        .map(|net| (IpNet::V6(net.trunc()), "/spec/ipv6/address"));
    for (net, at) in ipv4.into_iter().chain(ipv6) {
        let at = Pointer::new(at);
        let overlaps =
            |other: &IpNet| other.contains(&net.network()) || net.contains(&other.network());
        if let Some((other, first)) = subnets.iter().find(|(other, _)| overlaps(other)) {
            found.push(
                Diagnostic::error(
                    TAKEN,
                    resource.origin_of(&at),
                    format!("subnet {net} overlaps {other} of {}", first.address),
                )
                .of(&resource.address)
                .related(first.origin_of(&at), "first claimed here")
                .at(at),
            );
        } else {
            subnets.push((net, resource));
        }
    }
}

fn inside(
    desired: &DesiredSet,
    resource: &Resource,
    network: &str,
    address: Ipv4Addr,
    at: &Pointer,
    found: &mut Diagnostics,
) {
    let Some(written) = super::network_plans::network_of(desired, &resource.address, network)
    else {
        return;
    };
    let Some(net) = written.ipv4.address.net() else {
        return;
    };
    let wrong = if !net.contains(&address) {
        format!("{address} is not in {} of network {network}", net.trunc())
    } else if IpAddr::V4(address) == IpAddr::V4(net.addr()) {
        format!("{address} is the address of network {network} itself")
    } else if address == net.network() || address == net.broadcast() {
        format!(
            "{address} cannot be an address of a host in {}",
            net.trunc()
        )
    } else {
        return;
    };
    found.push(
        Diagnostic::error(OUTSIDE, resource.origin_of(at), wrong)
            .of(&resource.address)
            .at(at.clone()),
    );
}
