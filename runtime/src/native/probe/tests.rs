//! The judgements, and one look at this very host.

use super::checks::{SYS_RESOURCE, life_cycle};
use super::*;
use crate::native::machine::Abilities;

/// A host as Debian 12 comes, with what keel recommends.
fn good() -> Facts {
    Facts {
        kernel: "6.1.0-18-amd64".to_owned(),
        namespaces: ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
            .map(str::to_owned)
            .into(),
        max_user_namespaces: Some(15_000),
        capabilities: 0x1ff_ffff_ffff,
        state_file_system: "btrfs".to_owned(),
        idmapped: Some(Ok(())),
        overlay: Some(Ok(())),
        controllers: ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"]
            .map(|name| (name, Some(2)))
            .into_iter()
            .chain(["cpuacct", "devices", "freezer"].map(|name| (name, None)))
            .collect(),
        cgroup2: true,
        open_files: Some(1_048_576),
        inotify: Some(8192),
        inotify_watches: Some(65_536),
        keys: Some(2000),
        key_bytes: Some(200_000),
        connections: Some(262_144),
        neighbours: Some(1024),
        terminals: Some(4096),
        core_pattern: Some("core".to_owned()),
        tiocsti: Some(0),
        io_uring: Some(2),
        programs: [
            "nft",
            "dnsmasq",
            "mke2fs",
            "resize2fs",
            "mkfs.btrfs",
            "unsquashfs",
            "busybox",
            "unshare",
            "git",
        ]
        .map(|name| (name, true))
        .into(),
        subordinate_ids: "root:100000:65536\nann:165536:65536\n".to_owned(),
        loop_devices: Ok(()),
        apparmor: true,
        selinux: None,
        lxcfs: Some(true),
        machines: MachineHost {
            emulator: Some((
                "/usr/bin/qemu-system-x86_64".to_owned(),
                Ok(Abilities {
                    version: "7.2".to_owned(),
                    kvm: true,
                    ..Abilities::default()
                }),
            )),
            kvm: None,
            uefi: true,
            secure_boot: true,
            taps: Ok(()),
            folders: Ok("/usr/lib/qemu/virtiofsd".to_owned()),
            tpm: Ok("/usr/bin/swtpm".to_owned()),
            macvtaps: Ok(()),
            iommu: true,
        },
    }
}

