//! Interfaces of machines on the wire of a link of the host: reached, plugged while they run, mended, removed.

use crate::guest::Guest;
use crate::machines::{machine, world};
use crate::world::shell;

const WAN: &str =
    "    wan: { type: nic, nicType: macvlan, parent: wire, limits: { max: 20Mbit } }\n";

runtime::own_processes_test! {
    fn a_machine_is_on_the_wire_of_a_link_of_the_host() {
        // What is at the other end of the wire is at hand: the parent itself has no address.
        shell("ip link add wire type veth peer name far && ip link add spare type veth peer name spare2");
        // Addresses that the kernel gives them some time later would look like something left behind.
        shell("for one in wire far spare spare2; do ip link set $one addrgenmode none up; done; ip addr add 10.99.0.1/24 dev far");
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", WAN));
        world.converge();
        let wire = || shell("ip -o -d link show type macvtap");
        assert!(wire().contains("@wire:"), "{}", wire());
        let mut guest = Guest::of(&world, "vm");
        let reach = |guest: &mut Guest, device: &str| {
            guest.run(&format!("ip link set {device} up; ip addr add 10.99.0.2/24 dev {device}; ping -c 1 -W 5 10.99.0.1"));
        };
        let wan = guest.run("cd /sys/class/net; for one in *; do [ $one = lo ] || ip -4 -o addr show dev $one | grep -q 10.78 || echo $one; done");
        reach(&mut guest, wan.trim());
        world.nothing_to_do();
        let pid = world.init("vm");

        // Deleted behind git's back.
        let name = || wire().split(['@', ' ']).nth(1).expect("its name").to_owned();
        shell(&format!("ip link del {}", name()));
        let drift = world.keel(&["drift"]).with(0);
        assert!(drift.stdout.contains("wan"), "{}", drift.stdout);
        world.converge();
        assert!(wire().contains("@wire:"), "{}", wire());
        let wan = guest.run("cd /sys/class/net; for one in *; do [ $one = lo ] || ip -4 -o addr show dev $one | grep -q 10.78 || echo $one; done");
        reach(&mut guest, wan.trim());
        // Another address of the link: nothing would reach the guest any more.
        shell(&format!("ip link set {} address 02:00:00:00:00:09", name()));
        let drift = world.keel(&["drift"]).with(0);
        assert!(drift.stdout.contains("02:00:00:00:00:09"), "{}", drift.stdout);
        world.converge();

        // Onto another wire, and out.
        world.write("vm.yaml", &machine("vm", "256MiB", &WAN.replace("parent: wire", "parent: spare")));
        world.converge();
        assert!(wire().contains("@spare:"), "{}", wire());
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        assert_eq!(wire(), "");
        world.write("vm.yaml", &machine("vm", "256MiB", WAN));
        world.converge();
        assert!(wire().contains("@wire:"), "{}", wire());
        assert_eq!(world.init("vm"), pid, "it was not restarted");

        // What cannot be is said before anything is done.
        for (parent, words) in [
            ("parent: wire, isolated: true", "only ports of bridges are isolated"),
            ("parent: wrie", "this host has no interface wrie"),
            ("parent: wrie", "did you mean `wire`?"),
        ] {
            world.write("vm.yaml", &machine("vm", "256MiB", &WAN.replace("parent: wire", parent)));
            let refused = world.keel(&["plan"]).with(3);
            assert!(refused.stderr.contains(words), "{}", refused.stderr);
        }
        world.write("vm.yaml", &machine("vm", "256MiB", WAN));

        drop(guest);
        world.keel(&["stop", "vm", "--hold", "1h", "--reason", "test"]).with(0);
        assert_eq!(wire(), "", "it goes with the machine");
        world.keel(&["start", "vm"]).with(0);
        assert!(wire().contains("@wire:"), "{}", wire());
        world.destroy();
        assert_eq!(wire(), "");
        assert_eq!(shell("ip -o link show type ifb"), "");
    }
}
