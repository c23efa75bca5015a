//! What nf_tables does cheaply: the number of the ruleset's generation, the names of the tables, elements of sets.
//!
//! Rules are written and read by `nft`; this answers in microseconds whether anything can have changed since, and
//! changes elements. A socket to nf_tables should be kept: closing one waits until what was deleted meanwhile is freed,
//! some 8 ms (`nft_rcv_nl_event` of `net/netfilter/nf_tables_api.c`), which each run of `nft` does at its end.
//! Source: `include/uapi/linux/netfilter/nf_tables.h`, `nfnetlink.h`.

use netlink_sys::protocols;

use super::codec::{Message, attributes, text};
use super::{Connection, NetlinkError};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 1;
const NFT_MSG_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_MSG_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
const NFT_MSG_GETGEN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 16;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_BATCH_GENID: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_GEN_ID: u16 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
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

/// The families, as nft and as the kernel name them (`NFPROTO_*`).
const FAMILIES: [(&str, u8); 6] = [
    ("inet", 1),
    ("ip", 2),
    ("arp", 3),
    ("netdev", 5),
    ("bridge", 7),
    ("ip6", 10),
];

/// An attribute is shorter than 64 KiB, and the longest element (two keys of 16 bytes) takes 44.
const MOST_ELEMENTS: usize = 1000;

/// Elements that a set of a table shall lose and get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementChange {
    /// As [`Table::family`].
    pub family: &'static str,
    /// Name of the table.
    pub table: String,
    /// Name of the set.
    pub set: &'static str,
    /// Keys of elements that are there: the parts of a concatenation each filled up to four bytes.
    pub delete: Vec<Vec<u8>>,
    /// Keys of elements that are not there.
    pub add: Vec<Vec<u8>>,
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
            let number = *payload.first()?;
            let family = FAMILIES.iter().find(|(_, n)| *n == number);
            let family = family.map_or("other", |(name, _)| name);
            let (_, name) =
                attributes(payload, HEADER).find(|(kind, _)| *kind == NFTA_TABLE_NAME)?;
            Some(Table {
                family,
                name: text(name),
            })
        })
    }

    /// Deletes and adds elements in one transaction, if the ruleset is still of a generation.
    ///
    /// # Errors
    /// The kernel refused, and nothing was changed: somebody changed the ruleset meanwhile, a set is not there, an
    /// element is there or not. The socket is of no use afterwards, more answers may follow.
    pub fn change_elements(
        &mut self,
        generation: u32,
        changes: &[ElementChange],
    ) -> Result<(), NetlinkError> {
        // `res_id` of the header of a batch is the subsystem, in network order.
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        let edge = |kind| Message::new(kind, 0, &[0, 0, high, low], "change nf_tables");
        let mut begin = edge(NFNL_MSG_BATCH_BEGIN);
        begin.put(NFNL_BATCH_GENID, &generation.to_be_bytes());
        let mut requests = Vec::new();
        for change in changes {
            let verbs = [
                (NFT_MSG_DELSETELEM, 0, &change.delete),
                (NFT_MSG_NEWSETELEM, super::CREATE, &change.add),
            ];
            for (kind, flags, keys) in verbs {
                let chunks = keys.chunks(MOST_ELEMENTS);
                requests.extend(chunks.map(|keys| elements(kind, flags, change, keys)));
            }
        }
        self.0
            .transact(&mut begin, &mut requests, &mut edge(NFNL_MSG_BATCH_END))
    }
}

fn elements(kind: u16, flags: u16, change: &ElementChange, keys: &[Vec<u8>]) -> Message {
    let family = FAMILIES.iter().find(|(name, _)| *name == change.family);
    let header = [family.map_or(0, |(_, number)| *number), 0, 0, 0];
    let ElementChange { table, set, .. } = change;
    let doing = format!("change elements of set {set} of nftables table {table}");
    let mut message = Message::new(kind, flags, &header, doing);
    message.put_text(NFTA_SET_ELEM_LIST_TABLE, table);
    message.put_text(NFTA_SET_ELEM_LIST_SET, set);
    message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        for key in keys {
            list.nest(NFTA_LIST_ELEM, |element| {
                element.nest(NFTA_SET_ELEM_KEY, |value| value.put(NFTA_DATA_VALUE, key));
            });
        }
    });
    message
}
