//! Host tests: what a guest may not say on its bridge is not heard by its neighbours.
#![expect(
    clippy::disallowed_methods,
    reason = "guests of tests are plain processes in namespaces of their own"
)]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use super::host_tests::{Guest, World, fixed, network, port};
use super::*;

/// Sends frames, each with its name in it; the last one is honest and named `end`.
const SPEAK: &str = r#"
import socket, struct, sys
mine = bytes.fromhex(sys.argv[1].replace(':', '')); other = bytes.fromhex('10666a666666')
address = lambda text: socket.inet_aton(text); address6 = lambda text: socket.inet_pton(socket.AF_INET6, text)
me, victim, stranger = address('10.20.0.11'), address('10.20.0.10'), address('10.20.0.66')
own6 = b'\xfe\x80' + bytes(6) + bytes([mine[0] ^ 2]) + mine[1:3] + b'\xff\xfe' + mine[3:]
def total(data):
    data += b'\0' * (len(data) % 2)
    value = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while value >> 16: value = (value & 0xffff) + (value >> 16)
    return ~value & 0xffff
def ip4(source, payload, protocol=17, target='255.255.255.255'):
    head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, source, address(target))
    return head[:10] + struct.pack('!H', total(head)) + head[12:] + payload
def udp(source, target, data): return struct.pack('!HHHH', source, target, 8 + len(data), 0) + data
def ip6(source, payload, after=58, target='ff02::1'):
    return struct.pack('!IHBB16s16s', 6 << 28, len(payload), after, 255, source, address6(target)) + payload
def advert(name):
    return struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0) + name
def arp(hardware, source): return struct.pack('!HHBBH6s4s6s4s', 1, 0x800, 6, 4, 2, hardware, source, b'\xff' * 6, source)
def frame(kind, payload, source=mine, target=b'\xff' * 6): return target + source + struct.pack('!H', kind) + payload
n = lambda name: b'keel-' + name.encode() + b'.'
talk = lambda name, source=me: ip4(source, udp(1000, 2000, n(name)))
frames = [
    frame(0x800, talk('honest')),
    frame(0x806, arp(mine, me) + n('honest arp')),
    frame(0x86dd, ip6(own6, udp(1000, 2000, n('honest6')), 17)),
    frame(0x800, talk('other mac'), other),
    frame(0x800, talk('other address', stranger)),
    frame(0x806, arp(mine, victim) + n('address of another in arp')),
    frame(0x806, arp(other, me) + n('other mac in arp')),
    frame(0x800, ip4(me, udp(67, 68, n('dhcp offer')))),
    frame(0x86dd, ip6(own6, advert(n('router advertisement')))),
    frame(0x86dd, ip6(own6, bytes([58, 0, 1, 4, 0, 0, 0, 0]) + advert(n('router advertisement behind an option')), 60)),
    frame(0x86dd, ip6(own6, udp(547, 546, n('dhcpv6 advertise')), 17)),
    frame(0x86dd, ip6(address6('fe80::bad'), udp(1000, 2000, n('other address of ipv6')), 17)),
    frame(0x8100, struct.pack('!HH', 1, 0x800) + talk('vlan tag', stranger)),
    frame(0x88a8, struct.pack('!HH', 1, 0x800) + talk('provider tag', stranger)),
    frame(0x9000, n('unknown protocol')),
    frame(0x26, b'\x42\x42\x03' + bytes(35) + n('bpdu'), mine, b'\x01\x80\xc2\0\0\0'),
    frame(0x800, talk('end')),
]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
    out.bind(('eth0', 0))
    for one in frames: out.send(one.ljust(60, b'\0'))
"#;

/// Says that it listens, and then which of the frames it hears, up to `end`.
const HEAR: &str = r#"
import re, socket
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as heard:
    heard.bind(('eth0', 0)); heard.settimeout(20); print('ready', flush=True)
    while True:
        found = re.search(rb'keel-([a-z0-9 ]+)\.', heard.recv(2000))
        if found: print(found[1].decode(), flush=True)
        if found and found[1] == b'end': break
"#;

fn python(guest: &Guest, script: &str, argument: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{}/ns/net", guest.pid()))
        .args(["python3", "-c", script, argument]);
    command
}

/// The names of the frames of one guest that another hears.
fn heard(one: &Guest, two: &Guest, mac: &str) -> BTreeSet<String> {
    use std::io::BufRead as _;
    let mut listener = python(one, HEAR, "")
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut lines = std::io::BufReader::new(listener.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "ready");
    let spoken = python(two, SPEAK, mac).output().expect("python3 starts");
    assert!(
        spoken.status.success(),
        "{}",
        String::from_utf8_lossy(&spoken.stderr)
    );
    let heard = lines.map(|line| line.expect("text")).collect();
    assert!(listener.wait().expect("it ends").success());
    heard
}

crate::host_test! {
    fn a_guest_cannot_speak_for_others() {
        let mut world = World::new();
        let mut plan = network("lan", vec![port("web-1", [10, 20, 0, 10]), port("web-2", [10, 20, 0, 11])]);
        plan.ipv6 = Some(Ipv6Plan {
            address: "fd42:1::1/64".parse().expect("a subnet"),
            nat: false,
            nat_address: None,
            dhcp: None,
            firewall: true,
            routing: false,
            routes: Vec::new(),
        });
        world.ensure(&plan);
        let (one, two) = (Guest::start(), Guest::start());
        world.attach(&plan, 0, &one);
        world.attach(&plan, 1, &two);
        super::port::configure_guest(&one.namespace(), "eth0", &fixed("10.20.0.10/24", "10.20.0.1")).expect("configured");
        super::port::configure_guest(&two.namespace(), "eth0", &fixed("10.20.0.11/24", "10.20.0.1")).expect("configured");
        let mac = plan.ports[1].hwaddr.to_string();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let honest = names(&["end", "honest", "honest arp", "honest6"]);
        assert_eq!(heard(&one, &two, &mac), honest);
        // Each of the others is a frame that arrives where nothing is filtered: the rules stop it, and not a mistake
        // in it.
        plan.ports[1].filtering = Filtering::default();
        world.ensure(&plan);
        let mut all = names(&[
            "other mac", "other address", "address of another in arp", "other mac in arp", "dhcp offer",
            "router advertisement", "router advertisement behind an option", "dhcpv6 advertise",
            "other address of ipv6", "vlan tag", "provider tag", "unknown protocol", "bpdu",
        ]);
        all.extend(honest);
        assert_eq!(heard(&one, &two, &mac), all);
    }
}
