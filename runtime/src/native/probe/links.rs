//! Links of the host that interfaces of machines can be over: which there are, and whether the kernel makes macvtaps.

use std::collections::BTreeMap;

use manifests::feature::LinkFacts;

use crate::native::chain;
use crate::sys::macvtap;
use crate::sys::netlink::{Connection, HardwareAddress, Link, NewMacvtap};

/// Whether macvtaps can be made, else the kernel's answer. None is made.
pub(super) fn macvtaps() -> Result<(), String> {
    macvtap::can_be_opened().map_err(|error| format!("mount sysfs and a tmpfs: {error}"))?;
    let over_nothing = NewMacvtap {
        name: "kxprobe",
        parent: 0,
        hwaddr: HardwareAddress([0x12, 0x66, 0x6a, 0, 0, 1]),
        mtu: None,
    };
    let asked = Connection::open().and_then(|mut it| it.create_macvtap(&over_nothing));
    match asked {
        Ok(()) => Ok(()),
        // A kernel that knows the kind, loading its module for that, misses the parent.
        Err(error) if is_refused_for_its_parent(&error) => Ok(()),
        Err(error) => Err(chain(&error)),
    }
}

fn is_refused_for_its_parent(error: &crate::sys::netlink::NetlinkError) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV))
}

/// The links of this host, by name; empty where the kernel lists none.
pub fn link_facts() -> BTreeMap<String, LinkFacts> {
    let links = Connection::open().and_then(|mut connection| connection.links());
    facts(&links.unwrap_or_default())
}

/// What links are for those that are to be over them.
fn facts(links: &[Link]) -> BTreeMap<String, LinkFacts> {
    let name = |index: u32| {
        let mut links = links.iter();
        links
            .find(|link| link.index == index)
            .map(|link| &link.name)
    };
    let is_port = |link: &&Link| {
        let ours = link
            .alias
            .as_ref()
            .is_some_and(|alias| alias.starts_with("keel:"));
        ours && link.kind.as_deref() != Some("bridge")
    };
    let one = |link: &Link| {
        let master = link.master.map(|master| match name(master) {
            Some(master) => format!("it is in {master}"),
            None => "it is in another link".to_owned(),
        });
        let taken = match link.kind.as_deref() {
            // What is over one is over what that is over.
            Some("macvlan" | "macvtap") => Some("it is a macvlan itself".to_owned()),
            Some("ipvlan" | "ipvtap") => Some("it is an ipvlan".to_owned()),
            _ if link.hwaddr.is_none() => Some("it is no Ethernet".to_owned()),
            // The loopback has an address of zeroes.
            None if link.hwaddr == Some(HardwareAddress([0; 6])) => {
                Some("it is the loopback".to_owned())
            }
            _ => master,
        };
        let facts = LinkFacts {
            mtu: link.mtu,
            taken,
        };
        (link.name.clone(), facts)
    };
    links
        .iter()
        .filter(|link| !is_port(link))
        .map(one)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_carry_others_is_told_from_what_cannot() {
        let link = |index, name: &str, kind: Option<&str>| Link {
            index,
            name: name.to_owned(),
            alias: None,
            kind: kind.map(str::to_owned),
            hwaddr: Some(HardwareAddress([2, 0, 0, 0, 0, 1])),
            mtu: 1500,
            up: true,
            carrier: true,
            master: None,
            peer: None,
            isolated: None,
            multicast_snooping: None,
        };
        let mut port = link(3, "eth1", None);
        port.master = Some(4);
        let mut loopback = link(1, "lo", None);
        loopback.hwaddr = Some(HardwareAddress([0; 6]));
        let mut tunnel = link(6, "tun0", Some("tun"));
        tunnel.hwaddr = None;
        let mut ours = link(7, "kv1", Some("tun"));
        ours.alias = Some("keel:0:instance:1".to_owned());
        let links = [
            loopback,
            link(2, "eth0", None),
            port,
            link(4, "br0", Some("bridge")),
            link(5, "mac0", Some("macvtap")),
            tunnel,
            ours,
        ];
        let told: Vec<(String, Option<String>)> = facts(&links)
            .into_iter()
            .map(|(name, facts)| (name, facts.taken))
            .collect();
        let told: Vec<(&str, Option<&str>)> = told
            .iter()
            .map(|(name, taken)| (name.as_str(), taken.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("br0", None),
                ("eth0", None),
                ("eth1", Some("it is in br0")),
                ("lo", Some("it is the loopback")),
                ("mac0", Some("it is a macvlan itself")),
                ("tun0", Some("it is no Ethernet")),
            ]
        );
    }
}
