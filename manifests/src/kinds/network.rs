//! [`Network`]: what instances join.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::desired::Reference;
use crate::kind::{Kind, ResourceKind};
use crate::pointer::Pointer;
use crate::scalar::address::{Subnet4, Subnet6};
use crate::scalar::expiry::Expiry;
use crate::scalar::ip_range::{IpRange4, IpRange6};
use crate::scalar::mac::Mac;
use crate::scalar::prefix::{Prefix4, Prefix6};
use crate::scalar::text::Text;

crate::words! {
    /// What a network is.
    pub enum NetworkType {
        /// A bridge of the host.
        Bridge "bridge",
        /// Macvlans of an interface of the host.
        Macvlan "macvlan",
        /// Ipvlans of an interface of the host.
        Ipvlan "ipvlan",
        /// An interface of the host.
        Physical "physical",
        /// Virtual functions of an interface of the host.
        Sriov "sriov",
        /// A virtual network over many hosts (Incus).
        Ovn "ovn",
    }
}

macro_rules! reservation {
    ($name:ident, $address:ty) => {
        crate::fields! {
            /// An address that is kept for somebody.
            pub struct $name {
                /// For this hardware address.
                hwaddr: Option<Mac> = None,
                /// This address.
                address: Option<$address> = None,
                /// Under this name in DNS.
                name: Option<String> = None,
            }
        }
    };
}

reservation!(Reservation4, Ipv4Addr);
reservation!(Reservation6, Ipv6Addr);

crate::fields! {
    /// DHCP for IPv4.
    pub struct Dhcp4 {
        /// Whether it is served.
        enabled: bool = true,
        /// The addresses that are given out: `10.20.0.100-10.20.0.200`; none: all of the network.
        ranges: Vec<IpRange4> = Vec::new(),
        /// How long a lease holds.
        expiry: Expiry = Expiry::from_seconds(3600),
        /// The gateway that is told; absent: the address of the network.
        gateway: Option<Ipv4Addr> = None,
        /// Addresses that are kept for somebody.
        reservations: Vec<Reservation4> = Vec::new(),
    }
}

crate::fields! {
    /// DHCP for IPv6.
    pub struct Dhcp6 {
        /// Whether it is served.
        enabled: bool = true,
        /// The addresses that are given out; none: all of the network.
        ranges: Vec<IpRange6> = Vec::new(),
        /// How long a lease holds.
        expiry: Expiry = Expiry::from_seconds(3600),
        /// Addresses that are kept for somebody.
        reservations: Vec<Reservation6> = Vec::new(),
    }
}

crate::fields! {
    /// IPv4 of a network.
    pub struct Ipv4 {
        /// The address of the host in it, with the length of the prefix; `none`; or `auto`: picked once and kept.
        address: Subnet4 = Subnet4::Auto,
        /// Whether what leaves it takes an address of the host.
        nat: bool = true,
        /// Which address; absent: that of the interface by which it leaves.
        nat_address: Option<Ipv4Addr> = None,
        /// DHCP.
        dhcp: Dhcp4 = Dhcp4::default(),
        /// Whether the firewall has rules for it.
        firewall: bool = true,
        /// Whether the host forwards for it.
        routing: bool = true,
        /// More prefixes that are led to it.
        routes: Vec<Prefix4> = Vec::new(),
    }
}

crate::fields! {
    /// IPv6 of a network.
    pub struct Ipv6 {
        /// The address of the host in it, with the length of the prefix; `none`; or `auto`: picked once and kept.
        address: Subnet6 = Subnet6::Auto,
        /// Whether what leaves it takes an address of the host.
        nat: bool = true,
        /// Which address; absent: that of the interface by which it leaves.
        nat_address: Option<Ipv6Addr> = None,
        /// DHCP.
        dhcp: Dhcp6 = Dhcp6::default(),
        /// Whether addresses are given by DHCP and not chosen by the instances.
        stateful: bool = false,
        /// Whether the firewall has rules for it.
        firewall: bool = true,
        /// Whether the host forwards for it.
        routing: bool = true,
        /// More prefixes that are led to it.
        routes: Vec<Prefix6> = Vec::new(),
    }
}

crate::words! {
    /// Which names DNS knows.
    pub enum DnsMode {
        /// The names of instances.
        Managed "managed",
        /// Names that guests tell.
        Dynamic "dynamic",
        /// None: DNS is not served.
        None "none",
    }
}

crate::fields! {
    /// DNS of a network.
    pub struct Dns {
        /// The domain of its names.
        domain: String = "keel".to_owned(),
        /// Which names it knows.
        mode: DnsMode = DnsMode::Managed,
        /// Servers that guests are told; none: the address of the network.
        nameservers: Vec<IpAddr> = Vec::new(),
        /// Domains in which guests search.
        search: Vec<String> = Vec::new(),
        /// More names: `{db: 10.20.0.5}`.
        hosts: BTreeMap<String, IpAddr> = BTreeMap::new(),
    }
}

