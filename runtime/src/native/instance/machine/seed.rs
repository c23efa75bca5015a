//! What cloud-init in a machine is given: picked at the first start and kept, whatever the manifest says later, until
//! `onChange: rerun` lets it follow. The disk with it is made at each start, in the run folder: it may hold secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::devices::Device;
use manifests::instance::cloud_init::{CloudInit, OnChange};
use manifests::kind::Spec;
use manifests::kinds::instance::Instance;
use manifests::path_io::{AtPath as _, PathError};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::container::is_present;
use super::super::picks::InstancePicks;
use super::super::{io_failed, spec};
use super::files;
use crate::error::{Class, RuntimeError};
use crate::native::cloud_init::{self, GuestFile, SharedFolder};
use crate::native::definition::Definition;
use crate::native::disk_image::Format;
use crate::native::host::Host;
use crate::native::machine::devices::SEED;
use crate::native::machine::plan::{Bus, Cache, DiskFile, DiskLayers, DiskLimits, DiskPlan};
use crate::runtime::Context;

/// The file of the disk in the run folder.
const FILE: &str = "cloud-init.img";

/// What cloud-init in a machine was given last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::native) struct Given {
    /// For another one cloud-init begins anew.
    pub instance_id: Uuid,
    /// The data, with secrets by their digests.
    pub data: CloudInit,
    /// It is to get what the manifest says, with the next start.
    #[serde(default)]
    pub due: bool,
}

/// Lets what is kept for a machine follow a change of its manifest: pure. Answers whether cloud-init will run again.
pub(super) fn follow(picks: &mut InstancePicks, before: &CloudInit, after: &CloudInit) -> bool {
    let mut due = false;
    if let Some(given) = &mut picks.cloud_init {
        let wanted = after.data();
        due = match after.on_change {
            OnChange::Rerun if before.data() != wanted => given.data != wanted,
            OnChange::Rerun => given.due,
            OnChange::Ignore | OnChange::Recreate => false,
        };
        given.due = due;
    }
    // Nothing of it waits for a start.
    if let (false, Some(mut started)) = (due, picks.started_with()) {
        started.cloud_init = after.clone();
        picks.started_with = Some(Spec::Instance(Box::new(started)).to_value());
    }
    due
}

/// What a machine is given with its next start: pure but for the new id.
fn next(given: Option<Given>, wanted: &CloudInit) -> Given {
    match given {
        Some(given) if !given.due => given,
        _ => Given {
            instance_id: Uuid::now_v7(),
            data: wanted.data(),
            due: false,
        },
    }
}

/// Picks what a machine is given with this start, and makes the disk of it; none where it is given nothing.
pub(super) fn prepare(
    host: &Host,
    definition: &mut Definition<InstancePicks>,
    run_dir: &Path,
    context: &Context<'_>,
) -> Result<Option<DiskPlan>, RuntimeError> {
    let wanted = spec(definition)?.cloud_init.data();
    // In a new root nothing was put yet; and cloud-init puts files once.
    let files = match definition.picks.cloud_init {
        None => files::first(definition)?,
        Some(_) => BTreeMap::new(),
    };
    let mut given = next(definition.picks.cloud_init.take(), &wanted);
    let data = match host.secrets.revealed_cloud_init(&given.data) {
        // Nobody can give that value again: the secret has another by now.
        Err(_) if given.data != wanted => {
            let data = host.secrets.revealed_cloud_init(&wanted)?;
            (context.progress)(
                "the secrets that its cloud-init was given first are not known any more: it finds what the manifest says now",
            );
            given.data = wanted;
            data
        }
        other => other?,
    };
    let instance_id = given.instance_id;
    definition.picks.cloud_init = Some(given);
    let path = run_dir.join(FILE);
    if data == CloudInit::default() && files.is_empty() {
        manifests::path_io::remove_file(&path)
            .map_err(io_failed("remove the cloud-init disk of"))?;
        return Ok(None);
    }
    let (name, folders) = (&definition.address.name, shared(spec(definition)?));
    let files = host.secrets.revealed_files(&files)?;
    let files: Vec<GuestFile<'_>> = files
        .iter()
        .map(|(path, file)| GuestFile {
            path,
            content: file.content.as_plain().unwrap_or_default().as_bytes(),
            mode: file.mode.0,
            owner: (file.uid, file.gid),
        })
        .collect();
    let documents = cloud_init::documents(&data, instance_id, name, &folders, &files);
    let image = cloud_init::image(&documents)
        .map_err(|error| RuntimeError::new("make the cloud-init disk of", Class::Refused, error))?;
    write(&path, &image).map_err(io_failed("write the cloud-init disk of"))?;
    Ok(Some(disk(path)))
}

