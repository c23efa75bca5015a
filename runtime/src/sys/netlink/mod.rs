//! The kernel's network by netlink: links, addresses, routes, traffic control, sets of nf_tables.
//!
//! Blocking and short: each call is one request with its acknowledgement, or one dump. A [`Connection`] speaks to the
//! network namespace in which it was opened, whatever thread uses it later.

mod address;
mod codec;
mod link;
mod namespace;
mod route;
mod tables;
mod traffic;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use netlink_sys::{Socket, SocketAddr, protocols};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use self::codec::{Message, attributes, messages, text, u32_at};

pub use self::address::Address;
pub use self::link::{
    HardwareAddress, InvalidHardwareAddress, Link, LinkChange, NewLink, NewMacvtap, NewVeth,
};
pub use self::namespace::{Namespace, NamespaceError};
pub use self::route::{Route, RouteTarget};
pub use self::tables::{ElementChange, Table, Tables};
pub use self::traffic::Shaped;

/// `NLM_F_*` and message types of `include/uapi/linux/netlink.h`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP_INTERRUPTED: u16 = 0x10;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const CREATE_EXCLUSIVE: u16 = 0x600;
const CREATE_OR_REPLACE: u16 = 0x500;
/// `RTNLGRP_*` of `include/uapi/linux/rtnetlink.h`.
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_TC: u32 = 4;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
/// `NFNLGRP_NFTABLES` of `include/uapi/linux/netfilter/nfnetlink.h`.
const NFNLGRP_NFTABLES: u32 = 7;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
/// Says that the acknowledgement carries attributes, and that it does not repeat the request.
const ACK_ATTRIBUTES: u16 = 0x200;
const ACK_CAPPED: u16 = 0x100;

/// The kernel sends at most 32 KiB at once in a dump (`netlink_dump`), less in acknowledgements.
const BUFFER: usize = 64 * 1024;

/// How often a dump that others changed meanwhile is begun again.
const DUMP_ATTEMPTS: usize = 10;

/// A guest makes as many addresses and routes as it likes; looking at it must not cost what it chooses.
const MOST_IN_A_GUEST: usize = 4096;

/// What the kernel did not do.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed, not the request.
    #[error("{doing} a netlink socket")]
    Socket {
        /// `open`, `send to`, `read from`.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("could not {doing}{}{explanation}", if explanation.is_empty() { "" } else { ": " })]
    Refused {
        /// The request in words.
        doing: String,
        /// The kernel's own words, if it had any.
        explanation: String,
        /// The error number.
        source: io::Error,
    },
    /// A dump was disturbed by other changes too often.
    #[error("{doing} was disturbed by other changes")]
    Disturbed {
        /// The request in words.
        doing: String,
    },
    /// A list is longer than one of a guest may be. The connection is of no use any more.
    #[error("{doing}: there are more than {MOST_IN_A_GUEST}")]
    TooMany {
        /// The request in words.
        doing: String,
    },
}

impl NetlinkError {
    /// The error number of a refused request.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Disturbed { .. } | Self::TooMany { .. } => None,
        }
    }

    /// Whether the thing that was asked for is there already.
    pub fn is_exists(&self) -> bool {
        self.raw_os_error() == Some(libc::EEXIST)
    }

    /// Whether the thing that was spoken of is not there.
    pub fn is_missing(&self) -> bool {
        matches!(
            self.raw_os_error(),
            Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL)
        )
    }
}

/// A netlink socket of one network namespace.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    sequence: u32,
    /// The longest list that is read.
    most: usize,
}

