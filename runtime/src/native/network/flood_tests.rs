//! Host tests: a guest that uses up the table of connections does not lock its neighbours out.
#![expect(
    clippy::disallowed_methods,
    reason = "guests of tests are plain processes in namespaces of their own"
)]

use std::process::Command;

use super::host_tests::{Guest, World, done, fixed, network, port};

/// Begins that many conversations, each from another port or to another one, and says how many.
const FLOOD: &str = r#"
import socket, sys
wanted, begun = int(sys.argv[1]), 0
for source in range(1024, 60000):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind(('0.0.0.0', source))
        for target in range(1, 9):
            try: out.sendto(b'x', ('192.0.2.2', target)); begun += 1
            except OSError: pass
    if begun >= wanted: break
print(begun)
"#;

fn number(path: &str) -> u64 {
    let text = manifests::path_io::read_to_string(path).expect("connections are tracked");
    text.trim().parse().expect("a number")
}

crate::host_test! {
    fn a_flood_of_connections_locks_nobody_out() {
        let mut world = World::new();
        let outside = Guest::start();
        done(&format!(
            "ip link add up0 type veth peer name eth0 netns {} && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up",
            outside.pid()
        ));
        outside.done("ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up");
        let plan = network("lan", vec![port("web-1", [10, 20, 0, 10]), port("web-2", [10, 20, 0, 11])]);
        world.ensure(&plan);
        let (one, two) = (Guest::start(), Guest::start());
        for (index, guest) in [&one, &two].into_iter().enumerate() {
            world.attach(&plan, index, guest);
            let inside = fixed(&format!("10.20.0.{}/24", 10 + index), "10.20.0.1");
            super::port::configure_guest(&guest.namespace(), "eth0", &inside).expect("configured");
        }
        let most = number("/proc/sys/net/netfilter/nf_conntrack_max");
        let flood = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", one.pid()))
            .args(["python3", "-c", FLOOD, &(most + 10_000).to_string()])
            .output()
            .expect("python3 starts");
        assert!(flood.status.success(), "{}", String::from_utf8_lossy(&flood.stderr));
        let tracked = number("/proc/sys/net/netfilter/nf_conntrack_count");
        assert!(tracked >= most * 9 / 10, "{tracked} of {most} after {}", String::from_utf8_lossy(&flood.stdout));
        // What nobody answered makes room.
        for _ in 0..20 {
            two.done("ping -c 1 -W 2 192.0.2.2");
        }
        two.done("ping -c 1 -W 2 10.20.0.10");
        one.done("ping -c 1 -W 2 192.0.2.2");
    }
}
