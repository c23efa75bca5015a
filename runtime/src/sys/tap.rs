//! Taps: links of the host whose other end is a descriptor.
#![expect(unsafe_code, reason = "the ioctl of tun(4) has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};

// include/uapi/linux/if_tun.h
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const IFF_TAP: libc::c_short = 0x0002;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_VNET_HDR: libc::c_short = 0x4000;

/// Makes a tap of a name in the caller's network namespace, with the headers that virtio-net wants. It vanishes when the
/// last copy of the descriptor is closed.
///
/// # Errors
/// `EBUSY` or `EINVAL`: the name is taken. `ENOENT`: the host has no `/dev/net/tun`.
pub fn create(name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tap = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let name = name.as_bytes();
    // SAFETY: an ifreq of zeroes is valid; the name is shorter than its place, so it ends with a zero; the kernel reads
    // and writes within the structure.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains(&0) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (place, byte) in request.ifr_name.iter_mut().zip(name) {
            *place = libc::c_char::from_ne_bytes([*byte]);
        }
        request.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if libc::ioctl(tap.as_raw_fd(), TUNSETIFF, &raw mut request) == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(tap)
}