impl Connection {
    /// Opens one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gave no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::new(protocols::NETLINK_ROUTE)
    }

    /// Opens one in another network namespace: a short-lived thread enters it, the socket stays there.
    ///
    /// # Errors
    /// The namespace could not be entered, or gave no socket.
    pub fn open_in(namespace: &Namespace) -> Result<Self, NetlinkError> {
        elsewhere(namespace.run(|| Self::new(protocols::NETLINK_ROUTE)))
    }

    /// Opens one in each of many network namespaces of guests, in their order, by one thread. Of what a guest may have
    /// many they read a bounded number.
    ///
    /// # Errors
    /// Each answer has its own, as of [`open_in`](Self::open_in).
    pub fn open_in_each(namespaces: &[&Namespace]) -> Vec<Result<Self, NetlinkError>> {
        if namespaces.is_empty() {
            return Vec::new();
        }
        let open = || {
            let mut connection = Self::new(protocols::NETLINK_ROUTE)?;
            connection.most = MOST_IN_A_GUEST;
            Ok(connection)
        };
        Namespace::run_each(namespaces, open)
            .into_iter()
            .map(elsewhere)
            .collect()
    }

    /// Opens one that hears of every change of a link; see [`wait`](Self::wait).
    ///
    /// # Errors
    /// The kernel gave no socket, or does not tell.
    pub fn open_monitor() -> Result<Self, NetlinkError> {
        Self::listening(protocols::NETLINK_ROUTE, &[RTNLGRP_LINK])
    }

    /// Opens one that hears of every change of a link, an address, a route, or of traffic control; see
    /// [`wait`](Self::wait).
    ///
    /// # Errors
    /// The kernel gave no socket, or does not tell.
    pub fn open_monitor_of_all() -> Result<Self, NetlinkError> {
        let groups = [
            RTNLGRP_LINK,
            RTNLGRP_TC,
            RTNLGRP_IPV4_IFADDR,
            RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV6_IFADDR,
            RTNLGRP_IPV6_ROUTE,
        ];
        Self::listening(protocols::NETLINK_ROUTE, &groups)
    }

    /// Opens one that hears of every change of a table of nf_tables; see [`wait`](Self::wait).
    ///
    /// # Errors
    /// The kernel gave no socket, or does not tell.
    pub fn open_monitor_of_tables() -> Result<Self, NetlinkError> {
        Self::listening(protocols::NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])
    }

    fn listening(protocol: isize, groups: &[u32]) -> Result<Self, NetlinkError> {
        let connection = Self::new(protocol)?;
        for group in groups {
            connection
                .socket
                .add_membership(*group)
                .map_err(|source| NetlinkError::Socket {
                    doing: "listen to",
                    source,
                })?;
        }
        Ok(connection)
    }

    /// Readable when there is news on a monitor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for news on a monitor, at most so long, and takes all that are there. Answers whether any came.
    ///
    /// # Errors
    /// The socket failed. News that were lost because nobody read them count as news.
    pub fn wait(&mut self, patience: std::time::Duration) -> Result<bool, NetlinkError> {
        let mut timeout = Timespec::try_from(patience).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        let mut any = false;
        loop {
            let descriptor = self.socket.as_fd();
            match poll(
                &mut [PollFd::new(&descriptor, PollFlags::IN)],
                Some(&timeout),
            ) {
                Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(any),
                Ok(_) => match self.receive() {
                    Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return Err(error),
                    _ => any = true,
                },
                Err(error) => {
                    return Err(NetlinkError::Socket {
                        doing: "wait for",
                        source: error.into(),
                    });
                }
            }
            timeout = Timespec::default();
        }
    }

    fn new(protocol: isize) -> Result<Self, NetlinkError> {
        let open = |source| NetlinkError::Socket {
            doing: "open",
            source,
        };
        let mut socket = Socket::new(protocol).map_err(open)?;
        socket.bind_auto().map_err(open)?;
        // Kernels since 4.12 know both; without them only the words in errors are lost.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        sockopt::set_socket_recv_buffer_size(socket.as_fd(), 1 << 20)
            .map_err(|e| open(e.into()))?;
        Ok(Self {
            socket,
            sequence: 0,
            most: usize::MAX,
        })
    }

    /// Sends requests in one datagram and waits for all acknowledgements; answers the first refusal.
    ///
    /// The kernel performs the later ones even when an earlier one fails, so only what may stand alone goes together.
    fn perform(&mut self, requests: &mut [Message]) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for request in requests.iter_mut() {
            self.sequence = self.sequence.wrapping_add(1);
            datagram.extend_from_slice(request.finish(REQUEST | ACK, self.sequence));
        }
        self.send(&datagram)?;
        let mut missing = requests.len();
        let mut refusal = None;
        while missing > 0 {
            let bytes = self.receive()?;
            for message in messages(&bytes) {
                let index = message.sequence.wrapping_sub(first) as usize;
                let (TYPE_ERROR, Some(request)) = (message.kind, requests.get(index)) else {
                    continue;
                };
                missing -= 1;
                if refusal.is_none() {
                    refusal = refused(&message, &request.doing);
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Sends requests of nfnetlink in one datagram between the two ends of a batch: the kernel does all or none of
    /// them. What is wrong with the batch as a whole is answered to its begin, at once. After a refusal the socket may
    /// hold further answers.
    fn transact(
        &mut self,
        begin: &mut Message,
        requests: &mut [Message],
        end: &mut Message,
    ) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = begin.finish(REQUEST, first).to_vec();
        self.sequence = first;
        for request in requests.iter_mut() {
            self.sequence = self.sequence.wrapping_add(1);
            datagram.extend_from_slice(request.finish(REQUEST | ACK, self.sequence));
        }
        self.sequence = self.sequence.wrapping_add(1);
        datagram.extend_from_slice(end.finish(REQUEST, self.sequence));
        self.send(&datagram)?;
        let mut missing = requests.len();
        while missing > 0 {
            let bytes = self.receive()?;
            for message in messages(&bytes).iter().filter(|m| m.kind == TYPE_ERROR) {
                let request = match message.sequence.wrapping_sub(first) as usize {
                    0 => &*begin,
                    index => match requests.get(index - 1) {
                        Some(request) => request,
                        None => continue,
                    },
                };
                if let Some(refusal) = refused(message, &request.doing) {
                    return Err(refusal);
                }
                missing -= 1;
            }
        }
        Ok(())
    }

    /// Asks for a list and gives each message of it to `take`, again from the start when it was disturbed.
    fn dump<T>(
        &mut self,
        request: &mut Message,
        take: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        'attempt: for _ in 0..DUMP_ATTEMPTS {
            self.sequence = self.sequence.wrapping_add(1);
            let datagram = request.finish(REQUEST | DUMP, self.sequence).to_vec();
            self.send(&datagram)?;
            let mut found = Vec::new();
            let mut disturbed = false;
            loop {
                let bytes = self.receive()?;
                for message in messages(&bytes) {
                    if message.sequence != self.sequence {
                        continue;
                    }
                    disturbed |= message.flags & DUMP_INTERRUPTED != 0;
                    match message.kind {
                        TYPE_DONE if disturbed => continue 'attempt,
                        TYPE_DONE => return Ok(found),
                        TYPE_ERROR => {
                            return match refused(&message, &request.doing) {
                                Some(error) => Err(error),
                                None => Ok(found),
                            };
                        }
                        kind => found.extend(take(kind, message.payload)),
                    }
                    if found.len() > self.most {
                        return Err(NetlinkError::TooMany {
                            doing: request.doing.clone(),
                        });
                    }
                }
            }
        }
        Err(NetlinkError::Disturbed {
            doing: request.doing.clone(),
        })
    }

    /// Asks for one thing; what is not there is `None`.
    fn query<T>(
        &mut self,
        request: &mut Message,
        take: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let datagram = request.finish(REQUEST, self.sequence).to_vec();
        self.send(&datagram)?;
        loop {
            let bytes = self.receive()?;
            for message in messages(&bytes) {
                if message.sequence != self.sequence {
                    continue;
                }
                return match message.kind {
                    TYPE_ERROR => match refused(&message, &request.doing) {
                        Some(error) if error.is_missing() => Ok(None),
                        Some(error) => Err(error),
                        None => Ok(None),
                    },
                    _ => Ok(take(message.payload)),
                };
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> Result<(), NetlinkError> {
        self.socket
            .send_to(datagram, &SocketAddr::new(0, 0), 0)
            .map(drop)
            .map_err(|source| NetlinkError::Socket {
                doing: "send to",
                source,
            })
    }

    fn receive(&self) -> Result<Vec<u8>, NetlinkError> {
        loop {
            let mut bytes = Vec::with_capacity(BUFFER);
            match self.socket.recv(&mut bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(NetlinkError::Socket {
                        doing: "read from",
                        source,
                    });
                }
                Ok(_) => return Ok(bytes),
            }
        }
    }
}

/// One error out of two: that of entering, or that of opening.
fn elsewhere(
    result: Result<Result<Connection, NetlinkError>, NamespaceError>,
) -> Result<Connection, NetlinkError> {
    result.unwrap_or_else(|error| {
        Err(NetlinkError::Socket {
            doing: "open in another namespace",
            source: io::Error::other(error),
        })
    })
}

/// The error of an acknowledgement, with the kernel's words; `None` is success.
fn refused(message: &codec::Received<'_>, doing: &str) -> Option<NetlinkError> {
    let number = u32_at(message.payload, 0).cast_signed();
    if number == 0 {
        return None;
    }
    let mut explanation = String::new();
    if message.flags & ACK_ATTRIBUTES != 0 {
        let request = if message.flags & ACK_CAPPED == 0 {
            (u32_at(message.payload, 4) as usize).max(codec::HEADER)
        } else {
            codec::HEADER
        };
        // NLMSGERR_ATTR_MSG
        if let Some((_, words)) =
            attributes(message.payload, 4 + request).find(|(kind, _)| *kind == 1)
        {
            explanation = text(words);
        }
    }
    Some(NetlinkError::Refused {
        doing: doing.to_owned(),
        explanation,
        source: io::Error::from_raw_os_error(-number),
    })
}
