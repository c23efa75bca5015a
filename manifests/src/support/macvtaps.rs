//! What an interface of a machine that is on the wire of a link of the host cannot be, on any host and on this one.

use super::host::error;
use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::devices::nic::{Nic, NicType};
use crate::diagnostic::Diagnostics;
use crate::feature::{Capabilities, MACVTAPS};
use crate::kind::Spec;
use crate::kinds::instance::Instance;
use crate::near_miss::nearest;
use crate::pointer::Pointer;
use crate::scalar::address::{NicAddress4, NicAddress6};

const ADDRESS: &str =
    "the network of its parent gives addresses, and nothing on this host reserves or filters them";
const ROUTES: &str = "the host itself does not reach it: routes to it are for routers on its wire";
const FILTER: &str = "only ports of bridges are filtered: it is on the wire of its parent with all that its guest sends";

/// The interfaces of a machine that are macvtaps, by device.
fn macvtaps(instance: &Instance) -> impl Iterator<Item = (&String, &Nic)> {
    let devices = instance.devices.iter().filter(|_| !instance.is_container());
    devices.filter_map(|(name, device)| match device {
        Device::Nic(nic) if nic.nic_type == Some(NicType::Macvlan) => Some((name, nic.as_ref())),
        _ => None,
    })
}

/// Says what none can have.
pub(super) fn of(resource: &Resource, instance: &Instance, say: &mut dyn FnMut(&str, String)) {
    for (name, nic) in macvtaps(instance) {
        let device = Pointer::new("/spec/devices").field(name);
        // By default all is filtered that can be; only who asks for it relies on it.
        let filter = |field: &str, on: bool| {
            let at = device.field("filtering").field(field);
            on && resource.provenance.at(&at).is_some()
        };
        let wrong = [
            (
                "isolated",
                nic.isolated,
                "it reaches who is on the wire of its parent: only ports of bridges are isolated",
            ),
            ("routes", !nic.routes.is_empty(), ROUTES),
            ("ipv4/routes", !nic.ipv4.routes.is_empty(), ROUTES),
            ("ipv6/routes", !nic.ipv6.routes.is_empty(), ROUTES),
            (
                "ipv4/address",
                nic.ipv4.address != NicAddress4::Dynamic,
                ADDRESS,
            ),
            (
                "ipv6/address",
                nic.ipv6.address != NicAddress6::Dynamic,
                ADDRESS,
            ),
            ("filtering/mac", filter("mac", nic.filtering.mac), FILTER),
            ("filtering/ipv4", filter("ipv4", nic.filtering.ipv4), FILTER),
            ("filtering/ipv6", filter("ipv6", nic.filtering.ipv6), FILTER),
        ];
        for (field, _, why) in wrong.iter().filter(|(_, wrong, _)| *wrong) {
            say(&format!("{}/{field}", device.as_str()), (*why).to_owned());
        }
    }
}

