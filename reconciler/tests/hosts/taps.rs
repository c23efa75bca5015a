//! What limits the interface of a machine on a bridge: in force both ways, seen when it is gone, changed while it runs.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::guest::{Guest, PATIENCE};
use crate::machines::{machine, world};
use crate::world::shell;

/// So much goes each way.
const SENT: usize = 1_000_000;
/// Where the guest listens.
const PORT: u16 = 9000;

fn limited(limits: &str) -> String {
    let nic = format!("network: lan, limits: {{ {limits} }} }}");
    machine("vm", "256MiB", "").replace("network: lan }", &nic)
}

/// The rates of all links of a kind, as `tc` tells them.
fn rates(kind: &str) -> String {
    shell(&format!(
        "ip -o link show type {kind} | cut -d: -f2 | cut -d@ -f1 | while read -r link; do tc qdisc show dev $link | grep -o 'rate [^ ]*' || true; done"
    ))
}

fn connected(address: &str) -> TcpStream {
    let began = Instant::now();
    loop {
        match TcpStream::connect((address, PORT)) {
            Ok(stream) => return stream,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

runtime::own_processes_test! {
    fn the_interface_of_a_machine_is_limited_both_ways() {
        let world = world("initrd");
        world.write("vm.yaml", &limited("ingress: 4Mbit, egress: 8Mbit"));
        world.converge();
        assert_eq!((rates("tun").as_str(), rates("ifb").as_str()), ("rate 4Mbit\n", "rate 8Mbit\n"));
        let mut guest = Guest::of(&world, "vm");
        let own = guest.wait_for("ip -4 -o addr show dev eth0", "10.78.0.");
        let address = own.split_whitespace().find_map(|word| word.strip_suffix("/24")).expect("an address").to_owned();

        // Out of the guest: 8 Mbit take a second at that rate, of which the bucket gives some away.
        guest.run(&format!("(head -c {SENT} /dev/zero | nc -l -p {PORT}) >/dev/null 2>&1 &"));
        let mut stream = connected(&address);
        let began = Instant::now();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("what the guest sends");
        assert_eq!(all.len(), SENT);
        assert!(began.elapsed() > Duration::from_millis(600), "out in {:?}", began.elapsed());
        // Into it, at half of that.
        guest.run(&format!("(nc -l -p {PORT} | wc -c >/tmp/count) >/dev/null 2>&1 &"));
        let mut stream = connected(&address);
        let began = Instant::now();
        stream.write_all(&all).expect("the guest takes it");
        stream.shutdown(Shutdown::Write).expect("the end");
        guest.wait_for("cat /tmp/count", &SENT.to_string());
        assert!(began.elapsed() > Duration::from_millis(1200), "in in {:?}", began.elapsed());
        world.nothing_to_do();
        let pid = world.init("vm");

        // Somebody takes them away.
        shell("for link in $(ip -o link show | grep -oE ': (k[a-z0-9]+)' | cut -c3-); do tc qdisc del dev $link root 2>/dev/null || true; done");
        assert_eq!((rates("tun").as_str(), rates("ifb").as_str()), ("", ""));
        let drift = world.keel(&["drift"]).with(0);
        for field in ["ingress", "egress"] {
            assert!(drift.stdout.contains(field), "{}", drift.stdout);
        }
        world.converge();
        assert_eq!((rates("tun").as_str(), rates("ifb").as_str()), ("rate 4Mbit\n", "rate 8Mbit\n"));

        // Others, and none.
        world.write("vm.yaml", &limited("max: 2Mbit"));
        world.converge();
        assert_eq!((rates("tun").as_str(), rates("ifb").as_str()), ("rate 2Mbit\n", "rate 2Mbit\n"));
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        assert_eq!((rates("tun").as_str(), rates("ifb").as_str()), ("", ""));
        assert_eq!(shell("ip -o link show type ifb"), "");
        assert_eq!(world.init("vm"), pid, "it was not restarted");
        drop(guest);
        world.destroy();
    }
}
