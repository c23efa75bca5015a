//! Keys of what instances stand on.

use manifests::action::Verb;
use manifests::id::Address;
use manifests::kind::Kind;
use serde_json::{Value, json};

use crate::engine;
use crate::keys::{Key, furnished, gone, put};

#[test]
fn keys_of_pools_networks_and_volumes() {
    let (folder, engine) = engine();
    let mut tried = furnished(&engine, folder.path(), "okeys", 80);
    tried.address = Address::new(Kind::StoragePool, "okeys-pool");
    tried.base = json!({"driver": "dir"});
    tried.each(
        vec![
            Key("volumeDefaults/size", json!("1GiB"), "volume.size", "2GiB"),
            Key(
                "config",
                json!({"rsync.bwlimit": "10MiB"}),
                "rsync.bwlimit",
                "20MiB",
            ),
        ],
        &["storage", "set", "okeys-pool"],
    );
    tried.address = Address::new(Kind::Network, "okeys0");
    tried.base = json!({"ipv4": {"address": "10.80.0.1/24"}, "ipv6": {"address": "none"}});
    let six = |more: &str, value: Value| {
        let mut six = json!({"address": "fd42:80::1/64"});
        put(&mut six, more, value);
        six
    };
    tried.each(
        vec![
            Key(
                "ipv4/address",
                json!("10.80.1.1/24"),
                "ipv4.address",
                "10.80.2.1/24",
            ),
            Key("ipv4/nat", json!(true), "ipv4.nat", "false"),
            Key("ipv4/dhcp/enabled", json!(false), "ipv4.dhcp", "true"),
            Key(
                "ipv4/dhcp/ranges",
                json!(["10.80.0.50-10.80.0.60"]),
                "ipv4.dhcp.ranges",
                "10.80.0.5-10.80.0.6",
            ),
            Key("ipv4/dhcp/expiry", json!("2h"), "ipv4.dhcp.expiry", "30m"),
            Key(
                "ipv4/dhcp/gateway",
                json!("10.80.0.9"),
                "ipv4.dhcp.gateway",
                "10.80.0.8",
            ),
            Key("ipv4/firewall", json!(false), "ipv4.firewall", "true"),
            Key("ipv4/routing", json!(false), "ipv4.routing", "true"),
            Key(
                "ipv4/routes",
                json!(["10.81.0.0/24"]),
                "ipv4.routes",
                "10.82.0.0/24",
            ),
            Key("ipv6", six("nat", json!(true)), "ipv6.nat", "false"),
            Key(
                "ipv6",
                six("stateful", json!(true)),
                "ipv6.dhcp.stateful",
                "false",
            ),
            Key(
                "ipv6",
                six("firewall", json!(false)),
                "ipv6.firewall",
                "true",
            ),
            Key("ipv6", six("routing", json!(false)), "ipv6.routing", "true"),
            Key(
                "ipv6",
                six("routes", json!(["fd42:81::/64"])),
                "ipv6.routes",
                "fd42:82::/64",
            ),
            Key("dns/domain", json!("okeys"), "dns.domain", "other"),
            Key("dns/mode", json!("none"), "dns.mode", "dynamic"),
            Key(
                "dns/search",
                json!(["a.example", "b.example"]),
                "dns.search",
                "c.example",
            ),
            Key(
                "dns/nameservers",
                json!(["10.80.0.7"]),
                "dns.nameservers",
                "10.80.0.6",
            ),
            Key("bridge/mtu", json!(1400), "bridge.mtu", "1300"),
            Key(
                "bridge/hwaddr",
                json!("00:16:3e:00:00:03"),
                "bridge.hwaddr",
                "00:16:3e:00:00:04",
            ),
            Key(
                "config",
                json!({"raw.dnsmasq": "log-queries"}),
                "raw.dnsmasq",
                "log-dhcp",
            ),
        ],
        &["network", "set", "okeys0"],
    );
    let mut volume = Address::new(Kind::Volume, "okeys-data");
    volume.pool = Some("okeys-pool".to_owned());
    tried.base = json!({"pool": "okeys-pool", "contentType": "filesystem"});
    tried.address = tried.wanted.want(volume, &tried.base);
    tried.wanted.perform(&engine, &tried.address, Verb::Create);
    tried.each(
        vec![
            Key("size", json!("64MiB"), "size", "128MiB"),
            Key("shifted", json!(true), "security.shifted", "false"),
            Key("unmapped", json!(true), "security.unmapped", "false"),
            Key(
                "snapshots/schedule",
                json!("@daily"),
                "snapshots.schedule",
                "@hourly",
            ),
            Key("snapshots/expiry", json!("7d"), "snapshots.expiry", "3d"),
            Key(
                "snapshots/pattern",
                json!("a-%d"),
                "snapshots.pattern",
                "b-%d",
            ),
        ],
        &["storage", "volume", "set", "okeys-pool", "okeys-data"],
    );
    tried.wanted.perform(&engine, &tried.address, Verb::Delete);
    gone(&tried, "okeys");
    tried.all_hold();
}
