//! The last steps of a process before it becomes the container's program: sysctls, keyring, capabilities, seccomp, ids.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::failure::{Doing as _, Failure, fail};
use super::messages::{Confinement, Program, ResourceLimit, Sysctl};
use crate::sys::process;

/// `PROC_SUPER_MAGIC`, `<linux/magic.h>`.
const PROC_MAGIC: i64 = 0x9fa0;

/// A sysctl's path below /proc/sys. As `sysctl(8)`: if the first separator is a slash, dots are part of names.
pub fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes().get(at) == Some(&b'.') => name
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Writes a kernel parameter through a descriptor of the container's own `/proc/sys`, and looks that it is a proc
/// (CVE-2025-52881).
///
/// # Errors
/// There is no such parameter here, it is not the container's to write, or the value is refused.
pub fn write_sysctl(proc_sys: impl AsFd, sysctl: &Sysctl) -> Result<(), Failure> {
    let doing = || format!("set the sysctl {} to {}", sysctl.name, sysctl.value);
    let file = rustix::fs::openat2(
        proc_sys,
        sysctl_path(&sysctl.name),
        OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV,
    )
    .doing(doing)?;
    let magic = rustix::fs::fstatfs(&file).doing(doing)?.f_type;
    if magic != PROC_MAGIC {
        return Err(Failure::new(doing(), libc::EXDEV));
    }
    let written = rustix::io::write(&file, sysctl.value.as_bytes()).doing(doing)?;
    if written != sysctl.value.len() {
        return Err(Failure::new(doing(), libc::EIO));
    }
    Ok(())
}

/// Sets the resource limits of another process; what the host does not grant is said and left as it was.
pub fn limit(pid: Pid, limits: &[ResourceLimit], warnings: &mut Vec<String>) {
    for limit in limits {
        let value = |number: u64| (number != u64::MAX).then_some(number);
        let wanted = Rlimit {
            current: value(limit.soft),
            maximum: value(limit.hard),
        };
        let Some(resource) = resource(limit.resource) else {
            warnings.push(format!("the limit {} is not known here", limit.name));
            continue;
        };
        if let Err(errno) = rustix::process::prlimit(Some(pid), resource, wanted) {
            warnings.push(format!(
                "the host does not grant the limit {}: {errno}",
                limit.name
            ));
        }
    }
}

/// `RLIMIT_…` of `<linux/resource.h>`.
fn resource(number: u32) -> Option<Resource> {
    Some(match number {
        libc::RLIMIT_CPU => Resource::Cpu,
        libc::RLIMIT_FSIZE => Resource::Fsize,
        libc::RLIMIT_DATA => Resource::Data,
        libc::RLIMIT_STACK => Resource::Stack,
        libc::RLIMIT_CORE => Resource::Core,
        libc::RLIMIT_RSS => Resource::Rss,
        libc::RLIMIT_NPROC => Resource::Nproc,
        libc::RLIMIT_NOFILE => Resource::Nofile,
        libc::RLIMIT_MEMLOCK => Resource::Memlock,
        libc::RLIMIT_AS => Resource::As,
        libc::RLIMIT_LOCKS => Resource::Locks,
        libc::RLIMIT_SIGPENDING => Resource::Sigpending,
        libc::RLIMIT_MSGQUEUE => Resource::Msgqueue,
        libc::RLIMIT_NICE => Resource::Nice,
        libc::RLIMIT_RTPRIO => Resource::Rtprio,
        libc::RLIMIT_RTTIME => Resource::Rttime,
        _ => return None,
    })
}

/// Becomes the container's root: all ids 0 and no supplementary groups.
///
/// # Errors
/// The ids are not mapped.
pub fn become_root() -> Result<(), Failure> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    set_thread_groups(&[]).named("give up the groups")?;
    set_thread_res_gid(gid, gid, gid).named("become group 0 of the container")?;
    set_thread_res_uid(uid, uid, uid).named("become user 0 of the container")
}

/// Confines the caller and becomes the program, or tells `report` what failed and ends.
///
/// A terminal becomes the controlling terminal and, like three pipes, standard input, output and error. All other
/// descriptors are closed, also those that the caller owns.
pub fn run(
    confinement: &Confinement,
    program: &Program,
    streams: &Standard<'_>,
    report: &OwnedFd,
) -> ! {
    let failure = match alone(streams, report) {
        Err(failure) => failure,
        Ok(report) => fail(&report, execute(confinement, program)),
    };
    fail(report, failure)
}

/// Has the program's three descriptors and the returned one for failures, and no other.
fn alone(streams: &Standard<'_>, report: &OwnedFd) -> Result<OwnedFd, Failure> {
    rustix::process::setsid().named("begin a session")?;
    match streams {
        Standard::Terminal(terminal) => {
            rustix::process::ioctl_tiocsctty(terminal).named("take the terminal")?;
            redirect([*terminal; 3])?;
        }
        Standard::Pipes(pipes) => redirect(*pipes)?,
    }
    // Closed now and not by execve, which looks its path up first: /proc/self/fd/N/.. of a folder that the order
    // brought leads to the host (CVE-2024-21626).
    process::keep_only(report).named("close the companion's descriptors")
}

fn execute(confinement: &Confinement, program: &Program) -> Failure {
    match confined(confinement, program) {
        Err(failure) => failure,
        Ok((path, arguments, environment)) => {
            let error = process::execute(&path, &arguments, &environment);
            let name = path.to_string_lossy();
            Failure::new(
                format!("execute {name} in the container"),
                error.raw_os_error().unwrap_or(libc::EPROTO),
            )
        }
    }
}

