//! The state of a machine, its memory with it: saved into a file and taken over from one, by QEMU's migration.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde_json::{Value, json};

use super::plain::plain;
use super::plan::{Incoming, Piece};
use super::qmp::{Qmp, QmpError};
use crate::native::deadline::Deadline;

/// Why a state was not saved or not taken over.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// QEMU did not do it.
    #[error(transparent)]
    Monitor(#[from] QmpError),
    /// It tried and failed.
    #[error("QEMU could not do it: {0}")]
    Failed(String),
    /// It gets nowhere.
    #[error("QEMU got no further with the state for {0:?}")]
    Stalled(Duration),
    /// It does not say where a part is.
    #[error("QEMU does not tell where {0} is in the machine")]
    NoPlace(String),
}

/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// So long QEMU may be silent while it reads or writes: both are done in large pieces, by a thread that also answers.
const SILENT: Duration = Duration::from_secs(60);
/// So long it may get no further: a disk that is so slow is stuck.
const STALLED: Duration = Duration::from_secs(60);
/// Under which name QEMU is handed the file.
const NAME: &str = "state";

/// How far QEMU is with a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nobody ever asked for one.
    None,
    /// It is at it; so many bytes are done.
    Active(u64),
    /// It is whole.
    Completed,
    /// It failed, or somebody cancelled it.
    Failed(String),
}

/// Asks QEMU how far it is.
///
/// # Errors
/// It does not answer.
pub fn progress(qmp: &mut Qmp) -> Result<Progress, QmpError> {
    let seen = qmp.execute("query-migrate", Value::Null)?;
    Ok(match seen["status"].as_str() {
        None | Some("none") => Progress::None,
        Some("completed") => Progress::Completed,
        Some(word @ ("failed" | "cancelled" | "cancelling")) => {
            Progress::Failed(plain(seen["error-desc"].as_str().unwrap_or(word)))
        }
        Some(_) => Progress::Active(seen["ram"]["transferred"].as_u64().unwrap_or(0)),
    })
}

/// Waits for the end.
///
/// # Errors
/// It failed, or gets nowhere.
pub fn finished(qmp: &mut Qmp) -> Result<(), StateError> {
    let mut before = None;
    let mut deadline = Deadline::after(STALLED);
    loop {
        match progress(qmp)? {
            Progress::Completed => return Ok(()),
            Progress::Failed(why) => return Err(StateError::Failed(why)),
            Progress::None => return Err(StateError::Failed("it has not begun".to_owned())),
            Progress::Active(bytes) if before != Some(bytes) => {
                before = Some(bytes);
                deadline = Deadline::after(STALLED);
            }
            Progress::Active(_) if deadline.left().is_zero() => {
                return Err(StateError::Stalled(STALLED));
            }
            Progress::Active(_) => {}
        }
        qmp.wait_event(LOOK, &mut |_| false)?;
    }
}

/// Saves the state of a machine whose processors are stopped. It stays as it is and can go on.
///
/// # Errors
/// It could not be saved; QEMU is told to leave it.
pub fn save(qmp: &mut Qmp, file: BorrowedFd<'_>) -> Result<(), StateError> {
    qmp.set_patience(SILENT);
    // It is a file, and nobody waits on a network.
    let unlimited = json!({ "max-bandwidth": 1_u64 << 40 });
    qmp.execute("migrate-set-parameters", unlimited)?;
    qmp.execute_with("getfd", json!({ "fdname": NAME }), file)?;
    let begun = qmp.execute("migrate", json!({ "uri": format!("fd:{NAME}") }));
    if let Err(error) = begun {
        // What it did not take it keeps.
        let _ = qmp.execute("closefd", json!({ "fdname": NAME }));
        return Err(error.into());
    }
    finished(qmp).inspect_err(|_| {
        let _ = qmp.execute("migrate_cancel", Value::Null);
    })
}

/// Lets a machine that waits for its state take it over; its processors stay stopped.
///
/// # Errors
/// It is not the state of this machine. QEMU then ends by itself, and has told why where complaints go.
pub fn take_over(qmp: &mut Qmp, file: BorrowedFd<'_>) -> Result<(), StateError> {
    qmp.set_patience(SILENT);
    qmp.execute_with("getfd", json!({ "fdname": NAME }), file)?;
    qmp.execute("migrate-incoming", json!({ "uri": format!("fd:{NAME}") }))?;
    finished(qmp)
}

