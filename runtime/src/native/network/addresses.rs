//! Picking names and addresses: pure functions of what is wished and what is taken.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest as _, Sha256};

use crate::sys::netlink::HardwareAddress;

/// Longest name of a link: `IFNAMSIZ` with its terminating zero is 16.
pub const LONGEST_INTERFACE: usize = 15;

fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The name of a network's bridge: its own name if that fits, else its start and a short hash of all of it.
pub fn bridge_interface(name: &str) -> String {
    if name.len() <= LONGEST_INTERFACE {
        return name.to_owned();
    }
    let hash = hex::encode(&digest(&["bridge", name])[..3]);
    let start: String = name
        .chars()
        .filter(char::is_ascii)
        .take(LONGEST_INTERFACE - hash.len() - 1)
        .collect();
    format!("{start}-{hash}")
}

/// The name of the host's end of a NIC: `kv` and ten hexadecimal digits.
pub fn host_interface(uid: &str, device: &str) -> String {
    format!("kv{}", hex::encode(&digest(&["port", uid, device])[..5]))
}

/// The name of the ifb that shapes what a guest sends: as the host's end, with `ki`.
pub fn shaper_interface(host_interface: &str) -> String {
    format!(
        "ki{}",
        host_interface.strip_prefix("kv").map_or_else(
            || hex::encode(&digest(&["shaper", host_interface])[..5]),
            str::to_owned
        )
    )
}

/// The hardware address of a guest's NIC: `10:66:6a` as Incus has it, and three bytes that depend on uid and device.
///
/// Three bytes collide among some thousands; `taken` are those of others, and another is derived then. So that it
/// stays the same for ever, write down what this answered.
pub fn guest_hwaddr(uid: &str, device: &str, taken: &BTreeSet<HardwareAddress>) -> HardwareAddress {
    let mut attempt = 0_u32;
    loop {
        let hash = digest(&["hwaddr", uid, device, &attempt.to_string()]);
        let address = HardwareAddress([0x10, 0x66, 0x6a, hash[0], hash[1], hash[2]]);
        // After so many attempts the whole range is taken, and any answer is as wrong as the next.
        if !taken.contains(&address) || attempt == 1 << 24 {
            return address;
        }
        attempt += 1;
    }
}

/// The hardware address of a link on the host's side, from its mark: locally administered. It also proves that a link
/// is ours when we died between making it and writing its alias.
pub fn own_hwaddr(mark: &str, interface: &str) -> HardwareAddress {
    let hash = digest(&["own", mark, interface]);
    HardwareAddress([0xfe, hash[0], hash[1], hash[2], hash[3], hash[4]])
}

/// The address that a guest makes for itself in a prefix of 64 bits out of its hardware address (RFC 4291, modified
/// EUI-64).
pub fn eui64(prefix: Ipv6Addr, hwaddr: HardwareAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = hwaddr.0;
    let mut octets = prefix.octets();
    octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    octets.into()
}

/// Whether two subnets share an address.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// A free /24 of the private ranges for a network with `ipv4: auto`: the bridge gets its first address. The choice
/// starts at a place that depends on `seed`, so that two hosts rarely choose the same. Default routes in `taken` do
/// not count. `None`: nothing is free.
pub fn pick_ipv4(seed: &str, taken: &[IpNet]) -> Option<Ipv4Net> {
    let hash = digest(&["ipv4", seed]);
    let start = u32::from(u16::from_le_bytes([hash[0], hash[1]]));
    (0..1 << 16).find_map(|step: u32| {
        let number = start.wrapping_add(step) & 0xffff;
        let first = Ipv4Addr::from(0x0a00_0001 | number << 8);
        let subnet = Ipv4Net::new(first, 24).ok()?;
        is_free(&subnet.into(), taken).then_some(subnet)
    })
}

/// As [`pick_ipv4`]: a /64 of the unique local range (RFC 4193).
pub fn pick_ipv6(seed: &str, taken: &[IpNet]) -> Option<Ipv6Net> {
    (0..1000_u32).find_map(|attempt| {
        let hash = digest(&["ipv6", seed, &attempt.to_string()]);
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1] = 0x42;
        octets[2..8].copy_from_slice(&hash[..6]);
        octets[15] = 1;
        let subnet = Ipv6Net::new(octets.into(), 64).ok()?;
        is_free(&subnet.into(), taken).then_some(subnet)
    })
}

/// Whether a subnet touches none of those taken; default routes do not count.
pub fn is_free(subnet: &IpNet, taken: &[IpNet]) -> bool {
    !taken
        .iter()
        .any(|other| other.prefix_len() > 0 && overlap(subnet, other))
}

/// The ranges that DHCP gives out: those written, or the whole subnet but its ends and the bridge.
pub fn ranges4(address: Ipv4Net, written: &[(Ipv4Addr, Ipv4Addr)]) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    if !written.is_empty() || address.prefix_len() > 30 {
        return written.to_vec();
    }
    let first = u32::from(address.network()) + 1;
    let last = u32::from(address.broadcast()) - 1;
    let own = u32::from(address.addr());
    [
        (first, own.saturating_sub(1).min(last)),
        ((own + 1).max(first), last),
    ]
    .into_iter()
    .filter(|(first, last)| first <= last)
    .map(|(first, last)| (first.into(), last.into()))
    .collect()
}