crate::words! {
    /// What makes a bridge.
    pub enum BridgeDriver {
        /// The kernel.
        Native "native",
        /// Open vSwitch.
        Openvswitch "openvswitch",
    }
}

crate::fields! {
    /// The bridge of a network.
    pub struct Bridge {
        /// What makes it.
        driver: BridgeDriver = BridgeDriver::Native,
        /// The largest packet in bytes; absent: 1500.
        mtu: Option<u32> = None,
        /// Its hardware address; absent: derived once and kept.
        hwaddr: Option<Mac> = None,
        /// Interfaces of the host that are put on it.
        external_interfaces: Vec<String> = Vec::new(),
        /// Whether it listens which ports want multicast.
        multicast_snooping: bool = true,
    }
}

crate::words! {
    /// How a tunnel carries packets.
    pub enum TunnelProtocol {
        /// VXLAN.
        Vxlan "vxlan",
        /// GRE with Ethernet in it.
        Gre "gre",
    }
}

crate::fields! {
    /// A tunnel from a bridge to another host.
    pub struct Tunnel {
        /// How it carries packets.
        protocol: TunnelProtocol = TunnelProtocol::Vxlan,
        /// This end.
        local: Option<IpAddr> = None,
        /// The other end.
        remote: Option<IpAddr> = None,
        /// The number of a VXLAN.
        id: Option<u32> = None,
        /// The UDP port of a VXLAN.
        port: Option<u16> = None,
        /// The multicast group of a VXLAN without a remote end.
        group: Option<IpAddr> = None,
        /// The interface of the host that carries it.
        interface: Option<String> = None,
        /// How far its packets go.
        ttl: Option<u8> = None,
    }
}

crate::words! {
    /// What is done with packets that no rule speaks of.
    pub enum AclDefault {
        /// Refused with an answer.
        Reject "reject",
        /// Dropped without one.
        Drop "drop",
        /// Let through.
        Allow "allow",
    }
}

crate::fields! {
    /// What is done with packets that no rule of the NetworkAcls speaks of.
    pub struct AclDefaults {
        /// Into instances.
        ingress: AclDefault = AclDefault::Reject,
        /// Out of instances.
        egress: AclDefault = AclDefault::Reject,
        /// Whether that is logged.
        logged: bool = false,
    }
}

crate::fields! {
    /// What a network has on one member of a cluster.
    pub struct NetworkMember {
        /// The interface of the host there.
        parent: Option<String> = None,
        /// Interfaces of the host that are put on the bridge there.
        external_interfaces: Vec<String> = Vec::new(),
    }
}

crate::fields! {
    /// What instances join.
    pub struct Network {
        /// Free text.
        description: String = String::new(),
        /// What it is.
        r#type: NetworkType = NetworkType::Bridge,
        /// The interface of the host; absent: the name of the network if it fits 15 characters, else a short hash of it.
        interface: Option<String> = None,
        /// IPv4.
        ipv4: Ipv4 = Ipv4::default(),
        /// IPv6.
        ipv6: Ipv6 = Ipv6::default(),
        /// DNS.
        dns: Dns = Dns::default(),
        /// The bridge.
        bridge: Bridge = Bridge::default(),
        /// Tunnels to other hosts, by name.
        tunnels: BTreeMap<String, Tunnel> = BTreeMap::new(),
        /// NetworkAcls that count for all its interfaces.
        acls: Vec<String> = Vec::new(),
        /// What is done with packets that no rule speaks of.
        acl_defaults: AclDefaults = AclDefaults::default(),
        /// The interface of the host of a macvlan, ipvlan, physical or sriov network.
        parent: Option<String> = None,
        /// The VLAN of a macvlan, physical or sriov network.
        vlan: Option<u16> = None,
        /// The network by which an OVN network reaches others.
        uplink: Option<String> = None,
        /// What it has on members of a cluster, by their names.
        members: BTreeMap<String, NetworkMember> = BTreeMap::new(),
        /// Keys of Incus that are newer than this language; refused by the native engine.
        config: BTreeMap<String, Text> = BTreeMap::new(),
    }
}

impl ResourceKind for Network {
    fn references(&self, out: &mut Vec<Reference>) {
        for (index, acl) in self.acls.iter().enumerate() {
            out.push(Reference {
                kind: Kind::NetworkAcl,
                pool: None,
                name: acl.clone(),
                at: Pointer::new("/spec/acls").index(index),
            });
        }
        if let Some(uplink) = &self.uplink {
            out.push(Reference {
                kind: Kind::Network,
                pool: None,
                name: uplink.clone(),
                at: Pointer::new("/spec/uplink"),
            });
        }
    }
}
