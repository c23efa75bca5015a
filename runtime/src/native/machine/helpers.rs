//! The processes beside a machine: virtiofsd for each folder of the host, swtpm for its TPM. Pure.
//!
//! virtiofsd acts for users of the guest, so it is root in a user namespace of the machine's own ids, and nobody on the
//! host. It changes its root to the folder itself; around that there are only programs.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::devices::id;
use super::plan::{FolderPlan, Hardware, TpmPlan};
use super::served_by::{Programs, Unserved};
use crate::shim::messages::SERVED;

/// What QEMU's names of folders begin with.
pub const FOLDER: &str = "folder";
/// What QEMU's names of TPMs begin with.
pub const TPM: &str = "tpm";
/// Longest name under which a guest can mount a folder, in bytes (`struct virtio_fs_config`, `<linux/virtio_fs.h>`).
pub const LONGEST_TAG: usize = 36;

/// Where virtiofsd finds its folder.
const SHARED: &str = "/shared";
/// Where swtpm finds its state.
const STATE: &str = "/state";
/// What virtiofsd needs for being other users: the list that it leaves itself, and what it needs to get there.
const CAPABILITIES: [&str; 10] = [
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "mknod",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];
/// It holds each file open that its guest knows.
const OPEN_FILES: u64 = 1_000_000;

/// A process beside a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperPlan {
    /// For people: `virtiofsd`.
    pub name: &'static str,
    /// The device that it serves.
    pub device: String,
    /// What it runs.
    pub program: PathBuf,
    /// Without the program.
    pub arguments: Vec<String>,
    /// Whether it accepts QEMU's connection itself.
    pub accepts: bool,
    /// The first id on the host and how many, which it has in a user namespace of its own; absent: it has none.
    pub ids: Option<(u32, u32)>,
    /// The user and group that it runs as.
    pub user: u32,
    /// The folder of the host that it works on.
    pub folder: PathBuf,
    /// Where it finds it.
    pub target: &'static str,
    /// Whether it cannot write there.
    pub read_only: bool,
    /// With what is mounted below it.
    pub recursive: bool,
    /// Whether its ids are shifted there.
    pub shift: bool,
    /// Whether it has a `/proc`.
    pub proc: bool,
    /// Capabilities that it can have.
    pub capabilities: &'static [&'static str],
    /// How many files it can hold open; absent: as the host says.
    pub open_files: Option<u64>,
}

/// Those of a machine, in the order in which its command line names them. `ids`: the first id of the instance on the host,
/// and how many.
///
/// # Errors
/// The host has no program for one of them.
pub fn helpers(
    hardware: &Hardware,
    programs: &Programs,
    ids: (u32, u32),
) -> Result<Vec<HelperPlan>, Unserved> {
    let folders = hardware.folders.iter();
    folders
        .map(|plan| folder(plan, programs, ids))
        .chain(hardware.tpm.iter().map(|plan| tpm(plan, programs, ids)))
        .collect()
}

fn folder(plan: &FolderPlan, programs: &Programs, ids: (u32, u32)) -> Result<HelperPlan, Unserved> {
    let program = programs.virtiofsd.as_ref().map_err(Clone::clone)?;
    let mut arguments = vec![format!("--fd={SERVED}")];
    let words: &[&str] = match program.is_new {
        true => &[
            "--sandbox=chroot",
            "--shared-dir",
            SHARED,
            "--cache=auto",
            "--rlimit-nofile=0",
            "--inode-file-handles=never",
            "--log-level=error",
        ],
        false => &[
            "-f",
            "-o",
            "sandbox=chroot,source=/shared,cache=auto,log_level=err",
            "--rlimit-nofile=0",
        ],
    };
    arguments.extend(words.iter().map(|word| (*word).to_owned()));
    if plan.recursive {
        // Files of another file system may have the same numbers.
        let words: &[&str] = match program.is_new {
            true => &["--announce-submounts"],
            false => &["-o", "announce_submounts"],
        };
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
    }
    Ok(HelperPlan {
        name: "virtiofsd",
        device: plan.device.clone(),
        program: program.path.clone(),
        arguments,
        accepts: true,
        ids: Some(ids),
        user: 0,
        folder: plan.path.clone(),
        target: SHARED,
        read_only: plan.read_only,
        recursive: plan.recursive,
        shift: plan.shift,
        proc: true,
        capabilities: &CAPABILITIES,
        open_files: Some(OPEN_FILES),
    })
}

