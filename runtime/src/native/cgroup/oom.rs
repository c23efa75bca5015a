//! Who is killed first when the host runs out of memory: `oom_score_adj` of the container's processes.
//!
//! Not a cgroup file: each process has its own and hands it to its children. A service of the guest may have chosen
//! its own value, so only processes that still have init's are changed with it.

use std::path::PathBuf;

use manifests::path_io;

use super::instance::InstanceCgroups;
use super::limits::{LimitError, LimitPart, Seen};

fn file(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/oom_score_adj"))
}

/// The priority in force: that of the container's init (a pid of the host).
pub fn seen_oom_priority(init: u32) -> Seen<i32> {
    match path_io::read_to_string(file(init)) {
        Ok(text) => match text.trim().parse() {
            Ok(value) => Seen::Known(value),
            Err(_) => Seen::Unknown(format!("{} says {text:?}", file(init).display())),
        },
        Err(error) => Seen::Unknown(format!("{error}: {}", error.source)),
    }
}

/// Gives init and every process that has the same value as init a new one, -1000 (never) to 1000 (first).
///
/// # Errors
/// [`LimitError::Unsupported`] where the value is below the least that was ever set and keel has no
/// `CAP_SYS_RESOURCE` (`proc_pid_oom_score_adj(5)`).
pub fn set_oom_priority(
    cgroups: &InstanceCgroups,
    init: u32,
    wanted: i32,
) -> Result<(), LimitError> {
    let part = LimitPart::OomPriority;
    let value = wanted.to_string();
    let failed = |source: path_io::PathError| {
        if source.kind() == std::io::ErrorKind::PermissionDenied {
            let why = format!("{wanted} needs CAP_SYS_RESOURCE, which keel does not have here");
            LimitError::Unsupported { part, why }
        } else {
            LimitError::Write {
                part,
                value: value.clone(),
                source,
            }
        }
    };
    let before = path_io::read_to_string(file(init)).map_err(failed)?;
    if before.trim() == value {
        return Ok(());
    }
    path_io::write_kernel_file(file(init), &value).map_err(failed)?;
    for pid in cgroups.processes().unwrap_or_default() {
        // A process that has ended meanwhile is fine.
        if pid != init
            && path_io::read_to_string(file(pid)).is_ok_and(|text| text.trim() == before.trim())
        {
            let _ = path_io::write_kernel_file(file(pid), &value);
        }
    }
    Ok(())
}
