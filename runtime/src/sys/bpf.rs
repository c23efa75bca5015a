//! `bpf(2)` for one purpose: programs that decide which device nodes a cgroup may use (cgroup2 has no files for that).
#![expect(
    unsafe_code,
    reason = "bpf(2) has no safe wrapper; every structure below is laid out as include/uapi/linux/bpf.h says"
)]

use std::ffi::c_void;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// Bytes of a program's name, the closing NUL included (`BPF_OBJ_NAME_LEN`).
const NAME: usize = 16;

/// How often loading is tried while the verifier is interrupted; more than libbpf's five, since many may load at once.
const LOAD_ATTEMPTS: usize = 20;

/// One instruction of a program (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// Destination register in the low four bits, source in the high four.
    pub registers: u8,
    /// Of a jump or a memory access.
    pub offset: i16,
    /// The constant.
    pub immediate: i32,
}

/// A device program attached to a cgroup.
#[derive(Debug)]
pub struct AttachedProgram {
    /// Its number on this host.
    pub id: u32,
    /// The name it was loaded with, at most 15 bytes.
    pub name: String,
    /// Holds it.
    pub program: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME],
}

#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: RawFd,
    program: RawFd,
    attach_type: u32,
    flags: u32,
    replaced: RawFd,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: RawFd,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct FdByIdAttributes {
    id: u32,
    next: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttributes {
    program: RawFd,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    created_by: u32,
    map_count: u32,
    maps: u64,
    name: [u8; NAME],
}

/// Calls bpf(2).
///
/// # Safety
/// `attributes` must be the structure that `command` reads (`repr(C)`), and every address in it must be valid for what
/// the command does with it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes at most `size` bytes of `attributes`, which we hold exclusively; what its
    // addresses point to is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes).cast::<c_void>(),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

fn address<T>(of: *const T) -> u64 {
    of.expose_provenance() as u64
}

fn length(of: usize) -> io::Result<u32> {
    u32::try_from(of).map_err(io::Error::other)
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` under a name of at most 15 letters, digits and `_`.
///
/// # Errors
/// `EPERM` without `CAP_BPF` or `CAP_NET_ADMIN`; `EINVAL`, `EACCES` when the verifier refuses the program.
pub fn load_device_program(instructions: &[Instruction], name: &str) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: length(instructions.len())?,
        instructions: address(instructions.as_ptr()),
        license: address(license.as_ptr()),
        ..LoadAttributes::default()
    };
    for (to, from) in attributes.name[..NAME - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut attempt = 1;
    let fd = loop {
        // SAFETY: the instructions and the licence outlive the call, and their lengths are those given.
        match unsafe { bpf(BPF_PROG_LOAD, &mut attributes) } {
            // The verifier leaves at once when anything is pending for the thread, be it only work of the kernel's
            // own (kernel/bpf/verifier.c, `do_check`).
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && attempt < LOAD_ATTEMPTS => {
                attempt += 1;
            }
            other => break other?,
        }
    };
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup2 folder beside others (all must agree), or in one step instead of `replaced`.
///
/// # Errors
/// `EPERM` where the cgroup above forbids it, `ENOENT` where `replaced` is not attached.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = AttachAttributes {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | replaced.map_or(0, |_| BPF_F_REPLACE),
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd()),
    };
    // SAFETY: no addresses in these attributes; the descriptors are borrowed for the call.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Detaches a device program from a cgroup2 folder.
///
/// # Errors
/// `ENOENT` where it is not attached.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = AttachAttributes {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttributes::default()
    };
    // SAFETY: no addresses in these attributes; the descriptors are borrowed for the call.
    unsafe { bpf(BPF_PROG_DETACH, &mut attributes) }.map(drop)
}

/// The device programs attached to this very cgroup2 folder.
///
/// # Errors
/// `EPERM` without the capabilities, `ENOSPC` for more than 64.
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<AttachedProgram>> {
    let mut ids = [0u32; 64];
    let mut attributes = QueryAttributes {
        target: cgroup.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        ids: address(ids.as_mut_ptr().cast_const()),
        count: length(ids.len())?,
        ..QueryAttributes::default()
    };
    // SAFETY: `ids` outlives the call and has room for `count` numbers.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    let count = usize::try_from(attributes.count).map_err(io::Error::other)?;
    let mut found = Vec::new();
    for id in ids.into_iter().take(count) {
        let mut attributes = FdByIdAttributes {
            id,
            ..FdByIdAttributes::default()
        };
        // SAFETY: no addresses in these attributes.
        let fd = match unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes) } {
            // Detached and unloaded since the query.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            other => other?,
        };
        // SAFETY: the kernel has just made this descriptor for us alone.
        let program = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut info = ProgramInfo::default();
        let mut attributes = InfoAttributes {
            program: program.as_raw_fd(),
            length: length(size_of::<ProgramInfo>())?,
            info: address(std::ptr::from_mut(&mut info).cast_const()),
        };
        // SAFETY: `info` outlives the call and is as long as said; a zeroed one asks for no further buffers.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
        let name = info.name.iter().take_while(|byte| **byte != 0).copied();
        found.push(AttachedProgram {
            id,
            name: String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned(),
            program,
        });
    }
    Ok(found)
}
