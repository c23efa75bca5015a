//! keel-shim, the companion of a running instance: starts it in one single-threaded stage, then stays as its parent.
//!
//! It has a small memory of its own: everything here uses libc and rustix only. keel's side is
//! [`crate::native::shim`] and [`crate::native::container`].

pub mod addresses;
pub mod channel;
pub mod confine;
pub mod control;
pub mod descriptors;
pub mod enter;
pub mod failure;
pub mod filesystems;
pub mod init;
pub mod interior;
pub mod launch;
pub mod links;
pub mod locked;
pub mod messages;
pub mod owner;
pub mod payload;
pub mod place;
pub mod record;
pub mod restart;
pub mod ring;
pub mod rootfs;
pub mod route_netlink;
pub mod supervise;
pub mod wire;

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode};

use self::channel::{receive, send};
use self::descriptors::Descriptors;
use self::failure::{Doing as _, Failure};
use self::links::Links;
use self::messages::{Event, Order, Start, VERSION};
use self::ring::Ring;
use self::supervise::{Again, Supervisor};
use crate::sys::clone3::{Cloned, Namespaces, clone3};
use crate::sys::process;

/// The program. Its standard input is the socket on which keel gives its order; there are no arguments.
///
/// Returns the exit code, which nobody reads: failures go over the socket.
pub fn main() -> i32 {
    if process::close_from(3).is_err() {
        return 1;
    }
    let Ok(keel) = process::take_standard_input() else {
        return 1;
    };
    let order = receive::<Order>(&keel, VERSION)
        .map(|(order, descriptors)| (order, Descriptors::new(descriptors)))
        .named("hear keel's order");
    // keel waits for this process; its child belongs to nobody but itself.
    match fork(order.as_ref().ok()) {
        Ok(Cloned::Child) => {}
        Ok(Cloned::Parent { .. }) => return 0,
        Err(_) => return 1,
    }
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGPIPE,
    ] {
        process::ignore_signal(signal);
    }
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    match order.and_then(|(order, descriptors)| obey(&keel, order, descriptors)) {
        Ok(()) => 0,
        Err(failure) => {
            let event = Event::Failed {
                doing: failure.doing,
                errno: failure.errno,
            };
            let _ = send(&keel, VERSION, &event, &[]);
            1
        }
    }
}

/// Forks the companion: into its cgroup 2 folder, since whoever moves there later holds up all that look at cgroups, for a
/// grace period of the kernel. Where it runs itself is no reason not to start an instance.
fn fork(order: Option<&(Order, Descriptors)>) -> std::io::Result<Cloned> {
    let monitor = match order {
        Some((Order::Start { start }, descriptors)) => start
            .monitor
            .as_ref()
            .and_then(|opened| descriptors.get(&opened.fd).ok()),
        _ => None,
    };
    let same = Namespaces(0);
    clone3(same, monitor).or_else(|error| match monitor {
        Some(_) => clone3(same, None),
        None => Err(error),
    })
}

fn obey(keel: &OwnedFd, order: Order, descriptors: Descriptors) -> Result<(), Failure> {
    match order {
        Order::Start { start } => {
            let mut supervisor = begin(keel, *start, descriptors)?;
            let keel = keel.as_fd();
            // Nothing of the start is needed any more; the socket stays until the process ends unless it is shut.
            let _ = rustix::net::shutdown(keel, rustix::net::Shutdown::Both);
            let result = supervisor.run();
            let _ = rustix::fs::unlinkat(CWD, control::FILE, AtFlags::empty());
            result
        }
        Order::Enter { enter } => enter::enter(keel, &enter, descriptors),
    }
}

fn begin(keel: &OwnedFd, start: Start, descriptors: Descriptors) -> Result<Supervisor, Failure> {
    let run_dir = descriptors.get(&start.run_dir)?;
    rustix::process::fchdir(run_dir).named("enter the run folder")?;
    record::reserve(run_dir)?;
    let listener = listen()?;
    let run_dir = rustix::io::fcntl_dupfd_cloexec(run_dir, 3).named("keep the run folder")?;
    let ring_dir = rustix::io::fcntl_dupfd_cloexec(&run_dir, 3).named("keep the run folder")?;
    let mut links = None;
    let mut plugged = |pid| {
        if start.restart.is_some() {
            links = Some(Links::of(pid)?);
        }
        Ok(())
    };
    let live = launch::launch(&start, &descriptors, Some(keel.as_fd()), &mut plugged).inspect_err(
        |_| {
            let _ = rustix::fs::unlinkat(CWD, control::FILE, AtFlags::empty());
        },
    )?;
    let event = Event::Started {
        warnings: live.warnings.clone(),
    };
    // Where it runs itself is no reason to stop an instance. keel keeps the folders that instances share until it hears.
    let _ = launch::join(&start.monitors, &descriptors);
    // keel may have died after its word: the instance lives on all the same.
    let _ = send(keel, VERSION, &event, &[]);
    let about = (start.generation, start.boot_id.clone());
    // Without a restart nothing of the order is kept: its descriptors would hold pools and layers in use.
    let again = links.map(|links| Again {
        start,
        descriptors,
        links,
    });
    let ring = Ring::open(ring_dir);
    Ok(Supervisor::new(run_dir, listener, ring, live, about, again))
}

/// The control socket, in the working folder.
fn listen() -> Result<OwnedFd, Failure> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let _ = rustix::fs::unlinkat(CWD, control::FILE, AtFlags::empty());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .named("make the control socket")?;
    let address = SocketAddrUnix::new(control::FILE).named("name the control socket")?;
    rustix::net::bind(&socket, &address).named("bind the control socket")?;
    rustix::net::listen(&socket, 8).named("listen on the control socket")?;
    Ok(socket)
}
