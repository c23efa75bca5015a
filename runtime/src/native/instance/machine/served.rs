//! Parts of a machine that processes beside it serve: folders of the host and a TPM.

use std::path::{Path, PathBuf};

use manifests::devices::Device;
use manifests::devices::disk::DiskSource;
use manifests::instance::served::is_served;
use manifests::kinds::instance::Instance;
use manifests::path_io::{self, AtPath as _};
use rustix::fs::{Gid, Mode, Uid};

use super::super::container::is_present;
use super::super::{io_failed, shim_failed};
use crate::error::{Class, RuntimeError};
use crate::native::machine::helpers::{HelperPlan, helpers, tpm_user};
use crate::native::machine::plan::{FolderPlan, Hardware, TpmPlan};
use crate::native::machine::programs_once;
use crate::native::shim::{HelperSeen, Running};

/// The folder of a TPM's state beside a machine's disk: it goes where the disk goes.
pub(in crate::native::instance) const STATE: &str = "tpm";

/// The folders of a machine.
pub(super) fn folders(instance: &Instance) -> Vec<FolderPlan> {
    let folder = |(name, device): (&String, &Device)| {
        let disk = device.as_disk().filter(|disk| disk.is_shared_folder())?;
        let DiskSource::Host(path) = disk.made_of() else {
            return None;
        };
        is_present(disk).then(|| FolderPlan {
            device: name.clone(),
            path: path.into(),
            read_only: disk.readonly,
            recursive: disk.recursive,
            shift: disk.shift,
        })
    };
    instance.devices.iter().filter_map(folder).collect()
}

/// The TPM of a machine with this disk.
pub(super) fn tpm(instance: &Instance, disk: &Path) -> Option<TpmPlan> {
    let mut devices = instance.devices.iter();
    let (name, _) = devices.find(|(_, device)| matches!(device, Device::Tpm(_)))?;
    Some(TpmPlan {
        device: name.clone(),
        state: disk.with_file_name(STATE),
    })
}

/// Makes what the processes beside a machine work on; answers what they are. `ids`: the first id of the instance on the
/// host, and how many. `shared` is on a tmpfs.
pub(super) fn prepare(
    hardware: &Hardware,
    ids: (u32, u32),
    shared: &Path,
) -> Result<Vec<HelperPlan>, RuntimeError> {
    if hardware.folders.is_empty() && hardware.tpm.is_none() {
        return Ok(Vec::new());
    }
    for folder in &hardware.folders {
        let refused = |why: String| {
            let doing = format!("share the folder {} with", folder.device);
            RuntimeError::new(doing, Class::NeedsOperator, why)
        };
        let shown = folder.path.display();
        match rustix::fs::stat(&folder.path) {
            Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => {}
            Ok(_) => {
                return Err(refused(format!(
                    "{shown} is no folder; a disk has no `path`"
                )));
            }
            Err(error) => return Err(refused(format!("{shown}: {error}"))),
        }
    }
    if let Some(tpm) = &hardware.tpm {
        own(&tpm.state, tpm_user(ids)).map_err(io_failed("make the TPM of"))?;
    }
    let programs = programs_once(shared);
    helpers(hardware, &programs, ids)
        .map_err(|error| RuntimeError::new("start", Class::NeedsOperator, error))
}

/// Makes the folder of a TPM's state and gives it to its user, which may be another than before: it may have been in the
/// trash.
fn own(state: &Path, user: u32) -> Result<(), path_io::PathError> {
    path_io::create_dir_all(state)?;
    let give = |path: &PathBuf, mode: u32| {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(rustix::fs::CWD, path, Some(uid), Some(gid), flags)
            .at("give away", path)?;
        if rustix::fs::lstat(path)
            .is_ok_and(|stat| !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink())
        {
            rustix::fs::chmod(path, Mode::from_raw_mode(mode)).at("close", path)?;
        }
        Ok(())
    };
    for file in path_io::list(state)? {
        give(&file, 0o600)?;
    }
    give(&state.to_path_buf(), 0o700)
}

/// A part that is not served any more, and why.
pub(in crate::native::instance) struct Unserved {
    /// The name of the device.
    pub name: String,
    /// As it was meant.
    pub device: Device,
    /// A sentence for people.
    pub why: String,
}

/// Takes the devices out of an instance that nobody serves any more.
pub(in crate::native::instance) fn unserved(
    instance: &mut Instance,
    running: &Running,
) -> Result<Vec<Unserved>, RuntimeError> {
    if !instance.devices.values().any(is_served) {
        return Ok(Vec::new());
    }
    let seen = running
        .helpers()
        .map_err(|error| shim_failed("look at", error))?;
    Ok(without(instance, &seen))
}

/// As [`unserved`]: pure.
fn without(instance: &mut Instance, seen: &[HelperSeen]) -> Vec<Unserved> {
    let why = |name: &str, device: &Device| {
        let helper = seen.iter().find(|helper| helper.written.device == name);
        match (helper, device) {
            (Some(helper), _) if helper.runs => None,
            (Some(helper), _) => Some(format!(
                "its {} has ended, `keel logs` has its last words: restart the machine",
                helper.written.name
            )),
            // It was not there when the machine was started, and need not be.
            (None, Device::Disk(disk)) if !disk.required => None,
            (None, _) => Some("nothing serves it: restart the machine".to_owned()),
        }
    };
    let gone =
        |name: &String, device: &mut Device| is_served(device) && why(name, device).is_some();
    let gone: Vec<(String, Device)> = instance.devices.extract_if(.., gone).collect();
    gone.into_iter()
        .map(|(name, device)| Unserved {
            why: why(&name, &device).unwrap_or_default(),
            name,
            device,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::helper::Written;

    #[test]
    fn what_nobody_serves_is_not_there() {
        let written = serde_json::json!({"type": "virtual-machine", "devices": {
            "dead": {"type": "disk", "source": "/srv/a", "path": "/a"},
            "alive": {"type": "disk", "source": "/srv/b", "path": "/b"},
            "never": {"type": "disk", "source": "/srv/c", "path": "/c"},
            "optional": {"type": "disk", "source": "/srv/d", "path": "/d", "required": false},
            "block": {"type": "disk", "source": "/srv/e"},
            "tpm": {"type": "tpm"},
        }});
        let mut instance: Instance = serde_json::from_value(written).expect("an instance");
        let seen = |device: &str, name: &str, runs| HelperSeen {
            written: Written {
                pid: 1,
                start_time: 1,
                name: name.to_owned(),
                device: device.to_owned(),
            },
            runs,
        };
        let gone = without(
            &mut instance,
            &[
                seen("dead", "virtiofsd", false),
                seen("alive", "virtiofsd", true),
                seen("tpm", "swtpm", false),
            ],
        );
        let gone: Vec<_> = gone
            .iter()
            .map(|one| (one.name.as_str(), &one.why[..12]))
            .collect();
        assert_eq!(
            gone,
            [
                ("dead", "its virtiofs"),
                ("never", "nothing serv"),
                ("tpm", "its swtpm ha")
            ]
        );
        let left: Vec<_> = instance.devices.keys().collect();
        assert_eq!(left, ["alive", "block", "optional"]);
    }
}
