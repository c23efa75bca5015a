//! The command line of QEMU for a machine, and the descriptors that go with it. Pure.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::devices::{
    DiskSets, PORTS, SCSI, USB, disk_device, disk_nodes, id, nic_backend, nic_device, nodes, port,
    takes_port, throttle_group,
};
use super::helpers::{FOLDER, TPM, folder_device, tpm_device};
use super::passed;
use super::plan::{Accelerator, BootPlan, Bus, Hardware};
use crate::shim::messages::{KEPT, WATCHED};
use crate::shim::told::AGENT_PORT;

/// Where the kernel of a directly booting machine is seen.
const KERNEL: &str = "/kernel";
/// Where its initial RAM file system is.
const INITRD: &str = "/initrd";
/// What QEMU never does: the kernel ends it where it tries.
pub const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// How many pieces of memory can be plugged in.
pub const MEMORY_SLOTS: u32 = 16;

/// Something that the process is handed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// An open file.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether it may be written.
        writable: bool,
    },
    /// A listening socket in the run folder.
    Listener(&'static str),
    /// The tap of a network interface, by the name of the device.
    Tap(String),
    /// The end of the socket of a helper, by its place among the helpers.
    Helper(u32),
}

/// Sockets in the run folder.
pub mod sockets {
    /// The monitor that keel works with.
    pub const CONTROL: &str = "qmp";
    /// Another one, for the case that somebody holds the first.
    pub const RESCUE: &str = "qmp-rescue";
    /// The guest agent's.
    pub const AGENT: &str = "agent";
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Without the program.
    pub arguments: Vec<String>,
    /// What the process is handed, under numbers from [`KEPT`] on.
    pub handed: Vec<Handed>,
    /// Files that it sees: of the host, and where.
    pub visible: Vec<(PathBuf, String)>,
}

impl CommandLine {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.arguments.push(option.to_owned());
        self.arguments.push(value.into());
    }

    fn add_json(&mut self, option: &str, value: &Value) {
        self.add(option, value.to_string());
    }

    /// Hands something over; the number under which the process finds it.
    fn hand(&mut self, handed: Handed) -> i32 {
        self.handed.push(handed);
        KEPT + i32::try_from(self.handed.len()).unwrap_or(i32::MAX) - 1
    }

    /// Hands a file over; the number of the set in which QEMU finds it.
    fn hand_file(&mut self, path: &Path, writable: bool) -> u32 {
        let path = path.to_path_buf();
        let number = self.hand(Handed::File { path, writable });
        // One set a descriptor: QEMU takes from a set the first that fits.
        let set = u32::try_from(number).unwrap_or(0);
        self.add("-add-fd", format!("fd={number},set={set}"));
        set
    }

    /// The socket of a helper.
    fn meet(&mut self, id: &str, index: u32) {
        let number = self.hand(Handed::Helper(index));
        self.add("-chardev", format!("socket,id={id},fd={number}"));
    }

    fn listen(&mut self, id: &str, socket: &'static str) {
        let number = self.hand(Handed::Listener(socket));
        self.add(
            "-chardev",
            format!("socket,id={id},fd={number},server=on,wait=off"),
        );
    }
}

/// What QEMU is called with.
pub fn command_line(hardware: &Hardware) -> CommandLine {
    let mut line = CommandLine {
        arguments: Vec::new(),
        handed: Vec::new(),
        visible: Vec::new(),
    };
    line.arguments
        .extend(["-nodefaults".to_owned(), "-no-user-config".to_owned()]);
    line.add("-name", format!("guest={},debug-threads=on", hardware.name));
    line.add("-uuid", hardware.uuid.clone());
    machine(&mut line, hardware);
    processors(&mut line, hardware);
    memory(&mut line, hardware);
    for processor in hardware.incoming.iter().flat_map(|one| &one.processors) {
        line.add_json("-device", processor);
    }
    line.add("-rtc", "base=utc");
    line.add("-boot", "strict=on");
    line.add("-display", "none");
    // The companion keeps the reason of an end and then lets the process go.
    line.add("-action", "reboot=reset,shutdown=pause,panic=pause");
    line.add("-sandbox", SANDBOX);
    line.add("-chardev", format!("socket,id=watched,fd={WATCHED}"));
    line.add("-mon", "chardev=watched,mode=control");
    for (id, socket) in [("control", sockets::CONTROL), ("rescue", sockets::RESCUE)] {
        line.listen(id, socket);
        line.add("-mon", format!("chardev={id},mode=control"));
    }
    // The console's terminal is the companion's.
    line.add("-chardev", "stdio,id=console,signal=off");
    line.add("-serial", "chardev:console");
    boot(&mut line, &hardware.boot);
    controllers(&mut line, hardware);
    let mut free = 0..PORTS;
    disks(&mut line, hardware, &mut free);
    nics(&mut line, hardware, &mut free);
    served(&mut line, hardware, &mut free);
    for device in passed::devices(&hardware.passed, &mut free) {
        line.add_json("-device", &device);
    }
    for one in &hardware.passed {
        let folder = passed::folder(one);
        line.visible.push((folder.clone().into(), folder));
    }
    if hardware.incoming.is_some() {
        line.add("-incoming", "defer");
    }
    line
}

