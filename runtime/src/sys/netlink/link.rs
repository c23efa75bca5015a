//! Links: bridges, veth pairs, ifb, macvtaps; their settings and their place in a bridge.

use std::fmt;
use std::os::fd::AsRawFd as _;
use std::str::FromStr;

use super::codec::{Message, attributes, text, u32_at};
use super::{CREATE_EXCLUSIVE, Connection, Namespace, NetlinkError};
use std::os::fd::AsFd as _;

// include/uapi/linux/if_link.h, rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER: u16 = 33;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_EUI64: u8 = 0;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const MACVLAN_MODE_BRIDGE: u32 = 4;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;
/// Length of `struct ifinfomsg`.
const HEADER: usize = 16;

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardwareAddress(pub [u8; 6]);

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Text that is not six bytes in hexadecimal with colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: {0:?}")]
pub struct InvalidHardwareAddress(String);

impl FromStr for HardwareAddress {
    type Err = InvalidHardwareAddress;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidHardwareAddress(written.to_owned());
        let mut bytes = [0; 6];
        let mut parts = written.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(invalid)?;
            // from_str_radix would take a sign too.
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(Self(bytes))
    }
}

/// One network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number in its namespace.
    pub index: u32,
    /// Name in its namespace.
    pub name: String,
    /// `ifalias`: free text; our mark is written there.
    pub alias: Option<String>,
    /// `bridge`, `veth`, …; hardware has none.
    pub kind: Option<String>,
    /// Hardware address, where it has six bytes.
    pub hwaddr: Option<HardwareAddress>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it was switched on.
    pub up: bool,
    /// Whether the other end is on too.
    pub carrier: bool,
    /// Number of the bridge in which it is.
    pub master: Option<u32>,
    /// Of a veth: number of the other end in *its* namespace. Of a macvtap or a VLAN: of the link that it is over.
    pub peer: Option<u32>,
    /// Of a port of a bridge: whether it reaches no other isolated port.
    pub isolated: Option<bool>,
    /// Of a bridge: whether it listens to multicast membership.
    pub multicast_snooping: Option<bool>,
}

/// A bridge or an ifb that shall come to be, switched off.
#[derive(Debug, Clone)]
pub struct NewLink<'a> {
    /// At most 15 bytes.
    pub name: &'a str,
    /// `bridge` or `ifb`.
    pub kind: &'a str,
    /// Hardware address from the first moment on.
    pub hwaddr: HardwareAddress,
    /// Largest packet in bytes; absent: the kernel's choice.
    pub mtu: Option<u32>,
}

/// A veth pair that shall come to be: the other end in the guest's namespace, both switched off.
#[derive(Debug)]
pub struct NewVeth<'a> {
    /// Name of our end.
    pub name: &'a str,
    /// Hardware address of our end.
    pub hwaddr: HardwareAddress,
    /// Name of the guest's end.
    pub guest_name: &'a str,
    /// Hardware address of the guest's end.
    pub guest_hwaddr: HardwareAddress,
    /// Where the guest's end is born; it never exists in ours.
    pub guest: &'a Namespace,
    /// Largest packet in bytes, of both ends.
    pub mtu: Option<u32>,
}

/// A macvtap that shall come to be, switched off: beside others of its parent, which it reaches.
#[derive(Debug, Clone)]
pub struct NewMacvtap<'a> {
    /// At most 15 bytes.
    pub name: &'a str,
    /// Number of the link that it is over.
    pub parent: u32,
    /// Hardware address from the first moment on.
    pub hwaddr: HardwareAddress,
    /// Largest packet in bytes; absent: that of the parent.
    pub mtu: Option<u32>,
}

/// What shall be different about a link; absent fields stay.
#[derive(Debug, Clone, Default)]
pub struct LinkChange<'a> {
    /// The new name. Kernels before 6.2 refuse it for a link that is up.
    pub name: Option<&'a str>,
    /// Text of the alias.
    pub alias: Option<&'a str>,
    /// On or off.
    pub up: Option<bool>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Hardware address.
    pub hwaddr: Option<HardwareAddress>,
    /// Number of the bridge to be in, 0 for none.
    pub master: Option<u32>,
    /// Isolation of a port; the link must be in a bridge.
    pub isolated: Option<bool>,
    /// Multicast snooping of a bridge.
    pub multicast_snooping: Option<bool>,
    /// Whether the kernel gives it an IPv6 address of its own.
    pub link_local: Option<bool>,
}

