//! The nftables rules of networks: pure, from plans to tables, from tables to one transaction.
//!
//! Each network has two tables of one name, `keel_STATE_INTERFACE`: family `inet` for what is routed, family `bridge`
//! for what guests may send. Chains are the same for every network of a kind; what depends on instances are elements of
//! sets. The prefix keeps the name from being a keyword of nft (`rt` is one).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::addresses::eui64;
use super::plan::{NetworkPlan, PortPlan};
use crate::sys::netlink::{ElementChange, HardwareAddress};

/// The chain without hook whose only rule bears the mark: nft 1.0 keeps no comment of a table in its JSON.
pub const OWNER_CHAIN: &str = "owner";

/// Room of a name of a link with its terminating zero: the width of nft's type `ifname`.
const IFNAMSIZ: usize = 16;

/// One table as it shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// `inet` or `bridge`.
    pub family: &'static str,
    /// Its name.
    pub name: String,
    /// Sets in the order in which they are made.
    pub sets: Vec<Set>,
    /// Chains in the order in which they are made.
    pub chains: Vec<Chain>,
}

/// A set; several types make a concatenation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// Types as nft names them.
    pub types: &'static [&'static str],
    /// Elements, one text per type.
    pub elements: BTreeSet<Vec<String>>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Type, hook and priority; absent: nothing calls it.
    pub hook: Option<(&'static str, &'static str, i32)>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What it is for; names it in reports.
    pub comment: String,
    /// Its statements in the JSON of `man 5 libnftables-json`, in the form in which nft lists them.
    pub statements: Vec<Value>,
}

/// The name of the tables of a network.
pub fn table_name(state_id: &str, interface: &str) -> String {
    // A name of a link may hold what a table's may not.
    let interface: String = interface
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(b).to_string(),
            other => format!("_{other:02x}"),
        })
        .collect();
    format!("keel_{state_id}_{interface}")
}

/// The tables of a network.
pub fn tables(state_id: &str, plan: &NetworkPlan) -> [Table; 2] {
    let name = table_name(state_id, &plan.interface);
    let owner = Chain {
        name: OWNER_CHAIN,
        hook: None,
        rules: vec![rule(plan.mark.clone(), vec![json!({"return": null})])],
    };
    [
        Table {
            family: "inet",
            name: name.clone(),
            sets: Vec::new(),
            chains: vec![owner.clone(), input(plan), forward(plan), postrouting(plan)],
        },
        Table {
            family: "bridge",
            name,
            sets: sets(plan),
            chains: vec![owner, filters()],
        },
    ]
}

/// One transaction that replaces tables as a whole: before and after it all rules are in force, in between too.
pub fn transaction(tables: &[Table]) -> Value {
    let mut commands = Vec::new();
    for table in tables {
        let (family, name) = (table.family, &table.name);
        let empty = json!({"table": {"family": family, "name": name}});
        // Adding first makes the deletion succeed where there is none.
        commands.push(json!({"add": empty}));
        commands.push(json!({"delete": empty}));
        commands.push(json!({"add": empty}));
        for set in &table.sets {
            let mut body =
                json!({"family": family, "table": name, "name": set.name, "type": set.types});
            if let [single] = set.types {
                body["type"] = json!(single);
            }
            if !set.elements.is_empty() {
                body["elem"] = set.elements.iter().map(|e| element(e)).collect();
            }
            commands.push(json!({"add": {"set": body}}));
        }
        for chain in &table.chains {
            let mut body = json!({"family": family, "table": name, "name": chain.name});
            if let Some((kind, hook, priority)) = chain.hook {
                body["type"] = json!(kind);
                body["hook"] = json!(hook);
                body["prio"] = json!(priority);
                body["policy"] = json!("accept");
            }
            commands.push(json!({"add": {"chain": body}}));
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                commands.push(json!({"add": {"rule": {
                    "family": family, "table": name, "chain": chain.name,
                    "comment": rule.comment, "expr": rule.statements,
                }}}));
            }
        }
    }
    json!({"nftables": commands})
}

