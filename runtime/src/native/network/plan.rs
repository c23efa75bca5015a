//! What a network and its ports shall be: plain data, mapped from the desired state by the caller.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::native::cgroup::InstanceCgroups;
use crate::sys::netlink::HardwareAddress;

/// Where this engine keeps what belongs to its networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkHost {
    /// Tells state folders apart: eight hexadecimal digits or so; part of the names of tables.
    pub state_id: String,
    /// Survives a restart of the host: leases. May be 0700.
    pub state: PathBuf,
    /// Gone after a restart of the host: reservations, process numbers. dnsmasq reads it after it has given up being
    /// root, so every folder above must be 0711 at least.
    pub run: PathBuf,
    /// As `run`, but one for all state folders of the host: who switched forwarding on.
    pub shared: PathBuf,
    /// Where dnsmasq runs. Absent: where its caller does.
    pub cgroups: Option<InstanceCgroups>,
}

/// A bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Opaque text that says whose it is, written as alias of the link and into the tables; at most 120 bytes.
    pub mark: String,
    /// Name of the bridge, at most 15 bytes.
    pub interface: String,
    /// IPv4; absent: none.
    pub ipv4: Option<Ipv4Plan>,
    /// IPv6; absent: none.
    pub ipv6: Option<Ipv6Plan>,
    /// Names.
    pub dns: DnsPlan,
    /// Largest packet in bytes; absent: the kernel's choice.
    pub mtu: Option<u32>,
    /// Hardware address of the bridge; absent: derived from the mark.
    pub hwaddr: Option<HardwareAddress>,
    /// Links of the host that are put into the bridge.
    pub external_interfaces: Vec<String>,
    /// Whether the bridge listens to multicast membership.
    pub multicast_snooping: bool,
    /// Fixed addresses of others than instances.
    pub reservations: Vec<Reservation>,
    /// The NICs in it.
    pub ports: Vec<PortPlan>,
}

/// IPv4 of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4Plan {
    /// The bridge's address and the length of the prefix.
    pub address: Ipv4Net,
    /// Whether guests reach the outside under an address of the host.
    pub nat: bool,
    /// Which one; absent: that of the interface that the packet leaves by.
    pub nat_address: Option<Ipv4Addr>,
    /// DHCP; absent: none.
    pub dhcp: Option<Dhcp4Plan>,
    /// Whether rules accept what the network needs.
    pub firewall: bool,
    /// Whether packets are passed on between the network and the outside.
    pub routing: bool,
    /// More subnets that are reached through the bridge.
    pub routes: Vec<Ipv4Net>,
}

/// DHCP for IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp4Plan {
    /// First and last address given out; empty: the whole subnet but the bridge.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// For how many seconds a lease holds.
    pub expiry: u64,
    /// The router that guests are told; absent: the bridge.
    pub gateway: Option<Ipv4Addr>,
}

/// IPv6 of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6Plan {
    /// The bridge's address and the length of the prefix.
    pub address: Ipv6Net,
    /// Whether guests reach the outside under an address of the host.
    pub nat: bool,
    /// Which one; absent: that of the interface that the packet leaves by.
    pub nat_address: Option<Ipv6Addr>,
    /// DHCP and router advertisements; absent: neither.
    pub dhcp: Option<Dhcp6Plan>,
    /// Whether rules accept what the network needs.
    pub firewall: bool,
    /// Whether packets are passed on between the network and the outside.
    pub routing: bool,
    /// More subnets that are reached through the bridge.
    pub routes: Vec<Ipv6Net>,
}

/// Router advertisements, and DHCP for IPv6 where it is stateful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp6Plan {
    /// Whether addresses are given out; otherwise guests make their own in an advertised /64.
    pub stateful: bool,
    /// First and last address given out; empty: the whole subnet but the bridge.
    pub ranges: Vec<(Ipv6Addr, Ipv6Addr)>,
    /// For how many seconds a lease holds.
    pub expiry: u64,
}

