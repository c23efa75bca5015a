//! [`NetworkForward`]: ports of an outer address led to instances.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::desired::Reference;
use crate::kind::{Kind, ResourceKind};
use crate::pointer::Pointer;
use crate::scalar::ports::PortList;
use crate::scalar::text::Text;

crate::words! {
    /// Which packets.
    pub enum ForwardProtocol {
        /// TCP.
        Tcp "tcp",
        /// UDP.
        Udp "udp",
    }
}

crate::fields! {
    /// Ports that are led on.
    pub struct ForwardPort {
        /// Of which protocol.
        protocol: ForwardProtocol = ForwardProtocol::Tcp,
        /// The ports that are called.
        listen_port: PortList = PortList::default(),
        /// The ports that they are led to: as many, or one; absent: the same.
        target_port: Option<PortList> = None,
        /// The address that they are led to; absent: that of the forward.
        target_address: Option<IpAddr> = None,
        /// Whether the target sees the listen address as sender.
        snat: bool = false,
        /// Free text.
        description: String = String::new(),
    }
}

crate::fields! {
    /// Ports of an outer address led to instances.
    pub struct NetworkForward {
        /// Free text.
        description: String = String::new(),
        /// The network in which the targets are.
        network: String = String::new(),
        /// The outer address.
        listen_address: Option<IpAddr> = None,
        /// Where all ports are led that `ports` does not name; absent: nowhere.
        target_address: Option<IpAddr> = None,
        /// Ports that are led on.
        ports: Vec<ForwardPort> = Vec::new(),
        /// Keys of Incus that are newer than this language; refused by the native engine.
        config: BTreeMap<String, Text> = BTreeMap::new(),
    }
}

impl ResourceKind for NetworkForward {
    fn references(&self, out: &mut Vec<Reference>) {
        if !self.network.is_empty() {
            out.push(Reference {
                kind: Kind::Network,
                pool: None,
                name: self.network.clone(),
                at: Pointer::new("/spec/network"),
            });
        }
    }
}