/// What leads from the elements that `known` answers for a family and set to those that shall be; `None` where an
/// element cannot be said in bytes.
pub fn change_of_elements<'a>(
    tables: &[Table],
    known: impl Fn(&str, &str) -> &'a BTreeSet<Vec<String>>,
) -> Option<Vec<ElementChange>> {
    let mut changes = Vec::new();
    for table in tables {
        for set in &table.sets {
            let known = known(table.family, set.name);
            let keys = |one: &BTreeSet<Vec<String>>, other| {
                let elements = one.difference(other);
                let keys = elements.map(|parts| key(set.types, parts));
                keys.collect::<Option<Vec<_>>>()
            };
            let change = ElementChange {
                family: table.family,
                table: table.name.clone(),
                set: set.name,
                delete: keys(known, &set.elements)?,
                add: keys(&set.elements, known)?,
            };
            if !(change.delete.is_empty() && change.add.is_empty()) {
                changes.push(change);
            }
        }
    }
    Some(changes)
}

/// An element in bytes, each part filled up to four of them.
fn key(types: &[&str], parts: &[String]) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    if types.len() != parts.len() {
        return None;
    }
    for (kind, part) in types.iter().zip(parts) {
        match *kind {
            "ifname" => {
                let end = key.len() + IFNAMSIZ;
                key.extend_from_slice(part.as_bytes());
                if key.len() >= end {
                    return None;
                }
                key.resize(end, 0);
            }
            "ether_addr" => key.extend(part.parse::<HardwareAddress>().ok()?.0),
            "ipv4_addr" => key.extend(part.parse::<Ipv4Addr>().ok()?.octets()),
            "ipv6_addr" => key.extend(part.parse::<Ipv6Addr>().ok()?.octets()),
            _ => return None,
        }
        key.resize(key.len().next_multiple_of(4), 0);
    }
    Some(key)
}

/// One transaction that deletes tables; those named must exist.
pub fn deletion<'a>(tables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let commands: Vec<Value> = tables
        .into_iter()
        .map(|(family, name)| json!({"delete": {"table": {"family": family, "name": name}}}))
        .collect();
    json!({"nftables": commands})
}

fn element(parts: &[String]) -> Value {
    match parts {
        [single] => json!(single),
        several => json!({"concat": several}),
    }
}

fn rule(comment: impl Into<String>, statements: Vec<Value>) -> Rule {
    Rule {
        comment: comment.into(),
        statements,
    }
}