/// Who names the guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsMode {
    /// Names of instances and reservations only.
    Managed,
    /// Also those that DHCP clients give themselves.
    Dynamic,
    /// No names of guests; questions are still passed on.
    None,
}

/// DNS of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsPlan {
    /// The zone of the guests, without dots at the ends.
    pub domain: String,
    /// Who names them.
    pub mode: DnsMode,
    /// Servers that guests are told; empty: the bridge's own address.
    pub nameservers: Vec<std::net::IpAddr>,
    /// Search domains that guests are told.
    pub search: Vec<String>,
    /// More names with their addresses.
    pub hosts: Vec<(String, Vec<std::net::IpAddr>)>,
}

/// Fixed addresses of a machine that is no instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Whose.
    pub hwaddr: HardwareAddress,
    /// Which.
    pub ipv4: Option<Ipv4Addr>,
    /// Which; needs a stateful network.
    pub ipv6: Option<Ipv6Addr>,
    /// Its name in the zone.
    pub name: Option<String>,
}

/// Bits per second, in each direction as the guest sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Into the guest.
    pub ingress: Option<u64>,
    /// Out of the guest.
    pub egress: Option<u64>,
}

/// What a guest may send from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filtering {
    /// Only its own hardware address.
    pub mac: bool,
    /// Only its own IPv4 address.
    pub ipv4: bool,
    /// Only its own IPv6 addresses, and no router advertisements.
    pub ipv6: bool,
}

/// One NIC of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPlan {
    /// As the network's mark, for the link on the host's side.
    pub mark: String,
    /// Name of the instance: its name in DNS.
    pub instance: String,
    /// Name of the link on the host's side; see [`host_interface`](super::addresses::host_interface).
    pub host_interface: String,
    /// Hardware address of the guest's end.
    pub hwaddr: HardwareAddress,
    /// The reserved address.
    pub ipv4: Option<Ipv4Addr>,
    /// The reserved address; needs a stateful network.
    pub ipv6: Option<Ipv6Addr>,
    /// Whether it has no IPv6 address of the network, reserved or made by itself.
    pub without_ipv6: bool,
    /// The link of the host that it is over, beside others of it; absent: it is a link of its own, in a bridge or alone.
    pub parent: Option<String>,
    /// Name of the guest's end, e.g. `eth0`.
    pub guest_interface: String,
    /// Largest packet in bytes; absent: that of the network.
    pub mtu: Option<u32>,
    /// Whether it reaches no other isolated port.
    pub isolated: bool,
    /// What it may send from.
    pub filtering: Filtering,
    /// How fast it may be.
    pub limits: RateLimits,
    /// Subnets of the outside of the guest that are reached through it; routed to its reserved address.
    pub routes: Vec<IpNet>,
    /// Whether the cable is plugged in.
    pub connected: bool,
}

/// What is set inside the guest for one NIC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestPlan {
    /// Addresses with their prefixes.
    pub addresses: Vec<IpNet>,
    /// Routers of the default routes.
    pub gateways: Vec<std::net::IpAddr>,
    /// More routes: destination, and the router if it is not on the link.
    pub routes: Vec<(IpNet, Option<std::net::IpAddr>)>,
}

impl GuestPlan {
    /// All routes, those on the link first: a router must be reachable when the route through it is set.
    pub fn all_routes(&self) -> impl Iterator<Item = (IpNet, Option<std::net::IpAddr>)> + '_ {
        let default = |gateway: &std::net::IpAddr| match gateway {
            std::net::IpAddr::V4(_) => IpNet::new_assert([0; 4].into(), 0),
            std::net::IpAddr::V6(_) => IpNet::new_assert([0; 16].into(), 0),
        };
        let gateways = self.gateways.iter().map(move |g| (default(g), Some(*g)));
        self.routes.iter().copied().chain(gateways)
    }
}
