//! Plugging and unplugging parts of a running machine, and changing what can be changed there: by its monitor.
//!
//! Each deed looks at what is there first, and may be done again after it was cut short anywhere.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::command_line::memory_object;
use super::devices::{
    DiskSets, PORTS, USB, disk_device, disk_nodes, id, nic_backend, nic_device, nodes, nodes_of,
    port, takes_port, throttle_group, throttle_limits,
};
use super::plan::{DiskLimits, DiskPlan, NicPlan};
use super::qmp::{Qmp, QmpError};

/// Why a part was not plugged, unplugged or changed.
#[derive(Debug, thiserror::Error)]
pub enum PlugError {
    /// QEMU did not do it.
    #[error(transparent)]
    Monitor(#[from] QmpError),
    /// A file of the host.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Everything that takes a part while the machine runs is taken.
    #[error("all {PORTS} ports of the machine are taken: it takes more after a restart")]
    NoPort,
    /// What is asked for is not on the host.
    #[error("no USB device of this host is what devices.{0} asks for")]
    NoUsb(String),
    /// The guest does not let go.
    #[error("the guest did not let go of {0} within {1:?}")]
    NotLetGo(String, Duration),
    /// The guest does not give memory back.
    #[error(
        "the guest has {there} bytes of memory and did not come to {wanted} within {after:?}: it has no driver for the balloon, or \
         cannot do without"
    )]
    NotGivenBack {
        /// What it has.
        there: u64,
        /// What was asked for.
        wanted: u64,
        /// How long that was waited for.
        after: Duration,
    },
}

/// A pause between two looks at something that QEMU tells no event of.
const LOOK: Duration = Duration::from_millis(50);