fn machine(line: &mut CommandLine, hardware: &Hardware) {
    let accelerator = match hardware.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    let secure = matches!(hardware.boot, BootPlan::Uefi { secure: true, .. });
    // Only in system management mode may the variables be written: so the guest cannot turn secure boot off.
    let smm = if secure { ",smm=on" } else { ",smm=off" };
    // What a new QEMU calls `q35` may be another board than the one that a state was saved of.
    let board = hardware.incoming.as_ref().map(|one| one.board.as_str());
    let board = board.unwrap_or("q35");
    line.add(
        "-machine",
        format!("{board},accel={accelerator},memory-backend=memory,vmport=off,usb=off{smm}"),
    );
    if secure {
        line.add("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
}

fn processors(line: &mut CommandLine, hardware: &Hardware) {
    let model = match hardware.accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    };
    line.add("-cpu", model);
    let one = hardware.processors;
    line.add(
        "-smp",
        format!(
            "cpus={},maxcpus={},sockets={},cores={},threads={}",
            one.count,
            one.most(),
            one.sockets,
            one.cores,
            one.threads
        ),
    );
}

/// A piece of memory, as an object: shareable, so that other processes can serve its guest.
pub fn memory_object(id: &str, bytes: u64, huge_pages: Option<u64>) -> Value {
    let mut object = json!({
        "qom-type": "memory-backend-memfd",
        "id": id,
        "size": bytes,
        "share": true,
    });
    if let Some(size) = huge_pages {
        object["hugetlb"] = json!(true);
        object["hugetlbsize"] = json!(size);
    }
    object
}

fn memory(line: &mut CommandLine, hardware: &Hardware) {
    let memory = &hardware.memory;
    line.add_json(
        "-object",
        &memory_object("memory", memory.bytes, memory.huge_pages),
    );
    let size = format!("size={}M", memory.bytes >> 20);
    line.add(
        "-m",
        if memory.most > memory.bytes {
            format!("{size},slots={MEMORY_SLOTS},maxmem={}M", memory.most >> 20)
        } else {
            size
        },
    );
    let pieces = hardware.incoming.iter().flat_map(|one| &one.pieces);
    for piece in pieces {
        let object = memory_object(&piece.memory, piece.bytes, memory.huge_pages);
        line.add_json("-object", &object);
        let device = json!({
            "driver": "pc-dimm",
            "id": piece.id,
            "memdev": piece.memory,
            "slot": piece.slot,
            "addr": piece.address,
        });
        line.add_json("-device", &device);
    }
}

fn boot(line: &mut CommandLine, boot: &BootPlan) {
    match boot {
        BootPlan::Bios => {}
        BootPlan::Uefi {
            code, variables, ..
        } => {
            // Two flash memories: the program and what it keeps.
            line.add_json(
                "-blockdev",
                &json!({"driver": "file", "node-name": "firmware.f", "filename": code, "read-only": true}),
            );
            line.add_json(
                "-blockdev",
                &json!({"driver": "raw", "node-name": "firmware", "file": "firmware.f", "read-only": true}),
            );
            let set = line.hand_file(variables, true);
            line.add_json(
                "-blockdev",
                &json!({"driver": "file", "node-name": "variables.f", "filename": format!("/dev/fdset/{set}")}),
            );
            line.add_json(
                "-blockdev",
                &json!({"driver": "raw", "node-name": "variables", "file": "variables.f"}),
            );
            for (unit, node) in [("0", "firmware"), ("1", "variables")] {
                line.add("-machine", format!("pflash{unit}={node}"));
            }
        }
        BootPlan::Direct {
            kernel,
            initrd,
            cmdline,
        } => {
            // QEMU opens these by name only.
            line.visible.push((kernel.clone(), KERNEL.to_owned()));
            line.add("-kernel", KERNEL);
            if let Some(initrd) = initrd {
                line.visible.push((initrd.clone(), INITRD.to_owned()));
                line.add("-initrd", INITRD);
            }
            line.add("-append", cmdline.clone());
        }
    }
}

fn controllers(line: &mut CommandLine, hardware: &Hardware) {
    // The root bus takes nothing while the machine runs: everything else is plugged into ports.
    for number in 0..PORTS {
        let mut one = json!({
            "driver": "pcie-root-port",
            "id": port(number),
            "bus": "pcie.0",
            "chassis": number + 1,
            "addr": format!("{:#x}.{:#x}", 0x10 + number / 8, number % 8),
        });
        if number % 8 == 0 {
            one["multifunction"] = json!(true);
        }
        line.add_json("-device", &one);
    }
    let fixed = [
        json!({"driver": "virtio-scsi-pci", "id": SCSI, "bus": "pcie.0", "addr": "0x3"}),
        json!({"driver": "qemu-xhci", "id": USB, "bus": "pcie.0", "addr": "0x4"}),
        json!({"driver": "virtio-serial-pci", "id": "serial", "bus": "pcie.0", "addr": "0x5"}),
        json!({"driver": "virtio-balloon-pci", "id": "balloon", "bus": "pcie.0", "addr": "0x6",
               "deflate-on-oom": true, "free-page-reporting": true}),
        json!({"driver": "virtio-rng-pci", "id": "random", "rng": "entropy", "bus": "pcie.0", "addr": "0x7"}),
        json!({"driver": "pvpanic-pci", "id": "panic", "bus": "pcie.0", "addr": "0x8"}),
    ];
    line.add_json(
        "-object",
        &json!({"qom-type": "rng-random", "id": "entropy", "filename": "/dev/urandom"}),
    );
    for device in &fixed {
        line.add_json("-device", device);
    }
    if !matches!(hardware.boot, BootPlan::Direct { .. }) {
        line.add_json(
            "-device",
            &json!({"driver": "VGA", "id": "screen", "bus": "pcie.0", "addr": "0x2"}),
        );
        // It listens nowhere: keel hands it each client.
        line.add("-vnc", "none");
    }
    line.listen("agent", sockets::AGENT);
    line.add_json(
        "-device",
        &json!({"driver": "virtserialport", "id": AGENT_PORT, "bus": "serial.0", "chardev": "agent",
                "name": "org.qemu.guest_agent.0"}),
    );
}

fn disks(line: &mut CommandLine, hardware: &Hardware, free: &mut impl Iterator<Item = u32>) {
    for disk in &hardware.disks {
        let layers = disk.layers.below.iter();
        let sets = DiskSets {
            active: line.hand_file(&disk.file.path, !disk.read_only),
            below: layers
                .map(|(_, path)| line.hand_file(path, false))
                .collect(),
            image: disk
                .backing
                .as_ref()
                .map(|backing| line.hand_file(&backing.path, false)),
        };
        line.add_json("-object", &throttle_group(disk));
        for node in disk_nodes(disk, &sets) {
            line.add_json("-blockdev", &node);
        }
        let mut device;
        if let Some(place) = place(hardware, &nodes(&disk.device).top) {
            device = disk_device(disk, Some(place));
            match disk.bus {
                Bus::VirtioScsi => device["scsi-id"] = json!(place.parse::<u32>().unwrap_or(0)),
                Bus::Usb => device["port"] = json!(place),
                Bus::VirtioBlk | Bus::Nvme => {}
            }
        } else {
            let at = takes_port(disk.bus)
                .then(|| free.next().map(port))
                .flatten();
            device = disk_device(disk, at.as_deref());
        }
        line.add_json("-device", &device);
    }
}

fn nics(line: &mut CommandLine, hardware: &Hardware, free: &mut impl Iterator<Item = u32>) {
    for nic in &hardware.nics {
        let number = line.hand(Handed::Tap(nic.device.clone()));
        line.add_json("-netdev", &nic_backend(nic, &number.to_string()));
        let at = match place(hardware, &id("nic", &nic.device)) {
            Some(place) => place.to_owned(),
            None => free.next().map(port).unwrap_or_default(),
        };
        line.add_json("-device", &nic_device(nic, &at));
    }
}

/// What other processes serve, in the order of the helpers.
fn served(line: &mut CommandLine, hardware: &Hardware, free: &mut impl Iterator<Item = u32>) {
    let mut indices = 0..;
    for folder in &hardware.folders {
        let id = id(FOLDER, &folder.device);
        line.meet(&id, indices.next().unwrap_or(0));
        let at = free.next().map(port).unwrap_or_default();
        line.add_json("-device", &folder_device(folder, &at));
    }
    if let Some(tpm) = &hardware.tpm {
        let id = id(TPM, &tpm.device);
        line.meet(&id, indices.next().unwrap_or(0));
        line.add("-tpmdev", format!("emulator,id={id}-served,chardev={id}"));
        line.add_json("-device", &tpm_device(tpm));
    }
}

/// Where a part is in a machine that takes over a saved state.
fn place<'h>(hardware: &'h Hardware, id: &str) -> Option<&'h str> {
    let places = &hardware.incoming.as_ref()?.places;
    places.get(id).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::disk_image::Format;
    use crate::native::machine::plan::{
        Cache, DiskFile, DiskLayers, DiskLimits, DiskPlan, FolderPlan, Incoming, Memory, NicPlan,
        PassedPlan, Piece, Processors, TpmPlan,
    };

    fn disk(device: &str, bus: Bus) -> DiskPlan {
        DiskPlan {
            device: device.to_owned(),
            file: DiskFile {
                path: format!("/pool/{device}.qcow2").into(),
                format: Format::Qcow2,
                device: false,
            },
            layers: DiskLayers::default(),
            backing: None,
            bus,
            cache: Cache::Direct,
            read_only: false,
            cdrom: false,
            boot_index: None,
            limits: DiskLimits::default(),
        }
    }

    fn hardware(boot: BootPlan) -> Hardware {
        Hardware {
            name: "web".to_owned(),
            uuid: "018f0000-0000-7000-8000-000000000000".to_owned(),
            accelerator: Accelerator::Tcg,
            boot,
            processors: Processors {
                count: 2,
                sockets: 1,
                cores: 4,
                threads: 1,
            },
            memory: Memory {
                bytes: 512 << 20,
                most: 0,
                huge_pages: None,
            },
            disks: Vec::new(),
            nics: Vec::new(),
            folders: Vec::new(),
            tpm: None,
            passed: Vec::new(),
            incoming: None,
        }
    }

    /// One option a line, and what is handed over.
    fn shown(hardware: &Hardware) -> String {
        let line = command_line(hardware);
        let mut text = String::new();
        for word in &line.arguments {
            let separator = if word.starts_with('-') { "\n" } else { " " };
            text.push_str(separator);
            text.push_str(word);
        }
        for (number, handed) in (KEPT..).zip(&line.handed) {
            text.push_str(&format!("\n{number}: {handed:?}"));
        }
        for (path, target) in &line.visible {
            text.push_str(&format!("\n{} at {target}", path.display()));
        }
        text
    }

    #[test]
    fn a_kernel_is_booted_directly() {
        insta::assert_snapshot!(shown(&hardware(BootPlan::Direct {
            kernel: "/store/kernel".into(),
            initrd: Some("/store/initrd".into()),
            cmdline: "console=ttyS0 root=/dev/sda".to_owned(),
        })));
    }

    #[test]
    fn disks_are_on_all_buses_behind_secure_firmware() {
        let mut hardware = hardware(BootPlan::Uefi {
            code: "/usr/share/OVMF/OVMF_CODE_4M.ms.fd".into(),
            variables: "/pool/variables-secure.fd".into(),
            secure: true,
        });
        hardware.accelerator = Accelerator::Kvm;
        hardware.memory.most = 4 << 30;
        hardware.memory.huge_pages = Some(2 << 20);
        let mut root = disk("root", Bus::VirtioScsi);
        root.backing = Some(DiskFile {
            path: "/store/disk.raw".into(),
            format: Format::Raw,
            device: false,
        });
        root.boot_index = Some(1);
        root.limits.operations = Some(500);
        root.limits.bytes_read = Some(100 << 20);
        let mut cd = disk("cd", Bus::VirtioScsi);
        (cd.cdrom, cd.read_only, cd.file.format) = (true, true, Format::Raw);
        let mut host = disk("host", Bus::VirtioBlk);
        (host.file.device, host.file.format, host.cache) = (true, Format::Raw, Cache::Unsafe);
        hardware.disks = vec![
            cd,
            host,
            disk("fast", Bus::Nvme),
            root,
            disk("stick", Bus::Usb),
        ];
        insta::assert_snapshot!(shown(&hardware));
    }

    #[test]
    fn interfaces_are_handed_taps_and_a_saved_machine_waits_for_its_state() {
        let mut hardware = hardware(BootPlan::Bios);
        hardware.memory.most = 1 << 30;
        let mut root = disk("root", Bus::VirtioScsi);
        root.layers = DiskLayers {
            active: 4,
            below: vec![
                (2, "/pool/disk-2.qcow2".into()),
                (0, "/pool/disk.qcow2".into()),
            ],
        };
        root.backing = Some(DiskFile {
            path: "/store/disk.raw".into(),
            format: Format::Raw,
            device: false,
        });
        hardware.disks = vec![root, disk("fast", Bus::VirtioBlk)];
        let places = [
            ("disk-root", "4"),
            ("disk-fast", "port7"),
            ("nic-eth0", "port1"),
            ("nic-eth1", "port0"),
        ];
        hardware.incoming = Some(Incoming {
            board: "pc-q35-7.2".to_owned(),
            places: places
                .map(|(id, place)| (id.to_owned(), place.to_owned()))
                .into(),
            processors: vec![json!({"driver": "max-x86_64-cpu", "id": "cpu-2", "core-id": 2})],
            pieces: vec![Piece {
                id: "dimm-0".to_owned(),
                memory: "memory-0".to_owned(),
                slot: 0,
                address: 4 << 30,
                bytes: 128 << 20,
            }],
        });
        hardware.nics = ["eth0", "eth1"]
            .map(|device| NicPlan {
                device: device.to_owned(),
                host_interface: format!("k{device}"),
                hwaddr: "02:00:00:00:00:01".to_owned(),
                mtu: (device == "eth1").then_some(1400),
            })
            .to_vec();
        insta::assert_snapshot!(shown(&hardware));
    }

    #[test]
    fn folders_and_a_tpm_are_served_over_sockets() {
        let mut hardware = hardware(BootPlan::Bios);
        let folder = |device: &str| FolderPlan {
            device: device.to_owned(),
            path: format!("/srv/{device}").into(),
            read_only: false,
            recursive: false,
            shift: false,
        };
        hardware.folders = vec![folder("data"), folder("a folder with a long name")];
        hardware.tpm = Some(TpmPlan {
            device: "tpm".to_owned(),
            state: "/pool/tpm".into(),
        });
        let text = shown(&hardware);
        let own: Vec<&str> = text
            .lines()
            .filter(|line| ["folder", "tpm", "Helper"].iter().any(|w| line.contains(w)))
            .collect();
        insta::assert_snapshot!(own.join("\n"));
    }

    #[test]
    fn pci_devices_of_the_host_are_in_ports_and_a_card_is_one() {
        let mut hardware = hardware(BootPlan::Bios);
        let one = |device: &str, address: &str, group| PassedPlan {
            device: device.to_owned(),
            address: address.to_owned(),
            group,
        };
        hardware.disks = vec![disk("fast", Bus::Nvme)];
        hardware.passed = vec![
            one("card", "0000:01:00.0", 7),
            one("card", "0000:01:00.1", 7),
            one("card", "0000:02:00.0", 8),
            one("net", "0000:03:00.0", 9),
        ];
        let text = shown(&hardware);
        let own: Vec<&str> = text
            .lines()
            .filter(|line| {
                ["vfio", "/sys/", "port0\"", "nvme"]
                    .iter()
                    .any(|w| line.contains(w))
            })
            .collect();
        insta::assert_snapshot!(own.join("\n"));
    }
}
