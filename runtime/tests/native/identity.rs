//! Ids, clocks and the end of instances.

use manifests::action::{Power, Verb};
use manifests::kind::Kind;
use runtime::error::Class;
use runtime::runtime::{ExitStatus, Runtime as _};
use serde_json::json;

use crate::world::{World, pid};

runtime::host_test! {
    fn ids_are_mapped_as_the_manifest_says() {
        let home = tempfile::tempdir().expect("a folder of the host");
        std::fs::write(home.path().join("x"), "").expect("written");
        std::os::unix::fs::chown(home.path().join("x"), Some(1000), Some(50)).expect("given away");
        let mut world = World::new();
        let one = world.container("one", &json!({
            "security": {"idmap": {"size": 70000, "base": 3_000_000, "extra": ["both 1000 1000", "gid 50-51 500-501"]}},
            "devices": {"home": {"type": "disk", "source": home.path(), "path": "/home/x"}},
        }));
        assert_eq!(world.differences(), Vec::<String>::new());
        let map = |world: &World, address, file: &str| {
            let text = std::fs::read_to_string(format!("/proc/{}/{file}", pid(&world.look(address)))).expect("a map");
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(map(&world, &one, "uid_map"), ["0 3000000 1000", "1000 1000 1", "1001 3001001 68999"]);
        assert_eq!(map(&world, &one, "gid_map"),
            ["0 3000000 500", "500 50 2", "502 3000502 498", "1000 1000 1", "1001 3001001 68999"]);
        assert_eq!(world.run(&one, "test $(stat -c %u:%g /home/x/x) = 1000:500 && touch /own && test $(stat -c %u /own) = 0"), ExitStatus::Code(0));
        // Two that are not isolated from each other share their ids, and the last one gives them back.
        let together = json!({"security": {"idmap": {"isolated": false}}});
        let two = world.container_spec("two", &together);
        let three = world.container_spec("three", &together);
        world.perform(&two, Verb::Create);
        world.perform(&three, Verb::Create);
        assert_eq!(map(&world, &two, "uid_map"), map(&world, &three, "uid_map"));
        world.perform(&two, Verb::Delete);
        assert!(claims(&world).iter().any(|claim| claim.ends_with("/shared")));
        world.perform(&three, Verb::Delete);
        world.wanted.desired.resources.remove(&two);
        world.wanted.desired.resources.remove(&three);
        assert_eq!(claims(&world).len(), 1, "{:?}", claims(&world));
        // Maps that the kernel would refuse are told before anything is started.
        let bad = world.container_spec("bad", &json!({"security": {"idmap": {"extra": ["uid 5 5", "uid 6 5"]}}}));
        let (class, text) = world.tried(&bad, Verb::Create).expect_err("twice");
        assert!(class == Class::NeedsOperator && text.contains("id 5 of the instance is mapped twice"), "{text}");
        let taken = world.container_spec("taken", &json!({"security": {"idmap": {"base": 3_000_000}}}));
        let (class, text) = world.tried(&taken, Verb::Create).expect_err("taken");
        assert!(class == Class::NeedsOperator && text.contains("are claimed by"), "{text}");
    }
}

/// The owners of the ranges of ids that are claimed.
fn claims(world: &World) -> Vec<String> {
    let folder = world.state().parent().expect("a folder").join("claims");
    manifests::path_io::list(folder)
        .expect("claims")
        .iter()
        .map(|path| {
            std::fs::read_to_string(path)
                .expect("a claim")
                .trim()
                .to_owned()
        })
        .collect()
}

runtime::host_test! {
    fn clocks_of_a_time_namespace_are_ahead() {
        let mut world = World::new();
        let one = world.container("one", &json!({"timeNamespace": {"bootOffset": "1000d"}}));
        assert_eq!(world.differences(), Vec::<String>::new());
        assert_eq!(world.run(&one, "test $(cut -d. -f1 /proc/uptime) -gt 86400000"), ExitStatus::Code(0));
        // Another offset is in force after the next start, and says so until then.
        world.container_spec("one", &json!({"timeNamespace": {"bootOffset": "2000d"}}));
        world.mend();
        assert_eq!(world.look(&one).status["restartPending"], json!(["timeNamespace.bootOffset"]));
        world.perform(&one, Verb::Power { power: Power::Restart });
        assert_eq!(world.look(&one).status["restartPending"], json!([]));
        assert_eq!(world.run(&one, "test $(cut -d. -f1 /proc/uptime) -gt 172800000"), ExitStatus::Code(0));
    }
}

runtime::host_test! {
    fn an_ephemeral_instance_is_gone_when_it_stops() {
        let mut world = World::new();
        let one = world.container("one", &json!({"ephemeral": true}));
        assert_eq!(world.run(&one, "touch /mine"), ExitStatus::Code(0));
        // By itself: apply makes a new one, without what the old one had.
        world.kill_by_hand(&one);
        assert!(world.differences().contains(&"instance/one is not complete".to_owned()), "{:?}", world.differences());
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        assert_eq!(world.run(&one, "test ! -e /mine"), ExitStatus::Code(0));
        world.perform(&one, Verb::Power { power: Power::Restart });
        assert_eq!(world.run(&one, "touch /kept"), ExitStatus::Code(0));
        world.perform(&one, Verb::Power { power: Power::Kill });
        let seen = world.engine.observe().expect("observed");
        assert!(seen.items.iter().all(|item| item.address.kind != Kind::Instance));
    }
}

runtime::host_test! {
    fn an_instance_whose_definition_cannot_be_read_gets_no_twin_and_keeps_what_it_has() {
        let mut world = World::new();
        let lan = json!({"ipv4": {"address": "10.77.0.1/24"}, "ipv6": {"address": "none"}});
        let lan = world.want(Kind::Network, "lan", &lan);
        world.perform(&lan, Verb::Create);
        let nic = json!({"devices": {"eth0": {"type": "nic", "network": "lan"}}});
        let one = world.container("one", &nic);
        let uid = world.look(&one).status["uid"].as_str().expect("a uid").to_owned();
        let file = world.state().join("instances").join(uid).join("definition.json");
        let whole = std::fs::read_to_string(&file).expect("a definition");
        let unclear = || world.engine.observe().expect("observed").unclear;
        let mut spoiled: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
        spoiled["spec"]["limits"] = json!(7);
        std::fs::write(&file, spoiled.to_string()).expect("spoiled");
        let told = unclear();
        assert!(told.iter().any(|told| told.address == one && told.nameless.is_none()), "{told:?}");
        std::fs::write(&file, &whole[..40]).expect("cut short");
        let told = unclear();
        assert!(told.iter().any(|told| told.nameless.is_some()), "{told:?}");
        assert!(world.engine.look(&one).is_err());
        // Its address is not given to another, its rules stay in force.
        let rules = || {
            let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().expect("nft runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let before = rules();
        let two = world.container_spec("two", &nic);
        let (class, text) = world.tried(&two, Verb::Create).expect_err("the addresses of `one` are not known");
        assert!(class == runtime::error::Class::NeedsOperator && text.contains("definition.json"), "{class:?} {text}");
        assert!(world.tried(&lan, Verb::Update { changes: Vec::new() }).is_err());
        assert_eq!(rules(), before);
        std::fs::write(&file, &whole).expect("whole again");
        world.perform(&two, Verb::Create);
        assert_eq!(world.differences(), Vec::<String>::new());
        for address in [&one, &two, &lan] {
            world.perform(address, Verb::Delete);
        }
    }
}
