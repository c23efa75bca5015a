//! Merging layers of a disk that no machine runs on: by a QEMU that has nothing but them, as a running one would do it.
//!
//! A layer may be of a guest that took its QEMU over, so this one is as little: an unprivileged user, `-sandbox`, and files
//! as descriptors. It ends with keel. The layer on top reads the same at any moment: what was copied into it is what it
//! showed before, and whoever calls says only afterwards that the one below is gone.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::command_line::SANDBOX;
use super::devices::{layer, layer_node};
use super::layer::{LayerError, Merge, base_node, merge};
use super::plan::{Cache, DiskFile};
use super::plug::hand_over;
use super::qmp::{Qmp, QmpError};
use crate::native::disk_image::Format;
use crate::sys::command::{CommandError, Conversation};

/// The name of the disk in that QEMU.
const TOP: &str = "disk";
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take to end.
const LEAVING: Duration = Duration::from_secs(5);

/// The files of a merge.
#[derive(Debug, Clone)]
pub struct Files<'a> {
    /// The layer that goes.
    pub from: &'a Path,
    /// The one on it.
    pub into: &'a Path,
    /// What is below it, layer or image.
    pub base: Option<&'a DiskFile>,
}

/// Who merges.
#[derive(Debug, Clone, Copy)]
pub struct Merger<'a> {
    /// QEMU.
    pub emulator: &'a Path,
    /// The host's user and group that it runs as.
    pub user: (u32, u32),
}

/// Merges, and waits for that; nobody may be using the disk.
///
/// # Errors
/// It failed, or took too long: then all is as before.
pub fn merge_at_rest(
    merger: Merger<'_>,
    wanted: &Merge,
    files: &Files<'_>,
    patience: Duration,
) -> Result<(), LayerError> {
    let alone = |why: String| LayerError::Alone { why };
    let program = merger.emulator.display().to_string();
    let arguments = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "none",
        "-sandbox",
        SANDBOX,
        "-chardev",
        "socket,id=monitor,fd=0",
        "-mon",
        "chardev=monitor,mode=control",
    ];
    let (conversation, socket) = Conversation::begin_as(&program, arguments, Some(merger.user))
        .map_err(|error: CommandError| {
            alone(format!("was not started: {}", crate::native::chain(&error)))
        })?;
    let done = Qmp::over(socket, ANSWER)
        .map_err(LayerError::from)
        .and_then(|mut qmp| {
            open(&mut qmp, wanted, files)?;
            merge(&mut qmp, TOP, wanted, files.into, patience)?;
            qmp.quit()?;
            Ok(())
        });
    // Where it goes on it is ended.
    let limit = match &done {
        Ok(()) => LEAVING,
        Err(_) => Duration::ZERO,
    };
    let complaint = conversation.end(limit);
    match done {
        Err(LayerError::GoesOn(after)) => Err(alone(format!("was not done after {after:?}"))),
        Err(LayerError::Monitor(error @ (QmpError::Closed | QmpError::Silent { .. }))) => {
            Err(alone(match complaint.is_empty() {
                true => format!("does not answer: {error}"),
                false => format!("has ended: {complaint}"),
            }))
        }
        Err(other) => Err(other),
        Ok(()) => Ok(()),
    }
}

