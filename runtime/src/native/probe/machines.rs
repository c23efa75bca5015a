//! What virtual machines need: read, judged, and what planning must know of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::feature::{
    ACCELERATOR, FOLDERS, MACHINES, MACVTAPS, Missing, PCI, TAPS, TPM, UEFI, UEFI_SECUREBOOT,
};
use manifests::path_io;

use super::{Check, Verdict, check, links};
use crate::native::chain;
use crate::native::machine::{self, Abilities, Choice, ServedBy, Unserved, firmware};

/// Where the kernel counts huge pages, a folder for each size.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";
/// The file of what QEMU can, in the folder that all state folders share.
const ABILITIES: &str = "qemu.json";
const QEMU_PACKAGE: &str = "apt-get install qemu-system-x86";
const FIRMWARE_PACKAGE: &str = "apt-get install ovmf";
const KVM_MEND: &str = "switch virtualization on in the host's firmware and modprobe kvm_intel or kvm_amd; a host that is a guest itself needs it nested";
const TUN_MEND: &str = "modprobe tun; in a container or a jail, pass /dev/net/tun in";

const MACVTAP_MEND: &str = "modprobe macvtap; a kernel without CONFIG_MACVTAP, or a container in which keel runs, has none";
const IOMMU_MEND: &str = "switch VT-d or AMD-Vi on in the host's firmware, and add intel_iommu=on to its kernel's command line where the processor is Intel's; a host that is a guest itself has one only if it is given one";

/// What was read of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineHost {
    /// QEMU, and what it can or why it could not be asked; absent: none is installed.
    pub emulator: Option<(String, Result<Abilities, String>)>,
    /// Why KVM does not work.
    pub kvm: Option<String>,
    /// Whether there is UEFI firmware.
    pub uefi: bool,
    /// Whether there is such that starts signed programs only.
    pub secure_boot: bool,
    /// Whether taps can be made, else the kernel's answer.
    pub taps: Result<(), String>,
    /// What serves folders of the host, or why nothing does.
    pub folders: Result<String, Unserved>,
    /// What serves TPMs, or why nothing does.
    pub tpm: Result<String, Unserved>,
    /// Whether macvtaps can be made, else the kernel's answer.
    pub macvtaps: Result<(), String>,
    /// Whether an IOMMU keeps PCI devices from the host's memory.
    pub iommu: bool,
}

impl MachineHost {
    /// Asks QEMU, the kernel and a processor.
    pub fn read() -> Self {
        Self {
            emulator: machine::emulator().map(|path| {
                let abilities = machine::ask(&path).map_err(|error| chain(&error));
                (path.display().to_string(), abilities)
            }),
            kvm: machine::kvm_trouble(),
            uefi: firmware::find(false).is_some(),
            secure_boot: firmware::find(true).is_some(),
            taps: taps(),
            folders: found(machine::virtiofsd()),
            tpm: found(machine::swtpm()),
            macvtaps: links::macvtaps(),
            iommu: machine::host_pci::is_kept_apart(),
        }
    }
}

/// Opens what taps are asked for at, and takes none.
fn taps() -> Result<(), String> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/net/tun", flags, rustix::fs::Mode::empty())
        .map(drop)
        .map_err(|error| format!("/dev/net/tun: {error}"))
}

fn found(program: Result<ServedBy, Unserved>) -> Result<String, Unserved> {
    program.map(|program| program.path.display().to_string())
}

/// Judges it. Nothing of it is missing to who has no machines.
pub(super) fn checks(host: &MachineHost) -> Vec<Check> {
    let folders = "it serves folders of the host to machines";
    let tpm = "it is the TPM of a machine";
    vec![
        emulator(host),
        kvm(host),
        uefi(host),
        tun(host),
        served("virtiofsd", &host.folders, folders),
        served("swtpm", &host.tpm, tpm),
        macvtap(host),
        iommu(host),
    ]
}

fn emulator(host: &MachineHost) -> Check {
    let (found, mend) = match &host.emulator {
        None => ("not installed".to_owned(), QEMU_PACKAGE),
        Some((path, Ok(abilities))) if abilities.lacking.is_empty() => {
            (format!("{} ({path})", abilities.version), "")
        }
        Some((path, Ok(abilities))) => (
            lacks(path, abilities),
            "apt-get install qemu-system-x86: that of Debian 12 and later has all of it",
        ),
        Some((path, Err(why))) => (
            format!("{path} does not answer: {why}"),
            "apt-get install --reinstall qemu-system-x86",
        ),
    };
    check("QEMU", found, "virtual machines run in it").unless(
        mend.is_empty(),
        Verdict::Warning,
        mend,
    )
}

fn lacks(path: &str, abilities: &Abilities) -> String {
    let lacking = abilities.lacking.join(", ");
    format!("{} ({path}) lacks {lacking}", abilities.version)
}

fn kvm(host: &MachineHost) -> Check {
    let built_in = match &host.emulator {
        Some((_, Ok(abilities))) => abilities.kvm,
        _ => true,
    };
    let found = match &host.kvm {
        Some(why) => format!("does not work: {why}"),
        None if !built_in => "works, and this QEMU was built without it".to_owned(),
        None => "works".to_owned(),
    };
    check(
        "KVM",
        found,
        "with it the processor runs the instructions of machines; without it QEMU translates them, ten times slower or more",
    )
    .unless(
        host.kvm.is_none() && built_in,
        Verdict::Warning,
        match host.kvm {
            None => "apt-get install qemu-system-x86, which is built with it",
            Some(_) => KVM_MEND,
        },
    )
}

