//! Files of a machine: given to cloud-init with the first start of a new root, put by the guest agent from then on.
//!
//! What was put is written down, since nobody else can tell: a file without `enforce` is the guest's once it is there. Of
//! files that cloud-init was given nobody knows whether it put them, until an agent has been asked.

use std::collections::BTreeMap;
use std::time::Duration;

use manifests::instance::files::File;
use manifests::kinds::instance::Instance;
use manifests::scalar::file_mode::FileMode;
use manifests::scalar::text::Text;
use serde::{Deserialize, Serialize};

use super::super::picks::InstancePicks;
use super::super::spec;
use super::operate;
use super::{connect_failed, control, monitor_failed};
use crate::error::{Class, RuntimeError};
use crate::native::cgroup::Patience;
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::machine::agent::AgentError;
use crate::native::machine::qmp::Qmp;
use crate::native::machine::seen::has_agent;
use crate::native::secrets::SecretStore;
use crate::native::shim::Running;
use crate::runtime::{Context, FileInside};

/// A larger file is not compared.
const COMPARED_BYTES: usize = 1 << 20;
/// How long an agent may take for one answer where somebody only looks.
const GLANCE: Duration = Duration::from_secs(3);
/// How long a guest that boots may take until its agent is there.
const BOOTING: Duration = Duration::from_secs(60);

/// Files that were put into a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::native) struct PutFiles {
    /// As they were put, with secrets by their digests.
    files: BTreeMap<String, File>,
    /// cloud-init was given them, and nobody has looked since.
    unseen: bool,
}

/// Those that are given to cloud-init with the first start.
pub(super) fn first(
    definition: &mut Definition<InstancePicks>,
) -> Result<BTreeMap<String, File>, RuntimeError> {
    let files = spec(definition)?.files.0.clone().unwrap_or_default();
    definition.picks.files = (!files.is_empty()).then(|| PutFiles {
        files: files.clone(),
        unseen: true,
    });
    Ok(files)
}

/// Puts files into a machine that has just been started, where some were changed while it was stopped.
pub(super) fn after_start(
    host: &Host,
    definition: &mut Definition<InstancePicks>,
    running: &Running,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    let wanted = spec(definition)?.files.0.clone().unwrap_or_default();
    let put = definition.picks.files.clone().unwrap_or_default();
    if wanted
        .iter()
        .all(|(path, file)| put.files.get(path) == Some(file))
    {
        return Ok(());
    }
    (context.progress)("waiting for its agent, to put its files");
    let mut qmp = control(running).map_err(connect_failed)?;
    let mut patience = Patience::new(BOOTING.min(context.timeout));
    while !has_agent(&mut qmp).map_err(monitor_failed("look at"))? {
        if !patience.wait() {
            (context.progress)("its agent is not there: its files are put with the next apply");
            return Ok(());
        }
    }
    put_changed(host, definition, running, &mut qmp)
}

/// Puts the files of a running machine that are not as its manifest says.
pub(super) fn put_changed(
    host: &Host,
    definition: &mut Definition<InstancePicks>,
    running: &Running,
    qmp: &mut Qmp,
) -> Result<(), RuntimeError> {
    const DOING: &str = "put the files of";
    let wanted = spec(definition)?.files.0.clone().unwrap_or_default();
    let mut put = definition.picks.files.clone().unwrap_or_default();
    if !has_agent(qmp).map_err(monitor_failed("look at"))? {
        let why = "qemu-guest-agent does not run in it, or not yet, and nobody else can put files into a guest that has begun";
        return Err(RuntimeError::new(DOING, Class::NeedsOperator, why));
    }
    for (path, file) in &wanted {
        let is_there = put.files.get(path) == Some(file)
            && !differs(&host.secrets, running, &put, path, file)
                .map_err(|error| RuntimeError::new(DOING, Class::Retry, error))?;
        if !is_there {
            let revealed = host.secrets.revealed_file(file)?;
            let inside = FileInside {
                content: revealed
                    .content
                    .as_plain()
                    .unwrap_or_default()
                    .as_bytes()
                    .to_vec(),
                mode: file.mode.0,
                uid: file.uid,
                gid: file.gid,
            };
            operate::write_file(running, path, &inside, file.create_dirs)?;
        }
        put.files.insert(path.clone(), file.clone());
    }
    put.files.retain(|path, _| wanted.contains_key(path));
    put.unseen = false;
    definition.picks.files = Some(put);
    Ok(())
}

/// Whether a file that was put is not as it should be, as far as that is looked at.
fn differs(
    secrets: &SecretStore,
    running: &Running,
    put: &PutFiles,
    path: &str,
    file: &File,
) -> Result<bool, AgentError> {
    match (file.enforce, put.unseen) {
        (true, _) => Ok(seen(secrets, running, path, file)? != *file),
        (false, true) => Ok(!operate::is_there(running, path, GLANCE)?),
        (false, false) => Ok(false),
    }
}

/// What a file is, in the words of its manifest.
fn seen(
    secrets: &SecretStore,
    running: &Running,
    path: &str,
    file: &File,
) -> Result<File, AgentError> {
    let mut seen = file.clone();
    match operate::look_at_file(running, path, COMPARED_BYTES, GLANCE)? {
        Some(there) => {
            seen.content = secrets.seen(&file.content, &there.content);
            (seen.mode, seen.uid, seen.gid) = (FileMode(there.mode), there.uid, there.gid);
        }
        // Also an empty file differs from one that is not there, or could not be compared.
        None => (seen.content, seen.mode) = (Text::default(), FileMode(0)),
    }
    Ok(seen)
}

/// Puts what the files of a running machine are over what was meant. `agent`: somebody can be asked in it.
///
/// # Errors
/// Nobody answers: what was put is told then.
pub(in crate::native::instance) fn overlay_files(
    secrets: &SecretStore,
    definition: &Definition<InstancePicks>,
    instance: &mut Instance,
    running: &Running,
    agent: bool,
) -> Result<(), AgentError> {
    let Some(files) = &mut instance.files.0 else {
        return Ok(());
    };
    let none = PutFiles::default();
    let put = definition.picks.files.as_ref().unwrap_or(&none);
    let mut failed = None;
    files.retain(|path, written| {
        let Some(before) = put.files.get(path) else {
            return false;
        };
        written.clone_from(before);
        if !agent || failed.is_some() {
            return true;
        }
        let result = match (written.enforce, put.unseen) {
            (true, _) => seen(secrets, running, path, written).map(|seen| {
                *written = seen;
                true
            }),
            (false, true) => operate::is_there(running, path, GLANCE),
            (false, false) => Ok(true),
        };
        result.unwrap_or_else(|error| {
            failed = Some(error);
            true
        })
    });
    failed.map_or(Ok(()), Err)
}