/// The folders that a guest mounts: a table of file systems has words without blanks.
fn shared(instance: &Instance) -> Vec<SharedFolder<'_>> {
    let is_word = |text: &str| !text.contains(char::is_whitespace);
    let mut folders = Vec::new();
    for (tag, device) in &instance.devices {
        if let Device::Disk(disk) = device
            && disk.is_shared_folder()
            && is_present(disk)
            && let Some(path) = &disk.path
            && is_word(tag)
            && is_word(path.as_str())
        {
            folders.push(SharedFolder {
                tag,
                path: path.as_str(),
                read_only: disk.readonly,
            });
        }
    }
    folders
}

/// A disk that is no device of the manifest: it is in no comparison, and no change touches it.
fn disk(path: PathBuf) -> DiskPlan {
    DiskPlan {
        device: SEED.to_owned(),
        file: DiskFile {
            path,
            format: Format::Raw,
            device: false,
        },
        layers: DiskLayers::default(),
        backing: None,
        bus: Bus::VirtioScsi,
        cache: Cache::Writeback,
        read_only: true,
        cdrom: false,
        boot_index: None,
        limits: DiskLimits::default(),
    }
}

/// Replaces a file that nobody but root may ever open; the one before may still be read by a machine that ends.
fn write(path: &Path, content: &[u8]) -> Result<(), PathError> {
    let new = path.with_extension("new");
    manifests::path_io::remove_file(&new)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::open(&new, flags, Mode::RUSR | Mode::WUSR).at("create", &new)?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).at("write to", &new)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    manifests::path_io::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn data(text: &str, on_change: &str) -> CloudInit {
        let written = serde_json::json!({ "userData": text, "onChange": on_change });
        serde_json::from_value(written).expect("a cloudInit")
    }

    /// The picks of a machine that was started with this.
    fn started(with: &CloudInit) -> InstancePicks {
        let instance = Instance {
            cloud_init: with.clone(),
            ..Instance::default()
        };
        InstancePicks {
            cloud_init: Some(next(None, with)),
            started_with: Some(Spec::Instance(Box::new(instance)).to_value()),
            ..InstancePicks::default()
        }
    }

    fn pending(picks: &InstancePicks, now: &CloudInit) -> bool {
        let started = picks.started_with().expect("a start");
        started.cloud_init.data() != now.data()
    }

    #[test]
    fn what_is_ignored_changes_nothing_of_what_was_given() {
        let (one, two) = (data("a", "ignore"), data("b", "ignore"));
        let mut picks = started(&one);
        let before = picks.cloud_init.clone();
        assert!(!follow(&mut picks, &one, &two));
        assert!(!pending(&picks, &two));
        assert_eq!(picks.cloud_init, before);
        // Nor when later changes are followed: this one was not.
        let later = data("b", "rerun");
        assert!(!follow(&mut picks, &two, &later));
        assert!(!pending(&picks, &later));
        assert_eq!(Some(next(picks.cloud_init.clone(), &later)), before);
        // The next one is.
        let next_one = data("c", "rerun");
        assert!(follow(&mut picks, &later, &next_one));
        assert_eq!(next(picks.cloud_init, &next_one).data, next_one.data());
    }

    #[test]
    fn another_id_comes_with_the_start_after_a_change() {
        let (one, two) = (data("a", "rerun"), data("b", "rerun"));
        let mut picks = started(&one);
        let before = picks.cloud_init.clone().expect("given");
        assert!(follow(&mut picks, &one, &two));
        assert!(pending(&picks, &two));
        // A change of something else meanwhile.
        assert!(follow(&mut picks, &two, &two));
        let given = next(picks.cloud_init, &two);
        assert_ne!(given.instance_id, before.instance_id);
        assert_eq!((given.data.clone(), given.due), (two.data(), false));
        // And stays for those after it.
        assert_eq!(next(Some(given.clone()), &two), given);
    }

    #[test]
    fn what_is_taken_back_before_the_start_is_no_change() {
        let (one, two) = (data("a", "rerun"), data("b", "rerun"));
        let mut picks = started(&one);
        let before = picks.cloud_init.clone();
        assert!(follow(&mut picks, &one, &two));
        assert!(!follow(&mut picks, &two, &one));
        assert_eq!(picks.cloud_init, before);
        assert!(follow(&mut picks, &one, &two));
        let ignored = data("b", "ignore");
        assert!(!follow(&mut picks, &two, &ignored));
        assert!(!pending(&picks, &ignored));
        assert_eq!(picks.cloud_init, before);
    }

    #[test]
    fn the_file_is_for_root_alone_and_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        // Left by a process that was killed.
        manifests::path_io::write(path.with_extension("new"), "half").expect("written");
        for text in ["first", "second"] {
            write(&path, text.as_bytes()).expect("written");
            assert_eq!(
                manifests::path_io::read(&path).expect("read"),
                text.as_bytes()
            );
            let mode = path.metadata().expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(
            manifests::path_io::list(folder.path()).expect("listed"),
            [path]
        );
    }
}