fn uefi(host: &MachineHost) -> Check {
    let found = match (host.uefi, host.secure_boot) {
        (true, true) => "with and without secure boot",
        (true, false) => "without secure boot only",
        (false, true) => "with secure boot only",
        (false, false) => "not installed",
    };
    check(
        "UEFI firmware",
        found,
        "machines boot by it, unless their image has a kernel of its own or boot.mode is bios",
    )
    .unless(
        host.uefi && host.secure_boot,
        Verdict::Warning,
        FIRMWARE_PACKAGE,
    )
}

fn tun(host: &MachineHost) -> Check {
    let found = match &host.taps {
        Ok(()) => "yes".to_owned(),
        Err(why) => format!("no: {why}"),
    };
    check(
        "taps",
        found,
        "each network interface of a machine ends in one",
    )
    .unless(host.taps.is_ok(), Verdict::Warning, TUN_MEND)
}

fn served(name: &'static str, found: &Result<String, Unserved>, why: &'static str) -> Check {
    let (found, mend) = match found {
        Ok(path) => (path.clone(), ""),
        Err(Unserved { why, mend }) => (why.clone(), *mend),
    };
    check(name, found, why).unless(mend.is_empty(), Verdict::Warning, mend)
}

fn macvtap(host: &MachineHost) -> Check {
    let found = match &host.macvtaps {
        Ok(()) => "yes".to_owned(),
        Err(why) => format!("no: {why}"),
    };
    check(
        "macvtaps",
        found,
        "an interface of a machine with nicType macvlan is one, on the wire of a link of the host",
    )
    .unless(host.macvtaps.is_ok(), Verdict::Warning, MACVTAP_MEND)
}

fn iommu(host: &MachineHost) -> Check {
    let found = if host.iommu { "yes" } else { "no" };
    check(
        "IOMMU",
        found.to_owned(),
        "PCI devices and graphics cards of the host can be given to machines with it alone",
    )
    .unless(host.iommu, Verdict::Warning, IOMMU_MEND)
}

/// What machines cannot have here. KVM is tried only where it is demanded: a trial can take a second and more.
/// `shared` is on a tmpfs: what QEMU answered is kept there.
pub fn missing_for_machines(choice: Choice, shared: &Path) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut lack = |feature: &str, why: String| {
        missing.push(Missing {
            feature: feature.to_owned(),
            why,
        });
    };
    let demanded = choice == Choice::Kvm;
    let mut built_in = true;
    match machine::emulator() {
        None => lack(
            MACHINES,
            format!("there is no qemu-system on this host: {QEMU_PACKAGE}"),
        ),
        Some(path) => {
            let shown = path.display().to_string();
            match machine::ask_once(&path, &shared.join(ABILITIES)) {
                Ok(abilities) if abilities.lacking.is_empty() => {
                    built_in = abilities.kvm;
                    for (has, feature, device) in [
                        (abilities.folders, FOLDERS, "vhost-user-fs-pci"),
                        (abilities.tpm, TPM, "tpm-crb"),
                        (abilities.passed, PCI, machine::passed::DRIVER),
                    ] {
                        if !has {
                            lack(feature, format!("QEMU ({shown}) has no device {device}"));
                        }
                    }
                }
                Ok(abilities) => lack(MACHINES, format!("QEMU {}", lacks(&shown, &abilities))),
                Err(error) => lack(
                    MACHINES,
                    format!("{shown} does not answer: {}", chain(&error)),
                ),
            }
        }
    }
    let programs = machine::programs_once(shared);
    for (feature, found) in [(FOLDERS, programs.virtiofsd), (TPM, programs.swtpm)] {
        if let Err(why) = found {
            lack(feature, why.to_string());
        }
    }
    if demanded {
        const OTHERWISE: &str = "with --accelerator auto QEMU does it alone";
        match machine::accelerator(choice, shared) {
            Err(why) => lack(ACCELERATOR, format!("{why}; {OTHERWISE}")),
            Ok(_) if !built_in => lack(
                ACCELERATOR,
                format!("KVM is demanded and this QEMU was built without it; {OTHERWISE}"),
            ),
            Ok(_) => {}
        }
    }
    for (secure, feature, words) in [
        (false, UEFI, "UEFI"),
        (true, UEFI_SECUREBOOT, "UEFI with secure boot"),
    ] {
        if firmware::find(secure).is_none() {
            let why = format!("this host has no firmware for {words}: {FIRMWARE_PACKAGE}");
            lack(feature, why);
        }
    }
    if let Err(why) = taps() {
        lack(TAPS, format!("this host makes no taps ({why}): {TUN_MEND}"));
    }
    if let Err(why) = links::macvtaps() {
        let why = format!("this host makes no macvtaps ({why}): {MACVTAP_MEND}");
        lack(MACVTAPS, why);
    }
    missing
}

/// Bytes that this host keeps in huge pages, by the size of a page.
pub fn huge_pages() -> BTreeMap<u64, u64> {
    let of = |folder: &PathBuf| {
        let name = folder.file_name()?.to_str()?;
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let size = kib.parse::<u64>().ok()? << 10;
        let count = path_io::read_to_string(folder.join("nr_hugepages")).ok()?;
        let count: u64 = count.trim().parse().ok()?;
        Some((size, count.saturating_mul(size)))
    };
    let folders = path_io::list(HUGE_PAGES).unwrap_or_default();
    folders.iter().filter_map(of).collect()
}
