//! Binds, tmpfs, devices, files, sysctls, limits.

use std::os::unix::fs::MetadataExt as _;

use runtime::host_test;
use runtime::native::container::plan::{
    DeviceOwner, DevicePlan, FilePlan, LimitPlan, MountPlan, MountSource, Propagation, RootPlan,
    TimePlan,
};
use runtime::native::shim::End;

use crate::world::{World, chain};

pub(crate) fn bind(world: &World, name: &str, target: &str) -> MountPlan {
    MountPlan {
        target: target.to_owned(),
        what: MountSource::Bind {
            path: world.path().join(name),
            shift: true,
            recursive: false,
            propagation: Propagation::Private,
        },
        read_only: false,
        nosuid_nodev: false,
    }
}

host_test! {
    fn a_bind_is_shifted_and_a_read_only_one_stays_so() {
        let mut world = World::new(
            "touch /data/mine; touch /ro/no; mount -o remount,bind,rw /ro; touch /ro/no; umount /ro; touch /ro/x; \
             grep ' /data ' /proc/self/mountinfo; cat /one; exit 0",
        );
        for name in ["data", "ro"] {
            std::fs::create_dir(world.path().join(name)).expect("a folder");
        }
        std::fs::write(world.path().join("one"), "a file\n").expect("a file");
        let mut read_only = bind(&world, "ro", "/ro");
        read_only.read_only = true;
        world.plan.mounts = vec![bind(&world, "data", "/data"), read_only, bind(&world, "one", "/one")];
        let (console, _) = world.run();
        let made = std::fs::metadata(world.path().join("data/mine")).unwrap_or_else(|_| panic!("{console}"));
        assert_eq!((made.uid(), made.gid()), (0, 0));
        assert_eq!(std::fs::read_dir(world.path().join("ro")).expect("ro").count(), 0, "{console}");
        assert!(console.contains("a file"), "{console}");
    }
}

host_test! {
    fn a_bind_of_what_is_not_there_says_so() {
        let mut world = World::new("");
        world.plan.mounts = vec![bind(&world, "nothing", "/data")];
        let text = chain(&world.try_start().expect_err("there is no such folder"));
        let path = world.path().join("nothing");
        assert_eq!(text, format!("open {}: No such file or directory (os error 2)", path.display()));
    }
}

host_test! {
    fn a_tree_can_be_the_root() {
        let mut world = World::new("touch /mine; stat -c %u /mine; mount -o remount,dev / ; cat /proc/self/mountinfo | head -n 1");
        world.plan.root = RootPlan::Tree(world.layer());
        let (console, record) = world.run();
        assert_eq!(record.end, End::Code(0), "{console}");
        assert_eq!(std::fs::metadata(world.layer().join("mine")).expect("made").uid(), 0);
        assert!(console.contains("nodev"), "{console}");
    }
}

host_test! {
    fn a_tmpfs_has_its_size_and_files_their_owners() {
        let mut world = World::new("stat -f -c %b:%S /scratch; stat -c %a:%u:%g /etc/motd /new/deep; cat /etc/motd");
        world.plan.mounts = vec![MountPlan {
            target: "/scratch".to_owned(),
            what: MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777 },
            read_only: false,
            nosuid_nodev: true,
        }];
        let file = |target: &str, create_parents| FilePlan {
            target: target.to_owned(),
            content: b"welcome\n".to_vec(),
            mode: 0o640,
            uid: 7,
            gid: 8,
            create_parents,
            only_if_absent: false,
            ours: Vec::new(),
        };
        world.plan.files = vec![file("/etc/motd", false), file("/new/deep", true)];
        let (console, _) = world.run();
        assert_eq!(console, "256:4096\n640:7:8\n640:7:8\nwelcome\n");
    }
}

host_test! {
    fn a_device_has_its_owner_and_its_number_is_checked() {
        let mut world = World::new("stat -c %a:%u:%g /dev/extra; echo x > /dev/extra && echo written; stat -c %t:%T /dev/extra");
        let device = DevicePlan {
            path: "/dev/null".into(),
            target: "/dev/extra".to_owned(),
            block: false,
            major: 1,
            minor: 3,
            owner: Some(DeviceOwner { uid: 5, gid: 6, mode: 0o620 }),
        };
        world.plan.devices = vec![device.clone()];
        let (console, _) = world.run();
        assert_eq!(console, "620:5:6\nwritten\n1:3\n");
        world.plan.devices = vec![DevicePlan { minor: 5, owner: None, ..device }];
        let text = chain(&world.try_start().expect_err("null is not zero"));
        assert_eq!(text, "take /dev/null for the device 1:5: No such device (os error 19)");
    }
}

host_test! {
    fn sysctls_limits_and_clocks_are_the_containers_own() {
        let mut world = World::new(
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni; ulimit -n; \
             read up rest < /proc/uptime; [ ${up%.*} -gt 86400000 ] && echo later",
        );
        world.plan.sysctls = vec![
            ("net.ipv4.ip_forward".to_owned(), "1".to_owned()),
            ("kernel/shmmni".to_owned(), "4000".to_owned()),
        ];
        world.plan.limits = vec![LimitPlan { name: "nofile".to_owned(), soft: Some(123), hard: Some(456) }];
        world.plan.time = Some(TimePlan { monotonic: 0, boottime: 86_400_000 });
        let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("sysctl");
        let (console, _) = world.run();
        assert_eq!(console, "1\n4000\n123\nlater\n");
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("sysctl"), before);
    }
}

host_test! {
    fn a_limit_that_the_host_does_not_grant_is_said_and_a_sysctl_fails() {
        let mut world = World::new("exec sleep 1000");
        world.plan.limits = vec![LimitPlan { name: "nofile".to_owned(), soft: Some(1 << 40), hard: Some(1 << 40) }];
        let started = world.start();
        assert_eq!(started.warnings.len(), 1);
        assert!(started.warnings[0].starts_with("the host does not grant the limit nofile: "));
        world.running().kill(crate::world::PATIENCE).expect("killed");
        world.plan.sysctls = vec![("kernel.core_pattern".to_owned(), "|/x".to_owned())];
        let text = chain(&world.try_start().expect_err("it is the host's"));
        assert!(text.starts_with("set the sysctl kernel.core_pattern to |/x: "), "{text}");
    }
}

host_test! {
    fn a_privileged_container_runs_without_a_user_namespace() {
        let mut world = World::new("cat /proc/self/uid_map; touch /x; id -u");
        world.plan.ids = None;
        let (console, record) = world.run();
        assert_eq!(record.end, End::Code(0));
        assert_eq!(console.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295", "0"]);
    }
}
