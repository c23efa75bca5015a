//! Macvtaps on a real kernel: the other side of the wire is in a network namespace of its own.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use super::host_tests::{Guest, done, port};
use super::port::{attach_tap, detach, repair_tap, seen};
use super::{PortPlan, PortSeen, RateLimits};
use crate::sys::netlink::{Connection, HardwareAddress};

/// Length of `struct virtio_net_hdr`, which a macvtap puts before each packet.
const HEADER: usize = 10;
const GUEST: HardwareAddress = HardwareAddress([0x10, 0x66, 0x6a, 0, 0, 7]);

fn plan() -> PortPlan {
    PortPlan {
        hwaddr: GUEST,
        parent: Some("wire".to_owned()),
        ..port("vm", [10, 99, 0, 2])
    }
}

fn look(plan: &PortPlan) -> PortSeen {
    let mut connection = Connection::open().unwrap();
    let links = connection.links().unwrap();
    let shaped = connection.shaped().unwrap();
    seen(&mut connection, plan, &links, &shaped, None, Ok(None)).unwrap()
}

/// Asks who has 10.99.0.1, and waits for the answer.
fn ask(tap: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let mut request = vec![0; HEADER];
    request.extend([0xff; 6]);
    request.extend(GUEST.0);
    // ARP over Ethernet for IPv4: a request.
    request.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    request.extend(GUEST.0);
    request.extend([10, 99, 0, 2]);
    request.extend([0; 6]);
    request.extend([10, 99, 0, 1]);
    request.resize(HEADER + 60, 0);
    for _ in 0..50 {
        rustix::io::write(tap, &request).unwrap();
        let mut ready = [rustix::event::PollFd::new(
            &tap,
            rustix::event::PollFlags::IN,
        )];
        let patience = Duration::from_millis(200).try_into().unwrap();
        rustix::event::poll(&mut ready, Some(&patience)).unwrap();
        let mut packet = [0; 2048];
        while let Ok(length) = rustix::io::read(tap, &mut packet) {
            let packet = &packet[HEADER..length];
            // ARP: an answer.
            if packet[12..14] == [0x08, 0x06] && packet[20..22] == [0, 2] {
                return Some(packet.to_vec());
            }
        }
    }
    None
}

crate::host_test! {
    fn a_macvtap_is_on_the_wire_of_its_parent_with_limits_in_both_directions() {
        let other = Guest::start();
        done(&format!("ip link add wire type veth peer name eth0 netns {}", other.pid()));
        done("ip link set wire up && ip link add spare type veth peer name spare2");
        other.done("ip link set lo up; ip addr add 10.99.0.1/24 dev eth0; ip link set eth0 up");
        let mut connection = Connection::open().unwrap();
        let mut plan = plan();
        plan.limits = RateLimits { ingress: Some(30_000_000), egress: Some(20_000_000) };
        let tap = attach_tap(&mut connection, &plan, None, None).unwrap();
        let answer = ask(tap.as_fd()).expect("the other side of the wire answers");
        assert_eq!(answer[..6], GUEST.0, "to the guest's own address");
        let now = look(&plan);
        let over = now.over.clone().expect("it is a macvtap");
        assert_eq!((over.parent.as_deref(), over.hwaddr), (Some("wire"), Some(GUEST)));
        assert_eq!((now.up, now.limits), (true, plan.limits));
        // What the guest sends passes the queue of the link, what it gets that of the shaper.
        let queues = done("tc -s qdisc show");
        let passed = |interface: &str| {
            let queue = queues.split("qdisc ").find(|queue| queue.starts_with("tbf") && queue.contains(&format!("dev {interface} ")));
            let queue = queue.unwrap_or_else(|| panic!("{interface} is limited: {queues}"));
            assert!(!queue.contains("Sent 0 bytes"), "{queue}");
            queue.to_owned()
        };
        assert!(passed(&plan.host_interface).contains("rate 20Mbit"), "{queues}");
        let shaper = super::addresses::shaper_interface(&plan.host_interface);
        assert!(passed(&shaper).contains("rate 30Mbit"), "{queues}");
        assert!(!done(&format!("ip -6 addr show dev {}", plan.host_interface)).contains("inet6"), "the host is not on it");

        plan.limits = RateLimits::default();
        plan.connected = false;
        assert!(repair_tap(&mut connection, &plan, None, None).unwrap());
        let now = look(&plan);
        assert_eq!((now.up, now.limits), (false, RateLimits::default()));
        plan.connected = true;
        assert!(repair_tap(&mut connection, &plan, None, None).unwrap());
        assert!(ask(tap.as_fd()).is_some(), "the cable is in again");

        let elsewhere = PortPlan { parent: Some("spare".to_owned()), ..plan.clone() };
        assert!(!repair_tap(&mut connection, &elsewhere, None, None).unwrap(), "it is over another link");
        drop(tap);
        assert_eq!(look(&plan).over.and_then(|over| over.parent).as_deref(), Some("wire"), "it stays");
        let tap = attach_tap(&mut connection, &elsewhere, None, None).unwrap();
        assert_eq!(look(&plan).over.and_then(|over| over.parent).as_deref(), Some("spare"));
        done(&format!("ip link del {}", plan.host_interface));
        assert!(!repair_tap(&mut connection, &elsewhere, None, None).unwrap(), "it is gone");
        drop(tap);

        let gone = PortPlan { parent: Some("nowhere".to_owned()), ..plan.clone() };
        let error = attach_tap(&mut connection, &gone, None, None).unwrap_err();
        assert_eq!(error.to_string(), "no interface nowhere");
        drop(attach_tap(&mut connection, &plan, None, None).unwrap());
        detach(&mut connection, &plan.host_interface, &plan.mark).unwrap();
        assert!(!done("ip -d link").contains("macvtap"), "nothing is left");

        // A name that is somebody else's is left alone.
        done(&format!("ip link add link wire name {} type macvtap", plan.host_interface));
        assert!(attach_tap(&mut connection, &plan, None, None).is_err());
        assert!(repair_tap(&mut connection, &plan, None, None).is_err());
        detach(&mut connection, &plan.host_interface, &plan.mark).unwrap();
        assert!(done("ip -d link").contains("macvtap"), "it is still there");
    }
}
