//! The native engine as the floor above uses it: what is performed is seen, what is changed by hand is seen, what is
//! deleted is gone.

#![allow(
    clippy::disallowed_methods,
    clippy::type_complexity,
    reason = "a test changes the world by hand and waits for it"
)]

mod devices;
mod fields;
mod files;
mod identity;
mod images;
mod networks;
mod restart;
mod world;

use std::path::Path;
use std::time::Duration;

use manifests::action::{Power, Verb};
use manifests::kind::Kind;
use runtime::runtime::{ExitStatus, Runtime as _};
use serde_json::json;

use self::world::{World, by_hand, host_link, pid, shell};

runtime::host_test! {
    fn what_is_wanted_is_made_seen_mended_and_removed() {
        let mut world = World::new();
        let treasure = tempfile::tempdir().expect("a folder of the host");
        std::fs::write(treasure.path().join("precious"), "gold").expect("written");
        let pool = world.want(Kind::StoragePool, "fast", &json!({}));
        let network = world.want(Kind::Network, "lan", &json!({
            "ipv4": {"address": "10.77.0.1/24"}, "ipv6": {"address": "none"}}));
        let image = world.want(Kind::Image, "busybox", &json!({"source": {"builtin": "busybox"}}));
        let instance = |address: &str| json!({
            "image": "busybox",
            "state": "Running",
            "limits": {"memory": "64MiB", "processes": 100, "cpu": 1},
            "files": {"/etc/motd": {"content": "hello\n", "enforce": true}},
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": "fast"},
                "data": {"type": "disk", "source": treasure.path(), "path": "/data", "shift": true},
                "eth0": {"type": "nic", "network": "lan", "ipv4": address},
            },
        });
        let one = world.want(Kind::Instance, "one", &instance("10.77.0.10"));
        let two = world.want(Kind::Instance, "two", &instance("10.77.0.11"));
        for address in [&pool, &network, &image, &one, &two] {
            world.perform(address, Verb::Create);
        }
        assert_eq!(world.differences(), Vec::<String>::new());
        assert_eq!(world.run(&one, "ping -c1 -W2 10.77.0.11 >/dev/null"), ExitStatus::Code(0));
        assert_eq!(world.run(&one, "test \"$(cat /data/precious)\" = gold"), ExitStatus::Code(0));
        assert_eq!(world.run(&one, "exit 7"), ExitStatus::Code(7));

        let init = pid(&world.look(&one));
        let link = host_link(&world, &one);
        let cases: Vec<(&str, Box<dyn Fn() + '_>)> = vec![
            ("limits.memory", Box::new(|| assert!(by_hand(init, "memory.limit_in_bytes", "128M") || by_hand(init, "memory.max", "128M")))),
            ("limits.processes", Box::new(|| assert!(by_hand(init, "pids.max", "50")))),
            ("devices.eth0", Box::new(|| shell(&format!("ip link delete {link}")))),
            ("devices.eth0.connected", Box::new(|| shell(&format!("ip link set {link} down")))),
            ("devices.eth0.ipv4", Box::new(|| shell(&format!("nsenter -t {init} -n ip address flush dev eth0")))),
            ("ipv4.address", Box::new(|| shell("ip address del 10.77.0.1/24 dev lan"))),
            ("ipv4.nat", Box::new(|| shell("nft flush ruleset"))),
            ("ipv4.dhcp.enabled", Box::new(|| {
                let text = std::process::Command::new("pgrep").args(["--ns", &std::process::id().to_string(), "--nslist", "net", "dnsmasq"]).output().expect("pgrep");
                let pids = String::from_utf8(text.stdout).expect("pids");
                assert_eq!(pids.lines().count(), 1, "{pids:?}");
                shell(&format!("kill -9 {pids}"));
            })),
            ("files./etc/motd.content", Box::new(|| shell(&format!("nsenter -t {init} -m -U -S 0 -G 0 /bin/sh -c 'echo bye >/etc/motd'")))),
            ("devices.data", Box::new(|| shell(&format!("nsenter -t {init} -m umount /data")))),
            ("state", Box::new(|| world.perform(&one, Verb::Power { power: Power::Freeze }))),
        ];
        for (field, deed) in cases {
            deed();
            let found = world.differences();
            assert!(found.iter().any(|line| line.contains(&format!(" {field} "))), "{field} by hand is seen: {found:?}");
            if field == "state" {
                world.perform(&one, Verb::Power { power: Power::Unfreeze });
            } else {
                world.mend();
            }
            assert_eq!(world.differences(), Vec::<String>::new(), "after mending {field}");
        }
        shell(&format!("kill -9 {init}"));
        // The signal is sent; the process ends in its own time.
        let began = std::time::Instant::now();
        while !world.differences().iter().any(|line| line.contains("state \"Stopped\"")) {
            assert!(began.elapsed().as_secs() < 10, "{:?}", world.differences());
        }
        let exit = world.look(&one).status["lastExit"].clone();
        assert_eq!(exit["signal"], json!(9), "{exit}");
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new(), "after init was killed");
        assert_eq!(world.run(&two, "ping -c1 -W2 10.77.0.10 >/dev/null"), ExitStatus::Code(0));

        for address in [&two, &one, &network, &image, &pool] {
            world.perform(address, Verb::Delete);
        }
        assert_eq!(std::fs::read_to_string(treasure.path().join("precious")).expect("still there"), "gold");
        let left = world.engine.observe().expect("observed");
        assert_eq!(left.items, []);
        let state_id = format!("{:08x}", std::process::id());
        for line in std::fs::read_to_string("/proc/mounts").expect("mounts").lines() {
            assert!(!line.contains(&state_id), "left mounted: {line}");
        }
        let mut links: Vec<_> = Vec::new();
        for _ in 0..100 {
            links = manifests::path_io::list("/sys/class/net").expect("links");
            if links.len() == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(links, [Path::new("/sys/class/net/lo")]);
        shell(&format!("! find /sys/fs/cgroup -maxdepth 2 -name 'keel-{state_id}' | grep ."));
    }
}

runtime::host_test! {
    fn it_does_what_every_engine_must() {
        let world = World::new();
        runtime::testing::conformance::conforms(&world.engine, &world.state(), "conf", 77);
    }
}
