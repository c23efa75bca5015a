//! How a network is: what was read, with enough detail to name every field that differs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::dnsmasq::{DnsmasqSeen, Lease};
use super::forwarding::Switch;
use super::nft::FirewallSeen;
use super::plan::RateLimits;
use crate::sys::netlink::HardwareAddress;

/// Whose a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkOwner {
    /// There is none of the name.
    Missing,
    /// Ours.
    Ours,
    /// Somebody else's, with its alias.
    Foreign(Option<String>),
}

/// A network as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSeen {
    /// Whose the link of the bridge's name is.
    pub owner: LinkOwner,
    /// The bridge; absent where it is missing or foreign.
    pub bridge: Option<BridgeSeen>,
    /// The rules: NAT, firewall, filters of ports.
    pub firewall: FirewallSeen,
    /// DHCP and DNS; absent where the network needs none and none runs.
    pub dnsmasq: Option<DnsmasqSeen>,
    /// Files of reservations and names that are missing, different or not wished for.
    pub stale_reservations: Vec<String>,
    /// Addresses that guests hold by DHCP.
    pub leases: Vec<Lease>,
    /// Switches of the kernel that do not hold what the network needs.
    pub forwarding: Vec<Switch>,
    /// Ports of the plan by the name of their link.
    pub ports: BTreeMap<String, PortSeen>,
}

impl NetworkSeen {
    /// Whether nothing of ours is there at all.
    pub fn is_absent(&self) -> bool {
        self.owner == LinkOwner::Missing
            && self.firewall == FirewallSeen::Missing
            && matches!(self.dnsmasq, None | Some(DnsmasqSeen::Dead))
    }
}

/// A bridge of ours as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSeen {
    /// Whether it is a bridge at all.
    pub kind: Option<String>,
    /// The alias that it has; empty in the moment after its making.
    pub alias: Option<String>,
    /// Hardware address.
    pub hwaddr: Option<HardwareAddress>,
    /// Whether it is switched on.
    pub up: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it listens to multicast membership.
    pub multicast_snooping: Option<bool>,
    /// Addresses that somebody set, without link-local ones.
    pub addresses: Vec<IpNet>,
    /// Destinations of routes through it that somebody set.
    pub routes: Vec<IpNet>,
    /// Links in it that are no ports of ours.
    pub external_interfaces: Vec<String>,
    /// Ports of ours in it that the plan does not know.
    pub unexpected_ports: Vec<String>,
}

/// A port as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSeen {
    /// Whose the link on the host's side is.
    pub owner: LinkOwner,
    /// Whether it is in the bridge of the network.
    pub in_bridge: bool,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether the guest's end is on too.
    pub carrier: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// What it is over, where it is a macvtap.
    pub over: Option<OverSeen>,
    /// Whether it reaches no other isolated port.
    pub isolated: bool,
    /// How fast it may be.
    pub limits: RateLimits,
    /// Those of its routes that the host has.
    pub routes: Vec<IpNet>,
    /// The guest's end, where the guest runs and has it.
    pub guest: Option<GuestSeen>,
    /// Why the guest's end could not be looked at; the guest itself can bring that about.
    pub guest_unknown: Option<String>,
}

/// A macvtap as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverSeen {
    /// Name of the link that it is over; absent: that is out of sight.
    pub parent: Option<String>,
    /// The hardware address to which packets reach it.
    pub hwaddr: Option<HardwareAddress>,
}

/// The guest's end of a port as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSeen {
    /// Its name in the guest.
    pub interface: String,
    /// Hardware address.
    pub hwaddr: Option<HardwareAddress>,
    /// Whether it is switched on.
    pub up: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// All addresses but link-local ones.
    pub addresses: Vec<IpNet>,
    /// Routers of default routes through it.
    pub gateways: Vec<IpAddr>,
    /// Other routes through it that somebody set.
    pub routes: Vec<(IpNet, Option<IpAddr>)>,
}
