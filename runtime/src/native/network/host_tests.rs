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
use crate::sys::netlink::Connection;

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

/// A process that is killed at the end, also of a failed test.
struct Kill(String);

impl Drop for Kill {
    fn drop(&mut self) {
        shell(&format!("kill -9 {}", self.0));
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

        // An open namespace lives, and its links with it.
        drop((guests, one, two));
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

crate::host_test! {
    fn every_change_by_hand_is_seen_and_mended() {
        let mut world = World::new();
        let plan = network("lan", vec![port("web-1", [10, 20, 0, 10])]);
        world.ensure(&plan);
        let guest = Guest::start();
        world.attach(&plan, 0, &guest);
        let inside = fixed("10.20.0.10/24", "10.20.0.1");
        port::configure_guest(&guest.namespace(), "eth0", &inside).unwrap();
        let link = plan.ports[0].host_interface.clone();
        let guests = Guests::from([(link.clone(), guest.namespace())]);
        assert_as_planned(&world, &plan, &guests);
        let check = |line: &str, is_seen: &dyn Fn(&NetworkSeen) -> bool| {
            done(line);
            let seen = world.seen(&plan, &guests);
            assert!(is_seen(&seen), "{line}: {seen:#?}");
            world.driver.ensure(&plan).map_err(chain).unwrap();
            world.driver.attach(&plan, &plan.ports[0], &guests[&link]).map_err(chain).unwrap();
            port::configure_guest(&guests[&link], "eth0", &inside).unwrap();
            assert_as_planned(&world, &plan, &guests);
            assert!(!world.driver.ensure(&plan).map_err(chain).unwrap(), "{line}: nothing more to do");
            guest.done("ping -c 1 -W 2 10.20.0.1");
        };
        let differs = |part: nft::Part, how: nft::How| {
            move |seen: &NetworkSeen| match &seen.firewall {
                FirewallSeen::Differs(all) => all.iter().any(|d| d.part == part && d.how == how),
                _ => false,
            }
        };
        let rule = |chain: &str, comment: &str| nft::Part::Rule(chain.to_owned(), comment.to_owned());
        let table = "keel_0a1b2c3d_lan";

        check("nft flush ruleset", &|seen| seen.firewall == FirewallSeen::Missing);
        check(&format!("nft delete table inet {table}"), &differs(nft::Part::Table, nft::How::Missing));
        check(&format!("nft flush table inet {table}"), &differs(rule("postrouting", "ipv4 nat"), nft::How::Missing));
        check(&format!("nft flush chain bridge {table} prerouting"), &differs(rule("prerouting", "source mac"), nft::How::Missing));
        check(
            &format!("nft insert rule inet {table} forward drop comment other"),
            &differs(rule("forward", "other"), nft::How::Unexpected),
        );
        check(
            &format!("nft replace rule inet {table} postrouting handle $(nft -a list table inet {table} | sed -n 's/.*ipv4 nat.*handle //p') ip saddr 10.20.0.0/24 accept comment '\"ipv4 nat\"'"),
            &differs(rule("postrouting", "ipv4 nat"), nft::How::Changed),
        );
        check(
            &format!("nft delete element bridge {table} ipv4_allowed '{{ {link} . 10.20.0.10 }}'"),
            &differs(nft::Part::Element("ipv4_allowed".to_owned(), format!("{link} . 10.20.0.10")), nft::How::Missing),
        );
        check(
            &format!("nft add element bridge {table} ipv4_allowed '{{ {link} . 10.20.0.66 }}'"),
            &differs(nft::Part::Element("ipv4_allowed".to_owned(), format!("{link} . 10.20.0.66")), nft::How::Unexpected),
        );
        check("p=$(cat /run/keel/0a1b2c3d/network/lan/dnsmasq.pid); kill -9 $p; while grep -q dnsmasq /proc/$p/cmdline; do :; done 2>/dev/null", &|seen| seen.dnsmasq == Some(DnsmasqSeen::Dead));
        check("rm /run/keel/0a1b2c3d/network/lan/reservations/*", &|seen| seen.stale_reservations == [format!("reservations/{link}")]);
        check("ip addr del 10.20.0.1/24 dev lan", &|seen| seen.bridge.as_ref().is_some_and(|b| b.addresses.is_empty()));
        check("ip addr add 10.77.0.1/24 dev lan", &|seen| seen.bridge.as_ref().is_some_and(|b| b.addresses.len() == 2));
        check("ip link set lan down", &|seen| seen.bridge.as_ref().is_some_and(|b| !b.up));
        check("ip link del lan", &|seen| seen.owner == LinkOwner::Missing && !seen.ports[&link].in_bridge);
        check("echo 0 > /proc/sys/net/ipv4/conf/lan/forwarding", &|seen| seen.forwarding.len() == 1);
        check(&format!("ip link set {link} down"), &|seen| !seen.ports[&link].up);
        check(&format!("ip link set {link} nomaster"), &|seen| !seen.ports[&link].in_bridge);
        check(&format!("ip link del {link}"), &|seen| seen.ports[&link].owner == LinkOwner::Missing);
        check(&format!("bridge link set dev {link} isolated on"), &|seen| seen.ports[&link].isolated);
        let end = |seen: &NetworkSeen| seen.ports[&link].guest.clone().unwrap();
        let inside = |line: &str| format!("nsenter --net=/proc/{}/ns/net {line}", guest.0.id());
        check(&inside("ip addr flush dev eth0"), &|seen| end(seen).addresses.is_empty());
        check(&inside("ip route del default"), &|seen| end(seen).gateways.is_empty());
        check(&inside("ip link set eth0 down"), &|seen| !end(seen).up && !seen.ports[&link].carrier);
        check(&inside("ip link set eth0 address 10:66:6a:ff:ff:ff"), &|seen| end(seen).hwaddr != Some(plan.ports[0].hwaddr));
    }
}

crate::host_test! {
    fn a_guest_sends_from_its_own_addresses_only() {
        let mut world = World::new();
        let mut plan = network("lan", vec![port("web-1", [10, 20, 0, 10]), port("web-2", [10, 20, 0, 11])]);
        world.ensure(&plan);
        let (one, two) = (Guest::start(), Guest::start());
        world.attach(&plan, 0, &one);
        world.attach(&plan, 1, &two);
        port::configure_guest(&one.namespace(), "eth0", &fixed("10.20.0.10/24", "10.20.0.1")).unwrap();
        port::configure_guest(&two.namespace(), "eth0", &fixed("10.20.0.11/24", "10.20.0.1")).unwrap();
        two.done("ping -c 1 -W 2 10.20.0.10");
        // Another IPv4 address.
        two.done("ip addr add 10.20.0.66/24 dev eth0");
        assert!(!two.shell("ping -c 1 -W 1 -I 10.20.0.66 10.20.0.10").0);
        assert!(!two.shell("ping -c 1 -W 1 -I 10.20.0.66 10.20.0.1").0);
        two.done("ping -c 1 -W 2 10.20.0.10");
        // The address of the other in ARP: nobody learns it.
        one.done("ping -c 1 -W 2 10.20.0.1");
        two.done("ip addr add 10.20.0.10/32 dev eth0");
        let (_, said) = two.shell("busybox arping -U -c 2 -w 2 -s 10.20.0.10 -I eth0 10.20.0.10");
        assert!(said.contains("Sent 2"), "{said}");
        let known = done("ip neigh get 10.20.0.10 dev lan");
        assert!(known.contains(&plan.ports[0].hwaddr.to_string()), "{known}");
        two.done("ip addr del 10.20.0.10/32 dev eth0");
        // Another hardware address.
        two.done("ip link set eth0 address 10:66:6a:66:66:66");
        assert!(!two.shell("ping -c 1 -W 1 10.20.0.10").0);
        assert!(!done("bridge fdb show br lan").contains("10:66:6a:66:66:66"));
        // Without filters the same is heard: the address too that was not.
        plan.ports[1].filtering = Filtering::default();
        world.ensure(&plan);
        two.done("ping -c 1 -W 2 10.20.0.10");
        two.done("ping -c 1 -W 2 -I 10.20.0.66 10.20.0.10");
    }
}

crate::host_test! {
    fn what_is_not_ours_survives() {
        let mut world = World::new();
        let plan = network("lan", vec![port("web-1", [10, 20, 0, 10])]);
        let guest = Guest::start();

        // A bridge of the name.
        done("ip link add lan type bridge && ip link set lan alias other up && ip addr add 10.50.0.1/24 dev lan");
        let before = done("ip addr show dev lan | grep -v -e valid_lft -e inet6; ip -o link show dev lan");
        assert!(matches!(world.driver.ensure(&plan), Err(NetworkError::Foreign { .. })));
        assert!(matches!(world.driver.attach(&plan, &plan.ports[0], &guest.namespace()), Err(NetworkError::Foreign { .. })));
        assert_eq!(world.seen(&plan, &Guests::new()).owner, LinkOwner::Foreign(Some("other".to_owned())));
        world.driver.remove("lan", &plan.mark).unwrap();
        assert_eq!(done("ip addr show dev lan | grep -v -e valid_lft -e inet6; ip -o link show dev lan"), before);
        done("ip link del lan");

        // Tables of the name, and others.
        done("nft add table inet keel_0a1b2c3d_lan && nft add chain inet keel_0a1b2c3d_lan mine && nft add table ip host && nft add chain ip host forward '{ type filter hook forward priority 0; policy drop; }'");
        let before = done("nft list ruleset");
        assert!(matches!(world.driver.ensure(&plan), Err(NetworkError::Firewall(nft::NftError::Foreign { .. }))));
        assert_eq!(world.seen(&plan, &Guests::new()).firewall, FirewallSeen::Foreign(String::new()));
        world.driver.remove("lan", &plan.mark).map_err(chain).unwrap();
        assert_eq!(done("nft list ruleset"), before);
        done("nft delete table inet keel_0a1b2c3d_lan");
        assert_eq!(nft::dropping_chains("forward").unwrap(), ["ip host forward"]);

        // A link of the name of our port.
        let link = plan.ports[0].host_interface.clone();
        world.ensure(&plan);
        done(&format!("ip link add {link} type veth peer name other0 && ip link set {link} up"));
        assert!(matches!(world.driver.attach(&plan, &plan.ports[0], &guest.namespace()), Err(NetworkError::Foreign { .. })));
        assert_eq!(world.driver.detach(&link, &plan.ports[0].mark).unwrap(), None);
        assert_eq!(world.seen(&plan, &Guests::new()).ports[&link].owner, LinkOwner::Foreign(None));
        done(&format!("ip link show dev {link} | grep -q UP && ip link del {link}"));

        // Another dnsmasq on another bridge.
        done("ip link add other type bridge && ip addr add 10.60.0.1/24 dev other && ip link set other up");
        done("dnsmasq --conf-file=/dev/null --pid-file=/run/other.pid --bind-interfaces --interface=other --except-interface=lo --no-hosts --no-resolv --user=root");
        let other = done("cat /run/other.pid");
        let _killed_at_the_end = Kill(other.trim().to_owned());
        assert!(!world.ensure(&plan));
        world.driver.remove("lan", &plan.mark).map_err(chain).unwrap();
        let alive = shell(&format!("kill -0 {other}")).0;
        // Another dnsmasq where ours should listen.
        let mut second = plan.clone();
        second.interface = "second".to_owned();
        second.mark = "keel:main:0193:second".to_owned();
        done("ip addr add 10.20.0.1/24 dev other");
        let overlap = world.driver.ensure(&second).map_err(chain);
        assert!(alive);
        assert_eq!(overlap, Err("subnet 10.20.0.0/24 of second overlaps 10.20.0.0/24 on other".to_owned()));
        assert!(!shell("ip link show dev second").0, "nothing half-done");
        assert_eq!(done("nft list tables"), "table ip host\n");
    }
}
