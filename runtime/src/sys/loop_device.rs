//! Loop devices: files shown as block devices (`loop(4)`).
//!
//! Devices are made with `LO_FLAGS_AUTOCLEAR`: the kernel takes them down with the last mount or descriptor, so a crash
//! between attaching and mounting leaks nothing. Which file a device shows is asked of sysfs, never remembered.
#![expect(unsafe_code, reason = "ioctls with our own structures")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};

// linux/loop.h
const LOOP_CLR_FD: u64 = 0x4C01;
const LOOP_SET_CAPACITY: u64 = 0x4C07;
const LOOP_CONFIGURE: u64 = 0x4C0A;
const LOOP_CTL_GET_FREE: u64 = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`, linux/loop.h.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`, linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// A loop device that shows a file as long as this value, or a mount of it, lives.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loop7`.
    pub path: PathBuf,
    _open: OwnedFd,
}

/// Shows `file` (opened for reading and writing) as a block device with sectors of 4096 bytes.
///
/// Writes go past the page cache of the backing file system where that can (`LO_FLAGS_DIRECT_IO`).
///
/// # Errors
/// No `/dev/loop-control`, no free device, or the kernel's refusal; the path names the device.
pub fn attach(file: &File) -> Result<LoopDevice, PathError> {
    let control_path = Path::new("/dev/loop-control");
    let control = open(control_path)?;
    // Between asking for a free device and taking it, somebody else may take it.
    for _ in 0..64 {
        // SAFETY: the request takes no argument and only returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error()).at("ask for a device of", control_path);
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&path)?;
        let config = LoopConfig {
            fd: u32::try_from(file.as_raw_fd()).unwrap_or(u32::MAX),
            block_size: 4096,
            info: LoopInfo {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        // SAFETY: `config` is a live `struct loop_config`, which the kernel only reads.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &config) };
        if result == 0 {
            return Ok(LoopDevice {
                path,
                _open: device.into(),
            });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error).at("attach a file to", path);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY)).at("find a free device of", control_path)
}

/// Tells a device that its file has grown.
///
/// # Errors
/// The kernel's refusal.
pub fn take_over_size(device: &Path) -> Result<(), PathError> {
    let open = open(device)?;
    // SAFETY: the request takes no argument.
    match unsafe { libc::ioctl(open.as_raw_fd(), LOOP_SET_CAPACITY as _, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).at("resize", device),
    }
}

/// Asks a device to let go of its file as soon as nobody uses it; one without a file is fine.
///
/// # Errors
/// The kernel's refusal.
pub fn detach(device: &Path) -> Result<(), PathError> {
    let open = open(device)?;
    // SAFETY: the request takes no argument.
    if unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CLR_FD as _, 0) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        error => Err(error).at("detach", device),
    }
}

/// The devices that show this file, as sysfs has it. A file that was deleted since is not found by its old name.
///
/// # Errors
/// Sysfs cannot be read.
pub fn showing(file: &Path) -> Result<Vec<PathBuf>, PathError> {
    let wanted = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
    let mut found = Vec::new();
    for block in path_io::list("/sys/block")? {
        let name = block.file_name().unwrap_or_default();
        if !name.as_bytes().starts_with(b"loop") {
            continue;
        }
        // The file is there only while the device is in use.
        let Ok(shown) = path_io::read(block.join("loop/backing_file")) else {
            continue;
        };
        let shown = shown.strip_suffix(b"\n").unwrap_or(&shown);
        if shown == wanted.as_os_str().as_bytes() {
            found.push(Path::new("/dev").join(name));
        }
    }
    Ok(found)
}

/// Whether a block device, by its `major:minor`, shows this file: as [`showing`], and all others are left alone.
pub fn shows(number: &str, file: &Path) -> bool {
    let wanted = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
    let block = Path::new("/sys/dev/block").join(number);
    path_io::read(block.join("loop/backing_file")).is_ok_and(|shown| {
        shown.strip_suffix(b"\n").unwrap_or(&shown) == wanted.as_os_str().as_bytes()
    })
}

fn open(path: &Path) -> Result<File, PathError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .at("open", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::host_test! {
        fn a_file_is_shown_grows_and_is_let_go() {
            for place in ["/tmp", "/run"] {
                let keep = tempfile::tempdir_in(place).unwrap();
                let path = keep.path().join("a file");
                let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
                file.set_len(1 << 20).unwrap();
                assert_eq!(showing(&path).unwrap(), Vec::<PathBuf>::new());
                let device = attach(&file).unwrap();
                assert_eq!(showing(&path).unwrap(), std::slice::from_ref(&device.path));
                let number = path_io::read_to_string(Path::new("/sys/block").join(device.path.file_name().unwrap()).join("dev")).unwrap();
                assert!(shows(number.trim(), &path) && !shows(number.trim(), keep.path()) && !shows("7:9999", &path));
                let size = || path_io::read_to_string(Path::new("/sys/block").join(device.path.file_name().unwrap()).join("size")).unwrap();
                assert_eq!(size().trim(), "2048");
                file.set_len(2 << 20).unwrap();
                take_over_size(&device.path).unwrap();
                assert_eq!(size().trim(), "4096");
                // Autoclear: nobody has to detach.
                drop(device);
                let gone = (0..200).any(|_| {
                    let _ = rustix::thread::nanosleep(&rustix::thread::Timespec { tv_sec: 0, tv_nsec: 5_000_000 });
                    showing(&path).unwrap().is_empty()
                });
                assert!(gone, "the device stayed");
            }
        }
    }
}