#[test]
fn a_good_host_has_nothing_to_mend() {
    let wrong: Vec<Check> = checks(&good())
        .into_iter()
        .filter(|check| check.verdict != Verdict::Ok || check.mend.is_some())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_fault_is_told_by_its_own_check_with_its_remedy() {
    type Fault = fn(&mut Facts);
    let cases: &[(Fault, &str, Verdict, &str)] = &[
        (
            |f| f.kernel = "5.10.0".into(),
            "kernel",
            Verdict::Missing,
            "6.1",
        ),
        (
            |f| f.kernel = "unknown".into(),
            "kernel",
            Verdict::Missing,
            "6.1",
        ),
        (
            |f| f.namespaces.retain(|n| n != "user"),
            "namespaces",
            Verdict::Missing,
            "kernel",
        ),
        (
            |f| f.max_user_namespaces = Some(0),
            "namespaces",
            Verdict::Missing,
            "max_user_namespaces=",
        ),
        (
            |f| f.capabilities = 1 << SYS_RESOURCE,
            "root",
            Verdict::Missing,
            "as root",
        ),
        (
            |f| f.idmapped = Some(Err("EINVAL".into())),
            "id-mapped mounts",
            Verdict::Missing,
            "ext4",
        ),
        (
            |f| f.idmapped = None,
            "id-mapped mounts",
            Verdict::Warning,
            "",
        ),
        (
            |f| f.overlay = Some(Err("EPERM".into())),
            "overlay in a user namespace",
            Verdict::Missing,
            "modprobe",
        ),
        (
            |f| {
                f.controllers.insert("memory", None);
            },
            "cgroup controllers",
            Verdict::Warning,
            "memory",
        ),
        (
            |f| f.capabilities &= !(1 << SYS_RESOURCE),
            "CAP_SYS_RESOURCE",
            Verdict::Warning,
            "capabilities",
        ),
        (
            |f| f.inotify = Some(128),
            "inotify instances",
            Verdict::Warning,
            "max_user_instances=1024",
        ),
        (
            |f| f.inotify_watches = Some(8192),
            "inotify watches",
            Verdict::Warning,
            "max_user_watches=65536",
        ),
        (
            |f| f.keys = Some(200),
            "keys",
            Verdict::Warning,
            "maxkeys=2000",
        ),
        (
            |f| f.key_bytes = Some(20_000),
            "bytes of keys",
            Verdict::Warning,
            "maxbytes=200000",
        ),
        (
            |f| f.connections = Some(4096),
            "connections",
            Verdict::Warning,
            "nf_conntrack_max=65536",
        ),
        (
            |f| f.neighbours = Some(512),
            "neighbours",
            Verdict::Warning,
            "gc_thresh3=1024",
        ),
        (
            |f| f.terminals = Some(16),
            "terminals",
            Verdict::Warning,
            "pty.max=",
        ),
        (
            |f| f.core_pattern = Some("|/usr/bin/handler %p".into()),
            "core dumps",
            Verdict::Warning,
            "core_pattern=core",
        ),
        (
            |f| f.tiocsti = Some(1),
            "TIOCSTI",
            Verdict::Warning,
            "legacy_tiocsti=0",
        ),
        (
            |f| f.io_uring = Some(0),
            "io_uring",
            Verdict::Warning,
            "io_uring_disabled=2",
        ),
        (
            |f| {
                f.programs.insert("dnsmasq", false);
            },
            "dnsmasq",
            Verdict::Missing,
            "apt-get install dnsmasq-base",
        ),
        (
            |f| f.subordinate_ids = "ann:1000000:65536".into(),
            "id ranges",
            Verdict::Warning,
            "idmap.base",
        ),
        (
            |f| f.subordinate_ids = "ann:990000:20000".into(),
            "id ranges",
            Verdict::Warning,
            "idmap.base",
        ),
        (
            |f| f.loop_devices = Err("/dev/loop-control: No such file or directory".into()),
            "sized roots",
            Verdict::Missing,
            "modprobe loop",
        ),
        (
            |f| f.apparmor = false,
            "AppArmor or SELinux",
            Verdict::Warning,
            "apparmor",
        ),
        (
            |f| f.lxcfs = Some(false),
            "lxcfs",
            Verdict::Warning,
            "restart",
        ),
        (|f| f.lxcfs = None, "lxcfs", Verdict::Warning, "install"),
        (
            |f| f.machines.emulator = None,
            "QEMU",
            Verdict::Warning,
            "apt-get install qemu-system-x86",
        ),
        (
            |f| {
                let abilities = Abilities {
                    lacking: vec!["the device nvme".into()],
                    kvm: true,
                    ..Abilities::default()
                };
                f.machines.emulator = Some(("/usr/bin/qemu".into(), Ok(abilities)));
            },
            "QEMU",
            Verdict::Warning,
            "has all of it",
        ),
        (
            |f| f.machines.emulator = Some(("/usr/bin/qemu".into(), Err("it ended".into()))),
            "QEMU",
            Verdict::Warning,
            "--reinstall",
        ),
        (
            |f| f.machines.kvm = Some("open /dev/kvm: No such file or directory".into()),
            "KVM",
            Verdict::Warning,
            "modprobe kvm_intel",
        ),
        (
            |f| {
                if let Some((_, Ok(abilities))) = &mut f.machines.emulator {
                    abilities.kvm = false;
                }
            },
            "KVM",
            Verdict::Warning,
            "built with it",
        ),
        (
            |f| f.machines.secure_boot = false,
            "UEFI firmware",
            Verdict::Warning,
            "apt-get install ovmf",
        ),
        (
            |f| f.machines.taps = Err("/dev/net/tun: No such device".into()),
            "taps",
            Verdict::Warning,
            "modprobe tun",
        ),
        (
            |f| f.machines.macvtaps = Err("Operation not supported".into()),
            "macvtaps",
            Verdict::Warning,
            "modprobe macvtap",
        ),
    ];
    for (fault, name, verdict, mend) in cases {
        let mut facts = good();
        fault(&mut facts);
        let wrong: Vec<Check> = checks(&facts)
            .into_iter()
            .filter(|check| check.verdict != Verdict::Ok)
            .collect();
        let [check] = wrong.as_slice() else {
            panic!("{name}: {wrong:#?}");
        };
        assert_eq!((check.name, check.verdict), (*name, *verdict));
        assert!(
            check.mend.as_ref().is_some_and(|text| text.contains(mend)),
            "{check:?}"
        );
    }
}

#[test]
fn without_cgroup2_the_freezer_is_a_way_and_nothing_is_none() {
    let mut facts = Facts {
        cgroup2: false,
        ..good()
    };
    facts.controllers.insert("freezer", Some(1));
    assert_eq!(life_cycle(&facts).verdict, Verdict::Warning);
    facts.controllers.insert("freezer", None);
    assert_eq!(life_cycle(&facts).verdict, Verdict::Missing);
}

#[test]
fn the_nearest_mount_is_found() {
    let table = "1 0 8:1 / / rw - ext4 /dev/a rw,resv\n\
                 2 1 8:2 / /var rw - btrfs /dev/b rw,prjquota\n\
                 3 1 8:3 / /variety rw - xfs /dev/c rw\n";
    for (folder, kind) in [
        ("/var/lib/keel", "btrfs"),
        ("/srv", "ext4"),
        ("/variety", "xfs"),
    ] {
        let found = facts::file_system_in(table, std::path::Path::new(folder));
        assert_eq!(found.as_deref(), Some(kind), "{folder}");
    }
}

crate::host_test! {
    fn this_host_is_probed_for_real() {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::read(&folder.path().join("not/there/yet"));
        assert_eq!(facts.idmapped, Some(Ok(())), "on {}", facts.state_file_system);
        assert_eq!(facts.overlay, Some(Ok(())), "on {}", facts.state_file_system);
        assert_eq!(facts.loop_devices, Ok(()));
        let emulator = facts.machines.emulator.as_ref().map(|(_, answered)| answered.as_ref());
        assert!(matches!(emulator, Some(Ok(abilities)) if abilities.lacking.is_empty()), "{emulator:?}");
        assert!(facts.machines.uefi && facts.machines.secure_boot && facts.machines.taps.is_ok());
        assert_eq!(facts.machines.macvtaps, Ok(()));
        assert!(facts.cgroup2 && facts.capabilities != 0 && facts.open_files != Some(0));
        assert_eq!(manifests::path_io::list(folder.path()).unwrap(), Vec::<std::path::PathBuf>::new());
        assert!(checks(&facts).iter().all(|check| check.verdict == Verdict::Ok || check.mend.is_some()));
        // Where no folder can be made, nothing is claimed.
        let proc = Facts::read(std::path::Path::new("/proc/sys"));
        assert_eq!((proc.idmapped, proc.state_file_system.as_str()), (None, "proc"));
    }
}
