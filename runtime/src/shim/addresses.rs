//! Addresses and routes that keel gave a container's interfaces, as the kernel tells them, to be set again after a
//! restart.

use std::os::fd::AsFd;

use super::failure::Failure;
use super::route_netlink::{attributes, dump, number, perform};

// <linux/rtnetlink.h>, <linux/if_addr.h>, <linux/netlink.h>
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const CREATE: u16 = 0x400;
/// Length of `struct ifaddrmsg`: family, prefix length, flags, scope, index.
const ADDRESS: usize = 8;
/// Length of `struct rtmsg`: family, three lengths and a type of service, table, protocol, scope, type, flags.
const ROUTE: usize = 12;
const SCOPE_LINK: u8 = 253;
const TABLE_MAIN: u8 = 254;
/// The highest protocol number of routes that are not made by somebody's will: unspecified, redirect, kernel.
const PROTOCOL_KERNEL: u8 = 2;
const PROTOCOL_ROUTER_ADVERTISEMENT: u8 = 9;
const RTA_OIF: u16 = 4;
/// What of an address is set again: address, local, broadcast, flags.
const ADDRESS_ATTRIBUTES: [u16; 4] = [1, 2, 4, 8];
/// What of a route is set again: destination, interface, gateway, priority, source, metrics, table, gateway of the
/// other family, preference.
const ROUTE_ATTRIBUTES: [u16; 9] = [1, RTA_OIF, 5, 6, 7, 8, 15, 18, 20];
/// `RTNH_F_ONLINK`: the only flag of a route that is asked for and not told.
const ON_LINK: u32 = 4;

/// An address or a route: its interface by name, since numbers change, and the rest as the kernel told it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    link: Vec<u8>,
    fixed: Vec<u8>,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Addresses and routes of a network namespace that somebody set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    addresses: Vec<Item>,
    routes: Vec<Item>,
}

impl Addresses {
    /// Reads those of the interfaces that `name` knows by their numbers.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn read(socket: impl AsFd, name: &dyn Fn(u32) -> Option<Vec<u8>>) -> Result<Self, Failure> {
        let (addresses, routes) = ((RTM_GETADDR, RTM_NEWADDR), (RTM_GETROUTE, RTM_NEWROUTE));
        Ok(Self {
            addresses: dump(&socket, addresses, &[0; ADDRESS], "the addresses", |body| {
                address(body, name)
            })?,
            routes: dump(&socket, routes, &[0; ROUTE], "the routes", |body| {
                route(body, name)
            })?,
        })
    }

    /// Sets them in a namespace whose interfaces `index` knows by their names. What cannot be set is left out: the
    /// container runs all the same, and the difference shows as drift.
    pub fn write(&self, socket: impl AsFd, index: &dyn Fn(&[u8]) -> Option<u32>) {
        for address in &self.addresses {
            if let Some(index) = index(&address.link) {
                let mut fixed = address.fixed.clone();
                if let Some(place) = fixed.get_mut(4..8) {
                    place.copy_from_slice(&index.to_ne_bytes());
                }
                let _ = set(&socket, RTM_NEWADDR, &fixed, &address.attributes);
            }
        }
        for route in &self.routes {
            if let Some(index) = index(&route.link) {
                let mut attributes = route.attributes.clone();
                for (kind, value) in &mut attributes {
                    if *kind == RTA_OIF {
                        *value = index.to_ne_bytes().to_vec();
                    }
                }
                let _ = set(&socket, RTM_NEWROUTE, &route.fixed, &attributes);
            }
        }
    }
}

fn set(
    socket: impl AsFd,
    kind: u16,
    fixed: &[u8],
    attributes: &[(u16, Vec<u8>)],
) -> Result<(), i32> {
    let attributes: Vec<(u16, &[u8])> = attributes
        .iter()
        .map(|(kind, value)| (*kind, &value[..]))
        .collect();
    perform(socket, kind, CREATE, fixed, &attributes)
}

fn kept(body: &[u8], fixed: usize, wanted: &[u16]) -> Vec<(u16, Vec<u8>)> {
    attributes(body, fixed)
        .filter(|(kind, _)| wanted.contains(kind))
        .map(|(kind, value)| (kind, value.to_vec()))
        .collect()
}

/// An address, unless the kernel made it itself (link-local ones of IPv6).
fn address(body: &[u8], name: &dyn Fn(u32) -> Option<Vec<u8>>) -> Option<Item> {
    let fixed = body.get(..ADDRESS)?;
    if fixed[3] == SCOPE_LINK {
        return None;
    }
    Some(Item {
        link: name(number(body, 4)?)?,
        fixed: fixed.to_vec(),
        attributes: kept(body, ADDRESS, &ADDRESS_ATTRIBUTES),
    })
}

/// A route of the main table, unless the kernel or a router made it.
fn route(body: &[u8], name: &dyn Fn(u32) -> Option<Vec<u8>>) -> Option<Item> {
    let mut fixed = body.get(..ROUTE)?.to_vec();
    let (table, protocol) = (fixed[4], fixed[5]);
    if table != TABLE_MAIN
        || protocol <= PROTOCOL_KERNEL
        || protocol == PROTOCOL_ROUTER_ADVERTISEMENT
    {
        return None;
    }
    let flags = number(body, 8)? & ON_LINK;
    fixed[8..].copy_from_slice(&flags.to_ne_bytes());
    let (_, interface) = attributes(body, ROUTE).find(|(kind, _)| *kind == RTA_OIF)?;
    Some(Item {
        link: name(number(interface, 0)?)?,
        fixed,
        attributes: kept(body, ROUTE, &ROUTE_ATTRIBUTES),
    })
}

#[cfg(test)]
mod tests {
    use super::super::route_netlink::{message, messages};
    use super::*;

    fn eth0(index: u32) -> Option<Vec<u8>> {
        (index == 7).then(|| b"eth0".to_vec())
    }

    fn body(message: &[u8]) -> &[u8] {
        messages(message).next().unwrap().1
    }

    #[test]
    fn addresses_of_our_interfaces_are_kept_and_those_of_the_kernel_are_not() {
        let local: &[(u16, &[u8])] = &[(2, &[10, 0, 0, 2]), (6, &[0; 16])];
        let told =
            |scope, index| message(RTM_NEWADDR, 0, &[2, 24, 0, scope, index, 0, 0, 0], local);
        let kept = address(body(&told(0, 7)), &eth0).unwrap();
        assert_eq!(kept.link, b"eth0");
        assert_eq!(kept.attributes, [(2, vec![10, 0, 0, 2])]);
        assert_eq!(address(body(&told(SCOPE_LINK, 7)), &eth0), None);
        assert_eq!(address(body(&told(0, 1)), &eth0), None);
    }

    #[test]
    fn routes_that_somebody_set_are_kept() {
        let through: &[(u16, &[u8])] = &[(5, &[10, 0, 0, 1]), (RTA_OIF, &[7, 0, 0, 0]), (12, &[0])];
        let told = |protocol, flags| {
            let fixed = [2, 0, 0, 0, TABLE_MAIN, protocol, 0, 1, flags, 0, 0, 0];
            message(RTM_NEWROUTE, 0, &fixed, through)
        };
        // 16 is RTNH_F_LINKDOWN, which the kernel tells and does not take.
        let kept = route(body(&told(3, 16 | 4)), &eth0).unwrap();
        assert_eq!(kept.fixed[8..], [4, 0, 0, 0]);
        assert_eq!(kept.attributes.len(), 2);
        assert_eq!(route(body(&told(2, 0)), &eth0), None);
    }
}
