//! Bridges with DHCP, DNS and NAT; ports of instances.
//!
//! To add a driver: write `<name>.rs` with an `impl NetworkDriver`, add its variant to [`DriverKind`] and its arm to
//! [`open`]. Everything else asks the trait only.
//!
//! What touches the host and is not a thing of ours: the switches that `forwarding.rs` turns and puts back. Tables,
//! chains and bridges of others are read at most.

pub mod addresses;
mod bridge;
pub mod dnsmasq;
pub mod forwarding;
mod macvtap;
pub mod nft;
mod plan;
pub mod port;
pub mod ruleset;
mod seen;
mod watched;

#[cfg(test)]
mod element_tests;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod host_tests;
#[cfg(test)]
mod macvtap_tests;
#[cfg(test)]
mod spoof_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use ipnet::IpNet;

use crate::sys::netlink::{Namespace, NamespaceError, NetlinkError};

pub use self::bridge::Bridge;
pub use self::plan::{
    Dhcp4Plan, Dhcp6Plan, DnsMode, DnsPlan, Filtering, GuestPlan, Ipv4Plan, Ipv6Plan, NetworkHost,
    NetworkPlan, PortPlan, RateLimits, Reservation,
};
pub use self::seen::{BridgeSeen, GuestSeen, LinkOwner, NetworkSeen, OverSeen, PortSeen};

/// The namespaces of running guests by the name of the link on the host's side.
pub type Guests = BTreeMap<String, Namespace>;

/// A network could not be looked at or brought to where it shall be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A link of the name is there and is not ours.
    #[error("interface {interface} is not ours{}", alias.as_ref().map(|a| format!(" (its alias is {a:?})")).unwrap_or_default())]
    Foreign {
        /// Its name.
        interface: String,
        /// Its alias.
        alias: Option<String>,
    },
    /// The subnet is used by the host already.
    #[error("subnet {subnet} of {interface} overlaps {other} on {by}")]
    Overlap {
        /// The network's bridge.
        interface: String,
        /// Its subnet.
        subnet: IpNet,
        /// The host's subnet or route.
        other: IpNet,
        /// The interface that has it.
        by: String,
    },
    /// A link that the plan names is not there.
    #[error("no interface {interface}")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// The kernel refused something about links.
    #[error("set up interfaces")]
    Netlink(#[from] NetlinkError),
    /// A tap or macvtap could not be made or opened.
    #[error("make the tap {interface}")]
    Tap {
        /// Its name.
        interface: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A guest's namespace cannot be entered.
    #[error("reach the guest's network")]
    Namespace(#[from] NamespaceError),
    /// The rules.
    #[error("set up nftables")]
    Firewall(#[from] nft::NftError),
    /// DHCP and DNS.
    #[error("set up DHCP and DNS")]
    Dnsmasq(#[from] dnsmasq::DnsmasqError),
    /// Forwarding.
    #[error("set up forwarding")]
    Forwarding(#[from] forwarding::ForwardingError),
}

/// What a kind of network can do. Every method is idempotent and may be called again after a crash at any point.
pub trait NetworkDriver: Send + Sync {
    /// Reads how the network and its ports are; `guests` are those that run.
    ///
    /// # Errors
    /// The world cannot be read; that something is missing or foreign is no error.
    fn seen(&self, plan: &NetworkPlan, guests: &Guests) -> Result<NetworkSeen, NetworkError>;

    /// Makes the network as it shall be, with the rules and reservations of all its ports. Answers whether it changed
    /// anything. Call it once for a batch of ports, before they are attached.
    ///
    /// # Errors
    /// Something of that name is not ours, a subnet is taken, or the kernel or a program refused.
    fn ensure(&self, plan: &NetworkPlan) -> Result<bool, NetworkError>;

    /// A subnet that the host does not use, for `auto`; the caller keeps the answer.
    ///
    /// # Errors
    /// The kernel lists no addresses.
    fn pick_ipv4(&self, seed: &str) -> Result<Option<ipnet::Ipv4Net>, NetworkError>;

    /// As [`NetworkDriver::pick_ipv4`], a /64.
    ///
    /// # Errors
    /// The kernel lists no addresses.
    fn pick_ipv6(&self, seed: &str) -> Result<Option<ipnet::Ipv6Net>, NetworkError>;

    /// Makes one port as it shall be: the pair of links, its place in the network, isolation, limits.
    ///
    /// # Errors
    /// A name is taken, the network or the guest is gone.
    fn attach(
        &self,
        plan: &NetworkPlan,
        port: &PortPlan,
        guest: &Namespace,
    ) -> Result<port::Attached, NetworkError>;

    /// As [`NetworkDriver::attach`], for a virtual machine: a tap; the answer is handed to the machine.
    ///
    /// # Errors
    /// A name is taken, the network is gone.
    fn attach_tap(&self, plan: &NetworkPlan, port: &PortPlan) -> Result<OwnedFd, NetworkError>;

    /// Brings the host's side of a running machine's port to where it shall be; `false`: it has none.
    ///
    /// # Errors
    /// A name is taken, the network is gone.
    fn repair_tap(&self, plan: &NetworkPlan, port: &PortPlan) -> Result<bool, NetworkError>;

    /// Takes a port out of the network at once; what is left of it goes with the guest's namespace.
    ///
    /// # Errors
    /// The kernel refused.
    fn detach(&self, host_interface: &str, mark: &str) -> Result<Option<port::Gone>, NetworkError>;

    /// Deletes a port whose guest lives on.
    ///
    /// # Errors
    /// The kernel refused.
    fn unplug(&self, host_interface: &str, mark: &str) -> Result<(), NetworkError>;

    /// Deletes what is left of the ports of a mark, but for those on these interfaces of the host.
    ///
    /// # Errors
    /// The kernel refused.
    fn unplug_others(&self, mark: &str, kept: &BTreeSet<String>) -> Result<(), NetworkError>;

    /// Takes interfaces of the host out of a bridge of ours that they are in.
    ///
    /// # Errors
    /// The kernel refused.
    fn release_external(
        &self,
        interface: &str,
        mark: &str,
        names: &[String],
    ) -> Result<(), NetworkError>;

    /// Removes what bears the mark, and nothing else.
    ///
    /// # Errors
    /// The kernel or a program refused.
    fn remove(&self, interface: &str, mark: &str) -> Result<(), NetworkError>;
}

/// The kinds of networks that this engine can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// A bridge of the kernel.
    Bridge,
}

/// The driver of a kind.
pub fn open(kind: DriverKind, host: NetworkHost) -> Box<dyn NetworkDriver> {
    match kind {
        DriverKind::Bridge => Box::new(Bridge::new(host)),
    }
}