/// Where everything is in a machine, as far as its command line leaves that to QEMU.
///
/// # Errors
/// QEMU does not tell.
pub fn places(qmp: &mut Qmp, devices: &BTreeMap<String, String>) -> Result<Incoming, StateError> {
    let get = |qmp: &mut Qmp, path: &str, property: &str| {
        qmp.execute("qom-get", json!({ "path": path, "property": property }))
    };
    let board = get(qmp, "/machine", "type")?;
    let board = board.as_str().unwrap_or_default();
    let board = board.strip_suffix("-machine").unwrap_or(board);
    let mut places = ports(&qmp.execute("query-pci", Value::Null)?);
    let mut usb = None;
    for (id, kind) in devices {
        match kind.as_str() {
            "scsi-hd" | "scsi-cd" => {
                let number = get(qmp, &format!("/machine/peripheral/{id}"), "scsi-id")?;
                let number = number.as_u64().ok_or(StateError::NoPlace(id.clone()))?;
                places.insert(id.clone(), number.to_string());
            }
            "usb-storage" => {
                if usb.is_none() {
                    let text = qmp.execute("x-query-usb", Value::Null)?;
                    usb = text["human-readable-text"].as_str().map(str::to_owned);
                }
                let port = usb.as_deref().and_then(|text| usb_port(text, id));
                let port = port.ok_or(StateError::NoPlace(id.clone()))?;
                places.insert(id.clone(), port.to_owned());
            }
            _ => {}
        }
    }
    let slots = qmp.execute("query-hotpluggable-cpus", Value::Null)?;
    let memory = qmp.execute("query-memory-devices", Value::Null)?;
    let pieces = memory.as_array().into_iter().flatten();
    let pieces = pieces.map(|piece| {
        let piece = &piece["data"];
        let named = |field: &str| piece[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| piece[field].as_u64().unwrap_or_default();
        let memory = named("memdev");
        Piece {
            id: named("id"),
            memory: memory.rsplit('/').next().unwrap_or_default().to_owned(),
            slot: number("slot"),
            address: number("addr"),
            bytes: number("size"),
        }
    });
    Ok(Incoming {
        board: board.to_owned(),
        places,
        pieces: pieces.collect(),
        processors: processors(&slots),
    })
}

/// The processors that were plugged in, as they were: QEMU lists the last first.
fn processors(slots: &Value) -> Vec<Value> {
    let slots = slots.as_array().into_iter().flatten().rev();
    slots
        .filter_map(|slot| {
            let id = slot["qom-path"]
                .as_str()?
                .strip_prefix("/machine/peripheral/")?;
            let mut device = slot["props"].clone();
            device["driver"] = slot["type"].clone();
            device["id"] = json!(id);
            Some(device)
        })
        .collect()
}

/// The port of each part behind one.
fn ports(pci: &Value) -> BTreeMap<String, String> {
    let bridges = pci.as_array().into_iter().flatten();
    let bridges = bridges
        .filter_map(|bus| bus["devices"].as_array())
        .flatten();
    let mut places = BTreeMap::new();
    for bridge in bridges {
        let Some(port) = bridge["qdev_id"].as_str() else {
            continue;
        };
        let behind = bridge["pci_bridge"]["devices"].as_array();
        for part in behind.into_iter().flatten() {
            if let Some(id) = part["qdev_id"].as_str().filter(|id| !id.is_empty()) {
                places.insert(id.to_owned(), port.to_owned());
            }
        }
    }
    places
}

/// The port of a part in QEMU's list: `Device 0.1, Port 1, Speed 5000 Mb/s, Product QEMU USB HARDDRIVE, ID: disk-stick`.
fn usb_port<'t>(text: &'t str, id: &str) -> Option<&'t str> {
    let ending = format!(", ID: {id}");
    let line = text
        .lines()
        .find(|line| line.trim_end().ends_with(&ending))?;
    line.split(", ").find_map(|word| word.strip_prefix("Port "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_qemu_tells_them() {
        let pci = json!([{"bus": 0, "devices": [
            {"qdev_id": "scsi"},
            {"qdev_id": "port0", "pci_bridge": {"devices": [{"qdev_id": "nic-eth0"}]}},
            {"qdev_id": "port1", "pci_bridge": {"bus": {}}},
        ]}]);
        let places = ports(&pci);
        assert_eq!(places, [("nic-eth0".to_owned(), "port0".to_owned())].into());
        let usb = "  Device 0.0, Port 1, Speed 5000 Mb/s, Product QEMU USB HARDDRIVE, ID: disk-a\r\n  \
                   Device 0.0, Port 2.1, Speed 480 Mb/s, Product QEMU USB HARDDRIVE, ID: disk-aa\r\n";
        assert_eq!(usb_port(usb, "disk-a"), Some("1"));
        assert_eq!(usb_port(usb, "disk-aa"), Some("2.1"));
        assert_eq!(usb_port(usb, "a"), None);
    }
}
