//! Executing a program in a running container, or writing files there: into its cgroups first, then its namespaces,
//! then as confined as init.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::ThreadNameSpaceType;

use super::channel::send;
use super::confine::{self, Standard};
use super::descriptors::Descriptors;
use super::failure::{Doing as _, Failure, fail};
use super::init::wait;
use super::interior;
use super::launch::{await_execution, await_ready, join};
use super::messages::{Enter, Event, File, Program, Progress, Step, Streams, VERSION, Work};
use super::place;
use super::record::End;
use super::supervise::reap;
use crate::sys::clone3::{Cloned, Namespaces, clone3};
use crate::sys::process;

/// `DEVPTS_SUPER_MAGIC`, `<linux/magic.h>`.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// So many seconds may the writing of files take: a file system that the container serves itself (FUSE) may never
/// answer.
const WRITING_SECONDS: u32 = 20;

/// So many seconds may a new process take to get ready, and as many to begin: the container can freeze the cgroup that
/// it is born in, and can serve the file system that its program is on. Longer than [`WRITING_SECONDS`].
pub const BEGINNING_SECONDS: u32 = 25;

/// Does the work of an order, tells keel the new process's pidfd (and terminal), waits for its end and tells keel that.
///
/// # Errors
/// The failing call; the program has then not run.
pub fn enter(keel: &OwnedFd, order: &Enter, descriptors: Descriptors) -> Result<(), Failure> {
    // The new process is seen in the container before it has given up this program's memory and descriptors
    // (CVE-2016-9962, CVE-2019-5736): nothing in there may trace it or open /proc/PID/{exe,fd,mem}.
    undumpable()?;
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .named("make a socket pair")?;
    let patience = Some(Duration::from_secs(BEGINNING_SECONDS.into()));
    set_socket_timeout(&ours, Timeout::Recv, patience).named("limit the wait")?;
    let init = descriptors.get(&order.init)?;
    // This moves the children to come, not this process (setns(2)).
    rustix::thread::move_into_thread_name_spaces(init, ThreadNameSpaceType::PROCESS_ID)
        .named("enter the container's pid namespace")?;
    let cgroup = match &order.cgroup2 {
        Some(opened) => Some(descriptors.get(&opened.fd)?),
        None => None,
    };
    let cloned = clone3(Namespaces(0), cgroup).named("clone into the container's cgroup")?;
    let (pid, pidfd) = match cloned {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop(ours);
            become_program(order, &descriptors, &theirs)
        }
    };
    drop(theirs);
    let started = (|| {
        let (terminal, mut warnings) = await_ready(&ours)?;
        confine::limit(pid, &order.confinement.limits, &mut warnings);
        send(&ours, VERSION, &Step::Go, &[]).named("talk to the new process")?;
        await_execution(&ours)?;
        Ok(terminal)
    })();
    let terminal = match started {
        Ok(terminal) => terminal,
        Err(failure) => {
            let _ = process::signal_by_pidfd(&pidfd, libc::SIGKILL);
            let _ = reap(&pidfd);
            return Err(failure);
        }
    };
    let mut handles = vec![pidfd.as_fd()];
    handles.extend(terminal.iter().map(|terminal| terminal.as_fd()));
    let pid = pid.as_raw_nonzero().get();
    // keel may have gone: the program still runs, and its terminal or pipes tell it.
    let _ = send(keel, VERSION, &Event::Entered { pid }, &handles);
    // Held longer, these would keep a pipe open whose other users have left.
    drop((terminal, descriptors));
    let status = match reap(&pidfd)? {
        End::Code(code) => code,
        End::Signal(signal) => 128 + signal,
    };
    let _ = send(keel, VERSION, &Event::Ended { status }, &[]);
    Ok(())
}

fn undumpable() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .named("become undumpable")
}

fn become_program(order: &Enter, descriptors: &Descriptors, socket: &OwnedFd) -> ! {
    let ready = prepare(order, descriptors, socket).unwrap_or_else(|failure| fail(socket, failure));
    let (program, streams) = match &ready {
        Ready::Terminal(program, terminal) => (*program, Standard::Terminal(terminal.as_fd())),
        Ready::Pipes(program, pipes) => (*program, Standard::Pipes(*pipes)),
        Ready::Files(files) => match write_files(order, files) {
            Ok(()) => process::exit_now(0),
            Err(failure) => fail(socket, failure),
        },
    };
    confine::run(&order.confinement, program, &streams, socket)
}

enum Ready<'fd> {
    Terminal(&'fd Program, OwnedFd),
    Pipes(&'fd Program, [BorrowedFd<'fd>; 3]),
    Files(&'fd [File]),
}

/// Writes files with what the container's root may do and no more: a path can lead only to where a program of the
/// container could have written by itself.
fn write_files(order: &Enter, files: &[File]) -> Result<(), Failure> {
    confine::hold(&order.confinement)?;
    process::end_after(WRITING_SECONDS);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).named("open the container's root")?;
    files
        .iter()
        .try_for_each(|file| place::write_file(&root, file))
}

fn prepare<'fd>(
    order: &'fd Enter,
    descriptors: &'fd Descriptors,
    socket: &OwnedFd,
) -> Result<Ready<'fd>, Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .named("end with the companion")?;
    join(&order.joins, descriptors)?;
    let init = descriptors.get(&order.init)?;
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    if !order.privileged {
        namespaces |= ThreadNameSpaceType::USER;
    }
    if order.time {
        namespaces |= ThreadNameSpaceType::TIME;
    }
    // All at once, and by pidfd: the process cannot have been replaced by another one of the same pid.
    rustix::thread::move_into_thread_name_spaces(init, namespaces)
        .named("enter the container's namespaces")?;
    confine::become_root()?;
    // Changing ids resets it to fs.suid_dumpable (prctl(2)).
    undumpable()?;
    let ready = Progress::Ready {
        warnings: Vec::new(),
    };
    let streams = match &order.work {
        Work::Files { files } => {
            send(socket, VERSION, &ready, &[]).named("report to the companion")?;
            Ready::Files(files)
        }
        Work::Program {
            program,
            streams:
                Streams::Pipes {
                    input,
                    output,
                    errors,
                },
        } => {
            send(socket, VERSION, &ready, &[]).named("report to the companion")?;
            let pipes = [
                descriptors.get(input)?,
                descriptors.get(output)?,
                descriptors.get(errors)?,
            ];
            Ready::Pipes(program, pipes)
        }
        Work::Program {
            program,
            streams: Streams::Terminal { rows, columns },
        } => {
            let console = interior::open_terminal(devpts()?)?;
            let size = rustix::termios::Winsize {
                ws_row: *rows,
                ws_col: *columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(&console.master, size).named("size the terminal")?;
            interior::own_terminal(&console.slave, program.uid)?;
            send(socket, VERSION, &ready, &[console.master.as_fd()])
                .named("report to the companion")?;
            Ready::Terminal(program, console.slave)
        }
    };
    wait(socket, &Step::Go)?;
    Ok(streams)
}

/// The container's devpts. Its path is the container's to change, so what is found there must prove what it is.
fn devpts() -> Result<OwnedFd, Failure> {
    let opening = "open /dev/pts in the container";
    let pts = rustix::fs::openat2(
        CWD,
        "/dev/pts",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .named(opening)?;
    if rustix::fs::fstatfs(&pts).named(opening)?.f_type != DEVPTS_MAGIC {
        return Err(Failure::new(
            "find a devpts on /dev/pts in the container",
            libc::ENOTTY,
        ));
    }
    Ok(pts)
}
