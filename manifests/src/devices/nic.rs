//! [`Nic`]: a network interface.

use crate::scalar::prefix::Prefix;

use crate::scalar::address::{NicIpv4, NicIpv6};
use crate::scalar::mac::Mac;
use crate::scalar::rate::BitRate;

crate::words! {
    /// How an interface is joined to the host, where it names no `network`.
    pub enum NicType {
        /// A veth pair with its host end on the bridge `parent`.
        Bridged "bridged",
        /// A macvlan of `parent`.
        Macvlan "macvlan",
        /// An ipvlan of `parent`.
        Ipvlan "ipvlan",
        /// A veth pair with routes to its addresses.
        Routed "routed",
        /// A veth pair of which the host end is left alone.
        P2p "p2p",
        /// The interface `parent` itself.
        Physical "physical",
        /// A virtual function of `parent`.
        Sriov "sriov",
    }
}

crate::fields! {
    /// How fast an interface may be.
    pub struct NicLimits {
        /// Into the instance.
        ingress: Option<BitRate> = None,
        /// Out of the instance.
        egress: Option<BitRate> = None,
        /// Both; stands for `ingress` and `egress` alike.
        max: Option<BitRate> = None,
        /// The priority of its packets, `skb->priority`.
        priority: Option<u32> = None,
    }
}

crate::fields! {
    /// Whether packets from addresses that are not the interface's own are dropped.
    pub struct Filtering {
        /// Hardware addresses.
        mac: bool = true,
        /// IPv4 and ARP.
        ipv4: bool = true,
        /// IPv6 and neighbour discovery.
        ipv6: bool = true,
    }
}

crate::fields! {
    /// A network interface of an instance.
    pub struct Nic {
        /// The network that it joins.
        network: Option<String> = None,
        /// How it is joined to the host, where it names no `network`.
        nic_type: Option<NicType> = None,
        /// The bridge or interface of the host, where it names no `network`.
        parent: Option<String> = None,
        /// Its name in the instance, at most 15 characters; absent: the name of the device.
        name: Option<String> = None,
        /// Its hardware address; absent: derived once and kept.
        hwaddr: Option<Mac> = None,
        /// The largest packet in bytes; absent: as its bridge or parent.
        mtu: Option<u32> = None,
        /// The VLAN of its packets.
        vlan: Option<u16> = None,
        /// Its IPv4 address.
        ipv4: NicIpv4 = NicIpv4::default(),
        /// Its IPv6 address; one that is written needs `ipv6.stateful` on the network.
        ipv6: NicIpv6 = NicIpv6::default(),
        /// How fast it may be.
        limits: NicLimits = NicLimits::default(),
        /// Whether it reaches only the host and not its neighbours on the bridge.
        isolated: bool = false,
        /// Which false senders are dropped.
        filtering: Filtering = Filtering::default(),
        /// Prefixes that are led to this interface.
        routes: Vec<Prefix> = Vec::new(),
        /// NetworkAcls that count for it.
        acls: Vec<String> = Vec::new(),
        /// Whether the cable is plugged in.
        connected: bool = true,
    }
}

impl Nic {
    /// Its name in the instance.
    pub fn interface<'a>(&'a self, device: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(device)
    }
}