/// As [`ranges4`].
pub fn ranges6(address: Ipv6Net, written: &[(Ipv6Addr, Ipv6Addr)]) -> Vec<(Ipv6Addr, Ipv6Addr)> {
    if !written.is_empty() || address.prefix_len() > 126 {
        return written.to_vec();
    }
    let first = u128::from(address.network()) + 1;
    let last = u128::from(address.broadcast()) - 1;
    let own = u128::from(address.addr());
    [
        (first, own.saturating_sub(1).min(last)),
        ((own + 1).max(first), last),
    ]
    .into_iter()
    .filter(|(first, last)| first <= last)
    .map(|(first, last)| (first.into(), last.into()))
    .collect()
}

/// A free address out of ranges for a NIC that has none written. The search starts at a place that depends on `seed`
/// (uid and device), so the answer does not depend on the order in which instances come. `None`: all are taken.
pub fn pick_reservation(
    seed: &str,
    ranges: &[(Ipv4Addr, Ipv4Addr)],
    taken: &BTreeSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let sizes: Vec<u64> = ranges
        .iter()
        .map(|(first, last)| {
            (u64::from(u32::from(*last)) + 1).saturating_sub(u64::from(u32::from(*first)))
        })
        .collect();
    let total: u64 = sizes.iter().sum();
    if total == 0 {
        return None;
    }
    let hash = digest(&["reservation", seed]);
    let start = u64::from(u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])) % total;
    // More than `taken` steps never find only taken addresses.
    (0..total.min(taken.len() as u64 + 1)).find_map(|step| {
        let mut offset = (start + step) % total;
        for ((first, _), size) in ranges.iter().zip(&sizes) {
            if offset < *size {
                let offset = u32::try_from(offset).ok()?;
                let address = Ipv4Addr::from(u32::from(*first) + offset);
                return (!taken.contains(&address)).then_some(address);
            }
            offset -= size;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_name_becomes_a_short_one_that_differs() {
        assert_eq!(bridge_interface("lan"), "lan");
        assert_eq!(bridge_interface("fifteen-letters"), "fifteen-letters");
        let one = bridge_interface("development-network-1");
        let two = bridge_interface("development-network-2");
        assert_eq!(one.len(), LONGEST_INTERFACE);
        assert!(one.starts_with("develop"), "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn names_and_hardware_addresses_stay_and_avoid_those_taken() {
        let free = BTreeSet::new();
        let first = guest_hwaddr("uid", "eth0", &free);
        assert_eq!(first, guest_hwaddr("uid", "eth0", &free));
        assert!(first.to_string().starts_with("10:66:6a:"), "{first}");
        let second = guest_hwaddr("uid", "eth0", &BTreeSet::from([first]));
        assert_ne!(first, second);
        assert_eq!(host_interface("uid", "eth0").len(), 12);
        assert_ne!(host_interface("uid", "eth0"), host_interface("uide", "th0"));
        // Unicast, locally administered.
        assert_eq!(own_hwaddr("mark", "lan").0[0] & 3, 2);
    }

    #[test]
    fn link_local_addresses_follow_rfc_4291() {
        let hwaddr = HardwareAddress([0x10, 0x66, 0x6a, 1, 2, 3]);
        assert_eq!(
            eui64("fe80::".parse().unwrap(), hwaddr).to_string(),
            "fe80::1266:6aff:fe01:203"
        );
    }

    #[test]
    fn ranges_leave_out_the_bridge() {
        let show = |address: &str| {
            ranges4(address.parse().unwrap(), &[])
                .iter()
                .map(|(a, b)| format!("{a}-{b}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(show("10.0.0.1/24"), ["10.0.0.2-10.0.0.254"]);
        assert_eq!(show("10.0.0.254/24"), ["10.0.0.1-10.0.0.253"]);
        assert_eq!(
            show("10.0.0.9/28"),
            ["10.0.0.1-10.0.0.8", "10.0.0.10-10.0.0.14"]
        );
        assert_eq!(show("10.0.0.1/31"), [""; 0]);
    }

    #[test]
    fn a_default_route_takes_nothing() {
        let taken = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        assert!(pick_ipv4("seed", &taken).is_some());
        assert!(pick_ipv6("seed", &taken).is_some());
        assert_eq!(pick_ipv4("seed", &["10.0.0.0/8".parse().unwrap()]), None);
    }

    proptest! {
        #[test]
        fn a_picked_subnet_is_free(seed in ".{0,8}", taken in proptest::collection::vec((any::<u32>(), 9_u8..=32), 0..20)) {
            let taken: Vec<IpNet> = taken
                .into_iter()
                .filter_map(|(bits, length)| Ipv4Net::new((0x0a00_0000 | bits >> 8).into(), length).ok())
                .map(IpNet::V4)
                .collect();
            if let Some(subnet) = pick_ipv4(&seed, &taken) {
                prop_assert!(taken.iter().all(|other| !overlap(&subnet.into(), other)));
            }
        }

        #[test]
        fn reservations_never_collide_and_use_every_address(count in 1_u32..40) {
            let first = Ipv4Addr::new(10, 0, 0, 10);
            let ranges = [(first, Ipv4Addr::from(u32::from(first) + count / 2)), (Ipv4Addr::new(10, 0, 1, 0), Ipv4Addr::new(10, 0, 1, 5))];
            let mut taken = BTreeSet::new();
            for number in 0..count / 2 + 7 {
                let address = pick_reservation(&number.to_string(), &ranges, &taken);
                prop_assert!(address.is_some_and(|a| taken.insert(a)));
            }
            prop_assert_eq!(pick_reservation("one more", &ranges, &taken), None);
        }
    }
}
