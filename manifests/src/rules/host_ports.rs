//! No two listen on one port of the host.

use std::net::IpAddr;

use super::unique_addresses::TAKEN;
use super::{Rule, devices, wrong};
use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::devices::proxy::ProxyBind;
use crate::diagnostic::Diagnostics;
use crate::kind::Spec;
use crate::kinds::network_forward::ForwardProtocol;
use crate::pointer::Pointer;
use crate::scalar::ports::PortList;
use crate::scalar::proxy_address::ProxyAddress;

/// Ports that proxies listen on and that forwards take.
pub(super) struct HostPorts;

/// Somebody who listens.
struct Claim<'a> {
    resource: &'a Resource,
    at: Pointer,
    protocol: &'static str,
    address: IpAddr,
    ports: Vec<(u16, u16)>,
}

impl Rule for HostPorts {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        let mut claims: Vec<Claim<'_>> = Vec::new();
        let mut sockets: Vec<(&str, &Resource, Pointer)> = Vec::new();
        for resource in desired.resources.values() {
            match &resource.spec {
                Spec::Instance(instance) => {
                    for (_, device, at) in devices(instance) {
                        let Device::Proxy(proxy) = device else {
                            continue;
                        };
                        if proxy.bind != ProxyBind::Host {
                            continue;
                        }
                        let at = at.field("listen");
                        let mut claim = |protocol, address: IpAddr, ports: &PortList| {
                            claims.push(Claim {
                                resource,
                                at: at.clone(),
                                protocol,
                                address,
                                ports: ports.ranges().to_vec(),
                            });
                        };
                        match &proxy.listen {
                            Some(ProxyAddress::Tcp(address, ports)) => {
                                claim("tcp", *address, ports);
                            }
                            Some(ProxyAddress::Udp(address, ports)) => {
                                claim("udp", *address, ports);
                            }
                            Some(ProxyAddress::Unix(path)) => sockets.push((path, resource, at)),
                            None => {}
                        }
                    }
                }
                Spec::NetworkForward(forward) => {
                    let Some(address) = forward.listen_address else {
                        continue;
                    };
                    for (index, port) in forward.ports.iter().enumerate() {
                        claims.push(Claim {
                            resource,
                            at: Pointer::new("/spec/ports").index(index),
                            protocol: match port.protocol {
                                ForwardProtocol::Tcp => "tcp",
                                ForwardProtocol::Udp => "udp",
                            },
                            address,
                            ports: port.listen_port.ranges().to_vec(),
                        });
                    }
                }
                _ => {}
            }
        }
        // By protocol and first port, so that only neighbours are compared.
        let mut runs: Vec<(&str, u16, u16, &Claim<'_>)> = claims
            .iter()
            .flat_map(|claim| {
                let each = |(first, last): &(u16, u16)| (claim.protocol, *first, *last, claim);
                claim.ports.iter().map(each).collect::<Vec<_>>()
            })
            .collect();
        runs.sort_by_key(|(protocol, first, last, _)| (*protocol, *first, *last));
        let mut open: Vec<(&str, u16, &Claim<'_>)> = Vec::new();
        for (protocol, first, last, claim) in runs {
            open.retain(|(other, until, _)| *other == protocol && *until >= first);
            if let Some((_, _, other)) = open
                .iter()
                .find(|(_, _, other)| meet(other.address, claim.address))
            {
                found.push(
                    wrong(
                        TAKEN,
                        claim.resource,
                        claim.at.clone(),
                        format!(
                            "{protocol} port {first} of the host ({}) is claimed by {} already",
                            claim.address, other.resource.address
                        ),
                    )
                    .related(other.resource.origin_of(&other.at), "first claimed here"),
                );
            }
            open.push((protocol, last, claim));
        }
        sockets.sort_by_key(|(path, _, _)| *path);
        for pair in sockets.windows(2) {
            let [(path, first, first_at), (other, resource, at)] = pair else {
                continue;
            };
            if path == other {
                found.push(
                    wrong(
                        TAKEN,
                        resource,
                        at.clone(),
                        format!(
                            "the socket {path} of the host is claimed by {} already",
                            first.address
                        ),
                    )
                    .related(first.origin_of(first_at), "first claimed here"),
                );
            }
        }
    }
}

/// Whether listening on both at once fails: the same address, or one that stands for all of the family. A socket on
/// `::` takes IPv4 as well (ipv6(7), IPV6_V6ONLY).
fn meet(one: IpAddr, other: IpAddr) -> bool {
    let all = |address: IpAddr| address.is_unspecified();
    one == other
        || match (one, other) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                all(one) || all(other)
            }
            (IpAddr::V6(_), IpAddr::V4(_)) => all(one),
            (IpAddr::V4(_), IpAddr::V6(_)) => all(other),
        }
}
