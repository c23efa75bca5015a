//! Networks, and instances that change theirs.

use manifests::action::Verb;
use manifests::id::Address;
use manifests::kind::Kind;
use runtime::runtime::Runtime as _;
use serde_json::{Value, json};

use crate::world::{World, pid, shell};

fn lan(world: &mut World, name: &str, subnet: &str, more: &Value) -> Address {
    let mut spec = json!({"ipv4": {"address": subnet}, "ipv6": {"address": "none"}});
    spec["bridge"] = more.clone();
    world.want(Kind::Network, name, &spec)
}

/// Names of the host's links, but for the loopback.
fn links() -> Vec<String> {
    manifests::path_io::list("/sys/class/net")
        .expect("links")
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| name != "lo")
        .collect()
}

runtime::host_test! {
    fn an_interface_moves_to_another_network_and_leaves_while_its_instance_runs() {
        let mut world = World::new();
        let one = lan(&mut world, "lan", "10.77.0.1/24", &json!({}));
        let two = lan(&mut world, "lan2", "10.78.0.1/24", &json!({}));
        for network in [&one, &two] {
            world.perform(network, Verb::Create);
        }
        let nics = |nics: &Value| json!({"devices": nics});
        let both = nics(&json!({
            "eth0": {"type": "nic", "network": "lan", "ipv4": "10.77.0.10"},
            "eth1": {"type": "nic", "network": "lan", "limits": {"egress": "10Mbit"}},
        }));
        let web = world.container("web", &both);
        assert_eq!(world.differences(), Vec::<String>::new());
        let before = links();
        let wanted = nics(&json!({"eth0": {"type": "nic", "network": "lan2", "ipv4": "10.78.0.10"}}));
        world.container_spec("web", &wanted);
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        // Two bridges and one pair: the second pair and its shaper went.
        assert_eq!((before.len(), links().len()), (5, 3), "{before:?} {:?}", links());
        assert!(!links().iter().any(|name| name.starts_with("kz")));
        let init = pid(&world.look(&web));
        shell(&format!("nsenter -t {init} -n ping -c1 -W2 10.78.0.1 >/dev/null"));

        // One that has ended by itself leaves no shaper behind either.
        world.container_spec("web", &both);
        world.mend();
        assert_eq!(links().len(), 5);
        world.kill_by_hand(&web);
        world.container_spec("web", &wanted);
        let changes = world.changes(&web).into_iter().filter(|change| change.path.as_str() != "/spec/state").collect();
        world.perform(&web, Verb::Update { changes });
        assert!(!links().iter().any(|name| name.starts_with("ki")), "{:?}", links());
        for address in [&web, &one, &two] {
            world.perform(address, Verb::Delete);
        }
    }
}

runtime::host_test! {
    fn interfaces_of_the_host_join_a_network_and_leave_it_and_a_missing_one_leaves_nothing() {
        let mut world = World::new();
        for name in ["eth8", "eth9"] {
            shell(&format!("ip link add {name} type veth peer name {name}p"));
        }
        shell("ip link delete eth9");
        let external = |names: &[&str]| json!({"externalInterfaces": names});
        let network = lan(&mut world, "lan", "10.77.0.1/24", &external(&["eth8", "eth9"]));
        let (_, text) = world.tried(&network, Verb::Create).expect_err("there is no eth9");
        assert!(text.contains("no interface eth9"), "{text}");
        assert_eq!(links(), ["eth8", "eth8p"]);
        shell("test -z \"$(nft list tables)\"");
        assert_eq!(world.engine.observe().expect("observed").items, []);

        lan(&mut world, "lan", "10.77.0.1/24", &external(&["eth8"]));
        world.perform(&network, Verb::Create);
        assert_eq!(world.differences(), Vec::<String>::new());
        let in_bridge = || std::path::Path::new("/sys/class/net/eth8/master").exists();
        assert!(in_bridge());
        shell("ip link set eth8p master lan");
        assert_eq!(world.look(&network).status["unexpectedInterfaces"], json!(["eth8p"]));
        lan(&mut world, "lan", "10.77.0.1/24", &external(&[]));
        world.perform(&network, Verb::Update { changes: Vec::new() });
        assert!(!in_bridge());
        assert_eq!(world.look(&network).status["unexpectedInterfaces"], json!(["eth8p"]));
        world.perform(&network, Verb::Delete);
        assert_eq!(links(), ["eth8", "eth8p"]);
    }
}

runtime::host_test! {
    fn dnsmasq_does_not_end_with_the_unit_that_called_keel() {
        let mut world = World::new();
        let network = lan(&mut world, "lan", "10.77.0.1/24", &json!({}));
        world.perform(&network, Verb::Create);
        let state = format!("{:08x}", std::process::id());
        let pid = std::fs::read_to_string(format!("/run/keel/{state}/network/lan/dnsmasq.pid")).expect("a pid file");
        let of = |pid: &str| std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).expect("cgroups");
        let ours = format!("/keel-{state}/networks");
        let managed = |line: &&str| line.contains("name=systemd") || line.starts_with("0::");
        let text = of(&pid);
        assert!(text.lines().filter(managed).all(|line| line.contains(&ours)), "{text}");
        assert!(text.contains(&ours), "{text}");
        // It stays there, and comes back there.
        shell(&format!("kill -9 {pid}"));
        world.mend();
        let pid = std::fs::read_to_string(format!("/run/keel/{state}/network/lan/dnsmasq.pid")).expect("a pid file");
        assert!(of(&pid).contains(&ours));
        world.perform(&network, Verb::Delete);
        shell(&format!("test -z \"$(find /sys/fs/cgroup -maxdepth 3 -name keel-{state})\""));
    }
}

runtime::host_test! {
    fn a_guest_with_too_many_addresses_hides_itself_and_nobody_else() {
        let mut world = World::new();
        let network = lan(&mut world, "lan", "10.77.0.1/24", &json!({}));
        world.perform(&network, Verb::Create);
        let nic = json!({"devices": {"eth0": {"type": "nic", "network": "lan", "ipv4": "10.77.0.10"}}});
        let one = world.container("one", &nic);
        let other = json!({"devices": {"eth0": {"type": "nic", "network": "lan", "ipv4": "10.77.0.11"}}});
        let two = world.container_spec("two", &other);
        world.perform(&two, Verb::Create);
        let init = pid(&world.look(&one));
        shell(&format!(
            "for a in $(seq 1 24); do for b in $(seq 1 250); do echo address add 172.16.$a.$b/32 dev eth0; done; done | nsenter -t {init} -n ip -batch -"
        ));
        let seen = world.engine.observe().expect("observed");
        assert_eq!(seen.unclear, []);
        for item in &seen.items {
            let unseen: Vec<_> = item.unseen.iter().map(|unseen| unseen.path.as_str()).collect();
            let hidden: &[&str] = if item.address == one { &["/spec/devices/eth0"] } else { &[] };
            assert_eq!(unseen, hidden, "{}", item.address);
        }
        // And what somebody else is in the way of is still mended.
        shell("nft flush ruleset");
        world.mend();
        shell(&format!("nsenter -t {init} -n ip address flush dev eth0; nsenter -t {init} -n ip address add 10.77.0.10/24 dev eth0"));
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
    }
}
