//! What nf_tables says cheaply: the number of the ruleset's generation, and the names of the tables.
//!
//! Rules are written and read by `nft`; this answers in microseconds whether anything can have changed since.
//! Source: `include/uapi/linux/netfilter/nf_tables.h`.

use netlink_sys::protocols;

use super::codec::{Message, attributes, text};
use super::{Connection, NetlinkError};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 1;
const NFT_MSG_GETGEN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 16;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_GEN_ID: u16 = 1;
/// `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;

/// A table of nf_tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// `inet`, `bridge`, `ip`, `ip6`, `arp`, `netdev`.
    pub family: &'static str,
    /// Its name.
    pub name: String,
}

/// A netlink socket to nf_tables.
#[derive(Debug)]
pub struct Tables(Connection);

impl Tables {
    /// Opens one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or gave no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Connection::new(protocols::NETLINK_NETFILTER).map(Self)
    }

    /// The generation: any committed change of any table of the namespace makes it larger.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn generation(&mut self) -> Result<Option<u32>, NetlinkError> {
        let mut request = Message::new(
            NFT_MSG_GETGEN,
            0,
            &[0; HEADER],
            "read the nf_tables generation",
        );
        self.0.query(&mut request, |payload| {
            attributes(payload, HEADER)
                .find(|(kind, _)| *kind == NFTA_GEN_ID)
                .and_then(|(_, value)| Some(u32::from_be_bytes(value.try_into().ok()?)))
        })
    }

    /// All tables.
    ///
    /// # Errors
    /// The kernel refused the list.
    pub fn list(&mut self) -> Result<Vec<Table>, NetlinkError> {
        let mut request = Message::new(NFT_MSG_GETTABLE, 0, &[0; HEADER], "list nf_tables tables");
        self.0.dump(&mut request, |_, payload| {
            let family = match i32::from(*payload.first()?) {
                1 => "inet",
                libc::AF_INET => "ip",
                3 => "arp",
                5 => "netdev",
                libc::AF_BRIDGE => "bridge",
                libc::AF_INET6 => "ip6",
                _ => "other",
            };
            let (_, name) =
                attributes(payload, HEADER).find(|(kind, _)| *kind == NFTA_TABLE_NAME)?;
            Some(Table {
                family,
                name: text(name),
            })
        })
    }
}
