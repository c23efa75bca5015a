//! Fields that no other test changes by hand: seen under their own names, and put back.

use manifests::action::Verb;
use manifests::id::Address;
use manifests::kind::Kind;
use runtime::error::Class;
use runtime::runtime::ExitStatus;
use serde_json::{Value, json};

use crate::world::{World, by_hand, pid, shell};

/// Does something by hand, demands that it is seen at these fields and nowhere else, and has it put back.
#[track_caller]
fn seen_and_mended(world: &World, fields: &[&str], by_hand: &str) {
    shell(by_hand);
    let found = world.differences();
    for field in fields {
        let here = format!(" {field} ");
        assert!(
            found.iter().any(|line| line.contains(&here)),
            "{by_hand}: {field} in {found:?}"
        );
    }
    assert_eq!(found.len(), fields.len(), "{by_hand}: {found:?}");
    world.mend();
    assert_eq!(world.differences(), Vec::<String>::new(), "{by_hand}");
}

#[track_caller]
fn says(world: &World, one: &Address, script: &str) {
    assert_eq!(world.run(one, script), ExitStatus::Code(0), "{script}");
}

/// A network of both families and an instance on it, with more on top.
fn furnished(network: &Value, nic: &Value) -> (World, Address) {
    let mut world = World::new();
    let network = world.want(Kind::Network, "lan", network);
    world.perform(&network, Verb::Create);
    let mut eth0 = json!({"type": "nic", "network": "lan"});
    for (key, value) in nic.as_object().expect("a map") {
        eth0[key] = value.clone();
    }
    let one = world.container("one", &json!({"devices": {"eth0": eth0}}));
    assert_eq!(world.differences(), Vec::<String>::new());
    (world, one)
}

runtime::host_test! {
    fn rules_and_switches_are_seen_by_their_family() {
        let network = json!({
            "ipv4": {"address": "10.77.0.1/24"},
            "ipv6": {"address": "fd42:77::1/64"},
        });
        let (world, _) = furnished(&network, &json!({}));
        let table = "$(nft list tables | sed -n 's/^table inet //p')";
        let handle = |words: &str| format!(
            "nft delete rule inet {table} postrouting handle $(nft -a list table inet {table} | sed -n '/{words}/s/.* handle //p')"
        );
        seen_and_mended(&world, &["ipv6.nat"], &handle("ipv6 nat"));
        seen_and_mended(&world, &["ipv4.nat"], &handle("ipv4 nat"));
        seen_and_mended(&world, &["ipv4.firewall", "ipv6.firewall"], &format!("nft delete table bridge {table}"));
        seen_and_mended(&world, &["ipv6.routing"], "echo 0 >/proc/sys/net/ipv6/conf/lan/forwarding");
        seen_and_mended(&world, &["ipv4.routing"], "echo 0 >/proc/sys/net/ipv4/conf/lan/forwarding");
        seen_and_mended(&world, &["ipv4.routing", "ipv6.address", "ipv6.routing"], "ip link set lan down");
    }
}

runtime::host_test! {
    fn what_a_network_shall_not_do_is_seen_when_it_does() {
        let network = json!({
            "ipv4": {"address": "10.77.0.1/24", "nat": false, "firewall": false, "routing": false},
            "ipv6": {"address": "none"},
        });
        let (world, _) = furnished(&network, &json!({}));
        seen_and_mended(&world, &["ipv4.routing"], "echo 1 >/proc/sys/net/ipv4/conf/lan/forwarding");
        seen_and_mended(&world, &["ipv6.routing"], "echo 0 >/proc/sys/net/ipv6/conf/lan/disable_ipv6");
        // Nothing but the filters and the lock of the network is in its tables.
        seen_and_mended(&world, &["ipv4.firewall"], "nft flush ruleset");
    }
}

runtime::host_test! {
    fn routes_behind_an_interface_are_made_under_each_name_and_seen_when_they_go() {
        let network = json!({"ipv4": {"address": "10.77.0.1/24"}, "ipv6": {"address": "fd42:77::1/64", "stateful": true}});
        let (world, _) = furnished(&network, &json!({
            "routes": ["10.98.0.0/24"],
            "ipv4": {"address": "10.77.0.10", "routes": ["10.99.0.0/24"]},
            "ipv6": {"address": "fd42:77::10", "routes": ["fd42:99::/64"]},
        }));
        shell("test \"$(ip route show 10.99.0.0/24)\" && ip route show 10.99.0.0/24 | grep -q 'via 10.77.0.10 dev lan'");
        shell("ip -6 route show fd42:99::/64 | grep -q 'via fd42:77::10 dev lan'");
        seen_and_mended(&world, &["devices.eth0.routes"], "ip route delete 10.98.0.0/24");
        seen_and_mended(&world, &["devices.eth0.ipv4"], "ip route delete 10.99.0.0/24");
        seen_and_mended(&world, &["devices.eth0.ipv6"], "ip -6 route delete fd42:99::/64");
    }
}

