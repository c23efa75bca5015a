//! Keys of devices.

use serde_json::{Value, json};

use crate::engine;
use crate::keys::{Key, furnished, gone, put};

#[test]
fn keys_of_devices() {
    let (folder, engine) = engine();
    let mut tried = furnished(&engine, folder.path(), "dkeys", 79);
    let nic = |more: &str, value: Value| {
        let mut nic = json!({"type": "nic", "network": "dkeys0"});
        put(&mut nic, more, value);
        nic
    };
    let disk = |more: &str, value: Value| {
        let mut disk = json!({"type": "disk", "source": "/srv", "path": "/srv"});
        put(&mut disk, more, value);
        disk
    };
    let proxy = |more: &str, value: Value| {
        let mut proxy =
            json!({"type": "proxy", "listen": "tcp:127.0.0.1:7080", "connect": "tcp:127.0.0.1:80"});
        put(&mut proxy, more, value);
        proxy
    };
    let null = |more: &str, value: Value| {
        let mut unix = json!({"type": "unix-char", "source": "/dev/null", "path": "/dev/other"});
        put(&mut unix, more, value);
        unix
    };
    tried.each(
        vec![
            Key(
                "devices/eth0",
                nic("ipv4", json!("10.79.0.10")),
                "eth0 ipv4.address",
                "10.79.0.11",
            ),
            Key(
                "devices/eth0",
                nic("hwaddr", json!("00:16:3e:00:00:01")),
                "eth0 hwaddr",
                "00:16:3e:00:00:02",
            ),
            Key("devices/eth0", nic("mtu", json!(1400)), "eth0 mtu", "1300"),
            Key(
                "devices/eth0",
                nic("limits/ingress", json!("10Mbit")),
                "eth0 limits.ingress",
                "20Mbit",
            ),
            Key(
                "devices/eth0",
                nic("limits/egress", json!("10Mbit")),
                "eth0 limits.egress",
                "20Mbit",
            ),
            Key(
                "devices/eth0",
                nic("limits/max", json!("10Mbit")),
                "eth0 limits.max",
                "20Mbit",
            ),
            Key(
                "devices/eth0",
                nic("limits/priority", json!(3)),
                "eth0 limits.priority",
                "4",
            ),
            Key(
                "devices/eth0",
                nic("isolated", json!(true)),
                "eth0 security.port_isolation",
                "false",
            ),
            Key(
                "devices/eth0",
                nic("filtering/mac", json!(true)),
                "eth0 security.mac_filtering",
                "false",
            ),
            Key(
                "devices/eth0",
                nic("filtering/ipv4", json!(true)),
                "eth0 security.ipv4_filtering",
                "false",
            ),
            Key(
                "devices/eth0",
                nic("routes", json!(["10.80.1.0/24"])),
                "eth0 ipv4.routes",
                "10.80.2.0/24",
            ),
            Key(
                "devices/eth0",
                nic("connected", json!(false)),
                "eth0 connected",
                "true",
            ),
            Key(
                "devices/eth0",
                nic("name", json!("lan0")),
                "eth0 name",
                "lan1",
            ),
            Key(
                "devices/data",
                disk("readonly", json!(true)),
                "data readonly",
                "false",
            ),
            Key(
                "devices/data",
                disk("shift", json!(true)),
                "data shift",
                "false",
            ),
            Key(
                "devices/data",
                disk("required", json!(false)),
                "data required",
                "true",
            ),
            Key(
                "devices/data",
                disk("recursive", json!(true)),
                "data recursive",
                "false",
            ),
            Key(
                "devices/data",
                disk("propagation", json!("rslave")),
                "data propagation",
                "private",
            ),
            Key(
                "devices/data",
                disk("path", json!("/other")),
                "data path",
                "/data",
            ),
            Key("devices/root/size", json!("64MiB"), "root size", "128MiB"),
            Key(
                "devices/root/limits",
                json!({"read": "10MiB"}),
                "root limits.read",
                "20MiB",
            ),
            Key(
                "devices/root/limits",
                json!({"write": "100iops"}),
                "root limits.write",
                "200iops",
            ),
            Key(
                "devices/web",
                proxy("listen", json!("tcp:127.0.0.1:7081")),
                "web listen",
                "tcp:127.0.0.1:7082",
            ),
            Key(
                "devices/web",
                proxy("connect", json!("tcp:127.0.0.1:81")),
                "web connect",
                "tcp:127.0.0.1:82",
            ),
            Key(
                "devices/web",
                proxy("bind", json!("host")),
                "web bind",
                "instance",
            ),
            Key(
                "devices/web",
                proxy("proxyProtocol", json!(true)),
                "web proxy_protocol",
                "false",
            ),
            Key(
                "devices/nil",
                null("mode", json!("0666")),
                "nil mode",
                "0600",
            ),
            Key("devices/nil", null("uid", json!(7)), "nil uid", "8"),
            Key("devices/nil", null("gid", json!(7)), "nil gid", "8"),
            Key(
                "devices/nil",
                null("required", json!(false)),
                "nil required",
                "true",
            ),
            Key(
                "devices/nil",
                null("path", json!("/dev/nil")),
                "nil path",
                "/dev/nul",
            ),
        ],
        &["config", "device", "set", "dkeys-one"],
    );
    gone(&tried, "dkeys");
    tried.all_hold();
}
