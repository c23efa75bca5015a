//! keel-shim, the companion of a running instance: starts it in one single-threaded stage, then stays as its parent.
//!
//! It has a small memory of its own: everything here uses libc and rustix only. keel's side is
//! [`crate::native::shim`] and [`crate::native::container`].

pub mod addresses;
pub mod again;
pub mod channel;
pub mod confine;
pub mod control;
pub mod descriptors;
pub mod enter;
pub mod failure;
pub mod filesystems;
pub mod helper;
pub mod init;
pub mod interior;
pub mod launch;
pub mod links;
pub mod locked;
pub mod machine;
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
pub mod told;
pub mod watch;
pub mod wire;

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode};

use self::again::{Again, What};
use self::channel::{receive, send};
use self::descriptors::Descriptors;
use self::failure::{Doing as _, Failure};
use self::messages::{Event, Order, VERSION};
use self::ring::Ring;
use self::supervise::Supervisor;
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
    let monitor = order.and_then(|(order, descriptors)| {
        let monitor = match order {
            Order::Start { start } => start.monitor.as_ref(),
            Order::Machine { machine } => machine.monitor.as_ref(),
            Order::Enter { .. } => None,
        };
        descriptors.get(&monitor?.fd).ok()
    });
    let same = Namespaces(0);
    clone3(same, monitor).or_else(|error| match monitor {
        Some(_) => clone3(same, None),
        None => Err(error),
    })
}

fn obey(keel: &OwnedFd, order: Order, descriptors: Descriptors) -> Result<(), Failure> {
    let what = match order {
        Order::Start { start } => What::Container { start, links: None },
        Order::Machine { machine } => What::Machine(machine),
        Order::Enter { enter } => return enter::enter(keel, &enter, descriptors),
    };
    let mut supervisor = begin(keel, what, descriptors)?;
    // Nothing of the start is needed any more; the socket stays until the process ends unless it is shut.
    let _ = rustix::net::shutdown(keel.as_fd(), rustix::net::Shutdown::Both);
    let result = supervisor.run();
    let _ = rustix::fs::unlinkat(CWD, control::FILE, AtFlags::empty());
    result
}

fn begin(keel: &OwnedFd, what: What, descriptors: Descriptors) -> Result<Supervisor, Failure> {
    let run_dir = descriptors.get(what.run_dir())?;
    rustix::process::fchdir(run_dir).named("enter the run folder")?;
    record::reserve(run_dir)?;
    let listener = listen()?;
    let run_dir = rustix::io::fcntl_dupfd_cloexec(run_dir, 3).named("keep the run folder")?;
    let ring_dir = rustix::io::fcntl_dupfd_cloexec(&run_dir, 3).named("keep the run folder")?;
    let mut again = Again { what, descriptors };
    let live = again
        .launch(Some(keel.as_fd()), &mut |_| Ok(()))
        .inspect_err(|_| {
            let _ = rustix::fs::unlinkat(CWD, control::FILE, AtFlags::empty());
        })?;
    let event = Event::Started {
        warnings: live.warnings.clone(),
    };
    // Where it runs itself is no reason to stop an instance. keel keeps the folders that instances share until it hears.
    let _ = launch::join(again.what.monitors(), &again.descriptors);
    // keel may have died after its word: the instance lives on all the same.
    let _ = send(keel, VERSION, &event, &[]);
    let (generation, boot_id) = again.what.about();
    let about = (generation, boot_id.to_owned());
    // Without a restart nothing of the order is kept: its descriptors would hold pools and layers in use.
    let again = again.what.restart().is_some().then_some(again);
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
