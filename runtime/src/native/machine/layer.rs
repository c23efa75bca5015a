//! The layers of a disk while its machine runs: a new one takes what is written from then on, and one that nobody needs any
//! more gives its data to the one on it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::devices::{layer, layer_node, nodes_of};
use super::plan::Cache;
use super::plug::{PlugError, hand_over};
use super::qmp::{Qmp, QmpError};
use crate::native::machine::plain::plain;

/// A pause between two looks at a job.
const LOOK: Duration = Duration::from_millis(20);

/// Why layers were not changed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// QEMU did not do it.
    #[error(transparent)]
    Monitor(#[from] QmpError),
    /// QEMU was not handed the file.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// QEMU tried and failed.
    #[error("QEMU could not do it: {0}")]
    Failed(String),
    /// It takes longer than anybody waits.
    #[error("it is not done after {0:?}, and goes on: it is looked at again with the next deed")]
    GoesOn(Duration),
    /// A QEMU that was started for it alone does not answer, or was ended since it took too long. What is done is kept.
    #[error(
        "the QEMU that merges it {why}: all is as it was, and the next deletion of a snapshot tries again"
    )]
    Alone {
        /// What it did.
        why: String,
    },
}

/// Makes a layer known to QEMU, which does not use it yet.
///
/// # Errors
/// QEMU does not take it.
pub fn add(
    qmp: &mut Qmp,
    top: &str,
    number: u32,
    file: &Path,
    cache: Cache,
) -> Result<(), LayerError> {
    // Of a try that was cut short.
    remove(qmp, top, number)?;
    let set = hand_over(qmp, file, true)?;
    let added = qmp.execute("blockdev-add", layer(top, number, set, cache, false));
    // QEMU's own copy stays open as long as the node is there.
    unless_refused(qmp.execute("remove-fd", json!({ "fdset-id": set })))?;
    added?;
    Ok(())
}

/// Takes a layer away that QEMU does not use.
///
/// # Errors
/// QEMU does not answer.
pub fn remove(qmp: &mut Qmp, top: &str, number: u32) -> Result<(), QmpError> {
    let node = layer_node(top, number);
    unless_refused(qmp.execute("blockdev-del", json!({ "node-name": node })))
}

