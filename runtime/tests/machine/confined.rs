//! What a guest that has broken out into its process can do: nothing.

use std::collections::BTreeSet;

use runtime::native::machine::plan::Bus;
use runtime::own_processes_test;

use crate::world::World;

own_processes_test! {
    fn the_process_has_no_power_and_sees_no_host() {
        let world = World::new();
        let started = world.start();
        world.qmp();
        let init = started.init.as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{init}/status")).expect("status");
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
                .unwrap_or_default()
        };
        assert_eq!(field("Uid"), "1000000 1000000 1000000 1000000");
        assert_eq!(field("Gid"), "1000000 1000000 1000000 1000000");
        assert_eq!(field("Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".to_owned(), "2".to_owned()));
        for namespace in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
            let of = |process: &str| {
                std::fs::read_link(format!("/proc/{process}/ns/{namespace}")).expect("a namespace")
            };
            assert_ne!(of(&init.to_string()), of("self"), "{namespace}");
        }
        let root = std::path::PathBuf::from(format!("/proc/{init}/root"));
        let seen: BTreeSet<String> = std::fs::read_dir(&root)
            .expect("the root")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        let known = ["dev", "etc", "initrd", "kernel", "lib", "lib32", "lib64", "usr"];
        let unknown: Vec<_> = seen.iter().filter(|name| !known.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let etc: Vec<_> = std::fs::read_dir(root.join("etc")).expect("etc").collect();
        assert_eq!(etc.len(), 1);
        // Nothing in it can be written, whoever tries.
        let mounts = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).expect("mounts");
        for mount in mounts.lines() {
            let fields: Vec<&str> = mount.split(' ').collect();
            let device = fields[4].starts_with("/dev/");
            assert!(device || fields[5].split(',').any(|flag| flag == "ro"), "{mount}");
            assert!(fields[5].contains("nosuid"), "{mount}");
        }
    }
}

own_processes_test! {
    fn the_process_holds_nothing_but_what_it_was_handed() {
        let world = World::new();
        let started = world.start();
        world.qmp();
        let init = started.init.as_raw_nonzero();
        let mut held = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{init}/fd")).expect("descriptors") {
            let path = entry.expect("an entry").path();
            held.push(std::fs::read_link(&path).expect("a descriptor").display().to_string());
        }
        let foreign: Vec<_> = held
            .iter()
            .filter(|what| {
                !["socket:", "anon_inode:", "pipe:", "/memfd:", "/dev/", "/1", "/0", "/kernel", "/initrd"]
                    .iter()
                    .any(|known| what.starts_with(known))
            })
            .collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }
}

own_processes_test! {
    fn the_user_of_one_machine_opens_nothing_of_another() {
        use std::os::unix::process::CommandExt as _;
        let mut world = World::new();
        world.plan.hardware.disks = vec![crate::disks::disk(&world, "root", Bus::VirtioScsi)];
        world.start();
        world.qmp();
        let run = &world.plan.run_dir;
        let disk = world.path().join("root.qcow2");
        for path in [
            disk,
            run.join("qmp"),
            run.join("qmp-rescue"),
            run.join("agent"),
            run.join("control"),
            run.join("console.log"),
        ] {
            assert!(path.exists(), "{}", path.display());
            for user in [1_000_000, 1_065_536] {
                let script = "import os,socket,sys\n\
                              for how in (os.O_RDONLY, os.O_RDWR):\n\
                              \ttry: os.open(sys.argv[1], how); sys.exit('opened')\n\
                              \texcept PermissionError: pass\n\
                              for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):\n\
                              \ttry: socket.socket(socket.AF_UNIX, kind).connect(sys.argv[1]); sys.exit('connected')\n\
                              \texcept PermissionError: pass\n";
                let output = std::process::Command::new("python3")
                    .args(["-c", script])
                    .arg(&path)
                    .uid(user)
                    .gid(user)
                    .current_dir("/")
                    .output()
                    .expect("python3 is installed");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{user} {}: {said}", path.display());
            }
        }
    }
}