fn tpm(plan: &TpmPlan, programs: &Programs, ids: (u32, u32)) -> Result<HelperPlan, Unserved> {
    let program = programs.swtpm.as_ref().map_err(Clone::clone)?;
    let arguments = [
        "socket".to_owned(),
        "--tpm2".to_owned(),
        "--ctrl".to_owned(),
        format!("type=unixio,clientfd={SERVED}"),
        "--tpmstate".to_owned(),
        format!("dir={STATE},mode=0600"),
        "--terminate".to_owned(),
        "--seccomp".to_owned(),
        "action=kill".to_owned(),
    ];
    Ok(HelperPlan {
        name: "swtpm",
        device: plan.device.clone(),
        program: program.path.clone(),
        arguments: arguments.to_vec(),
        accepts: false,
        ids: None,
        user: tpm_user(ids),
        folder: plan.state.clone(),
        target: STATE,
        read_only: false,
        recursive: false,
        shift: false,
        proc: false,
        capabilities: &[],
        open_files: None,
    })
}

/// The host's user that a machine's swtpm runs as: another than its QEMU is, which the guest may have taken over.
pub const fn tpm_user((base, count): (u32, u32)) -> u32 {
    base + count.saturating_sub(1)
}

/// The guest's side of a folder; `port` is where it is plugged in.
pub fn folder_device(folder: &FolderPlan, port: &str) -> Value {
    let id = id(FOLDER, &folder.device);
    json!({
        "driver": "vhost-user-fs-pci",
        "id": id,
        "chardev": id,
        "tag": folder.device,
        "bus": port,
    })
}

/// The guest's side of a TPM.
pub fn tpm_device(tpm: &TpmPlan) -> Value {
    let id = id(TPM, &tpm.device);
    json!({
        "driver": "tpm-crb",
        "id": id,
        "tpmdev": format!("{id}-served"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::machine::served_by::ServedBy;

    fn programs(is_new: bool) -> Programs {
        let program = |name: &str| {
            Ok(ServedBy {
                path: format!("/usr/bin/{name}").into(),
                is_new,
            })
        };
        Programs {
            virtiofsd: program("virtiofsd"),
            swtpm: program("swtpm"),
        }
    }

    const PLAN: FolderPlan = FolderPlan {
        device: String::new(),
        path: PathBuf::new(),
        read_only: true,
        recursive: true,
        shift: true,
    };

    #[test]
    fn both_kinds_of_virtiofsd_are_spoken_to() {
        let of = |is_new| {
            let plan = folder(&PLAN, &programs(is_new), (100_000, 65_536)).expect("a plan");
            plan.arguments.join(" ")
        };
        insta::assert_snapshot!(of(false), @"--fd=10 -f -o sandbox=chroot,source=/shared,cache=auto,log_level=err --rlimit-nofile=0 -o announce_submounts");
        insta::assert_snapshot!(of(true), @"--fd=10 --sandbox=chroot --shared-dir /shared --cache=auto --rlimit-nofile=0 --inode-file-handles=never --log-level=error --announce-submounts");
    }

    #[test]
    fn a_tpm_is_another_users_than_the_machine_and_keeps_no_capability() {
        let plan = TpmPlan {
            device: "tpm".to_owned(),
            state: "/pool/tpm".into(),
        };
        let plan = tpm(&plan, &programs(false), (100_000, 65_536)).expect("a plan");
        assert_eq!((plan.user, plan.ids), (165_535, None));
        assert!(plan.capabilities.is_empty());
        insta::assert_snapshot!(plan.arguments.join(" "), @"socket --tpm2 --ctrl type=unixio,clientfd=10 --tpmstate dir=/state,mode=0600 --terminate --seccomp action=kill");
    }

    #[test]
    fn what_the_host_has_no_program_for_is_told() {
        let none = Unserved {
            why: "none".to_owned(),
            mend: "install it",
        };
        let missing = Programs {
            virtiofsd: Err(none.clone()),
            ..programs(false)
        };
        assert_eq!(folder(&PLAN, &missing, (1, 1)), Err(none));
    }
}
