//! What others have on the host: it survives byte for byte, and keel refuses what would be in its way.

use std::path::{Path, PathBuf};

use crate::footprint;
use crate::world::{TWO, TestWorld, shell};

/// A bridge with an address, tables, forwarding and a dnsmasq of somebody else.
fn furnish() -> String {
    shell(
        "ip link add br-other type bridge
         ip link set br-other alias theirs up
         ip addr add 10.66.0.1/24 dev br-other
         nft -f - <<END
         table ip nat { chain post { type nat hook postrouting priority 100; oifname \"eth9\" masquerade; }; }
         table inet filter { set friends { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }
           chain forward { type filter hook forward priority 0; policy accept; ip saddr @friends accept; }; }
         table inet keel_deadbeef_lan { chain mine { ip saddr 192.0.2.9 drop; }; }
END
         dnsmasq --conf-file=/dev/null --pid-file=/run/theirs.pid --bind-interfaces --interface=br-other --except-interface=lo --no-hosts --no-resolv --user=root --listen-address=10.66.0.1
         cat /run/theirs.pid",
    )
    .trim()
    .to_owned()
}

/// All of it as text. Their dnsmasq is named by its process.
fn theirs(dnsmasq: &str) -> String {
    shell(&format!(
        "ip addr show dev br-other | grep -v -e valid_lft -e ' fe80' -e inet6
         for table in 'ip nat' 'inet filter' 'inet keel_deadbeef_lan'; do nft -s -a list table $table; done
         cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/br-other/forwarding /proc/sys/net/ipv6/conf/all/forwarding
         tr '\\0' ' ' </proc/{dnsmasq}/cmdline"
    ))
}

/// A cgroup beside those of this state folder's instances.
fn cgroup_beside(world: &TestWorld) -> PathBuf {
    let id = manifests::path_io::read_to_string(world.state().join("id")).expect("an identity");
    let unified = Path::new("/sys/fs/cgroup/unified");
    let root = if unified.is_dir() {
        unified
    } else {
        Path::new("/sys/fs/cgroup")
    };
    let folder = root.join(format!("keel-{}/theirs", id.trim()));
    std::fs::create_dir_all(&folder).expect("a cgroup");
    folder
}

runtime::own_processes_test! {
    fn what_others_have_is_the_same_after_an_apply_and_a_destroy() {
        let world = TestWorld::furnished();
        let dnsmasq = furnish();
        let before = theirs(&dnsmasq);
        world.keel(&["plan"]).with(0);
        let cgroup = cgroup_beside(&world);
        world.converge();
        assert_eq!(theirs(&dnsmasq), before);

        // A network that would take their bridge is held, and nothing of it is made.
        world.write("other.yaml", "apiVersion: evenkeel/v1\nkind: Network\nmetadata:\n  name: br-other\nspec:\n  ipv4: { address: 10.66.0.1/24 }\n");
        let held = world.keel(&["apply", "--yes"]);
        assert!([Some(4), Some(7)].contains(&held.code), "{held:?}");
        let page = world.keel(&["plan"]);
        assert!(page.stdout.contains("br-other") && page.stdout.contains("G104"), "{page:?}");
        assert_eq!(theirs(&dnsmasq), before);
        world.unwrite("other.yaml");

        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        assert_eq!(theirs(&dnsmasq), before);
        assert!(cgroup.is_dir(), "their cgroup is there");
        std::fs::remove_dir(&cgroup).expect("their cgroup");
        // Its folder above stayed for it alone.
        let _gone_already = std::fs::remove_dir(cgroup.parent().expect("above"));
        shell(&format!("kill {dnsmasq}; ip link delete br-other; nft flush ruleset; rm -f /run/theirs.pid"));
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn a_subnet_that_the_host_routes_is_refused_and_nothing_is_half_made() {
        let world = TestWorld::furnished();
        world.write("one.yaml", "");
        world.write("two.yaml", "");
        for (route, other) in [
            ("ip route add 10.77.0.0/16 dev up0", "10.77.0.0/16"),
            ("ip addr add 10.77.0.9/24 dev up0", "10.77.0.0/24"),
        ] {
            shell(&format!("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up; {route}"));
            let words = format!("overlaps {other} on up0");
            world.keel(&["apply", "--yes"]).with(7).saying(&words);
            assert!(!shell("ip -o link").contains(" lan:"), "no bridge is left");
            assert_eq!(shell("nft list ruleset"), "");
            assert!(footprint::processes().iter().all(|pid| !footprint::command_line(*pid).contains("dnsmasq")));
            shell("ip link delete up0");
        }
        world.converge();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_name_moves_with_a_rename_and_the_address_stays() {
        let world = TestWorld::furnished();
        let dynamic = TWO.replace(", ipv4: 10.77.0.11", "");
        world.write("two.yaml", &dynamic);
        world.converge();
        let ask = |name: &str| {
            let said = world.keel(&["exec", "one", "--", "nslookup", name, "10.77.0.1"]).stdout;
            let answer = said.rsplit("Name:").next().unwrap_or_default().to_owned();
            let address = answer.split("Address:").nth(1).and_then(|rest| rest.split_whitespace().next());
            address.filter(|address| address.starts_with("10.77.0.") && said.contains("Name:")).map(str::to_owned)
        };
        let before = ask("two.keel").expect("two has an address");
        assert_eq!(ask("zwei.keel"), None);
        world.write("two.yaml", &dynamic.replace("name: two", "name: zwei\n  previousNames: [two]"));
        world.converge();
        assert_eq!(ask("zwei.keel"), Some(before.clone()));
        assert_eq!(ask("two.keel"), None);
        // Also after both have started again.
        world.keel(&["restart", "zwei"]).with(0);
        assert_eq!(ask("zwei.keel"), Some(before));
        world.nothing_to_do();
        world.destroy();
    }
}
