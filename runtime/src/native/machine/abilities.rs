//! What a QEMU can do: asked of a short-lived one without a machine, never read off its version. Distributions leave parts
//! out and put others in.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _, PathError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::passed;
use super::qmp::{Qmp, QmpError};
use crate::sys::command::{CommandError, Conversation};

/// How long each answer may take; all of them take a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to leave.
const LEAVING: Duration = Duration::from_secs(2);

/// Commands of the monitor that keel gives.
const COMMANDS: &[&str] = &[
    "add-fd",
    "balloon",
    "block_resize",
    "blockdev-add",
    "blockdev-del",
    "closefd",
    "cont",
    "device_add",
    "device_del",
    "getfd",
    "human-monitor-command",
    "netdev_add",
    "netdev_del",
    "object-add",
    "object-del",
    "qom-get",
    "qom-list",
    "qom-set",
    "query-balloon",
    "query-block",
    "query-chardev",
    "query-cpus-fast",
    "query-hotpluggable-cpus",
    "query-memory-size-summary",
    "query-named-block-nodes",
    "query-pci",
    "query-status",
    "quit",
    "remove-fd",
    "set-action",
    "stop",
    "system_powerdown",
];
/// Devices that machines are made of.
const DEVICES: &[&str] = &[
    "VGA",
    "nvme",
    "pc-dimm",
    "pcie-root-port",
    "pvpanic-pci",
    "qemu-xhci",
    "scsi-cd",
    "scsi-hd",
    "usb-storage",
    "virtio-balloon-pci",
    "virtio-blk-pci",
    "virtio-net-pci",
    "virtio-rng-pci",
    "virtio-scsi-pci",
    "virtio-serial-pci",
    "virtserialport",
];
/// Devices of which a machine can do without one that it has not.
const SPARED: [&str; 3] = [FOLDER_DEVICE, TPM_DEVICE, passed::DRIVER];
/// A folder of the host.
const FOLDER_DEVICE: &str = "vhost-user-fs-pci";
/// A TPM.
const TPM_DEVICE: &str = "tpm-crb";
/// Objects beside them.
const OBJECTS: &[&str] = &["memory-backend-memfd", "rng-random", "throttle-group"];
/// Drivers of disks.
const DRIVERS: &[&str] = &["file", "host_device", "qcow2", "raw", "throttle"];
/// Options of its command line that not every QEMU is built with.
const OPTIONS: &[&str] = &["action", "add-fd", "sandbox"];
/// The machine itself.
const MACHINE: &str = "q35";
/// Who runs instructions where the processor does not.
const EMULATION: &str = "tcg-accel";

/// What was asked of a QEMU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Abilities {
    /// Its version, for people.
    pub version: String,
    /// What keel needs and it does not have: `the device pvpanic-pci`.
    pub lacking: Vec<String>,
    /// Whether it was built with KVM.
    pub kvm: bool,
    /// Whether it can have folders of the host.
    #[serde(default)]
    pub folders: bool,
    /// Whether it can have a TPM.
    #[serde(default)]
    pub tpm: bool,
    /// Whether it can have PCI devices of the host.
    #[serde(default)]
    pub passed: bool,
}

/// Why a QEMU could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AbilitiesError {
    /// It does not start.
    #[error(transparent)]
    Start(#[from] CommandError),
    /// It does not answer.
    #[error("ask QEMU what it can{}", said(complaint))]
    Ask {
        /// What it said on its standard error.
        complaint: String,
        /// What is wrong with its answers.
        source: QmpError,
    },
    /// Its program cannot be looked at.
    #[error(transparent)]
    Path(#[from] PathError),
}

fn said(complaint: &str) -> String {
    match complaint.is_empty() {
        true => String::new(),
        false => format!(", which says `{complaint}`"),
    }
}

/// Asks a QEMU what it can.
///
/// # Errors
/// It does not start, or does not answer as QEMU does.
pub fn ask(emulator: &Path) -> Result<Abilities, AbilitiesError> {
    const ARGUMENTS: [&str; 10] = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "none",
        "-chardev",
        "socket,id=monitor,fd=0",
        "-mon",
        "chardev=monitor,mode=control",
    ];
    let program = emulator.display().to_string();
    let (conversation, socket) = Conversation::begin(&program, ARGUMENTS)?;
    let answers = Qmp::over(socket, PATIENCE).and_then(|mut qmp| {
        let answers = Answers::of(&mut qmp)?;
        let _ = qmp.quit();
        Ok((qmp.version().to_owned(), answers))
    });
    let complaint = conversation.end(LEAVING);
    match answers {
        Ok((version, answers)) => Ok(answers.judged(version)),
        Err(source) => Err(AbilitiesError::Ask { complaint, source }),
    }
}