fn compare(operator: &str, left: &Value, right: &Value) -> Value {
    json!({"match": {"op": operator, "left": left, "right": right}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn equals(left: &Value, right: impl Into<Value>) -> Value {
    compare("==", left, &right.into())
}

fn differs(left: &Value, right: impl Into<Value>) -> Value {
    compare("!=", left, &right.into())
}

fn prefix(subnet: IpNet) -> Value {
    json!({"prefix": {"addr": subnet.network().to_string(), "len": subnet.prefix_len()}})
}

fn accept() -> Value {
    json!({"accept": null})
}

fn drop() -> Value {
    json!({"drop": null})
}

/// What guests ask of the host. An accept here cannot overrule a drop in a table of the host's own.
fn input(plan: &NetworkPlan) -> Chain {
    let from = || equals(&meta("iifname"), plan.interface.as_str());
    let firewall4 = plan.ipv4.as_ref().is_some_and(|ip| ip.firewall);
    let firewall6 = plan.ipv6.as_ref().is_some_and(|ip| ip.firewall);
    let mut rules = Vec::new();
    if firewall4 || firewall6 {
        for protocol in ["tcp", "udp"] {
            rules.push(rule(
                format!("dns over {protocol}"),
                vec![from(), equals(&payload(protocol, "dport"), 53), accept()],
            ));
        }
    }
    for (wanted, comment, port) in [
        (firewall4, "dhcp for ipv4", 67),
        (firewall6, "dhcp for ipv6", 547),
    ] {
        if wanted {
            rules.push(rule(
                comment,
                vec![from(), equals(&payload("udp", "dport"), port), accept()],
            ));
        }
    }
    Chain {
        name: "input",
        hook: Some(("filter", "input", 0)),
        rules,
    }
}

fn forward(plan: &NetworkPlan) -> Chain {
    let interface = plan.interface.as_str();
    let mut rules = Vec::new();
    let families = [
        (
            "ipv4",
            plan.ipv4.as_ref().map(|ip| (ip.firewall, ip.routing)),
        ),
        (
            "ipv6",
            plan.ipv6.as_ref().map(|ip| (ip.firewall, ip.routing)),
        ),
    ];
    for (family, settings) in families {
        let only = || equals(&meta("nfproto"), family);
        let (firewall, routing) = settings.unwrap_or((false, false));
        if !routing {
            // Other networks of this host may have switched forwarding on.
            for (inner, outer, way) in [
                ("iifname", "oifname", "out of"),
                ("oifname", "iifname", "into"),
            ] {
                rules.push(rule(
                    format!("no {family} {way} the network"),
                    vec![
                        only(),
                        equals(&meta(inner), interface),
                        differs(&meta(outer), interface),
                        drop(),
                    ],
                ));
            }
        } else if firewall {
            for (key, way) in [("iifname", "out of"), ("oifname", "into")] {
                rules.push(rule(
                    format!("{family} {way} the network"),
                    vec![only(), equals(&meta(key), interface), accept()],
                ));
            }
        }
    }
    Chain {
        name: "forward",
        hook: Some(("filter", "forward", 0)),
        rules,
    }
}

fn postrouting(plan: &NetworkPlan) -> Chain {
    let mut rules = Vec::new();
    let mut translate = |family: &str, subnet: IpNet, source: Option<String>| {
        let protocol = if family == "ipv4" { "ip" } else { "ip6" };
        rules.push(rule(
            format!("{family} nat"),
            vec![
                equals(&payload(protocol, "saddr"), prefix(subnet)),
                differs(&payload(protocol, "daddr"), prefix(subnet)),
                match source {
                    Some(source) => json!({"snat": {"family": protocol, "addr": source}}),
                    None => json!({"masquerade": null}),
                },
            ],
        ));
    };
    if let Some(ip) = plan.ipv4.as_ref().filter(|ip| ip.nat) {
        let source = ip.nat_address.map(|a| a.to_string());
        translate("ipv4", ip.address.trunc().into(), source);
    }
    if let Some(ip) = plan.ipv6.as_ref().filter(|ip| ip.nat) {
        let source = ip.nat_address.map(|a| a.to_string());
        translate("ipv6", ip.address.trunc().into(), source);
    }
    Chain {
        name: "postrouting",
        hook: Some(("nat", "postrouting", 100)),
        rules,
    }
}

/// The IPv6 addresses that a filtered guest may send from: link-local, reserved, and the one that it makes for itself.
fn own_ipv6(plan: &NetworkPlan, port: &PortPlan) -> Vec<String> {
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    let mut addresses = vec![eui64(link_local, port.hwaddr)];
    addresses.extend(port.ipv6);
    if let Some(ip) = &plan.ipv6
        && !port.without_ipv6
        && ip.address.prefix_len() == 64
        && ip.dhcp.as_ref().is_some_and(|dhcp| !dhcp.stateful)
    {
        addresses.push(eui64(ip.address.network(), port.hwaddr));
    }
    addresses.iter().map(ToString::to_string).collect()
}

fn sets(plan: &NetworkPlan) -> Vec<Set> {
    let collect = |name, types, elements: &dyn Fn(&PortPlan) -> Vec<Vec<String>>| Set {
        name,
        types,
        elements: plan.ports.iter().flat_map(elements).collect(),
    };
    let interface = |wanted: bool, port: &PortPlan| -> Vec<Vec<String>> {
        wanted
            .then(|| vec![port.host_interface.clone()])
            .into_iter()
            .collect()
    };
    let pair = |port: &PortPlan, value: String| vec![port.host_interface.clone(), value];
    vec![
        collect("mac", &["ifname"], &|p| interface(p.filtering.mac, p)),
        collect("ipv4", &["ifname"], &|p| interface(p.filtering.ipv4, p)),
        collect("ipv6", &["ifname"], &|p| interface(p.filtering.ipv6, p)),
        collect("mac_allowed", &["ifname", "ether_addr"], &|p| {
            if p.filtering.mac {
                vec![pair(p, p.hwaddr.to_string())]
            } else {
                Vec::new()
            }
        }),
        collect("ipv4_allowed", &["ifname", "ipv4_addr"], &|p| {
            p.ipv4
                .filter(|_| p.filtering.ipv4)
                .map(|address| pair(p, address.to_string()))
                .into_iter()
                .collect()
        }),
        collect("ipv6_allowed", &["ifname", "ipv6_addr"], &|p| {
            if p.filtering.ipv6 {
                own_ipv6(plan, p).into_iter().map(|a| pair(p, a)).collect()
            } else {
                Vec::new()
            }
        }),
    ]
}

/// What a filtered guest may send. Before everything else of the bridge (priority -300), so that a frame that is
/// dropped teaches the bridge no address.
fn filters() -> Chain {
    let on = |set: &str| equals(&meta("iifname"), format!("@{set}"));
    let unless = |protocol, field, set: &str| {
        let pair = json!({"concat": [meta("iifname"), payload(protocol, field)]});
        differs(&pair, format!("@{set}"))
    };
    let rules = vec![
        rule(
            "source mac",
            vec![on("mac"), unless("ether", "saddr", "mac_allowed"), drop()],
        ),
        rule(
            "mac in arp",
            vec![
                on("mac"),
                unless("arp", "saddr ether", "mac_allowed"),
                drop(),
            ],
        ),
        rule(
            // 0.0.0.0 is the question whether an address is free (RFC 5227).
            "address in arp",
            vec![
                on("ipv4"),
                differs(&payload("arp", "saddr ip"), "0.0.0.0"),
                unless("arp", "saddr ip", "ipv4_allowed"),
                drop(),
            ],
        ),
        rule(
            "dhcp client",
            vec![
                on("ipv4"),
                equals(&payload("ip", "saddr"), "0.0.0.0"),
                equals(&payload("ip", "daddr"), "255.255.255.255"),
                equals(&payload("udp", "sport"), 68),
                equals(&payload("udp", "dport"), 67),
                accept(),
            ],
        ),
        rule(
            "source ipv4",
            vec![on("ipv4"), unless("ip", "saddr", "ipv4_allowed"), drop()],
        ),
        rule(
            "no dhcp server",
            vec![on("ipv4"), equals(&payload("udp", "sport"), 67), drop()],
        ),
        rule(
            "no router advertisement",
            vec![
                on("ipv6"),
                equals(&payload("icmpv6", "type"), "nd-router-advert"),
                drop(),
            ],
        ),
        rule(
            "no dhcpv6 server",
            vec![on("ipv6"), equals(&payload("udp", "sport"), 547), drop()],
        ),
        rule(
            // :: is the question whether an address is free (RFC 4862).
            "source ipv6",
            vec![
                on("ipv6"),
                differs(&payload("ip6", "saddr"), "::"),
                unless("ip6", "saddr", "ipv6_allowed"),
                drop(),
            ],
        ),
        // A VLAN tag would hide the addresses from the rules above.
        rule(
            "ipv4: nothing unknown",
            vec![on("ipv4"), unknown_protocol(), drop()],
        ),
        rule(
            "ipv6: nothing unknown",
            vec![on("ipv6"), unknown_protocol(), drop()],
        ),
    ];
    Chain {
        name: "prerouting",
        hook: Some(("filter", "prerouting", -300)),
        rules,
    }
}

fn unknown_protocol() -> Value {
    differs(
        &payload("ether", "type"),
        json!({"set": ["ip", "arp", "ip6"]}),
    )
}

#[cfg(test)]
mod tests {
    use super::super::plan::{DnsMode, DnsPlan, Filtering, Ipv4Plan, RateLimits};
    use super::*;
    use crate::sys::netlink::HardwareAddress;

    fn plan(nat: bool, routing: bool, filtering: bool) -> NetworkPlan {
        NetworkPlan {
            mark: "keel:main:1:lan".to_owned(),
            interface: "lan".to_owned(),
            ipv4: Some(Ipv4Plan {
                address: "10.20.0.1/24".parse().unwrap(),
                nat,
                nat_address: None,
                dhcp: None,
                firewall: true,
                routing,
                routes: Vec::new(),
            }),
            ipv6: None,
            dns: DnsPlan {
                domain: String::new(),
                mode: DnsMode::None,
                nameservers: Vec::new(),
                search: Vec::new(),
                hosts: Vec::new(),
            },
            mtu: None,
            hwaddr: None,
            external_interfaces: Vec::new(),
            multicast_snooping: true,
            reservations: Vec::new(),
            ports: vec![PortPlan {
                mark: "keel:main:2:eth0".to_owned(),
                instance: "web-1".to_owned(),
                host_interface: "kv0".to_owned(),
                hwaddr: HardwareAddress([0x10, 0x66, 0x6a, 1, 2, 3]),
                ipv4: Some([10, 20, 0, 10].into()),
                ipv6: None,
                without_ipv6: false,
                parent: None,
                guest_interface: "eth0".to_owned(),
                mtu: None,
                isolated: false,
                filtering: Filtering {
                    mac: filtering,
                    ipv4: filtering,
                    ipv6: filtering,
                },
                limits: RateLimits::default(),
                routes: Vec::new(),
                connected: true,
            }],
        }
    }

    #[test]
    fn a_table_name_is_no_keyword_and_tells_interfaces_apart() {
        assert_eq!(table_name("0a1b2c3d", "rt"), "keel_0a1b2c3d_rt");
        assert_eq!(table_name("0a1b2c3d", "br-0"), "keel_0a1b2c3d_br_2d0");
        assert_ne!(table_name("0", "br-2d"), table_name("0", "br_2d"));
    }

    #[test]
    fn rules_follow_what_the_network_shall_do() {
        for (nat, routing, forward, postrouting) in [
            (true, true, "ipv4 out of the network", 1),
            (false, true, "ipv4 out of the network", 0),
            (false, false, "no ipv4 out of the network", 0),
        ] {
            let [inet, _] = tables("0", &plan(nat, routing, true));
            let chain = |name: &str| inet.chains.iter().find(|c| c.name == name).unwrap();
            assert_eq!(chain("forward").rules[0].comment, forward);
            assert_eq!(chain("postrouting").rules.len(), postrouting);
            assert_eq!(chain(OWNER_CHAIN).rules[0].comment, "keel:main:1:lan");
        }
    }

    #[test]
    fn ports_are_elements_only() {
        let [_, with] = tables("0", &plan(true, true, true));
        let [_, without] = tables("0", &plan(true, true, false));
        assert_eq!(with.chains, without.chains);
        assert!(without.sets.iter().all(|set| set.elements.is_empty()));
        let all: Vec<String> = with
            .sets
            .iter()
            .flat_map(|set| &set.elements)
            .map(|element| element.join(" "))
            .collect();
        let wanted = [
            "kv0",
            "kv0",
            "kv0",
            "kv0 10:66:6a:01:02:03",
            "kv0 10.20.0.10",
            "kv0 fe80::1266:6aff:fe01:203",
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_change_of_elements_takes_and_adds_only_those() {
        let after = tables("0", &plan(true, true, true));
        let before = BTreeSet::from([vec!["kv1".to_owned()], vec!["kv0".to_owned()]]);
        let empty = BTreeSet::new();
        let change = change_of_elements(&after[1..], |_, set| match set {
            "mac" => &before,
            "ipv4" | "ipv6" => &after[1].sets[0].elements,
            _ => &empty,
        });
        let change = change.unwrap();
        let [mac, mac_allowed, ipv4_allowed, ipv6_allowed] = &*change else {
            panic!("{change:?}");
        };
        assert_eq!(mac.delete, [b"kv1\0\0\0\0\0\0\0\0\0\0\0\0\0"]);
        assert!(mac.add.is_empty());
        assert_eq!((mac.family, &*mac.table), ("bridge", "keel_0_lan"));
        let keys: [&[u8]; 3] = [
            b"kv0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\x66\x6a\x01\x02\x03\0\0",
            b"kv0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\x14\x00\x0a",
            b"kv0\0\0\0\0\0\0\0\0\0\0\0\0\0\xfe\x80\0\0\0\0\0\0\x12\x66\x6a\xff\xfe\x01\x02\x03",
        ];
        for (change, key) in [mac_allowed, ipv4_allowed, ipv6_allowed].iter().zip(keys) {
            assert!(
                change.delete.is_empty() && change.add == [key],
                "{change:?}"
            );
        }
    }

    #[test]
    fn what_is_no_element_has_no_bytes() {
        let key = |kind: &'static str, part: &str| key(&[kind], &[part.to_owned()]);
        assert!(key("ifname", "exactly-sixteen-").is_none());
        assert!(key("ifname", "fifteen-letters").is_some());
        assert!(key("ipv4_addr", "10.0.0").is_none());
        assert!(key("mark", "1").is_none());
        assert!(super::key(&["ifname"], &[]).is_none());
    }
}