fn unless_refused(result: Result<Value, QmpError>) -> Result<(), QmpError> {
    match result {
        Err(QmpError::Refused { .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// From now on is written to `over` what was written to `active`: all at once, or not at all.
///
/// # Errors
/// QEMU refused: then nothing has changed.
pub fn switch(qmp: &mut Qmp, top: &str, active: u32, over: u32) -> Result<(), QmpError> {
    let data = json!({ "node": layer_node(top, active), "overlay": layer_node(top, over) });
    let actions = json!({ "actions": [{ "type": "blockdev-snapshot", "data": data }] });
    qmp.execute("transaction", actions).map(drop)
}

/// Whether a layer lies on another: whether QEMU has switched to it.
///
/// # Errors
/// QEMU does not answer.
pub fn is_used(qmp: &mut Qmp, top: &str, number: u32) -> Result<bool, QmpError> {
    let node = find(qmp, &layer_node(top, number))?;
    Ok(node.is_some_and(|node| node["backing_file_depth"].as_u64().unwrap_or(0) > 0))
}

fn find(qmp: &mut Qmp, name: &str) -> Result<Option<Value>, QmpError> {
    let mut nodes = qmp.execute("query-named-block-nodes", Value::Null)?;
    let nodes = nodes.as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(nodes.into_iter().find(|node| node["node-name"] == name))
}

/// A layer whose data go into the one on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The layer that goes.
    pub from: u32,
    /// The one on it.
    pub into: u32,
    /// The one below it.
    pub base: Option<u32>,
    /// What is below it, layer or image: where it lies. QEMU writes that into the header of the one on it.
    pub base_file: Option<PathBuf>,
}

fn job(merge: &Merge) -> String {
    format!("merge-{}-{}", merge.from, merge.into)
}

/// Takes the result of a merge that somebody began; none: nobody did, or it is not over. QEMU keeps it until then.
///
/// # Errors
/// QEMU does not answer.
pub fn result(
    qmp: &mut Qmp,
    top: &str,
    merge: &Merge,
) -> Result<Option<Result<(), LayerError>>, QmpError> {
    let id = job(merge);
    let jobs = qmp.jobs()?;
    let Some(one) = jobs.iter().find(|one| one.id == id) else {
        return Ok(None);
    };
    let Some(result) = one.result() else {
        return Ok(None);
    };
    let result = result.map_err(|why| LayerError::Failed(plain(why)));
    qmp.dismiss_job(&id)?;
    if result.is_ok() {
        remove(qmp, top, merge.from)?;
    }
    Ok(Some(result))
}

/// Merges, and waits for that. `file` is that of the layer on top.
///
/// # Errors
/// It failed: then all is as before. Or it takes too long, and goes on.
pub fn merge(
    qmp: &mut Qmp,
    top: &str,
    merge: &Merge,
    file: &Path,
    patience: Duration,
) -> Result<(), LayerError> {
    let id = job(merge);
    if !qmp.jobs()?.iter().any(|one| one.id == id) {
        begin(qmp, top, merge, file)?;
    }
    let mut waited = Duration::ZERO;
    loop {
        if let Some(result) = result(qmp, top, merge)? {
            return result;
        }
        if waited >= patience {
            return Err(LayerError::GoesOn(patience));
        }
        qmp.wait_event(LOOK, &mut |_| false)?;
        waited += LOOK;
    }
}

/// Has QEMU write what it only has in its own memory of a layer. Whether it could is to be read from the file: it does not
/// say.
///
/// # Errors
/// QEMU does not answer.
pub fn flush(qmp: &mut Qmp, top: &str, number: u32) -> Result<(), QmpError> {
    // The only way: no command of the monitor proper does it while the machine goes on.
    let command = format!("qemu-io {} flush", layer_node(top, number));
    let command = json!({ "command-line": command });
    qmp.execute("human-monitor-command", command).map(drop)
}

/// The name of the node on which the layer of a merge lies; none: on nothing.
pub(super) fn base_node(top: &str, merge: &Merge) -> Option<String> {
    match merge.base {
        Some(base) => Some(layer_node(top, base)),
        None => merge
            .base_file
            .is_some()
            .then(|| nodes_of(top.to_owned()).backing),
    }
}

fn begin(qmp: &mut Qmp, top: &str, merge: &Merge, file: &Path) -> Result<(), LayerError> {
    let into = layer_node(top, merge.into);
    if let Some(node) = find(qmp, &into)?
        && node["ro"].as_bool().unwrap_or(false)
        && let Some(set) = node["file"].as_str().and_then(set_in)
    {
        // A layer that is only read was opened so: what is written to it now needs a descriptor that can.
        let opened = std::fs::File::options()
            .read(true)
            .write(true)
            .open(file)
            .map_err(|error| LayerError::Failed(error.to_string()))?;
        let arguments = json!({ "fdset-id": set });
        qmp.execute_with("add-fd", arguments, std::os::fd::AsFd::as_fd(&opened))?;
    }
    let mut arguments = json!({
        "job-id": job(merge),
        "device": into,
        // Also a keel that comes later wants to know the result.
        "auto-dismiss": false,
    });
    if let Some(base) = base_node(top, merge) {
        arguments["base-node"] = json!(base);
    }
    if let Some(path) = &merge.base_file {
        arguments["backing-file"] = json!(path);
    }
    qmp.execute("block-stream", arguments)?;
    Ok(())
}

/// The set of a node's own file, in its name as QEMU tells it: `/dev/fdset/7`, or JSON with all that is below it.
fn set_in(name: &str) -> Option<u32> {
    let described: Value;
    let path = match name.strip_prefix("json:") {
        None => name,
        Some(text) => {
            described = serde_json::from_str(text).ok()?;
            described["file"]["filename"].as_str()?
        }
    };
    path.strip_prefix("/dev/fdset/")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_found_in_either_form_of_a_name() {
        assert_eq!(set_in("/dev/fdset/15"), Some(15));
        let json = "json:{\"backing\": {\"file\": {\"filename\": \"/dev/fdset/9\"}}, \"file\": {\"driver\": \"file\", \"filename\": \"/dev/fdset/7\"}}";
        assert_eq!(set_in(json), Some(7));
        assert_eq!(set_in("/pool/disk.qcow2"), None);
    }
}