/// What a QEMU answers.
#[derive(Debug, Default)]
struct Answers {
    schema: Value,
    devices: BTreeSet<String>,
    objects: BTreeSet<String>,
    accelerators: BTreeSet<String>,
    machines: Value,
    options: BTreeSet<String>,
}

impl Answers {
    fn of(qmp: &mut Qmp) -> Result<Self, QmpError> {
        let mut types = |above: &str| {
            let list = json!({"implements": above, "abstract": false});
            let list = qmp.execute("qom-list-types", list)?;
            Ok::<_, QmpError>(names(&list, "name"))
        };
        let devices = types("device")?;
        let objects = types("user-creatable")?;
        let accelerators = types("accel")?;
        let options = qmp.execute("query-command-line-options", Value::Null)?;
        Ok(Self {
            devices,
            objects,
            accelerators,
            schema: qmp.execute("query-qmp-schema", Value::Null)?,
            machines: qmp.execute("query-machines", Value::Null)?,
            options: names(&options, "option"),
        })
    }

    /// What is missing of what keel needs: pure.
    fn judged(&self, version: String) -> Abilities {
        let entities: BTreeMap<&str, &Value> = self
            .schema
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entity| Some((entity["name"].as_str()?, entity)))
            .collect();
        let commands: BTreeSet<String> = entities
            .iter()
            .filter(|(_, entity)| entity["meta-type"] == "command")
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let drivers: BTreeSet<String> = argument(&entities, "blockdev-add")
            .and_then(|argument| argument["variants"].as_array())
            .into_iter()
            .flatten()
            .filter_map(|variant| Some(variant["case"].as_str()?.to_owned()))
            .collect();
        let machines = names(&self.machines, "alias");
        let mut lacking = Vec::new();
        let mut need = |what: &str, wanted: &[&str], there: &BTreeSet<String>| {
            let absent = wanted.iter().filter(|wanted| !there.contains(**wanted));
            lacking.extend(absent.map(|absent| format!("the {what} {absent}")));
        };
        need("machine", &[MACHINE], &machines);
        need("command", COMMANDS, &commands);
        need("device", DEVICES, &self.devices);
        need("object", OBJECTS, &self.objects);
        need("disk driver", DRIVERS, &drivers);
        need("option", OPTIONS, &self.options);
        need("accelerator", &[EMULATION], &self.accelerators);
        // So that the reason of an end is never lost.
        for end in ["shutdown", "panic"] {
            if commands.contains("set-action") && !can_pause(&entities, end) {
                lacking.push(format!("a pause in place of a {end}"));
            }
        }
        Abilities {
            version,
            lacking,
            kvm: self.accelerators.contains("kvm-accel"),
            folders: self.devices.contains(FOLDER_DEVICE),
            tpm: self.devices.contains(TPM_DEVICE),
            passed: self.devices.contains(passed::DRIVER),
        }
    }
}

/// The words under a key in a list of objects.
fn names(list: &Value, key: &str) -> BTreeSet<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| Some(one[key].as_str()?.to_owned()))
        .collect()
}

/// The arguments of a command, as the schema has them.
fn argument<'a>(entities: &BTreeMap<&str, &'a Value>, command: &str) -> Option<&'a Value> {
    let kind = entities.get(command)?["arg-type"].as_str()?;
    entities.get(kind).copied()
}

fn can_pause(entities: &BTreeMap<&str, &Value>, end: &str) -> bool {
    let kind = argument(entities, "set-action").and_then(|argument| {
        let mut members = argument["members"].as_array()?.iter();
        members.find(|member| member["name"] == end)?["type"].as_str()
    });
    kind.and_then(|kind| entities.get(kind))
        .and_then(|kind| kind["values"].as_array())
        .is_some_and(|values| values.iter().any(|value| value == "pause"))
}

/// Which file was asked: another one at the same place is asked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    path: PathBuf,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    /// What was needed: another keel may need other things.
    needs: String,
}

