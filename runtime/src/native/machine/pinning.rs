//! Which processor of the host each processor of a machine runs on: a set in a manifest gives each one of its own.
//!
//! QEMU names its threads by what they do (`-name …,debug-threads=on`): `CPU 0/KVM`, `CPU 0/TCG`. It is not trusted; but
//! whichever of its own threads it names so, none leaves the processors that its cgroup has.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;

use manifests::path_io::{self, AtPath as _, PathError};
use manifests::scalar::cpu::CpuSet;
use rustix::fs::OFlags;
use rustix::process::Pid;

use crate::native::shim::Running;

/// The threads of a machine's processors, by the numbers of those.
fn threads(running: &Running) -> Result<BTreeMap<u32, Pid>, PathError> {
    let folder = running
        .open("task", OFlags::RDONLY | OFlags::DIRECTORY)
        .at("list", "the threads of the machine")?;
    let folder = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let mut threads = BTreeMap::new();
    for path in path_io::list(&folder)? {
        let thread = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let Some(thread) = thread.and_then(Pid::from_raw) else {
            continue;
        };
        // One that has ended since is none.
        let name = path_io::read_to_string(path.join("comm")).unwrap_or_default();
        if let Some(number) = number(&name) {
            threads.insert(number, thread);
        }
    }
    Ok(threads)
}

/// How many processors a machine has; none: its threads do not tell, or it has ended.
pub fn count(running: &Running) -> Option<u32> {
    let count = threads(running).ok()?.len();
    u32::try_from(count).ok().filter(|count| *count > 0)
}

/// The number of a processor in the name of its thread.
fn number(name: &str) -> Option<u32> {
    let (number, _) = name.trim().strip_prefix("CPU ")?.split_once('/')?;
    number.parse().ok()
}

fn as_kernel(numbers: impl IntoIterator<Item = u32>) -> rustix::thread::CpuSet {
    let mut set = rustix::thread::CpuSet::new();
    for number in numbers {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if number < rustix::thread::CpuSet::MAX_CPU {
            set.set(number);
        }
    }
    set
}

/// Gives each processor of a machine one of these, in their order; none: each runs where its cgroup lets it.
///
/// # Errors
/// The kernel refuses, or the machine has ended.
pub fn pin(running: &Running, processors: Option<&CpuSet>) -> Result<(), PathError> {
    let set = |thread: Pid, to: &rustix::thread::CpuSet| {
        rustix::thread::sched_setaffinity(Some(thread), to).at("pin", "a processor of the machine")
    };
    let threads = threads(running)?;
    let Some(processors) = processors else {
        let all = as_kernel(0..u32::try_from(rustix::thread::CpuSet::MAX_CPU).unwrap_or(0));
        return threads
            .into_values()
            .try_for_each(|thread| set(thread, &all));
    };
    for (thread, number) in threads.into_values().zip(processors.numbers()) {
        set(thread, &as_kernel([number]))?;
    }
    Ok(())
}

/// Whether each processor of a machine has one of these.
///
/// # Errors
/// The machine has ended.
pub fn is_pinned(running: &Running, processors: &CpuSet) -> Result<bool, PathError> {
    let mut wanted = processors.numbers();
    for thread in threads(running)?.into_values() {
        let Some(number) = wanted.next() else {
            break;
        };
        let now = rustix::thread::sched_getaffinity(Some(thread))
            .at("look at", "a processor of the machine")?;
        if now != as_kernel([number]) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_known_by_their_names() {
        assert_eq!(number("CPU 0/KVM\n"), Some(0));
        assert_eq!(number("CPU 12/TCG\n"), Some(12));
        for other in [
            "qemu-system-x86\n",
            "CPU 0\n",
            "ALL CPUs/TCG\n",
            "CPU x/KVM\n",
            "IO mon_iothread\n",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