fn header(index: u32, flags: u32, mask: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

fn read(payload: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_at(payload, 4),
        name: String::new(),
        alias: None,
        kind: None,
        hwaddr: None,
        mtu: 0,
        up: u32_at(payload, 8) & IFF_UP != 0,
        carrier: false,
        master: None,
        peer: None,
        isolated: None,
        multicast_snooping: None,
    };
    for (kind, value) in attributes(payload, HEADER) {
        match kind {
            IFLA_ADDRESS => link.hwaddr = value.try_into().ok().map(HardwareAddress),
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = u32_at(value, 0),
            IFLA_LINK => link.peer = Some(u32_at(value, 0)),
            IFLA_MASTER => link.master = Some(u32_at(value, 0)),
            IFLA_IFALIAS => link.alias = Some(text(value)),
            IFLA_CARRIER => link.carrier = value.first() == Some(&1),
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value, 0) {
                    match kind {
                        IFLA_INFO_KIND => link.kind = Some(text(value)),
                        IFLA_INFO_DATA if link.kind.as_deref() == Some("bridge") => {
                            link.multicast_snooping = flag(value, IFLA_BR_MCAST_SNOOPING);
                        }
                        IFLA_INFO_SLAVE_DATA => link.isolated = flag(value, IFLA_BRPORT_ISOLATED),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn flag(nested: &[u8], wanted: u16) -> Option<bool> {
    attributes(nested, 0)
        .find(|(kind, _)| *kind == wanted)
        .and_then(|(_, value)| value.first().map(|byte| *byte != 0))
}

impl Connection {
    /// All links of the namespace.
    ///
    /// # Errors
    /// The kernel refused the list.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut request = Message::new(RTM_GETLINK, 0, &header(0, 0, 0), "list links");
        request.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        self.dump(&mut request, |_, payload| read(payload))
    }

    /// One link by its name.
    ///
    /// # Errors
    /// The kernel refused to look.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let doing = format!("look for link {name}");
        let mut request = Message::new(RTM_GETLINK, 0, &header(0, 0, 0), doing);
        request.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        request.put_text(IFLA_IFNAME, name);
        self.query(&mut request, read)
    }

    /// One link by its number.
    ///
    /// # Errors
    /// The kernel refused to look.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let doing = format!("look for link {index}");
        let mut request = Message::new(RTM_GETLINK, 0, &header(index, 0, 0), doing);
        request.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        self.query(&mut request, read)
    }

    /// Makes a bridge or an ifb.
    ///
    /// # Errors
    /// The name is taken, or the kernel does not know the kind.
    pub fn create_link(&mut self, link: &NewLink<'_>) -> Result<(), NetlinkError> {
        let doing = format!("create {} {}", link.kind, link.name);
        let mut request = Message::new(RTM_NEWLINK, CREATE_EXCLUSIVE, &header(0, 0, 0), doing);
        request.put_text(IFLA_IFNAME, link.name);
        request.put(IFLA_ADDRESS, &link.hwaddr.0);
        if let Some(mtu) = link.mtu {
            request.put_u32(IFLA_MTU, mtu);
        }
        request.nest(IFLA_LINKINFO, |m| m.put_text(IFLA_INFO_KIND, link.kind));
        self.perform(&mut [request])
    }

    /// Makes a macvtap.
    ///
    /// # Errors
    /// The name is taken; the parent is gone, is no Ethernet, is in a bridge, or takes no packets of this size; the
    /// kernel does not know the kind.
    pub fn create_macvtap(&mut self, link: &NewMacvtap<'_>) -> Result<(), NetlinkError> {
        let doing = format!("create macvtap {}", link.name);
        let mut request = Message::new(RTM_NEWLINK, CREATE_EXCLUSIVE, &header(0, 0, 0), doing);
        request.put_text(IFLA_IFNAME, link.name);
        request.put(IFLA_ADDRESS, &link.hwaddr.0);
        request.put_u32(IFLA_LINK, link.parent);
        if let Some(mtu) = link.mtu {
            request.put_u32(IFLA_MTU, mtu);
        }
        request.nest(IFLA_LINKINFO, |m| {
            m.put_text(IFLA_INFO_KIND, "macvtap");
            m.nest(IFLA_INFO_DATA, |m| {
                m.put_u32(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
            });
        });
        self.perform(&mut [request])
    }

    /// Makes a veth pair over two namespaces.
    ///
    /// # Errors
    /// A name is taken on either side, or the guest's namespace is gone.
    pub fn create_veth(&mut self, veth: &NewVeth<'_>) -> Result<(), NetlinkError> {
        let doing = format!(
            "create veth {} with {} in the guest",
            veth.name, veth.guest_name
        );
        let mut request = Message::new(RTM_NEWLINK, CREATE_EXCLUSIVE, &header(0, 0, 0), doing);
        request.put_text(IFLA_IFNAME, veth.name);
        request.put(IFLA_ADDRESS, &veth.hwaddr.0);
        if let Some(mtu) = veth.mtu {
            request.put_u32(IFLA_MTU, mtu);
        }
        request.nest(IFLA_LINKINFO, |m| {
            m.put_text(IFLA_INFO_KIND, "veth");
            m.nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    // Not up yet: veth_open refuses with ENOTCONN before it knows its other end.
                    m.raw(&header(0, 0, 0));
                    m.put_text(IFLA_IFNAME, veth.guest_name);
                    m.put(IFLA_ADDRESS, &veth.guest_hwaddr.0);
                    m.put(
                        IFLA_NET_NS_FD,
                        &veth.guest.as_fd().as_raw_fd().to_ne_bytes(),
                    );
                    if let Some(mtu) = veth.mtu {
                        m.put_u32(IFLA_MTU, mtu);
                    }
                });
            });
        });
        self.perform(&mut [request])
    }

    /// Changes a link.
    ///
    /// # Errors
    /// There is no such link, or the kernel refused one of the changes; some may have been made.
    pub fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), NetlinkError> {
        let doing = format!("change link {index}");
        let (flags, mask) = match change.up {
            Some(true) => (IFF_UP, IFF_UP),
            Some(false) => (0, IFF_UP),
            None => (0, 0),
        };
        let mut request = Message::new(RTM_NEWLINK, 0, &header(index, flags, mask), doing.as_str());
        if let Some(name) = change.name {
            request.put_text(IFLA_IFNAME, name);
        }
        if let Some(alias) = change.alias {
            request.put_text(IFLA_IFALIAS, alias);
        }
        if let Some(mtu) = change.mtu {
            request.put_u32(IFLA_MTU, mtu);
        }
        if let Some(hwaddr) = change.hwaddr {
            request.put(IFLA_ADDRESS, &hwaddr.0);
        }
        if let Some(master) = change.master {
            request.put_u32(IFLA_MASTER, master);
        }
        if let Some(wanted) = change.link_local {
            let mode = if wanted {
                IN6_ADDR_GEN_MODE_EUI64
            } else {
                IN6_ADDR_GEN_MODE_NONE
            };
            request.nest(IFLA_AF_SPEC, |m| {
                m.nest(u16::try_from(libc::AF_INET6).unwrap_or_default(), |m| {
                    m.put(IFLA_INET6_ADDR_GEN_MODE, &[mode]);
                });
            });
        }
        if let Some(snooping) = change.multicast_snooping {
            request.nest(IFLA_LINKINFO, |m| {
                m.put_text(IFLA_INFO_KIND, "bridge");
                m.nest(IFLA_INFO_DATA, |m| {
                    m.put(IFLA_BR_MCAST_SNOOPING, &[u8::from(snooping)]);
                });
            });
        }
        let mut requests = vec![request];
        if let Some(isolated) = change.isolated {
            let mut request = Message::new(RTM_NEWLINK, 0, &header(index, 0, 0), doing);
            request.nest(IFLA_LINKINFO, |m| {
                m.put_text(IFLA_INFO_SLAVE_KIND, "bridge");
                m.nest(IFLA_INFO_SLAVE_DATA, |m| {
                    m.put(IFLA_BRPORT_ISOLATED, &[u8::from(isolated)]);
                });
            });
            requests.push(request);
        }
        self.perform(&mut requests)
    }

    /// Deletes a link; one that is gone already is fine. A veth takes the kernel some 30 ms, in which others wait.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let doing = format!("delete link {index}");
        match self.perform(&mut [Message::new(RTM_DELLINK, 0, &header(index, 0, 0), doing)]) {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_and_shown() {
        for (written, valid) in [
            ("10:66:6a:00:0a:ff", true),
            ("10:66:6a:00:0a", false),
            ("10:66:6a:00:0a:ff:00", false),
            ("10:66:6a:00:0a:+f", false),
            ("1066:6a:00:0a:ff", false),
            ("", false),
        ] {
            let parsed = written.parse::<HardwareAddress>();
            assert_eq!(parsed.is_ok(), valid, "{written}");
            if let Ok(address) = parsed {
                assert_eq!(address.to_string(), written);
            }
        }
    }
}
