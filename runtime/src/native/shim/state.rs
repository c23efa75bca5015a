//! What is written down about a running container, so that a later keel finds it and is sure that it is the same.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::native::container::ContainerPlan;
use crate::native::machine::plan::MachinePlan;
use crate::shim::messages::Confinement;
use crate::shim::wire::Wire as _;
use crate::shim::{record, supervise};

/// Its name in the run folder.
const FILE: &str = "state.json";
/// The encoded [`Confinement`], its version before it.
const CONFINEMENT: &str = "confinement";
const CONFINEMENT_VERSION: u32 = 1;
/// The format this build writes. A reader keeps understanding all before it.
const FORMAT: u32 = 1;

/// One start of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedState {
    /// Of this file.
    pub format_version: u32,
    /// The instance.
    pub uid: String,
    /// For people.
    pub name: String,
    /// Number of the start.
    pub generation: u64,
    /// The host's boot; in another boot no process of this file exists.
    pub boot_id: String,
    /// Pid of init in the host's view.
    pub init: i32,
    /// Field 22 of its `/proc/PID/stat`.
    pub start_time: u64,
    /// Pid of the companion.
    pub shim: i32,
    /// Field 22 of its `/proc/PID/stat`; 0 in a file of a keel that did not write it.
    #[serde(default)]
    pub shim_start_time: u64,
    /// Whether it has no user namespace.
    pub privileged: bool,
    /// Whether it has a time namespace of its own.
    pub time_namespace: bool,
    /// The cgroup 2 folder that it was born in.
    pub payload: Option<PathBuf>,
    /// Cgroup 1 folders that its processes are in.
    pub joins: Vec<PathBuf>,
    /// Host's id of its root.
    pub root_id: u32,
}

impl SavedState {
    /// What is known of a container before it is started.
    pub fn of_container(plan: &ContainerPlan, boot_id: &str) -> Self {
        Self {
            format_version: FORMAT,
            uid: plan.uid.clone(),
            name: plan.name.clone(),
            generation: plan.generation,
            boot_id: boot_id.to_owned(),
            init: 0,
            start_time: 0,
            shim: 0,
            shim_start_time: 0,
            privileged: plan.ids.is_none(),
            time_namespace: plan.time.is_some(),
            payload: plan.cgroups.payload.clone(),
            joins: plan.cgroups.joins.clone(),
            root_id: plan
                .ids
                .as_ref()
                .and_then(|ids| ids.root())
                .map_or(0, |(uid, _)| uid),
        }
    }

    /// What is known of a virtual machine before it is started.
    pub fn of_machine(plan: &MachinePlan, boot_id: &str) -> Self {
        Self {
            format_version: FORMAT,
            uid: plan.uid.clone(),
            name: plan.name.clone(),
            generation: plan.generation,
            boot_id: boot_id.to_owned(),
            init: 0,
            start_time: 0,
            shim: 0,
            shim_start_time: 0,
            privileged: true,
            time_namespace: false,
            payload: plan.cgroups.payload.clone(),
            joins: plan.cgroups.joins.clone(),
            root_id: plan.ids.0,
        }
    }

    /// With the processes, which exist now.
    ///
    /// # Errors
    /// A process has ended already.
    pub fn born(self, init: Pid, shim: Pid) -> Result<Self, PathError> {
        Ok(Self {
            init: init.as_raw_nonzero().get(),
            start_time: start_time(init)?,
            shim_start_time: start_time(shim)?,
            shim: shim.as_raw_nonzero().get(),
            ..self
        })
    }

    /// Writes it, and how its processes are confined, into the run folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, run_dir: &Path, confinement: &Confinement) -> Result<(), PathError> {
        let mut bytes = Vec::new();
        CONFINEMENT_VERSION.put(&mut bytes);
        confinement.put(&mut bytes);
        path_io::write(run_dir.join(CONFINEMENT), bytes)?;
        let path = run_dir.join(FILE);
        let text = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .at("encode", &path)?;
        path_io::write_durably(path, text)
    }

    /// Reads it; `None`: there is none.
    ///
    /// # Errors
    /// The file cannot be read or means nothing to this build.
    pub fn read(run_dir: &Path) -> Result<Option<Self>, PathError> {
        let path = run_dir.join(FILE);
        let Some(text) = path_io::read_if_exists(&path)? else {
            return Ok(None);
        };
        // Of a format that is too new nothing else may be understood.
        let header: Header = serde_json::from_str(&text)
            .map_err(std::io::Error::from)
            .at("decode", &path)?;
        understood(header.format_version, FORMAT).at("decode", &path)?;
        let state = serde_json::from_str(&text)
            .map_err(std::io::Error::from)
            .at("decode", &path)?;
        Ok(Some(state))
    }
}

/// The part of a state file that every format has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    format_version: u32,
}

/// Refuses what a later keel wrote.
fn understood(found: u32, known: u32) -> std::io::Result<()> {
    if found <= known {
        return Ok(());
    }
    Err(std::io::Error::other(format!(
        "format {found} is newer than this keel, which reads up to {known}"
    )))
}

/// How the processes of an instance are confined.
///
/// # Errors
/// The file cannot be read or was written by another version.
pub fn confinement(run_dir: &Path) -> Result<Confinement, PathError> {
    let path = run_dir.join(CONFINEMENT);
    let bytes = path_io::read(&path)?;
    let mut rest = &bytes[..];
    let mut decode = || -> std::io::Result<Confinement> {
        let format = u32::take(&mut rest).map_err(std::io::Error::other)?;
        understood(format, CONFINEMENT_VERSION)?;
        Confinement::take(&mut rest).map_err(std::io::Error::other)
    };
    decode().at("decode", path)
}

/// Removes what an earlier start left; the console log stays.
///
/// # Errors
/// A file cannot be removed.
pub fn remove(run_dir: &Path) -> Result<(), PathError> {
    for name in [FILE, CONFINEMENT, record::FILE, record::PRESENT] {
        let path = run_dir.join(name);
        match rustix::fs::unlink(&path) {
            Err(rustix::io::Errno::NOENT) => {}
            other => other.at("remove", path)?,
        }
    }
    Ok(())
}

/// The host's boot, a UUID; read once, since no process outlives it.
///
/// # Errors
/// `/proc` is not mounted.
pub fn boot_id() -> Result<String, PathError> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let text = path_io::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(KNOWN.get_or_init(|| text.trim().to_owned()).clone())
}

/// Field 22 of a process's `/proc/PID/stat`.
///
/// # Errors
/// There is no such process.
pub fn start_time(pid: Pid) -> Result<u64, PathError> {
    let pid = pid.as_raw_nonzero().get();
    supervise::start_time(pid)
        .ok_or(std::io::ErrorKind::NotFound)
        .at("read", format!("/proc/{pid}/stat"))
}