/// What one asks for beyond what this host has.
pub(super) fn beyond(
    resource: &Resource,
    instance: &Instance,
    desired: &DesiredSet,
    host: &Capabilities,
    found: &mut Diagnostics,
) {
    for (name, nic) in macvtaps(instance) {
        let device = Pointer::new("/spec/devices").field(name);
        if let Some(why) = host.trouble(MACVTAPS) {
            found.push(error(resource, device.field("nicType"), why.to_owned()));
        }
        let (Some(parent), Some(facts)) = (&nic.parent, &host.machines) else {
            continue;
        };
        // A bridge that this very apply makes.
        let is_made = desired.resources.values().any(|other| {
            matches!(&other.spec, Spec::Network(network) if network.interface.as_ref() == Some(parent))
        });
        if facts.links.is_empty() || is_made {
            continue;
        }
        let at = device.field("parent");
        match facts.links.get(parent) {
            None => {
                let known: Vec<&str> = facts
                    .links
                    .iter()
                    .filter(|(_, link)| link.taken.is_none())
                    .map(|(name, _)| name.as_str())
                    .collect();
                let problem = error(resource, at, format!("this host has no interface {parent}"));
                found.push(match nearest(parent, &known) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None if known.is_empty() => problem,
                    None => problem.hint(format!("it has {}", known.join(", "))),
                });
            }
            Some(link) => {
                if let Some(why) = &link.taken {
                    let message = format!("nothing can be over {parent}: {why}");
                    found.push(error(resource, at, message));
                }
                if let Some(mtu) = nic.mtu.filter(|mtu| *mtu > link.mtu) {
                    let message = format!(
                        "{parent} takes packets of {} bytes, and these would have {mtu}",
                        link.mtu
                    );
                    found.push(error(resource, device.field("mtu"), message));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::machines::tests::{found, host};
    use crate::feature::{Capabilities, LinkFacts, MACVTAPS, MachineFacts, Missing};
    use crate::read::Texts;
    use crate::resolve::resolve;

    fn linked() -> Capabilities {
        let link = |mtu, taken: Option<&str>| LinkFacts {
            mtu,
            taken: taken.map(str::to_owned),
        };
        let links = BTreeMap::from([
            ("eth0".to_owned(), link(1500, None)),
            (
                "eth1".to_owned(),
                link(1500, Some("it is in the bridge br0")),
            ),
        ]);
        Capabilities {
            machines: Some(MachineFacts {
                links,
                ..MachineFacts::default()
            }),
            ..host()
        }
    }

    fn nic(more: &str) -> String {
        format!(
            "  type: virtual-machine\n  image: tiny\n  devices:\n    wan: {{ type: nic, nicType: macvlan, {more} }}\n"
        )
    }

    #[test]
    fn its_parent_is_a_link_that_can_carry_it() {
        let cases = [
            ("parent: eth0", None),
            ("parent: eth0, mtu: 1400", None),
            (
                "parent: eht0",
                Some("/spec/devices/wan/parent this host has no interface eht0"),
            ),
            (
                "parent: eth1",
                Some("/spec/devices/wan/parent nothing can be over eth1: it is in the bridge br0"),
            ),
            (
                "parent: eth0, mtu: 9000",
                Some(
                    "/spec/devices/wan/mtu eth0 takes packets of 1500 bytes, and these would have 9000",
                ),
            ),
        ];
        for (written, wanted) in cases {
            let told = found(&nic(written), &linked());
            match wanted {
                None => assert_eq!(told, Vec::<String>::new(), "{written}"),
                Some(wanted) => assert!(
                    matches!(told.as_slice(), [one] if one.ends_with(wanted)),
                    "{written}: {told:?}"
                ),
            }
            // A host of which nothing is known.
            assert_eq!(found(&nic(written), &host()), Vec::<String>::new());
        }
        let lacking = Capabilities {
            missing: vec![Missing {
                feature: MACVTAPS.to_owned(),
                why: "absent".to_owned(),
            }],
            ..linked()
        };
        let told = found(&nic("parent: eth0"), &lacking);
        assert!(
            matches!(told.as_slice(), [one] if one.ends_with("/spec/devices/wan/nicType absent")),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_of_bridges_is_told_where_it_is_asked_for() {
        let told = |kind: &str, more: &str| {
            let text = format!(
                "apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: {{name: fast}}\n---\n\
                 apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{name: one}}\nspec:\n  type: {kind}\n  devices:\n    \
                 wan: {{ type: nic, nicType: macvlan, parent: eth0{more} }}\n"
            );
            let texts = Texts {
                root: "/".into(),
                files: vec![("a.yaml".to_owned(), text)],
                ..Texts::default()
            };
            let resolved = resolve(&texts, None);
            let desired = resolved
                .desired
                .unwrap_or_else(|| panic!("{:?}", resolved.found));
            let all = super::super::unsupported(&desired);
            let paths = all
                .sorted()
                .iter()
                .map(|one| one.path.to_string())
                .collect();
            let paths: Vec<String> = paths;
            paths
        };
        let cases: [(&str, &[&str]); 6] = [
            ("", &[]),
            (", limits: { max: 10Mbit }, connected: false", &[]),
            (", filtering: { mac: false }", &[]),
            (
                ", filtering: { mac: true }, isolated: true",
                &["filtering/mac", "isolated"],
            ),
            (
                ", ipv4: { address: 10.9.0.2 }, ipv6: { address: none }",
                &["ipv4/address", "ipv6/address"],
            ),
            (", vlan: 7, routes: [10.8.0.0/16]", &["routes", "vlan"]),
        ];
        for (more, wanted) in cases {
            let mut paths = told("virtual-machine", more);
            paths.sort();
            let wanted: Vec<String> = wanted
                .iter()
                .map(|field| format!("/spec/devices/wan/{field}"))
                .collect();
            assert_eq!(paths, wanted, "{more}");
        }
        assert_eq!(
            told("container\n  image: busybox", ""),
            ["/spec/devices/wan/nicType"]
        );
    }
}
