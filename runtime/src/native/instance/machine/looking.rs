//! Looking at machines that run: all are asked before the first is listened to, and each answers in its own time.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use manifests::devices::Device;
use manifests::kinds::instance::Instance;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{addresses, hardware};
use crate::native::at_once;
use crate::native::machine::begun_with::BegunWith;
use crate::native::machine::command_line::sockets;
use crate::native::machine::devices::nodes;
use crate::native::machine::pinning;
use crate::native::machine::qmp::{Qmp, QmpError, RunState};
use crate::native::machine::seen::{Asked, Known, MachineSeen, glance};
use crate::native::shim::Running;
use crate::shim::told::{self, Processors, Told};

/// How long a monitor may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// So many are asked ahead: each holds a descriptor, of which a process has a thousand.
const AHEAD: usize = 64;

/// A machine as it was found.
#[derive(Debug)]
pub(in crate::native) struct Look {
    /// What its monitor says.
    pub(in crate::native::instance) seen: Result<MachineSeen, QmpError>,
    /// The addresses that its guest tells; none where nobody tells.
    pub(in crate::native::instance) addresses: Option<Vec<String>>,
    /// The connection over which it was asked: QEMU works to let go of one, and that must not keep others from answering.
    _connection: Option<Qmp>,
}

/// A connection to a running machine for changing it.
pub(in crate::native::instance) fn control(running: &Running) -> Result<Qmp, QmpError> {
    connect(running.run_dir(), [sockets::CONTROL, sockets::RESCUE])
}

/// Somebody may hold one of the two monitors.
fn connect(run_dir: &Path, [first, second]: [&str; 2]) -> Result<Qmp, QmpError> {
    Qmp::connect_any(&[&run_dir.join(first), &run_dir.join(second)], ANSWER)
}

/// What the kernel and the companion know of a machine, and the groups in which the limits of its disks should be.
fn known(instance: &Instance, running: &Running) -> Known {
    let disks = instance
        .devices
        .iter()
        .filter(|(_, device)| matches!(device, Device::Disk(disk) if hardware::is_block(disk)));
    let told = told(running);
    let begun = told.and_then(|_| BegunWith::parse(&running.read("cmdline").ok()?));
    Known {
        groups: disks.map(|(name, _)| nodes(name).group).collect(),
        state: told.zip(begun).and_then(state),
        memory: told.zip(begun).and_then(memory),
        processors: pinning::count(running),
        agent: told.map(|told| told.agent),
    }
}

/// How it is, where its events leave no doubt.
const fn state((told, begun): (Told, BegunWith)) -> Option<RunState> {
    match told.processors {
        Processors::Run => Some(RunState::Running),
        // One of KVM may have stopped by an error without an event of its own.
        Processors::Stopped if begun.is_emulated => Some(RunState::Paused),
        Processors::Stopped | Processors::Unheard | Processors::Otherwise => None,
    }
}

/// The memory of one of which the balloon has never taken any.
fn memory((told, begun): (Told, BegunWith)) -> Option<u64> {
    (!told.balloon && !begun.is_continued).then_some(begun.memory)
}

/// What the companion was told; nothing where it is an older one, which does not keep it, or was killed.
fn told(running: &Running) -> Option<Told> {
    let file = File::open(running.run_dir().join(told::FILE)).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared) != Err(Errno::WOULDBLOCK) {
        return None;
    }
    let mut bytes = [0; told::LENGTH];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Told::parse(bytes)
}

/// What the monitor of one machine says, whichever of them is free.
fn seen(instance: &Instance, running: &Running) -> Result<MachineSeen, QmpError> {
    let monitors = [sockets::RESCUE, sockets::CONTROL];
    let mut qmp = connect(running.run_dir(), monitors)?;
    glance(&mut qmp, &known(instance, running))
}

/// A machine that runs, and what its definition says.
pub(in crate::native) type Machine<'m> = (&'m Instance, &'m Running);

/// Machines that were asked.
pub(in crate::native) struct Asking<'m> {
    machines: &'m [Machine<'m>],
    /// The first of those that were not listened to yet; none: it could not be asked.
    asked: VecDeque<Option<Asked>>,
    /// How many were asked.
    count: usize,
}

/// Looks at one machine.
pub(in crate::native) fn look_at(instance: &Instance, running: &Running) -> Look {
    let seen = seen(instance, running).map(|seen| (seen, None));
    Look::of(seen, || Some(addresses(running)))
}

impl Look {
    /// Nobody waits for a guest in which nobody listens.
    fn of(
        seen: Result<(MachineSeen, Option<Qmp>), QmpError>,
        addresses: impl FnOnce() -> Option<Vec<String>>,
    ) -> Self {
        let (seen, connection) = match seen {
            Ok((seen, connection)) => (Ok(seen), connection),
            Err(error) => (Err(error), None),
        };
        let agent = seen.as_ref().is_ok_and(|seen| seen.agent);
        Self {
            seen,
            addresses: agent.then(addresses).flatten(),
            _connection: connection,
        }
    }
}

impl<'m> Asking<'m> {
    /// Asks them, as far ahead as may be.
    pub(in crate::native) fn begin(machines: &'m [Machine<'m>]) -> Self {
        let mut asking = Self {
            machines,
            asked: VecDeque::new(),
            count: 0,
        };
        while asking.asked.len() < AHEAD && asking.next() {}
        asking
    }

    /// Asks one more; `false`: there is none.
    fn next(&mut self) -> bool {
        let Some((instance, running)) = self.machines.get(self.count) else {
            return false;
        };
        let monitor = running.run_dir().join(sockets::RESCUE);
        let asked = Asked::ask(&monitor, known(instance, running), ANSWER);
        self.asked.push_back(asked.ok());
        self.count += 1;
        true
    }

    /// Listens to all, in their order.
    pub(in crate::native) fn end(mut self) -> Vec<Look> {
        let mut seen = Vec::with_capacity(self.machines.len());
        while let Some(asked) = self.asked.pop_front() {
            let speaks = asked.filter(Asked::speaks);
            let kept = seen.len() < AHEAD;
            let answer = speaks.map(|asked| {
                let (seen, connection) = asked.seen()?;
                Ok((seen, kept.then_some(connection)))
            });
            // One that refuses to be asked in this way is asked in the plain one.
            seen.push(answer.filter(|seen| !matches!(seen, Err(QmpError::Refused { .. }))));
            self.next();
        }
        let machines = || self.machines.iter().copied();
        // Of one that is not served nobody knows why: it is asked again, by whichever monitor is free.
        let silent: Vec<Machine<'_>> = machines()
            .zip(&seen)
            .filter_map(|(machine, seen)| seen.is_none().then_some(machine))
            .collect();
        let mut again =
            at_once::waiting(&silent, |(instance, running)| self::seen(instance, running))
                .into_iter();
        let seen: Vec<_> = seen
            .into_iter()
            .map(|seen| {
                let plain = |seen: MachineSeen| (seen, None);
                seen.or_else(|| again.next().map(|seen| seen.map(plain)))
            })
            .collect();
        let told: Vec<Machine<'_>> = machines()
            .zip(&seen)
            .filter(|(_, seen)| matches!(seen, Some(Ok((seen, _))) if seen.agent))
            .map(|(machine, _)| machine)
            .collect();
        let mut told = at_once::waiting(&told, |(_, running)| addresses(running)).into_iter();
        let seen = seen.into_iter().flatten();
        seen.map(|seen| Look::of(seen, || told.next())).collect()
    }
}
