//! What a running machine is: read from QEMU by its monitor.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::devices::{limits_of, nodes_of};
use super::plan::DiskLimits;
use super::qmp::{Qmp, QmpError, RunState, Status};

/// What a monitor says of its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSeen {
    /// How it is.
    pub state: RunState,
    /// Processors that are plugged in.
    pub processors: u32,
    /// Bytes of memory that are plugged in.
    pub memory: u64,
    /// Bytes of it that the balloon leaves to the guest; absent: there is no balloon.
    pub balloon: Option<u64>,
    /// Devices that were asked for, with what they are: `disk-root` is a `scsi-hd`. One without a name has its path.
    pub devices: BTreeMap<String, String>,
    /// Nodes of disks.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// Drives that are empty or open, by device.
    pub empty: Vec<String>,
    /// The limits of groups.
    pub limits: BTreeMap<String, DiskLimits>,
    /// Whether somebody in the guest serves the agent's port.
    pub agent: bool,
}

/// A node of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// Bytes that the guest sees.
    pub size: u64,
    /// Whether nothing is written to it.
    pub read_only: bool,
    /// Whether the host's memory is passed by.
    pub direct: bool,
    /// Whether flushes are ignored.
    pub no_flush: bool,
}

/// Where devices are that were given no name.
const NAMELESS: &str = "/machine/peripheral-anon";

/// How the guest's processors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// They run, or the guest has put itself to sleep.
    Running,
    /// Somebody, or an error, has stopped them where they are.
    Paused,
    /// The guest has switched itself off, or has panicked; its process only waits to be let go.
    Off,
}

impl MachineSeen {
    /// How the guest's processors are.
    pub fn power(&self) -> Power {
        power(self.state)
    }
}

/// What a state of QEMU means.
pub const fn power(state: RunState) -> Power {
    match state {
        RunState::Running | RunState::Suspended => Power::Running,
        RunState::Shutdown | RunState::GuestPanicked => Power::Off,
        _ => Power::Paused,
    }
}

/// Asks a monitor all of it, in few words: QEMU reads its monitor byte by byte, in some three microseconds each.
///
/// # Errors
/// QEMU does not answer, or not as QEMU does.
pub fn look(qmp: &mut Qmp) -> Result<MachineSeen, QmpError> {
    let plain = |command| (command, Value::Null);
    let asked = [
        plain("query-status"),
        plain("query-cpus-fast"),
        plain("query-memory-size-summary"),
        plain("query-block"),
        plain("query-named-block-nodes"),
        plain("query-chardev"),
        plain("query-balloon"),
        ("qom-list", json!({ "path": "/machine/peripheral" })),
        ("qom-list", json!({ "path": NAMELESS })),
    ];
    let mut answers = qmp.execute_each(&asked)?.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Value::Null));
    let status: Status =
        serde_json::from_value(next()?).map_err(|source| QmpError::Unexpected {
            command: "query-status".to_owned(),
            source,
        })?;
    let state = status.state;
    let (processors, memory, blocks, nodes, chardevs) =
        (next()?, next()?, next()?, next()?, next()?);
    // Refused where a guest has no balloon.
    let balloon = next().ok().and_then(|balloon| balloon["actual"].as_u64());
    let mut devices = children(&next()?);
    let nameless = children(&next()?).into_iter();
    devices.extend(nameless.map(|(name, kind)| (format!("{NAMELESS}/{name}"), kind)));
    let groups: Vec<String> = list(&nodes)
        .filter(|node| node["drv"] == "throttle")
        .filter_map(|node| node["node-name"].as_str())
        .map(|node| nodes_of(node.to_owned()).group)
        .collect();
    let of_groups: Vec<(&str, Value)> = groups
        .iter()
        .map(|group| {
            let path = format!("/objects/{group}");
            ("qom-get", json!({ "path": path, "property": "limits" }))
        })
        .collect();
    // One that is not ours may have a group of another name: refused.
    let limits = groups
        .into_iter()
        .zip(qmp.execute_each(&of_groups)?)
        .filter_map(|(group, found)| Some((group, limits_of(&found.ok()?))))
        .collect();
    Ok(MachineSeen {
        state,
        processors: u32::try_from(processors.as_array().map_or(0, Vec::len)).unwrap_or(u32::MAX),
        memory: memory["base-memory"].as_u64().unwrap_or(0)
            + memory["plugged-memory"].as_u64().unwrap_or(0),
        balloon,
        devices,
        nodes: list(&nodes)
            .filter_map(|node| Some((node["node-name"].as_str()?.to_owned(), seen_node(node))))
            .collect(),
        empty: list(&blocks).filter_map(empty_drive).collect(),
        limits,
        agent: serves_agent(&chardevs),
    })
}

