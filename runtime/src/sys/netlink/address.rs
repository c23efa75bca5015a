//! Addresses of links.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::codec::{Message, attributes, u32_at};
use super::{CREATE_EXCLUSIVE, Connection, NetlinkError};

// include/uapi/linux/if_addr.h
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// Usable at once, without asking the others whether it is taken: the subnet is ours.
const IFA_F_NODAD: u8 = 0x02;
const IFA_F_PERMANENT: u32 = 0x80;
/// Length of `struct ifaddrmsg`.
const HEADER: usize = 8;

/// One address of one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Number of the link.
    pub link: u32,
    /// Address and length of the prefix.
    pub address: IpNet,
    /// Whether it was set by somebody; otherwise it came by router advertisement or runs out by itself.
    pub permanent: bool,
    /// Whether it is of use on its link only (IPv6 `fe80::`, IPv4 `169.254`).
    pub link_local: bool,
}

/// The family of an address as the kernel numbers it.
pub(super) fn family(address: IpAddr) -> u8 {
    u8::try_from(match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    })
    .unwrap_or_default()
}

/// The bytes of an address in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address of four or sixteen bytes.
pub(super) fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|bytes| Ipv6Addr::from(bytes).into())
}

fn read(payload: &[u8]) -> Option<Address> {
    let prefix = *payload.get(1)?;
    let mut flags = u32::from(*payload.get(2)?);
    let (mut local, mut address) = (None, None);
    for (kind, value) in attributes(payload, HEADER) {
        match kind {
            IFA_LOCAL => local = from_octets(value),
            IFA_ADDRESS => address = from_octets(value),
            IFA_FLAGS => flags = u32_at(value, 0),
            _ => {}
        }
    }
    // IFA_ADDRESS is the other end on point-to-point links; IPv6 sends no IFA_LOCAL otherwise.
    let address = IpNet::new(local.or(address)?, prefix).ok()?;
    Some(Address {
        link: u32_at(payload, 4),
        link_local: match address.addr() {
            IpAddr::V4(a) => a.is_link_local(),
            IpAddr::V6(a) => a.is_unicast_link_local(),
        },
        address,
        permanent: flags & IFA_F_PERMANENT != 0,
    })
}

fn request(kind: u16, flags: u16, link: u32, address: IpNet, doing: &str) -> Message {
    let mut header = [0; HEADER];
    header[0] = family(address.addr());
    header[1] = address.prefix_len();
    if address.addr().is_ipv6() {
        header[2] = IFA_F_NODAD;
    }
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    let mut message = Message::new(
        kind,
        flags,
        &header,
        format!("{doing} {address} (link {link})"),
    );
    message.put(IFA_LOCAL, &octets(address.addr()));
    message.put(IFA_ADDRESS, &octets(address.addr()));
    if let IpNet::V4(address) = address
        && address.prefix_len() < 31
    {
        message.put(IFA_BROADCAST, &address.broadcast().octets());
    }
    message
}

impl Connection {
    /// All addresses of the namespace.
    ///
    /// # Errors
    /// The kernel refused the list.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let mut request = Message::new(RTM_GETADDR, 0, &[0; HEADER], "list addresses");
        self.dump(&mut request, |_, payload| read(payload))
    }

    /// Gives an address to a link; one that is there already is fine.
    ///
    /// # Errors
    /// There is no such link, or the kernel refused.
    pub fn add_address(&mut self, link: u32, address: IpNet) -> Result<(), NetlinkError> {
        match self.perform(&mut [request(
            RTM_NEWADDR,
            CREATE_EXCLUSIVE,
            link,
            address,
            "add address",
        )]) {
            Err(error) if error.is_exists() => Ok(()),
            other => other,
        }
    }

    /// Takes an address from a link; one that is gone already is fine.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn delete_address(&mut self, link: u32, address: IpNet) -> Result<(), NetlinkError> {
        match self.perform(&mut [request(RTM_DELADDR, 0, link, address, "delete address")]) {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }
}
