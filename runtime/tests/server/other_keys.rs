//! Keys of what instances stand on.

use manifests::action::Verb;
use manifests::id::Address;
use manifests::kind::Kind;
use serde_json::{Value, json};

use crate::engine;
use crate::keys::{Key, Tried, furnished, gone, put};

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

#[test]
fn keys_of_projects() {
    let (folder, engine) = engine();
    let mut tried = Tried::alone(&engine, folder.path());
    let project = Address::new(Kind::Project, "pkeys");
    tried.base = json!({});
    tried.address = tried.wanted.want(project, &tried.base);
    tried.wanted.perform(&engine, &tried.address, Verb::Create);
    let keys = vec![
        // Not images: a server of Incus 6.0 cannot take them on again (UNIQUE constraint failed).
        Key(
            "features/profiles",
            json!(false),
            "features.profiles",
            "true",
        ),
        Key(
            "features/volumes",
            json!(false),
            "features.storage.volumes",
            "true",
        ),
        Key(
            "features/buckets",
            json!(false),
            "features.storage.buckets",
            "true",
        ),
        Key(
            "features/networks",
            json!(true),
            "features.networks",
            "false",
        ),
        Key("limits/instances", json!(3), "limits.instances", "4"),
        Key("limits/containers", json!(3), "limits.containers", "4"),
        Key(
            "limits/virtualMachines",
            json!(3),
            "limits.virtual-machines",
            "4",
        ),
        Key("limits/cpu", json!(3), "limits.cpu", "4"),
        Key("limits/memory", json!("1GiB"), "limits.memory", "2GiB"),
        Key("limits/disk", json!("1GiB"), "limits.disk", "2GiB"),
        Key("limits/processes", json!(300), "limits.processes", "400"),
        Key("limits/networks", json!(3), "limits.networks", "4"),
        Key("restrictions/enabled", json!(true), "restricted", "false"),
        Key(
            "restrictions/privileged",
            json!("allow"),
            "restricted.containers.privilege",
            "unprivileged",
        ),
        Key(
            "restrictions/nesting",
            json!("allow"),
            "restricted.containers.nesting",
            "block",
        ),
        Key(
            "restrictions/syscallInterception",
            json!("allow"),
            "restricted.containers.interception",
            "block",
        ),
        Key(
            "restrictions/diskPaths",
            json!(["/srv"]),
            "restricted.devices.disk.paths",
            "/home",
        ),
        Key(
            "restrictions/networkAccess",
            json!(["lan"]),
            "restricted.networks.access",
            "wan",
        ),
        Key(
            "restrictions/snapshots",
            json!("allow"),
            "restricted.snapshots",
            "block",
        ),
        Key(
            "restrictions/backups",
            json!("allow"),
            "restricted.backups",
            "block",
        ),
        Key(
            "restrictions/devices/disk",
            json!("allow"),
            "restricted.devices.disk",
            "block",
        ),
        Key(
            "restrictions/devices/nic",
            json!("allow"),
            "restricted.devices.nic",
            "block",
        ),
        Key(
            "restrictions/devices/proxy",
            json!("allow"),
            "restricted.devices.proxy",
            "block",
        ),
        Key(
            "restrictions/devices/unixChar",
            json!("allow"),
            "restricted.devices.unix-char",
            "block",
        ),
        Key(
            "restrictions/devices/unixBlock",
            json!("allow"),
            "restricted.devices.unix-block",
            "block",
        ),
        Key(
            "restrictions/devices/usb",
            json!("allow"),
            "restricted.devices.usb",
            "block",
        ),
        Key(
            "restrictions/devices/gpu",
            json!("allow"),
            "restricted.devices.gpu",
            "block",
        ),
        Key(
            "restrictions/devices/pci",
            json!("allow"),
            "restricted.devices.pci",
            "block",
        ),
    ];
    tried.each(keys, &["project", "set", "pkeys"]);
    tried.wanted.perform(&engine, &tried.address, Verb::Delete);
    tried.all_hold();
}
