//! Routes of the main table.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::{family, from_octets, octets};
use super::codec::{Message, attributes, u32_at};
use super::{CREATE_OR_REPLACE, Connection, NetlinkError};

// include/uapi/linux/rtnetlink.h
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
/// Set by a person or a program on their behalf, as `ip route` writes it.
const RTPROT_BOOT: u8 = 3;
const RTPROT_KERNEL: u8 = 2;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
/// Length of `struct rtmsg`.
const HEADER: usize = 12;

/// One unicast route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to; the default route has prefix length 0.
    pub destination: IpNet,
    /// The next host; absent: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Numbers of the links that it leads through (several for a multipath route).
    pub links: Vec<u32>,
    /// Whether the kernel made it because of an address.
    pub by_kernel: bool,
}

/// A route that shall be there, or shall be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTarget {
    /// Where to.
    pub destination: IpNet,
    /// The next host; absent: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Number of the link.
    pub link: u32,
}

fn read(payload: &[u8]) -> Option<Route> {
    let (family, prefix) = (i32::from(*payload.first()?), *payload.get(1)?);
    let mut table = u32::from(*payload.get(4)?);
    let mut route = Route {
        destination: IpNet::new(
            match family {
                libc::AF_INET => IpAddr::from([0; 4]),
                libc::AF_INET6 => IpAddr::from([0; 16]),
                _ => return None,
            },
            prefix,
        )
        .ok()?,
        gateway: None,
        links: Vec::new(),
        by_kernel: *payload.get(5)? == RTPROT_KERNEL,
    };
    for (kind, value) in attributes(payload, HEADER) {
        match kind {
            RTA_DST => route.destination = IpNet::new(from_octets(value)?, prefix).ok()?,
            RTA_GATEWAY => route.gateway = from_octets(value),
            RTA_OIF => route.links.push(u32_at(value, 0)),
            RTA_TABLE => table = u32_at(value, 0),
            RTA_MULTIPATH => {
                // struct rtnexthop: length (u16), flags, hops, link (i32), then attributes of that hop.
                let mut rest = value;
                while rest.len() >= 8 {
                    let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
                    route.links.push(u32_at(rest, 4));
                    if length < 8 || length >= rest.len() {
                        break;
                    }
                    rest = &rest[(length + 3) & !3..];
                }
            }
            _ => {}
        }
    }
    (table == u32::from(RT_TABLE_MAIN) && *payload.get(7)? == RTN_UNICAST).then_some(route)
}

fn request(kind: u16, flags: u16, route: RouteTarget, doing: &str) -> Message {
    let mut header = [0; HEADER];
    header[0] = family(route.destination.addr());
    header[1] = route.destination.prefix_len();
    header[4] = RT_TABLE_MAIN;
    header[5] = RTPROT_BOOT;
    header[6] = match (kind, route.gateway) {
        (RTM_DELROUTE, _) => RT_SCOPE_NOWHERE,
        (_, Some(_)) => RT_SCOPE_UNIVERSE,
        (_, None) => RT_SCOPE_LINK,
    };
    header[7] = RTN_UNICAST;
    let mut message = Message::new(
        kind,
        flags,
        &header,
        format!("{doing} {} (link {})", route.destination, route.link),
    );
    if route.destination.prefix_len() > 0 {
        message.put(RTA_DST, &octets(route.destination.network()));
    }
    if let Some(gateway) = route.gateway {
        message.put(RTA_GATEWAY, &octets(gateway));
    }
    message.put_u32(RTA_OIF, route.link);
    message
}

impl Connection {
    /// All unicast routes of the main table, both families.
    ///
    /// # Errors
    /// The kernel refused the list.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut request = Message::new(RTM_GETROUTE, 0, &[0; HEADER], "list routes");
        self.dump(&mut request, |_, payload| read(payload))
    }

    /// Adds a route, or changes the one to that destination.
    ///
    /// # Errors
    /// The gateway is out of reach, or there is no such link.
    pub fn set_route(&mut self, route: RouteTarget) -> Result<(), NetlinkError> {
        self.perform(&mut [request(RTM_NEWROUTE, CREATE_OR_REPLACE, route, "set route")])
    }

    /// Removes a route; one that is gone already is fine.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn delete_route(&mut self, route: RouteTarget) -> Result<(), NetlinkError> {
        match self.perform(&mut [request(RTM_DELROUTE, 0, route, "delete route")]) {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }
}
