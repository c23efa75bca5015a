//! File systems of a guest that are frozen for the moment of a snapshot: whoever freezes them writes that down first, and
//! whoever comes later lets them be written again where it was not done.

use std::path::Path;
use std::time::Duration;

use manifests::path_io;

use crate::native::machine::agent::{Agent, FreezeStatus};
use crate::native::machine::command_line::sockets;
use crate::native::machine::qmp::Qmp;
use crate::native::machine::seen::has_agent;
use crate::native::shim::Running;

/// Who froze them, in the run folder: the number of its process, or 0 where it gave up.
const MARK: &str = "frozen";
/// How long a guest may take to freeze its file systems.
const FREEZE: Duration = Duration::from_secs(10);
/// How long it may take to let them be written again: one that was slow to freeze them is not quicker now.
const THAW: Duration = Duration::from_secs(20);

fn agent(running: &Running, patience: Duration) -> Option<Agent> {
    Agent::connect(&running.run_dir().join(sockets::AGENT), patience).ok()
}

/// Freezes the file systems of a guest whose agent is there; whether they have to be thawed.
pub(super) fn freeze(running: &Running, qmp: &mut Qmp) -> bool {
    let there = has_agent(qmp).unwrap_or(false);
    let Some(mut agent) = there.then(|| agent(running, FREEZE)).flatten() else {
        return false;
    };
    let mark = running.run_dir().join(MARK);
    // Without it nobody would thaw them after us.
    if path_io::write_durably(&mark, std::process::id().to_string()).is_err() {
        return false;
    }
    // Also one that does not answer in time may have frozen them.
    let _ = agent.freeze();
    true
}

/// Lets them be written again; whether they are.
pub(super) fn thaw(running: &Running) -> bool {
    let mark = running.run_dir().join(MARK);
    let thawed = agent(running, THAW).is_some_and(|mut agent| {
        matches!(agent.freeze_status(), Ok(FreezeStatus::Thawed)) || agent.thaw().is_ok()
    });
    match thawed {
        true => path_io::remove_file(&mark).is_ok(),
        false => {
            let _ = path_io::write_atomically(&mark, "0");
            false
        }
    }
}

/// Whether somebody froze them and is gone, or could not thaw them.
pub(super) fn is_left(run_dir: &Path) -> bool {
    let mark = path_io::read_if_exists(run_dir.join(MARK)).ok().flatten();
    mark.is_some_and(|who| match who.trim().parse::<u32>() {
        Ok(0) | Err(_) => true,
        Ok(process) => !Path::new("/proc").join(process.to_string()).exists(),
    })
}

/// Thaws what was left frozen; whether nothing is left so.
pub(super) fn settle(running: &Running) -> bool {
    let mark = running.run_dir().join(MARK);
    !mark.exists() || thaw(running)
}

/// A guest that begins has nothing frozen.
pub(super) fn forget(run_dir: &Path) {
    let _ = path_io::remove_file(run_dir.join(MARK));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_has_left_them_frozen() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!is_left(folder.path()));
        for (who, left) in [
            (std::process::id().to_string(), false),
            ("0".to_owned(), true),
            ("4294967295".to_owned(), true),
            (String::new(), true),
        ] {
            path_io::write(folder.path().join(MARK), &who).expect("a mark");
            assert_eq!(is_left(folder.path()), left, "{who}");
        }
        forget(folder.path());
        assert!(!is_left(folder.path()));
    }
}