/// Does something that may be done already.
fn unless_done(result: Result<Value, QmpError>) -> Result<(), QmpError> {
    match result {
        Err(QmpError::Refused { .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// Whether a part is there, by its name or, where it has none, by its path.
fn is_there(qmp: &mut Qmp, id: &str) -> Result<bool, QmpError> {
    let (among, name) = id.rsplit_once('/').unwrap_or(("/machine/peripheral", id));
    let list = qmp.execute("qom-list", json!({ "path": among }))?;
    let mut parts = list.as_array().into_iter().flatten();
    Ok(parts.any(|part| part["name"] == name))
}

/// A port with nothing in it.
fn free_port(qmp: &mut Qmp) -> Result<String, PlugError> {
    let buses = qmp.execute("query-pci", Value::Null)?;
    let devices = buses
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|bus| bus["devices"].as_array())
        .flatten();
    let is_free = |device: &&Value| {
        let below = &device["pci_bridge"]["devices"];
        !device["pci_bridge"].is_null() && below.as_array().is_none_or(Vec::is_empty)
    };
    let ours: Vec<String> = (0..PORTS).map(port).collect();
    devices
        .filter(is_free)
        .filter_map(|device| device["qdev_id"].as_str())
        .find(|id| ours.iter().any(|port| port == id))
        .map(str::to_owned)
        .ok_or(PlugError::NoPort)
}

/// Takes a part out and waits until the guest has let it go; one without a name by its path.
///
/// # Errors
/// The guest keeps it.
pub fn take_out(qmp: &mut Qmp, id: &str, patience: Duration) -> Result<(), PlugError> {
    if !is_there(qmp, id)? {
        return Ok(());
    }
    // What was said of an earlier part of that name counts no more.
    qmp.events().for_each(drop);
    match qmp.execute("device_del", json!({ "id": id })) {
        // It is on its way already.
        Err(QmpError::Refused { class, .. }) if class != "DeviceNotFound" => {}
        Err(QmpError::Refused { .. }) => return Ok(()),
        other => other.map(drop)?,
    }
    // Two events come for some: one of what is inside, and one of the part itself.
    let gone = qmp.wait_event(patience, &mut |event| {
        event.name == "DEVICE_DELETED" && (event.data["device"] == id || event.data["path"] == id)
    })?;
    if gone.is_none() && is_there(qmp, id)? {
        return Err(PlugError::NotLetGo(id.to_owned(), patience));
    }
    Ok(())
}

/// Hands a file over; the number of the set in which QEMU finds it.
pub(super) fn hand_over(qmp: &mut Qmp, path: &Path, writable: bool) -> Result<u32, PlugError> {
    let access = match writable {
        true => OFlags::RDWR,
        false => OFlags::RDONLY,
    };
    let opened =
        rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty()).at("open", path)?;
    let name = path.display().to_string();
    let added = qmp.execute_with("add-fd", json!({ "opaque": name }), opened.as_fd())?;
    let set = added["fdset-id"].as_u64().unwrap_or(u64::MAX);
    Ok(u32::try_from(set).unwrap_or(u32::MAX))
}

/// Plugs a disk in.
///
/// # Errors
/// Its file cannot be opened, or QEMU does not take it.
pub fn plug_disk(qmp: &mut Qmp, disk: &DiskPlan) -> Result<(), PlugError> {
    let names = nodes(&disk.device);
    if is_there(qmp, &names.top)? {
        return Ok(());
    }
    // What an earlier try, or somebody who took only the device out, left behind.
    drop_nodes(qmp, &names.top)?;
    let at = match takes_port(disk.bus) {
        true => Some(free_port(qmp)?),
        false => None,
    };
    let set = hand_over(qmp, &disk.file.path, !disk.read_only)?;
    let backing = disk
        .backing
        .as_ref()
        .map(|backing| hand_over(qmp, &backing.path, false))
        .transpose()?;
    let layers = disk.layers.below.iter();
    let below = layers
        .map(|(_, path)| hand_over(qmp, path, false))
        .collect::<Result<Vec<u32>, _>>()?;
    let done = (|| {
        qmp.execute("object-add", throttle_group(disk))?;
        let sets = DiskSets {
            active: set,
            below: below.clone(),
            image: backing,
        };
        for node in disk_nodes(disk, &sets) {
            qmp.execute("blockdev-add", node)?;
        }
        let mut device = disk_device(disk, at.as_deref());
        if let Some(fields) = device.as_object_mut() {
            // Another may have its place still: [`order_boot`] gives it.
            fields.remove("bootindex");
        }
        qmp.execute("device_add", device)
    })();
    // QEMU's own copies stay open as long as a node uses them.
    for set in [Some(set), backing].into_iter().flatten().chain(below) {
        unless_done(qmp.execute("remove-fd", json!({ "fdset-id": set })))?;
    }
    if let Err(error) = done {
        drop_nodes(qmp, &names.top)?;
        return Err(error.into());
    }
    Ok(())
}

/// Removes the nodes of a disk that no device uses.
fn drop_nodes(qmp: &mut Qmp, top: &str) -> Result<(), QmpError> {
    let names = nodes_of(top.to_owned());
    for node in [
        &names.top,
        &names.format,
        &names.file,
        &names.backing,
        &names.backing_file,
    ] {
        unless_done(qmp.execute("blockdev-del", json!({ "node-name": node })))?;
    }
    unless_done(qmp.execute("object-del", json!({ "id": names.group })))
}

/// Takes a disk out, by the name that QEMU has for it.
///
/// # Errors
/// The guest keeps it.
pub fn unplug_disk(qmp: &mut Qmp, id: &str, patience: Duration) -> Result<(), PlugError> {
    take_out(qmp, id, patience)?;
    Ok(drop_nodes(qmp, id)?)
}

/// Sets how fast a disk may be.
///
/// # Errors
/// QEMU refused.
pub fn limit_disk(qmp: &mut Qmp, device: &str, limits: &DiskLimits) -> Result<(), PlugError> {
    let value = json!({
        "path": format!("/objects/{}", nodes(device).group),
        "property": "limits",
        "value": throttle_limits(limits),
    });
    qmp.execute("qom-set", value)?;
    Ok(())
}

/// Plugs a USB device of the host in, under this name.
///
/// # Errors
/// Its node cannot be opened, or QEMU does not take it.
pub fn plug_usb(qmp: &mut Qmp, part: &str, node: &Path) -> Result<(), PlugError> {
    let set = hand_over(qmp, node, true)?;
    let device = json!({
        "driver": "usb-host",
        "id": part,
        "bus": format!("{USB}.0"),
        "hostdevice": format!("/dev/fdset/{set}"),
    });
    let done = qmp.execute("device_add", device);
    // QEMU's own copy stays open as long as the device is there.
    unless_done(qmp.execute("remove-fd", json!({ "fdset-id": set })))?;
    done?;
    Ok(())
}

/// Brings disks into the order in which they are booted from. Firmware asks for it when the guest starts anew.
///
/// # Errors
/// QEMU refused, for instance since a disk that a guest did not let go of has a place of another.
pub fn order_boot(qmp: &mut Qmp, disks: &[DiskPlan]) -> Result<(), PlugError> {
    // None: what has no place.
    const NOWHERE: i64 = -1;
    let place = |disk: &DiskPlan, value: Option<i64>| {
        let mut asked = json!({
            "path": format!("/machine/peripheral/{}", nodes(&disk.device).top),
            "property": "bootindex",
        });
        if let Some(value) = value {
            asked["value"] = json!(value);
        }
        asked
    };
    let mut moved = Vec::new();
    for disk in disks {
        let now = match qmp.execute("qom-get", place(disk, None)) {
            // It is not there.
            Err(QmpError::Refused { .. }) => continue,
            other => other?.as_i64().unwrap_or(NOWHERE),
        };
        let wanted = disk.boot_index.map_or(NOWHERE, i64::from);
        if now != wanted {
            moved.push((disk, wanted));
        }
        if now != wanted && now != NOWHERE {
            qmp.execute("qom-set", place(disk, Some(NOWHERE)))?;
        }
    }
    for (disk, wanted) in moved {
        if wanted != NOWHERE {
            qmp.execute("qom-set", place(disk, Some(wanted)))?;
        }
    }
    Ok(())
}

/// Makes a disk bigger; the guest is told.
///
/// # Errors
/// QEMU refused, for instance since the host's disk is full.
pub fn grow_disk(qmp: &mut Qmp, device: &str, size: u64) -> Result<(), PlugError> {
    // By the node that the device uses: only that tells the guest.
    let node = nodes(device).top;
    qmp.execute("block_resize", json!({ "node-name": node, "size": size }))?;
    Ok(())
}

/// Plugs a network interface in; `tap` is its host's side.
///
/// # Errors
/// QEMU does not take it.
pub fn plug_nic(qmp: &mut Qmp, nic: &NicPlan, tap: BorrowedFd<'_>) -> Result<(), PlugError> {
    if is_there(qmp, &id("nic", &nic.device))? {
        return Ok(());
    }
    drop_backend(qmp, &id("net", &nic.device))?;
    let at = free_port(qmp)?;
    let name = id("tap", &nic.device);
    qmp.execute_with("getfd", json!({ "fdname": name }), tap)?;
    let done = (|| {
        qmp.execute("netdev_add", nic_backend(nic, &name))?;
        qmp.execute("device_add", nic_device(nic, &at))
    })();
    if let Err(error) = done {
        unless_done(qmp.execute("closefd", json!({ "fdname": name })))?;
        drop_backend(qmp, &id("net", &nic.device))?;
        return Err(error.into());
    }
    Ok(())
}

fn drop_backend(qmp: &mut Qmp, id: &str) -> Result<(), QmpError> {
    unless_done(qmp.execute("netdev_del", json!({ "id": id })))
}

/// Takes a network interface out, by the name that QEMU has for it; its tap goes with it.
///
/// # Errors
/// The guest keeps it.
pub fn unplug_nic(qmp: &mut Qmp, id: &str, patience: Duration) -> Result<(), PlugError> {
    take_out(qmp, id, patience)?;
    Ok(drop_backend(qmp, &id.replacen("nic-", "net-", 1))?)
}

/// Plugs processors in until there are so many.
///
/// # Errors
/// QEMU refused, or has no room for so many.
pub fn grow_processors(qmp: &mut Qmp, wanted: u32) -> Result<(), PlugError> {
    let slots = qmp.execute("query-hotpluggable-cpus", Value::Null)?;
    let mut there = 0;
    let mut free = Vec::new();
    for slot in slots.as_array().into_iter().flatten() {
        match slot.get("qom-path") {
            Some(_) => there += 1,
            None => free.push(slot),
        }
    }
    // QEMU lists the last first.
    for slot in free.into_iter().rev() {
        if there >= wanted {
            break;
        }
        let mut device = slot["props"].clone();
        device["driver"] = slot["type"].clone();
        device["id"] = json!(format!("cpu-{there}"));
        qmp.execute("device_add", device)?;
        there += 1;
    }
    Ok(())
}

/// Bytes of memory: what is plugged in, and what the balloon leaves of it to the guest.
fn memory(qmp: &mut Qmp) -> Result<(u64, u64), QmpError> {
    let size = qmp.execute("query-memory-size-summary", Value::Null)?;
    let plugged =
        size["base-memory"].as_u64().unwrap_or(0) + size["plugged-memory"].as_u64().unwrap_or(0);
    let left = qmp.execute("query-balloon", Value::Null)?["actual"]
        .as_u64()
        .unwrap_or(plugged);
    Ok((plugged, left))
}

/// Gives the guest so much memory: the balloon takes from it or gives back to it, and what is missing is plugged in, in
/// whole pieces.
///
/// # Errors
/// The guest does not give back, or QEMU has no room.
pub fn set_memory(
    qmp: &mut Qmp,
    wanted: u64,
    piece: u64,
    huge_pages: Option<u64>,
    patience: Duration,
) -> Result<(), PlugError> {
    let (plugged, _) = memory(qmp)?;
    if wanted > plugged {
        let size = (wanted - plugged).next_multiple_of(piece);
        let list = qmp.execute("qom-list", json!({ "path": "/objects" }))?;
        let taken = |name: &str| {
            let mut objects = list.as_array().into_iter().flatten();
            objects.any(|object| object["name"] == name)
        };
        let number = (0..).find(|number| !taken(&format!("memory-{number}")));
        let number: u32 = number.unwrap_or(0);
        let backend = format!("memory-{number}");
        qmp.execute("object-add", memory_object(&backend, size, huge_pages))?;
        let device = json!({
            "driver": "pc-dimm",
            "id": format!("dimm-{number}"),
            "memdev": backend,
        });
        if let Err(error) = qmp.execute("device_add", device) {
            unless_done(qmp.execute("object-del", json!({ "id": backend })))?;
            return Err(error.into());
        }
    }
    qmp.execute("balloon", json!({ "value": wanted }))?;
    let mut waited = Duration::ZERO;
    loop {
        let (_, left) = memory(qmp)?;
        if left == wanted {
            return Ok(());
        }
        if waited >= patience {
            return Err(PlugError::NotGivenBack {
                there: left,
                wanted,
                after: patience,
            });
        }
        // The balloon tells each change, but not more often than once a second.
        qmp.wait_event(LOOK, &mut |_| false)?;
        waited += LOOK;
    }
}