/// Standard input, output and error of a program.
#[derive(Debug)]
pub enum Standard<'fd> {
    /// One terminal for all.
    Terminal(BorrowedFd<'fd>),
    /// Three descriptors.
    Pipes([BorrowedFd<'fd>; 3]),
}

/// Path, arguments, environment.
pub type Command = (CString, Vec<CString>, Vec<CString>);

fn confined(confinement: &Confinement, program: &Program) -> Result<Command, Failure> {
    hold(confinement)?;
    set_ids(program)?;
    let directory = std::ffi::OsStr::from_bytes(&program.directory);
    rustix::process::chdir(directory)
        .doing(|| format!("enter {} in the container", directory.to_string_lossy()))?;
    // A working folder outside the root would lead back to the host (CVE-2024-21626).
    let inside = rustix::process::getcwd(Vec::new()).named("look at the working folder")?;
    if inside.to_bytes().first() != Some(&b'/') {
        return Err(Failure::new(
            "find the working folder in the container",
            libc::ENOENT,
        ));
    }
    process::reset_signals();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::set_parent_process_death_signal(None).named("outlive the companion")?;
    command(program)
}

/// Gives the caller a session keyring, the bounding set and the seccomp filter of the container.
///
/// # Errors
/// The kernel's answer.
pub fn hold(confinement: &Confinement) -> Result<(), Failure> {
    match process::join_new_session_keyring() {
        // No keyrings in this kernel; or the container's user has used its quota up: then it has none to leak.
        Err(error)
            if error.raw_os_error() == Some(libc::ENOSYS)
                || error.raw_os_error() == Some(libc::EDQUOT) => {}
        other => other.named("join a new session keyring")?,
    }
    drop_capabilities(confinement.capabilities)?;
    if !confinement.seccomp.is_empty() {
        process::install_seccomp_filter(&confinement.seccomp)
            .named("install the seccomp filter")?;
    }
    Ok(())
}

/// Makes three descriptors standard input, output and error.
///
/// # Errors
/// The kernel's answer.
pub fn redirect(streams: [BorrowedFd<'_>; 3]) -> Result<(), Failure> {
    let [input, output, errors] = streams;
    rustix::stdio::dup2_stdin(input).named("redirect standard input")?;
    rustix::stdio::dup2_stdout(output).named("redirect standard output")?;
    rustix::stdio::dup2_stderr(errors).named("redirect standard error")
}

fn drop_capabilities(keep: u64) -> Result<(), Failure> {
    // The kernel says by EINVAL where its capabilities end.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep & (1 << number) != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            other => other.doing(|| format!("drop capability {number}"))?,
        }
    }
    let sets = rustix::thread::capabilities(None).named("read the capabilities")?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            inheritable: CapabilitySet::empty(),
            ..sets
        },
    )
    .named("clear the inheritable capabilities")
}

/// Becomes the user and groups of a program.
///
/// # Errors
/// The kernel's answer.
pub fn set_ids(program: &Program) -> Result<(), Failure> {
    use rustix::fs::{Gid, Uid};
    if program.uid == 0 && program.gid == 0 && program.groups.is_empty() {
        return Ok(());
    }
    let groups: Vec<Gid> = program
        .groups
        .iter()
        .map(|&gid| Gid::from_raw(gid))
        .collect();
    rustix::thread::set_thread_groups(&groups).named("set the groups of the program")?;
    let gid = Gid::from_raw(program.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .doing(|| format!("become group {} of the container", program.gid))?;
    let uid = Uid::from_raw(program.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .doing(|| format!("become user {} of the container", program.uid))
}

/// Path, arguments and environment of a program, as `execve` takes them.
///
/// # Errors
/// It is empty, not to be found, or holds a zero byte.
pub fn command(program: &Program) -> Result<Command, Failure> {
    let strings = |strings: &[Vec<u8>]| -> Result<Vec<CString>, Failure> {
        strings
            .iter()
            .map(|bytes| {
                CString::new(bytes.clone())
                    .map_err(|_| Failure::new("pass a string with a zero byte", libc::EINVAL))
            })
            .collect()
    };
    let arguments = strings(&program.arguments)?;
    let environment = strings(&program.environment)?;
    let Some(name) = arguments.first() else {
        return Err(Failure::new("run an empty command", libc::EINVAL));
    };
    let path = find(name, &program.environment)?;
    Ok((path, arguments, environment))
}

/// Looks a name without a slash up in the `PATH` of the program's environment, inside the container.
fn find(name: &CString, environment: &[Vec<u8>]) -> Result<CString, Failure> {
    let bytes = name.as_bytes();
    if bytes.contains(&b'/') {
        return Ok(name.clone());
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for folder in path
        .split(|&byte| byte == b':')
        .filter(|folder| !folder.is_empty())
    {
        let mut candidate = folder.to_vec();
        candidate.push(b'/');
        candidate.extend_from_slice(bytes);
        let Ok(candidate) = CString::new(candidate) else {
            continue;
        };
        if rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK).is_ok() {
            return Ok(candidate);
        }
    }
    Err(Failure::new(
        format!("find {} in the container's PATH", name.to_string_lossy()),
        libc::ENOENT,
    ))
}