/// Makes the layers known to it, those below first.
fn open(qmp: &mut Qmp, wanted: &Merge, files: &Files<'_>) -> Result<(), LayerError> {
    let base = base_node(TOP, wanted);
    if let (Some(name), Some(file)) = (&base, files.base) {
        let set = hand_over(qmp, &file.path, false)?;
        let mut node = json!({
            "driver": file.format.word(),
            "node-name": name,
            "read-only": true,
            "file": {
                "driver": "file",
                "filename": format!("/dev/fdset/{set}"),
                "read-only": true,
                // Machines run on it, and on other layers on it.
                "locking": "off",
            },
        });
        if file.format == Format::Qcow2 {
            // Whatever the file says, and nothing is read of it.
            node["backing"] = Value::Null;
        }
        qmp.execute("blockdev-add", node)?;
    }
    let set = hand_over(qmp, files.from, false)?;
    let mut from = layer(TOP, wanted.from, set, Cache::Writeback, true);
    from["backing"] = json!(base);
    qmp.execute("blockdev-add", from)?;
    let set = hand_over(qmp, files.into, true)?;
    let mut into = layer(TOP, wanted.into, set, Cache::Writeback, false);
    into["backing"] = json!(layer_node(TOP, wanted.from));
    qmp.execute("blockdev-add", into)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use manifests::path_io;

    use super::*;
    use crate::native::disk_image::{Below, create_overlay, has_all_of};
    use crate::sys::command;

    const MIB: u64 = 1 << 20;

    fn run<const N: usize>(program: &str, arguments: [&str; N]) -> String {
        String::from_utf8(command::run(program, arguments, None).expect("it works")).expect("text")
    }

    struct Disk {
        folder: tempfile::TempDir,
    }

    impl Disk {
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// A layer on another, with one byte in some MiB of it.
        fn layer(&self, name: &str, on: Option<&str>, byte: u8, at: u64, length: u64) {
            let below = on.map(|on| self.path(on).display().to_string());
            let below = below.as_deref().map(|name| Below {
                name,
                format: Format::Qcow2,
                virtual_size: 64 * MIB,
            });
            create_overlay(&self.path(name), 64 * MIB, below).expect("a layer");
            self.ask(name, &format!("write -P {byte} {at}M {length}M"));
        }

        fn ask(&self, name: &str, command: &str) {
            let path = self.path(name).display().to_string();
            run("qemu-io", ["-f", "qcow2", "-c", command, &path]);
        }

        /// Reads a layer over others, whatever their files say.
        fn reads(&self, layers: &[&str]) {
            let mut options = "driver=qcow2".to_owned();
            let mut at = String::new();
            for name in layers {
                let path = self.path(name);
                options.push_str(&format!(
                    ",{at}driver=qcow2,{at}file.filename={}",
                    path.display()
                ));
                at.push_str("backing.");
            }
            for (byte, from, length) in [
                (1, 0, 8),
                (2, 8, 8),
                (3, 16, 8),
                (2, 24, 16),
                (1, 40, 8),
                (0, 48, 16),
            ] {
                let command = format!("read -P {byte} {from}M {length}M");
                run("qemu-io", ["-r", "--image-opts", "-c", &command, &options]);
            }
        }
    }

    #[test]
    fn a_real_qemu_merges_layers_and_they_read_the_same_at_any_moment() {
        let disk = Disk {
            folder: tempfile::tempdir().expect("a folder"),
        };
        disk.layer("0", None, 1, 0, 48);
        disk.layer("1", Some("0"), 2, 8, 32);
        disk.layer("2", Some("1"), 3, 16, 8);
        let same = |layers: &[&str]| {
            disk.reads(layers);
            let path = disk.path("2").display().to_string();
            run("qemu-img", ["check", "-q", "-f", "qcow2", &path]);
        };
        same(&["2", "1", "0"]);
        let emulator = super::super::emulator().expect("qemu-system is installed");
        let own = rustix::process::getuid().as_raw();
        let merger = Merger {
            emulator: &emulator,
            user: (
                if own == 0 { 65_534 } else { own },
                rustix::process::getgid().as_raw(),
            ),
        };
        let base = DiskFile {
            path: disk.path("0"),
            format: Format::Qcow2,
            device: false,
        };
        let (from, into) = (disk.path("1"), disk.path("2"));
        let files = Files {
            from: &from,
            into: &into,
            base: Some(&base),
        };
        let wanted = Merge {
            from: 1,
            into: 2,
            base: Some(0),
            base_file: Some(disk.path("0")),
        };
        // Ended before it is done.
        for milliseconds in [0, 5, 20, 50] {
            let cut = merge_at_rest(merger, &wanted, &files, Duration::from_millis(milliseconds));
            println!("cut after {milliseconds} ms: {cut:?}");
            same(&["2", "1", "0"]);
        }
        merge_at_rest(merger, &wanted, &files, ANSWER).expect("merged");
        assert!(has_all_of(&into, &from).expect("layers"));
        path_io::remove_file(&from).expect("removed");
        same(&["2", "0"]);
        // The last one, on nothing.
        let wanted = Merge {
            from: 0,
            into: 2,
            base: None,
            base_file: None,
        };
        let files = Files {
            from: &base.path,
            into: &into,
            base: None,
        };
        merge_at_rest(merger, &wanted, &files, ANSWER).expect("merged");
        assert!(has_all_of(&into, &base.path).expect("layers"));
        path_io::remove_file(&base.path).expect("removed");
        same(&["2"]);
        // A file is missing.
        disk.layer("3", Some("2"), 4, 0, 1);
        let wanted = Merge {
            from: 2,
            into: 3,
            ..wanted
        };
        let (none, into) = (disk.path("none"), disk.path("3"));
        let files = Files {
            from: &none,
            into: &into,
            base: None,
        };
        let told = merge_at_rest(merger, &wanted, &files, ANSWER).expect_err("no such file");
        assert!(matches!(told, LayerError::Plug(_)), "{told:?}");
    }
}
