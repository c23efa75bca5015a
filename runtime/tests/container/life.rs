//! Start, namespaces, console, end.

use runtime::host_test;
use runtime::native::shim::{self, End, Found};

use crate::world::{PATIENCE, World, wait_for};

host_test! {
    fn a_container_runs_in_all_namespaces_of_its_own() {
        let world = World::new("echo ready; exec sleep 1000");
        let started = world.start();
        world.wait_for_console("ready");
        let init = started.init.as_raw_nonzero();
        for namespace in ["user", "pid", "mnt", "uts", "ipc", "net", "cgroup"] {
            let of = |process: &str| {
                std::fs::read_link(format!("/proc/{process}/ns/{namespace}")).expect("a namespace")
            };
            assert_ne!(of(&init.to_string()), of("self"), "{namespace}");
        }
        let ids = std::fs::read_to_string(format!("/proc/{init}/uid_map")).expect("uid_map");
        assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), ["0", "1000000", "65536"]);
        let cgroup = std::fs::read_to_string(format!("/proc/{init}/cgroup")).expect("cgroup");
        for line in cgroup.lines().filter(|line| !line.contains("name=systemd")) {
            assert!(line.contains("keel-test-"), "{line} of\n{cgroup}");
        }
        let running = world.running();
        let record = running.kill(PATIENCE).expect("kill").expect("a record");
        assert_eq!(record.end, End::Signal(libc::SIGKILL));
        assert_eq!(record.generation, 1);
        assert!(!world.plan.run_dir.join("control").exists());
    }
}

host_test! {
    fn the_exit_code_is_recorded_and_the_console_is_kept() {
        let world = World::new("id -u; hostname; echo $container; pwd; tty; exit 7");
        let (console, record) = world.run();
        assert_eq!(record.end, End::Code(7));
        assert_eq!(console, "0\nbox\nlxc\n/\n/dev/pts/0\n");
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Ended(same)) if same == record));
    }
}

host_test! {
    fn the_disk_keeps_unshifted_owners() {
        let world = World::new("touch /mine && chown 33:33 /mine && stat -c %u:%g /mine /bin/busybox");
        let (console, record) = world.run();
        assert_eq!((console.as_str(), record.end), ("33:33\n0:0\n", End::Code(0)));
        use std::os::unix::fs::MetadataExt as _;
        let made = std::fs::metadata(world.upper().join("mine")).expect("the file on the disk");
        assert_eq!((made.uid(), made.gid()), (33, 33));
    }
}

host_test! {
    fn a_failing_start_names_the_call_and_leaves_nothing() {
        let mut world = World::new("");
        world.plan.command.arguments = vec!["/no/such/init".to_owned()];
        let error = world.try_start().expect_err("there is no such init");
        let text = crate::world::chain(&error);
        assert_eq!(text, "execute /no/such/init in the container: No such file or directory (os error 2)");
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Absent)));
        let payload = world.plan.cgroups.payload.clone().expect("a payload");
        wait_for("an empty cgroup", || {
            std::fs::read_to_string(payload.join("cgroup.procs")).expect("procs").is_empty()
        });
    }
}

host_test! {
    fn a_plug_that_fails_ends_the_start() {
        let world = World::new("echo never");
        let mut seen = None;
        let error = runtime::native::container::start(&world.plan, runtime::native::container::Coming::begin(crate::world::shim(), &world.plan.name), &mut |init| {
            seen = Some(init.pid);
            Err("no bridge".into())
        });
        assert_eq!(crate::world::chain(&error.expect_err("it failed")), "plug the network in: no bridge");
        let pid = seen.expect("a pid").as_raw_nonzero();
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(world.console(), "");
    }
}
