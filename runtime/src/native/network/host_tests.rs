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
pub(super) fn done(line: &str) -> String {
    let (success, said) = shell(line);
    assert!(success, "{line}: {said}");
    said
}

/// A process in a network namespace of its own, killed at the end.
pub(super) struct Guest(Child);

impl Guest {
    pub(super) fn start() -> Self {
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

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn namespace(&self) -> Namespace {
        Namespace::of_process(self.0.id()).unwrap()
    }

    fn shell(&self, line: &str) -> (bool, String) {
        shell(&format!(
            "nsenter --net=/proc/{}/ns/net -- sh -c '{line}'",
            self.0.id()
        ))
    }

    #[track_caller]
    pub(super) fn done(&self, line: &str) -> String {
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
pub(super) struct World {
    driver: Bridge,
    _state: tempfile::TempDir,
    networks: Vec<(String, String)>,
}

impl World {
    pub(super) fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        Self {
            driver: Bridge::new(NetworkHost {
                state_id: "0a1b2c3d".to_owned(),
                state: state.path().join("network"),
                run: "/run/keel/0a1b2c3d/network".into(),
                shared: "/run/keel/shared".into(),
                cgroups: None,
            }),
            _state: state,
            networks: Vec::new(),
        }
    }

    pub(super) fn ensure(&mut self, plan: &NetworkPlan) -> bool {
        self.networks
            .push((plan.interface.clone(), plan.mark.clone()));
        self.driver.ensure(plan).map_err(chain).unwrap()
    }

    fn seen(&self, plan: &NetworkPlan, guests: &Guests) -> NetworkSeen {
        self.driver.seen(plan, guests).map_err(chain).unwrap()
    }

    pub(super) fn attach(&self, plan: &NetworkPlan, number: usize, guest: &Guest) -> Attached {
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

pub(super) fn port(name: &str, address: [u8; 4]) -> PortPlan {
    PortPlan {
        mark: format!("keel:main:{name}:eth0"),
        instance: name.to_owned(),
        host_interface: host_interface(name, "eth0"),
        hwaddr: guest_hwaddr(name, "eth0", &BTreeSet::new()),
        ipv4: Some(address.into()),
        ipv6: None,
        without_ipv6: false,
        parent: None,
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

pub(super) fn network(interface: &str, ports: Vec<PortPlan>) -> NetworkPlan {
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
            nameservers: Vec::new(),
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

pub(super) fn fixed(address: &str, gateway: &str) -> GuestPlan {
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

crate::host_test! {
    fn fifty_ports_cost_one_transaction() {
        use std::time::Instant;
        let mut world = World::new();
        let ports = (0..50_u8).map(|n| port(&format!("web-{n}"), [10, 20, 0, 10 + n])).collect();
        let plan = network("lan", ports);
        let generation = || crate::sys::netlink::Tables::open().unwrap().generation().unwrap().unwrap();
        let guests: Vec<Guest> = plan.ports.iter().map(|_| Guest::start()).collect();
        let before = generation();
        let start = Instant::now();
        world.ensure(&plan);
        println!("ensure of 50 ports {:?}", start.elapsed());
        assert_eq!(generation(), before + 1);
        let namespaces: Vec<Namespace> = guests.iter().map(Guest::namespace).collect();
        let mut times = Vec::new();
        for (port, namespace) in plan.ports.iter().zip(&namespaces) {
            let start = Instant::now();
            world.driver.attach(&plan, port, namespace).map_err(chain).unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("attach: median {:?}, worst {:?}", times[25], times[49]);
        let start = Instant::now();
        for (number, namespace) in namespaces.iter().enumerate() {
            port::configure_guest(namespace, "eth0", &fixed(&format!("10.20.0.{}/24", 10 + number), "10.20.0.1")).unwrap();
        }
        println!("configure 50 guests {:?}", start.elapsed());
        let names = plan.ports.iter().map(|p| p.host_interface.clone());
        let namespaces: Guests = names.zip(namespaces).collect();
        let start = Instant::now();
        assert_as_planned(&world, &plan, &namespaces);
        println!("seen of 50 ports {:?}", start.elapsed());
        let start = Instant::now();
        assert!(!world.driver.ensure(&plan).unwrap());
        println!("ensure with nothing to do {:?}", start.elapsed());
        let mut more = plan.clone();
        more.ports.push(port("web-50", [10, 20, 0, 60]));
        let start = Instant::now();
        assert!(world.driver.ensure(&more).unwrap());
        println!("ensure with one more {:?}", start.elapsed());
        let mut times = Vec::new();
        let mut gone = Vec::new();
        for port in &plan.ports {
            let start = Instant::now();
            gone.push((world.driver.detach(&port.host_interface, &port.mark).unwrap().unwrap(), port.mark.clone()));
            times.push(start.elapsed());
        }
        times.sort();
        println!("detach: median {:?}, worst {:?}", times[25], times[49]);
        drop(namespaces);
        let start = Instant::now();
        drop(guests);
        println!("end of guests {:?}", start.elapsed());
        let left = port::wait_gone(&gone, std::time::Duration::from_secs(10)).unwrap();
        assert_eq!(left, []);
        println!("all links gone {:?}", start.elapsed());
    }
}

crate::host_test! {
    fn ipv6_without_and_with_reservations() {
        let mut world = World::new();
        let mut plan = network("lan", vec![port("web-1", [10, 20, 0, 10]), port("web-2", [10, 20, 0, 11])]);
        plan.ipv6 = Some(Ipv6Plan {
            address: "fd42:20::1/64".parse().unwrap(),
            nat: true,
            nat_address: None,
            dhcp: Some(Dhcp6Plan { stateful: false, ranges: Vec::new(), expiry: 3600 }),
            firewall: true,
            routing: true,
            routes: Vec::new(),
        });
        let outside = Guest::start();
        done(&format!("ip link add up0 type veth peer name eth0 netns {} && ip addr add 2001:db8::1/64 dev up0 nodad && ip link set up0 up", outside.0.id()));
        outside.done("ip addr add 2001:db8::2/64 dev eth0 nodad; ip link set eth0 up");
        world.ensure(&plan);
        let (one, two) = (Guest::start(), Guest::start());
        for guest in [&one, &two] {
            guest.done("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        }
        world.attach(&plan, 0, &one);
        world.attach(&plan, 1, &two);
        for guest in [&one, &two] {
            guest.done("ip link set lo up; ip link set eth0 up");
        }
        // Each makes its own address of what the router says.
        let hwaddrs = [plan.ports[0].hwaddr, plan.ports[1].hwaddr];
        let address = |number: usize| addresses::eui64("fd42:20::".parse().unwrap(), hwaddrs[number]);
        wait_until("addresses by router advertisement", || {
            [(&one, 0), (&two, 1)].iter().all(|(guest, number)| guest.done("ip -6 addr show dev eth0").contains(&address(*number).to_string()))
        });
        one.done(&format!("ping -c 1 -W 2 {}", address(1)));
        one.done("ping -c 1 -W 2 2001:db8::2");
        assert_eq!(done("cat /proc/sys/net/ipv6/conf/all/forwarding").trim(), "1");
        let said = one.done("busybox nslookup -type=AAAA web-2.keel.internal fd42:20::1");
        assert!(said.contains(&address(1).to_string()), "{said}");
        // An address that is not its own.
        two.done("ip addr add fd42:20::66/64 dev eth0 nodad");
        assert!(!two.shell(&format!("ping -c 1 -W 1 -I fd42:20::66 {}", address(0))).0);

        // With reservations the guest's address is another, and the one above is no longer allowed.
        if let Some(dhcp) = plan.ipv6.as_mut().and_then(|ip| ip.dhcp.as_mut()) {
            dhcp.stateful = true;
        }
        plan.ports[1].ipv6 = Some("fd42:20::66".parse().unwrap());
        assert!(world.ensure(&plan));
        two.done("ping -c 1 -W 2 -I fd42:20::66 fd42:20::1");
        let guests = Guests::from([(plan.ports[1].host_interface.clone(), two.namespace())]);
        assert_as_planned(&world, &plan, &guests);
        two.done(&format!("ip addr del {}/64 dev eth0", address(1)));
        let said = two.done("busybox nslookup -type=AAAA web-2.keel.internal fd42:20::1");
        assert!(said.contains("fd42:20::66"), "{said}");

        // Without IPv6 the bridge has none at all.
        plan.ipv6 = None;
        plan.ports[1].ipv6 = None;
        assert!(world.ensure(&plan));
        assert_eq!(done("ip -6 addr show dev lan"), "");
        assert_eq!(done("cat /proc/sys/net/ipv6/conf/all/forwarding").trim(), "0");
        assert_as_planned(&world, &plan, &Guests::new());
    }
}

crate::host_test! {
    fn isolated_ports_reach_the_bridge_only() {
        let mut world = World::new();
        let mut plan = network("lan", vec![port("web-1", [10, 20, 0, 10]), port("web-2", [10, 20, 0, 11])]);
        for port in &mut plan.ports {
            port.isolated = true;
        }
        world.ensure(&plan);
        let (one, two) = (Guest::start(), Guest::start());
        world.attach(&plan, 0, &one);
        world.attach(&plan, 1, &two);
        port::configure_guest(&one.namespace(), "eth0", &fixed("10.20.0.10/24", "10.20.0.1")).unwrap();
        port::configure_guest(&two.namespace(), "eth0", &fixed("10.20.0.11/24", "10.20.0.1")).unwrap();
        let guests = Guests::from([(plan.ports[0].host_interface.clone(), one.namespace())]);
        assert_as_planned(&world, &plan, &guests);
        one.done("ping -c 1 -W 2 10.20.0.1");
        assert!(!one.shell("ping -c 1 -W 1 10.20.0.11").0);
        plan.ports[0].isolated = false;
        world.attach(&plan, 0, &one);
        one.done("ping -c 1 -W 2 10.20.0.11");
        // The cable out, and in again.
        plan.ports[0].connected = false;
        world.attach(&plan, 0, &one);
        assert!(!one.shell("ping -c 1 -W 1 10.20.0.1").0);
        plan.ports[0].connected = true;
        world.attach(&plan, 0, &one);
        wait_until("the cable is in", || one.shell("ping -c 1 -W 1 10.20.0.1").0);
    }
}

crate::host_test! {
    fn limits_hold_and_change_while_it_runs() {
        let mut world = World::new();
        let mut plan = network("lan", vec![port("web-1", [10, 20, 0, 10])]);
        plan.ports[0].limits = RateLimits { ingress: Some(16_000_000), egress: Some(8_000_000) };
        world.ensure(&plan);
        let guest = Guest::start();
        world.attach(&plan, 0, &guest);
        port::configure_guest(&guest.namespace(), "eth0", &fixed("10.20.0.10/24", "10.20.0.1")).unwrap();
        let link = plan.ports[0].host_interface.clone();
        let limits = |plan: &NetworkPlan| world.driver.seen(plan, &Guests::new()).unwrap().ports[&link].limits;
        assert_eq!(limits(&plan), plan.ports[0].limits);
        let (host, inside) = (Namespace::current().unwrap(), guest.namespace());
        let up = speed(&inside, &host, "10.20.0.1:9999");
        assert!((500_000.0..1_250_000.0).contains(&up), "{up} bytes a second out of the guest, wanted 1000000");
        let down = speed(&host, &inside, "10.20.0.10:9999");
        assert!((1_000_000.0..2_500_000.0).contains(&down), "{down} bytes a second into the guest, wanted 2000000");
        plan.ports[0].limits = RateLimits { ingress: None, egress: Some(80_000_000_000) };
        world.attach(&plan, 0, &guest);
        assert_eq!(limits(&plan), plan.ports[0].limits);
        let up = speed(&inside, &host, "10.20.0.1:9999");
        assert!(up > 5_000_000.0, "{up}");
        // By hand: seen, mended.
        done(&format!("tc qdisc del dev {link} ingress"));
        assert_eq!(limits(&plan).egress, None);
        world.attach(&plan, 0, &guest);
        assert_eq!(limits(&plan), plan.ports[0].limits);
        done(&format!("tc qdisc replace dev {link} root tbf rate 1mbit burst 10k latency 50ms"));
        assert_eq!(limits(&plan).ingress, Some(1_000_000));
        world.attach(&plan, 0, &guest);
        assert_eq!(limits(&plan), plan.ports[0].limits);
        plan.ports[0].limits = RateLimits::default();
        world.attach(&plan, 0, &guest);
        assert_eq!(limits(&plan), plan.ports[0].limits);
        assert_eq!(done("ip -o link show type ifb"), "");
    }
}

/// Bytes a second over TCP, as the receiver gets two million of them.
fn speed(from: &Namespace, to: &Namespace, address: &str) -> f64 {
    use std::io::{Read as _, Write as _};
    let listener = to
        .run(|| std::net::TcpListener::bind(address).unwrap())
        .unwrap();
    let mut sender = from
        .run(|| std::net::TcpStream::connect(address).unwrap())
        .unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.write_all(&vec![0; 2_000_000]).unwrap());
        receiver.read_exact(&mut vec![0; 2_000_000]).unwrap();
    });
    2_000_000.0 / begin.elapsed().as_secs_f64()
}

crate::host_test! {
    fn a_given_source_address_and_routes_behind_a_guest() {
        let mut world = World::new();
        let outside = Guest::start();
        done(&format!("ip link add up0 type veth peer name eth0 netns {} && ip addr add 192.0.2.1/24 dev up0 && ip addr add 192.0.2.7/24 dev up0 && ip link set up0 up", outside.0.id()));
        outside.done("ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up");
        let mut plan = network("lan", vec![port("web-1", [10, 20, 0, 10])]);
        plan.ipv4.as_mut().unwrap().nat_address = Some("192.0.2.7".parse().unwrap());
        plan.ports[0].routes = vec!["10.99.0.0/24".parse().unwrap()];
        plan.ports[0].filtering = Filtering::default();
        world.ensure(&plan);
        let guest = Guest::start();
        world.attach(&plan, 0, &guest);
        port::configure_guest(&guest.namespace(), "eth0", &fixed("10.20.0.10/24", "10.20.0.1")).unwrap();
        guest.done("ip addr add 10.99.0.1/24 dev lo");
        done("ping -c 1 -W 2 10.99.0.1");
        std::thread::scope(|scope| {
            let seen = scope.spawn(|| outside.shell("timeout 10 busybox nc -l -p 9999 -e /bin/sh -c env; true"));
            let peer = scope.spawn(|| {
                wait_until("the outside listens", || outside.shell("busybox netstat -ltn").1.contains(":9999 "));
                guest.shell("echo | timeout 5 busybox nc 192.0.2.2 9999");
                outside.done("cat /proc/net/nf_conntrack 2>/dev/null; ip neigh")
            });
            seen.join().unwrap();
            let said = peer.join().unwrap();
            assert!(said.contains("192.0.2.7"), "{said}");
        });
        // Off again: what was there for it is gone.
        plan.ports[0].routes.clear();
        assert!(world.ensure(&plan));
        assert!(!done("ip route").contains("10.99.0.0"));
        let ip = plan.ipv4.as_mut().unwrap();
        ip.nat = false;
        ip.routing = false;
        assert!(world.ensure(&plan));
        assert!(!guest.shell("ping -c 1 -W 1 192.0.2.2").0);
        assert_eq!(done("cat /proc/sys/net/ipv4/conf/up0/forwarding").trim(), "0");
        assert_as_planned(&world, &plan, &Guests::new());
    }
}

crate::host_test! {
    fn a_guest_that_starts_again_and_a_pair_without_bridge() {
        let mut world = World::new();
        let plan = network("lan", vec![port("web-1", [10, 20, 0, 10])]);
        world.ensure(&plan);
        let first = Guest::start();
        world.attach(&plan, 0, &first);
        // The old namespace is still there when the new one comes.
        let second = Guest::start();
        assert_eq!(world.attach(&plan, 0, &second), Attached::Made);
        port::configure_guest(&second.namespace(), "eth0", &fixed("10.20.0.10/24", "10.20.0.1")).unwrap();
        second.done("ping -c 1 -W 2 10.20.0.1");
        assert!(!first.shell("ping -c 1 -W 1 10.20.0.1").0);
        // Dead between making the pair and marking it: ours all the same.
        let link = &plan.ports[0].host_interface;
        done(&format!("ip link set {link} alias '' nomaster down"));
        assert_eq!(world.seen(&plan, &Guests::new()).ports[link].owner, LinkOwner::Ours);
        assert_eq!(world.attach(&plan, 0, &second), Attached::Kept);
        second.done("ping -c 1 -W 2 10.20.0.1");

        let mut alone = port("db-1", [10, 30, 0, 2]);
        alone.guest_interface = "eth1".to_owned();
        let mut connection = Connection::open().unwrap();
        assert_eq!(port::attach(&mut connection, &alone, None, None, &second.namespace()).unwrap(), Attached::Made);
        assert_eq!(port::attach(&mut connection, &alone, None, None, &second.namespace()).unwrap(), Attached::Kept);
        port::configure_guest(&second.namespace(), "eth1", &GuestPlan { addresses: vec!["10.30.0.2/24".parse().unwrap()], ..GuestPlan::default() }).unwrap();
        done(&format!("ip addr add 10.30.0.1/24 dev {}", alone.host_interface));
        done("ping -c 1 -W 2 10.30.0.2");

        // Marks are found without a plan; the pair of a guest that lives on is deleted.
        let marked: Vec<String> = port::marked("keel:main:").unwrap().into_iter().map(|m| m.kind).collect();
        assert_eq!(marked.iter().filter(|kind| *kind == "bridge").count(), 1);
        assert_eq!(marked.iter().filter(|kind| *kind == "veth").count(), 3);
        port::unplug(&mut connection, &alone.host_interface, "keel:main:other").unwrap();
        assert!(second.shell("ip link show dev eth1").0);
        port::unplug(&mut connection, &alone.host_interface, &alone.mark).unwrap();
        assert!(!second.shell("ip link show dev eth1").0);
        assert_eq!(port::attach(&mut connection, &alone, None, None, &second.namespace()).unwrap(), Attached::Made);
        // One that was detached only has another name on the host and the old one in its guest.
        port::detach(&mut connection, &alone.host_interface, &alone.mark).unwrap().unwrap();
        assert!(second.shell("ip link show dev eth1").0);
        port::unplug_others(&mut connection, &alone.mark, &BTreeSet::from([alone.host_interface.clone()])).unwrap();
        assert!(!second.shell("ip link show dev eth1").0);
    }
}

crate::host_test! {
    fn two_state_folders_and_two_networks_share_a_host() {
        let mut world = World::new();
        let mut other = World::new();
        other.driver = Bridge::new(NetworkHost {
            state_id: "ffffffff".to_owned(),
            state: other._state.path().join("network"),
            run: "/run/keel/ffffffff/network".into(),
            shared: "/run/keel/shared".into(),
                cgroups: None,
        });
        done("ip link add up0 type veth peer name up1 && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up");
        let lan = network("lan", Vec::new());
        let mut dmz = network("dmz", Vec::new());
        dmz.ipv4.as_mut().unwrap().address = "10.21.0.1/24".parse().unwrap();
        let mut theirs = network("theirs", Vec::new());
        theirs.ipv4.as_mut().unwrap().address = "10.22.0.1/24".parse().unwrap();
        world.ensure(&lan);
        world.ensure(&dmz);
        other.ensure(&theirs);
        // The same interface from the other state folder is foreign.
        let mut stolen = lan.clone();
        stolen.mark = "keel:other:0999:lan".to_owned();
        assert!(matches!(other.driver.ensure(&stolen), Err(NetworkError::Foreign { .. })));
        other.driver.remove("lan", &stolen.mark).map_err(chain).unwrap();
        world.driver.remove("lan", &lan.mark).map_err(chain).unwrap();
        for (world, plan) in [(&world, &dmz), (&other, &theirs)] {
            assert_as_planned(world, plan, &Guests::new());
        }
        other.driver.remove("theirs", &theirs.mark).map_err(chain).unwrap();
        assert_as_planned(&world, &dmz, &Guests::new());
        world.driver.remove("dmz", &dmz.mark).map_err(chain).unwrap();
        assert_eq!(done("cat /proc/sys/net/ipv4/conf/up0/forwarding").trim(), "0");
        done("ip link del up0");
        assert_empty_host();
    }
}