/// What DHCP said, from within.
const ASK: &str = "ip link set eth0 up; printf '#!/bin/sh\\n[ \"$1\" = bound ] || exit 0\\necho got $ip dns $dns search $search domain $domain router $router >/said\\n' >/ask; \
                   chmod 755 /ask; udhcpc -i eth0 -n -q -f -t 5 -O search -s /ask >/dev/null 2>&1; cat /said";

runtime::host_test! {
    fn guests_are_told_what_the_network_says() {
        let network = json!({
            "ipv4": {"address": "10.77.0.1/24", "dhcp": {
                "ranges": ["10.77.0.50-10.77.0.50"],
                "gateway": "10.77.0.2",
                "reservations": [{"hwaddr": "10:66:6a:00:00:07", "address": "10.77.0.7", "name": "printer"}],
            }},
            "ipv6": {"address": "fd42:77::1/64", "stateful": true, "dhcp": {
                "reservations": [{"hwaddr": "10:66:6a:00:00:07", "address": "fd42:77::7"}],
            }},
            "dns": {"domain": "office", "nameservers": ["192.0.2.53", "2001:db8::53"], "search": ["example.org"], "hosts": {"db": "10.77.0.9"}},
        });
        let (mut world, one) = furnished(&network, &json!({}));
        says(&world, &one, &format!("{ASK}; grep -q 'got 10.77.0.50 dns 192.0.2.53 search example.org domain office router 10.77.0.2' /said"));
        // Also who asks nobody.
        says(&world, &one, "printf 'nameserver 192.0.2.53\\nnameserver 2001:db8::53\\nsearch office example.org\\n' | cmp - <<EOF\n$(grep -v '^#' /etc/resolv.conf)\nEOF");
        says(&world, &one, "ip addr add 10.77.0.50/24 dev eth0 2>/dev/null; ping -c1 -W2 10.77.0.1 >/dev/null");
        for (name, address) in [("printer", "10.77.0.7"), ("printer", "fd42:77::7"), ("db.office", "10.77.0.9"), ("one.office", "10.77.0.50")] {
            says(&world, &one, &format!("nslookup {name} 10.77.0.1 | grep -q '{address}$'"));
        }
        // There was one address to give.
        let two = world.container_spec("two", &json!({"state": "Stopped", "devices": {"eth0": {"type": "nic", "network": "lan"}}}));
        let (class, text) = world.tried(&two, Verb::Create).expect_err("none is left");
        assert!(class == Class::NeedsOperator && text.contains("no address of network lan is left for eth0"), "{text}");
    }
}

runtime::host_test! {
    fn who_is_killed_first_is_seen_whatever_is_wanted() {
        let mut world = World::new();
        let one = world.container("one", &json!({}));
        let init = pid(&world.look(&one));
        seen_and_mended(&world, &["limits.memoryOomPriority"], &format!("echo 300 >/proc/{init}/oom_score_adj"));
        shell(&format!("test $(cat /proc/{init}/oom_score_adj) = 0"));
    }
}

runtime::host_test! {
    fn device_rules_by_hand_are_seen() {
        let mut world = World::new();
        let one = world.container("one", &json!({}));
        let init = pid(&world.look(&one));
        // On cgroup 2 a program holds the rules: without the note of what it was made of it might be anybody's.
        let noted = format!(
            "for root in /sys/fs/cgroup /sys/fs/cgroup/unified; do home=$root$(sed -n 's/^0:://p' /proc/{init}/cgroup)/..; \
             python3 -c 'import os,sys; os.removexattr(sys.argv[1], \"user.keel.devices\")' $home 2>/dev/null && exit 0; done; exit 1"
        );
        let by_program = std::process::Command::new("sh").args(["-c", &noted]).status().expect("sh").success();
        if !by_program {
            assert!(by_hand(init, "devices.allow", "b 8:* rwm"));
        }
        seen_and_mended(&world, &["security.deviceAccess"], "true");
    }
}

runtime::host_test! {
    fn an_interface_without_ipv6_has_none_and_one_with_dhcp_has_its_own() {
        let network = |stateful: bool| json!({"ipv4": {"address": "10.77.0.1/24"}, "ipv6": {"address": "fd42:77::1/64", "stateful": stateful}});
        let (mut world, one) = furnished(&network(false), &json!({"ipv6": "none"}));
        let own = "own=$(ip -6 addr show dev eth0 | grep -v tentative | sed -n 's/.*inet6 \\(fd42:77:[^/]*\\).*/\\1/p')";
        says(&world, &one, &format!("for i in $(seq 100); do {own}; test \"$own\" && exit 0; usleep 100000; done; exit 1"));
        says(&world, &one, &format!("{own}; ! ping -6 -c1 -W1 -I $own fd42:77::1 >/dev/null"));
        world.container_spec("one", &json!({"devices": {"eth0": {"type": "nic", "network": "lan"}}}));
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        says(&world, &one, &format!("{own}; ping -6 -c5 -W5 -I $own fd42:77::1 >/dev/null"));
        // What DHCP gives is reserved, so that the filter knows it and the name leads to it.
        world.want(Kind::Network, "lan", &network(true));
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        says(&world, &one, &format!("{own}; nslookup one.keel 10.77.0.1 | grep -q \"$own\" && ping -6 -c5 -W5 -I $own fd42:77::1 >/dev/null"));
    }
}
