//! Frames over a stream socket: magic, version, length, bytes; descriptors travel with the header.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::wire::{Wire, WireError};

const MAGIC: [u8; 4] = *b"keel";
const HEADER: usize = 12;

/// The kernel passes at most this many descriptors with one message (`SCM_MAX_FD`, include/net/scm.h).
pub const MOST_DESCRIPTORS: usize = 253;

/// The longest message that is accepted, in bytes.
const LONGEST: u32 = 8 << 20;

/// Why nothing could be sent or received.
#[derive(Debug)]
pub enum ChannelError {
    /// The other side has closed the socket, or ended.
    Closed,
    /// It was built for another version.
    Version {
        /// What it said.
        theirs: u32,
        /// What this build speaks.
        ours: u32,
    },
    /// What it sent means nothing.
    Wire(WireError),
    /// The kernel's answer.
    Io(io::Error),
}

impl std::fmt::Display for ChannelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the other side has closed the channel"),
            Self::Version { theirs, ours } => write!(
                f,
                "the other side speaks version {theirs} of the protocol, this build speaks {ours}: keel and keel-shim of one build belong together"
            ),
            Self::Wire(_) => {
                f.write_str("understand the message, which another build may have sent")
            }
            Self::Io(_) => f.write_str("use the channel"),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wire(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Closed | Self::Version { .. } => None,
        }
    }
}

impl From<ChannelError> for io::Error {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed => Self::from_raw_os_error(libc::ECONNRESET),
            ChannelError::Version { .. } => Self::from_raw_os_error(libc::EPROTONOSUPPORT),
            ChannelError::Wire(_) => Self::from_raw_os_error(libc::EBADMSG),
            ChannelError::Io(error) => error,
        }
    }
}

impl From<rustix::io::Errno> for ChannelError {
    fn from(errno: rustix::io::Errno) -> Self {
        if errno == rustix::io::Errno::PIPE || errno == rustix::io::Errno::CONNRESET {
            Self::Closed
        } else {
            Self::Io(errno.into())
        }
    }
}

/// Sends one message and its descriptors.
///
/// # Errors
/// [`ChannelError::Closed`] or [`ChannelError::Io`]; `E2BIG` for more than [`MOST_DESCRIPTORS`].
pub fn send<T: Wire>(
    socket: impl AsFd,
    version: u32,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), ChannelError> {
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(ChannelError::Io(io::Error::from_raw_os_error(libc::E2BIG)));
    }
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&MAGIC);
    version.put(&mut bytes);
    0u32.put(&mut bytes);
    message.put(&mut bytes);
    let length = u32::try_from(bytes.len() - HEADER).unwrap_or(u32::MAX);
    bytes[8..HEADER].copy_from_slice(&length.to_le_bytes());

    let mut space =
        vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(descriptors).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let mut sent = loop {
        match rustix::net::sendmsg(
            &socket,
            &[io::IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    while sent < bytes.len() {
        match rustix::net::send(&socket, &bytes[sent..], SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => sent += other?,
        }
    }
    Ok(())
}

/// Waits for one message.
///
/// # Errors
/// As [`ChannelError`] says.
pub fn receive<T: Wire>(
    socket: impl AsFd,
    version: u32,
) -> Result<(T, Vec<OwnedFd>), ChannelError> {
    let mut header = [0; HEADER];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut descriptors = Vec::new();
    let mut got = 0;
    while got < HEADER {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = match rustix::net::recvmsg(
            &socket,
            &mut [io::IoSliceMut::new(&mut header[got..])],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        got += received.bytes;
    }
    let mut fields = &header[..];
    let magic = u32::take(&mut fields).map_err(ChannelError::Wire)?;
    let theirs = u32::take(&mut fields).map_err(ChannelError::Wire)?;
    let length = u32::take(&mut fields).map_err(ChannelError::Wire)?;
    if magic != u32::from_le_bytes(MAGIC) || length > LONGEST {
        return Err(ChannelError::Wire(WireError::Unknown(magic)));
    }
    if theirs != version {
        return Err(ChannelError::Version {
            theirs,
            ours: version,
        });
    }
    let mut body = vec![0; length as usize];
    let mut got = 0;
    while got < body.len() {
        match rustix::net::recv(&socket, &mut body[got..], RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok((0, _)) => return Err(ChannelError::Closed),
            Ok((bytes, _)) => got += bytes,
        }
    }
    let message = T::from_bytes(&body).map_err(ChannelError::Wire)?;
    Ok((message, descriptors))
}

/// Sends one packet over a `SOCK_SEQPACKET` socket, without a header.
///
/// # Errors
/// The kernel's answer.
pub fn send_packet<T: Wire>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), ChannelError> {
    let bytes = message.to_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(ChannelError::Io(io::Error::from_raw_os_error(libc::E2BIG)));
    }
    rustix::net::sendmsg(
        socket,
        &[io::IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Waits for one packet. What a later version appended to the message is skipped.
///
/// # Errors
/// As [`ChannelError`] says.
pub fn receive_packet<T: Wire>(socket: impl AsFd) -> Result<(T, Vec<OwnedFd>), ChannelError> {
    let mut bytes = [0; super::control::LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(
            &socket,
            &mut [io::IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received == 0 {
        return Err(ChannelError::Closed);
    }
    let message = T::take(&mut &bytes[..received]).map_err(ChannelError::Wire)?;
    Ok((message, descriptors))
}