impl Asked {
    fn of(emulator: &Path) -> Result<Self, PathError> {
        let metadata = emulator.metadata().at("look at", emulator)?;
        Ok(Self {
            path: emulator.to_path_buf(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            needs: [COMMANDS, DEVICES, &SPARED, OBJECTS, DRIVERS, OPTIONS]
                .concat()
                .join(" "),
        })
    }
}

/// As [`ask`], once for a program in a boot: what it answered is kept in `cache`, a file on a tmpfs that may be lost.
///
/// # Errors
/// As [`ask`].
pub fn ask_once(emulator: &Path, cache: &Path) -> Result<Abilities, AbilitiesError> {
    let asked = Asked::of(emulator)?;
    let kept = path_io::read(cache).unwrap_or_default();
    if let Ok((of, abilities)) = serde_json::from_slice::<(Asked, Abilities)>(&kept)
        && of == asked
    {
        return Ok(abilities);
    }
    let abilities = ask(emulator)?;
    if let Ok(text) = serde_json::to_string(&(&asked, &abilities)) {
        // Without it QEMU is asked again.
        let _ = path_io::write_atomically(cache, text);
    }
    Ok(abilities)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that has all that is needed.
    fn good() -> Answers {
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut schema: Vec<Value> = COMMANDS
            .iter()
            .map(|name| {
                json!({"name": name, "meta-type": "command", "arg-type": format!("of-{name}")})
            })
            .collect();
        let drivers: Vec<Value> = DRIVERS.iter().map(|name| json!({"case": name})).collect();
        schema.push(json!({"name": "of-blockdev-add", "meta-type": "object", "variants": drivers}));
        schema.push(
            json!({"name": "of-set-action", "meta-type": "object", "members": [
                {"name": "shutdown", "type": "1"}, {"name": "panic", "type": "2"},
            ]}),
        );
        schema.push(json!({"name": "1", "meta-type": "enum", "values": ["poweroff", "pause"]}));
        schema.push(json!({"name": "2", "meta-type": "enum", "values": ["pause", "none"]}));
        Answers {
            schema: Value::Array(schema),
            devices: set(DEVICES),
            objects: set(OBJECTS),
            accelerators: set(&[EMULATION, "kvm-accel"]),
            machines: json!([{"name": "pc-q35-9", "alias": "q35"}, {"name": "none"}]),
            options: set(OPTIONS),
        }
    }

    #[test]
    fn what_is_lacking_is_named() {
        type Fault = (fn(&mut Answers), &'static [&'static str]);
        let cases: &[Fault] = &[
            (|_| {}, &[]),
            (
                |one| one.devices.retain(|name| name != "nvme"),
                &["the device nvme"],
            ),
            (
                |one| one.objects.retain(|name| name != "throttle-group"),
                &["the object throttle-group"],
            ),
            (|one| one.machines = json!([]), &["the machine q35"]),
            (
                |one| one.options.retain(|name| name != "sandbox"),
                &["the option sandbox"],
            ),
            (
                |one| one.accelerators.retain(|name| name == "kvm-accel"),
                &["the accelerator tcg-accel"],
            ),
            (
                |one| {
                    for entity in one.schema.as_array_mut().into_iter().flatten() {
                        if entity["name"] == "1" {
                            entity["values"] = json!(["poweroff"]);
                        }
                    }
                },
                &["a pause in place of a shutdown"],
            ),
            (
                |one| {
                    let all = one.schema.as_array_mut().expect("a list");
                    all.retain(|entity| entity["name"] != "set-action");
                },
                &["the command set-action"],
            ),
        ];
        for (change, wanted) in cases {
            let mut answers = good();
            change(&mut answers);
            assert_eq!(answers.judged(String::new()).lacking, *wanted);
        }
        let nothing = Answers::default().judged(String::new());
        assert!(nothing.lacking.len() > COMMANDS.len() + DEVICES.len());
        assert!(!nothing.kvm);
    }

    #[test]
    fn a_real_qemu_is_asked_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("cache.json");
        let emulator = super::super::emulator().expect("qemu-system is installed");
        let abilities = ask_once(&emulator, &cache).expect("it answers");
        assert_eq!(abilities.lacking, Vec::<String>::new());
        assert!(!abilities.version.is_empty());
        // What is kept is believed, as long as it is of this program.
        let mut kept: Value =
            serde_json::from_slice(&path_io::read(&cache).expect("a cache")).expect("JSON");
        kept[1]["version"] = json!("kept");
        path_io::write_durably(&cache, kept.to_string()).expect("a cache");
        assert_eq!(ask_once(&emulator, &cache).expect("kept").version, "kept");
        kept[0]["size"] = json!(1);
        path_io::write_durably(&cache, kept.to_string()).expect("a cache");
        assert_eq!(ask_once(&emulator, &cache).expect("asked"), abilities);
        path_io::write_durably(&cache, "nonsense").expect("a cache");
        assert_eq!(ask_once(&emulator, &cache).expect("asked"), abilities);
    }

    #[test]
    fn what_is_no_qemu_is_told_with_its_complaint() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("qemu");
        path_io::write_durably(&path, "#!/bin/sh\necho no display >&2\nexit 1\n")
            .expect("a program");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("a mode");
        let text = crate::native::chain(&ask(&path).unwrap_err());
        assert!(text.contains("which says `no display`"), "{text}");
        let missing = ask(Path::new("/nowhere/qemu")).unwrap_err();
        assert!(matches!(missing, AbilitiesError::Start(_)), "{missing:?}");
    }
}