fn serves_agent(chardevs: &Value) -> bool {
    list(chardevs)
        .any(|one| one["label"] == "agent" && one["frontend-open"].as_bool().unwrap_or(false))
}

/// Whether somebody in the guest serves the agent's port.
///
/// # Errors
/// QEMU does not answer.
pub fn has_agent(qmp: &mut Qmp) -> Result<bool, QmpError> {
    let chardevs = qmp.execute("query-chardev", Value::Null)?;
    Ok(serves_agent(&chardevs))
}

/// The children of an object, with their types: `child<scsi-hd>` is one, `string` is none.
fn children(list_of: &Value) -> BTreeMap<String, String> {
    let child = |one: &Value| {
        let kind = one["type"].as_str()?;
        let kind = kind.strip_prefix("child<")?.strip_suffix('>')?;
        Some((one["name"].as_str()?.to_owned(), kind.to_owned()))
    };
    list(list_of).filter_map(child).collect()
}

fn list(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.as_array().into_iter().flatten()
}

fn seen_node(node: &Value) -> NodeSeen {
    NodeSeen {
        size: node["image"]["virtual-size"].as_u64().unwrap_or(0),
        read_only: node["ro"].as_bool().unwrap_or(false),
        direct: node["cache"]["direct"].as_bool().unwrap_or(false),
        no_flush: node["cache"]["no-flush"].as_bool().unwrap_or(false),
    }
}

/// The device of a drive with nothing in it, or whose tray is open.
fn empty_drive(block: &Value) -> Option<String> {
    let open = block["tray_open"].as_bool().unwrap_or(false);
    let is_empty = block.get("inserted").is_none_or(Value::is_null);
    let path = block["qdev"].as_str()?;
    // `/machine/peripheral/ID`, with `/virtio-backend` behind it for some; or the id alone.
    let id = match path.strip_prefix("/machine/peripheral/") {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => path,
    };
    (open || is_empty).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_one_of_three() {
        for (state, wanted) in [
            (RunState::Running, Power::Running),
            (RunState::Suspended, Power::Running),
            (RunState::Paused, Power::Paused),
            (RunState::PreLaunch, Power::Paused),
            (RunState::IoError, Power::Paused),
            (RunState::Shutdown, Power::Off),
            (RunState::GuestPanicked, Power::Off),
        ] {
            assert_eq!(power(state), wanted, "{state:?}");
        }
    }

    #[test]
    fn a_drive_is_empty_when_nothing_is_in_it_or_its_tray_is_open() {
        let one = |block: Value| empty_drive(&block);
        let full = json!({"qdev": "disk-root", "inserted": {"ro": false}});
        assert_eq!(one(full), None);
        let open = json!({"qdev": "disk-cd", "tray_open": true, "inserted": {}});
        assert_eq!(one(open), Some("disk-cd".to_owned()));
        let gone = json!({"qdev": "/machine/peripheral/disk-a/virtio-backend"});
        assert_eq!(one(gone), Some("disk-a".to_owned()));
    }
}
