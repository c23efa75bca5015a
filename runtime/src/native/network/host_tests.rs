//! Networks on a real kernel: each test has a network namespace of its own as its host.
#![expect(
    clippy::disallowed_methods,
    reason = "guests of tests are plain processes in namespaces of their own"
)]

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use super::addresses::{guest_hwaddr, host_interface};
use super::dnsmasq::DnsmasqSeen;
use super::nft::FirewallSeen;
use super::port::Attached;
use super::*;
use crate::sys::netlink::{Connection, LinkChange};

/// Runs a shell line and answers whether it succeeded, with what it said.
fn shell(line: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// As [`shell`], and it must succeed.
#[track_caller]
fn done(line: &str) -> String {
    let (success, said) = shell(line);
    assert!(success, "{line}: {said}");
    said
}

/// A process in a network namespace of its own, killed at the end.
struct Guest(Child);

impl Guest {
    fn start() -> Self {
        // `unshare` execs, so the number stays; the shell's answer says that the namespace is there.
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 300"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn namespace(&self) -> Namespace {
        Namespace::of_process(self.0.id()).unwrap()
    }

    fn shell(&self, line: &str) -> (bool, String) {
        shell(&format!(
            "nsenter --net=/proc/{}/ns/net -- sh -c '{line}'",
            self.0.id()
        ))
    }

    #[track_caller]
    fn done(&self, line: &str) -> String {
        let (success, said) = self.shell(line);
        assert!(success, "{line}: {said}");
        said
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A driver with its folders; removes its networks at the end, also of a failed test.
struct World {
    driver: Bridge,
    _state: tempfile::TempDir,
    networks: Vec<(String, String)>,
}

impl World {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        Self {
            driver: Bridge::new(NetworkHost {
                state_id: "0a1b2c3d".to_owned(),
                state: state.path().join("network"),
                run: "/run/keel/0a1b2c3d/network".into(),
                shared: "/run/keel/shared".into(),
            }),
            _state: state,
            networks: Vec::new(),
        }
    }

    fn ensure(&mut self, plan: &NetworkPlan) -> bool {
        self.networks
            .push((plan.interface.clone(), plan.mark.clone()));
        self.driver.ensure(plan).map_err(chain).unwrap()
    }

    fn seen(&self, plan: &NetworkPlan, guests: &Guests) -> NetworkSeen {
        self.driver.seen(plan, guests).map_err(chain).unwrap()
    }

    fn attach(&self, plan: &NetworkPlan, number: usize, guest: &Guest) -> Attached {
        let port = &plan.ports[number];
        self.driver
            .attach(plan, port, &guest.namespace())
            .map_err(chain)
            .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (interface, mark) in &self.networks {
            let _ = self.driver.remove(interface, mark);
        }
    }
}

/// An error with all its sources in one line.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

fn port(name: &str, address: [u8; 4]) -> PortPlan {
    PortPlan {
        mark: format!("keel:main:{name}:eth0"),
        instance: name.to_owned(),
        host_interface: host_interface(name, "eth0"),
        hwaddr: guest_hwaddr(name, "eth0", &BTreeSet::new()),
        ipv4: Some(address.into()),
        ipv6: None,
        guest_interface: "eth0".to_owned(),
        mtu: None,
        isolated: false,
        filtering: Filtering {
            mac: true,
            ipv4: true,
            ipv6: true,
        },
        limits: RateLimits::default(),
        routes: Vec::new(),
        connected: true,
    }
}

fn network(interface: &str, ports: Vec<PortPlan>) -> NetworkPlan {
    NetworkPlan {
        mark: format!("keel:main:0192:{interface}"),
        interface: interface.to_owned(),
        ipv4: Some(Ipv4Plan {
            address: "10.20.0.1/24".parse().unwrap(),
            nat: true,
            nat_address: None,
            dhcp: Some(Dhcp4Plan {
                ranges: Vec::new(),
                expiry: 3600,
                gateway: None,
            }),
            firewall: true,
            routing: true,
            routes: Vec::new(),
        }),
        ipv6: None,
        dns: DnsPlan {
            domain: "keel.internal".to_owned(),
            mode: DnsMode::Managed,
            nameservers: vec!["192.0.2.2".parse().unwrap()],
            search: Vec::new(),
            hosts: vec![("printer".to_owned(), vec!["10.20.0.200".parse().unwrap()])],
        },
        mtu: None,
        hwaddr: None,
        external_interfaces: Vec::new(),
        multicast_snooping: true,
        reservations: Vec::new(),
        ports,
    }
}

fn fixed(address: &str, gateway: &str) -> GuestPlan {
    GuestPlan {
        addresses: vec![address.parse().unwrap()],
        gateways: vec![gateway.parse().unwrap()],
        routes: Vec::new(),
    }
}

/// A script for udhcpc that does the least.
const UDHCPC: &str = r#"#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "got $ip for $lease router $router dns $dns domain $domain"
"#;

/// What is wrong with a network that was just made; nothing, it is hoped.
#[track_caller]
fn assert_as_planned(world: &World, plan: &NetworkPlan, guests: &Guests) {
    let seen = world.seen(plan, guests);
    assert_eq!(seen.owner, LinkOwner::Ours);
    assert_eq!(seen.firewall, FirewallSeen::Same);
    assert!(
        matches!(seen.dnsmasq, Some(DnsmasqSeen::Running { .. })),
        "{seen:?}"
    );
    assert_eq!(seen.stale_reservations, [""; 0]);
    assert_eq!(seen.forwarding, []);
    let bridge = seen.bridge.unwrap();
    assert!(bridge.up, "{bridge:?}");
    let mut wanted: Vec<IpNet> = Vec::new();
    wanted.extend(plan.ipv4.as_ref().map(|ip| IpNet::V4(ip.address)));
    wanted.extend(plan.ipv6.as_ref().map(|ip| IpNet::V6(ip.address)));
    assert_eq!(bridge.addresses, wanted);
    assert_eq!(bridge.unexpected_ports, [""; 0]);
    for port in plan
        .ports
        .iter()
        .filter(|p| guests.contains_key(&p.host_interface))
    {
        let seen = &seen.ports[&port.host_interface];
        assert_eq!(seen.owner, LinkOwner::Ours);
        assert!(seen.in_bridge && seen.up && seen.carrier, "{seen:?}");
        assert_eq!(seen.isolated, port.isolated);
        let guest = seen.guest.as_ref().unwrap();
        assert_eq!(guest.interface, port.guest_interface);
        assert_eq!(guest.hwaddr, Some(port.hwaddr));
        assert!(guest.up);
    }
}

/// Nothing but the loopback, no rule, no process.
#[track_caller]
fn assert_empty_host() {
    let links: Vec<String> = Connection::open()
        .unwrap()
        .links()
        .unwrap()
        .into_iter()
        .map(|l| l.name)
        .collect();
    assert_eq!(links, ["lo"]);
    assert_eq!(done("nft list ruleset"), "");
    assert_eq!(shell("find /run/keel -type f").1, "");
}

crate::host_test! {
    fn guests_reach_each_other_and_names_and_the_outside() {
        let mut world = World::new();
        let outside = Guest::start();
        done(&format!("ip link add up0 type veth peer name eth0 netns {} && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up", outside.0.id()));
        outside.done("ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up");
        let plan = network("lan", vec![port("web-1", [10, 20, 0, 10]), port("web-2", [10, 20, 0, 11])]);
        assert!(world.ensure(&plan));
        let (one, two) = (Guest::start(), Guest::start());
        assert_eq!(world.attach(&plan, 0, &one), Attached::Made);
        assert_eq!(world.attach(&plan, 1, &two), Attached::Made);
        assert_eq!(world.attach(&plan, 1, &two), Attached::Kept);
        port::configure_guest(&one.namespace(), "eth0", &fixed("10.20.0.10/24", "10.20.0.1")).unwrap();

        // The other one by DHCP: the reserved address.
        let script = world._state.path().join("udhcpc.sh");
        manifests::path_io::write(&script, UDHCPC).unwrap();
        let said = two.done(&format!("chmod 755 {0}; ip link set eth0 up; busybox udhcpc -i eth0 -n -q -f -t 5 -s {0}", script.display()));
        assert!(said.contains("got 10.20.0.11 for 3600 router 10.20.0.1 dns 10.20.0.1 domain keel.internal"), "{said}");
        one.done("ping -c 1 -W 2 10.20.0.11");
        two.done("ping -c 1 -W 2 10.20.0.10");

        // Names.
        for name in ["web-1", "web-2.keel.internal", "printer.keel.internal"] {
            let said = one.done(&format!("busybox nslookup {name} 10.20.0.1"));
            let address = match name { "web-1" => "10.20.0.10", "printer.keel.internal" => "10.20.0.200", _ => "10.20.0.11" };
            assert!(said.contains(address), "{said}");
        }
        // The zone is ours: nobody outside is asked.
        assert!(one.shell("busybox nslookup nobody.keel.internal 10.20.0.1").1.contains("NXDOMAIN"));

        // The outside sees the host's address, for it knows no way back to the guest's.
        let (reached, said) = one.shell("ping -c 1 -W 2 192.0.2.2");
        assert!(reached, "{said}\n{}", done("nft list ruleset; sysctl -a 2>/dev/null | grep -E \"\\.forwarding|ip_forward\""));
        assert_eq!(done("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
        assert_eq!(done("cat /proc/sys/net/ipv4/conf/up0/forwarding").trim(), "1");

        let guests = Guests::from([
            (plan.ports[0].host_interface.clone(), one.namespace()),
            (plan.ports[1].host_interface.clone(), two.namespace()),
        ]);
        assert_as_planned(&world, &plan, &guests);
        assert!(!world.ensure(&plan), "a second time there is nothing to do");

        drop((one, two));
        world.driver.remove("lan", &plan.mark).map_err(chain).unwrap();
        assert_eq!(done("cat /proc/sys/net/ipv4/conf/up0/forwarding").trim(), "0");
        done("ip link del up0");
        wait_until("links of dead guests go", || Connection::open().unwrap().links().unwrap().len() == 1);
        assert_empty_host();
    }
}

/// Waits for what the kernel does in the background, at most ten seconds.
#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what}: not within ten seconds; {}", done("ip -d link"));
}
