//! A server that people configured by its own client becomes manifests.

use manifests::path_io;

use crate::world::Server;

const IMAGE: &str = "\
apiVersion: evenkeel/v1
kind: Image
metadata: { name: odd }
spec:
  source: { builtin: busybox }
";

/// What people do with a server's own client; in the order in which they must.
const WAYS: &[&str] = &[
    "storage create odd dir",
    "storage create odd-loop btrfs size=200MiB --description loop",
    "network create odd0 ipv4.address=10.91.0.1/24 ipv6.address=none ipv4.nat=true dns.domain=odd.test",
    "network create odd1 ipv4.address=none ipv6.address=fd42:91::1/64 ipv6.dhcp.stateful=true bridge.mtu=1400",
    "network create odd2",
    "network create odd3 ipv4.address=10.93.0.1/24 ipv6.address=none ipv4.dhcp.ranges=10.93.0.10-10.93.0.99 \
     ipv4.dhcp.expiry=2h ipv4.routes=10.94.0.0/24 raw.dnsmasq=dhcp-option=42,10.93.0.1 user.note=hello",
    "network acl create odd --description rules",
    "network acl rule add odd ingress action=allow protocol=tcp destination_port=80,443 description=http",
    "network acl rule add odd egress action=reject destination=10.0.0.0/8 state=logged",
    "network set odd0 security.acls=odd security.acls.default.ingress.action=drop",
    "network forward create odd0 192.0.2.91 --description outside",
    "network forward port add odd0 192.0.2.91 tcp 8080 10.91.0.20 80",
    "profile device add default root disk path=/ pool=odd",
    "profile device add default eth0 nic network=odd0",
    "profile create odd-web --description web",
    "profile set odd-web limits.memory=256MiB limits.cpu=1 environment.TIER=web boot.autostart=true",
    "profile set odd-web user.owner=somebody",
    "profile device add odd-web data disk source=/usr/share path=/data readonly=true",
    "profile create odd-idle",
    "profile set odd-idle limits.memory=64MiB security.nesting=true",
    "storage volume create odd odd-one user.x=y",
    "storage volume create odd odd-two snapshots.schedule=@daily snapshots.expiry=7d --description second",
    "storage volume create odd odd-block --type=block size=32MiB",
    "project create odd-shop -c features.images=false -c features.profiles=false -c limits.instances=10",
    "project create odd-lab -c features.images=false -c restricted=true -c restricted.containers.nesting=allow",
    "init odd odd-c1",
    "init odd odd-c2 -p default -p odd-web",
    "init odd odd-c3 -p default -p odd-web -p odd-idle -c limits.memory=128MiB",
    "init odd odd-c4 --no-profiles -s odd",
    "init odd odd-c5 -d eth0,ipv4.address=10.91.0.50 -d eth0,hwaddr=00:16:3e:11:22:33",
    "init odd odd-c6 -c security.privileged=true -c raw.lxc=lxc.apparmor.profile=unconfined",
    "init odd odd-c7 -c snapshots.schedule=@hourly -c snapshots.expiry=2w -c snapshots.pattern=auto-%d",
    "init odd odd-c8 -c limits.cpu=0-1 -c limits.cpu.allowance=50% -c limits.cpu.priority=3 -c limits.processes=99",
    "init odd odd-c9 -c limits.cpu.allowance=25ms/100ms -c limits.memory=10% -c limits.memory.enforce=soft \
     -c limits.memory.swap=false",
    "init odd odd-c10 -c cloud-init.user-data=#cloud-config -c cloud-init.network-config={version:2}",
    "init odd odd-c11 -c security.idmap.isolated=true -c security.idmap.size=70000 \
     -c security.syscalls.deny_compat=true -c security.syscalls.intercept.mknod=true",
    "init odd odd-c12 -c linux.sysctl.net.ipv4.ip_forward=1 -c boot.autostart.priority=7 -c boot.autostart.delay=3 \
     -c boot.stop.priority=2 -c boot.host_shutdown_timeout=15 -c boot.autostart=true",
    "init odd odd-c13 -c user.meta=1",
    "config device add odd-c13 volume disk pool=odd source=odd-one path=/mnt",
    "config device add odd-c13 web proxy listen=tcp:0.0.0.0:8091 connect=tcp:127.0.0.1:80",
    "config device add odd-c13 null unix-char source=/dev/null path=/dev/mynull mode=0666",
    "config device add odd-c13 no none",
    "init odd odd-c14 --ephemeral",
    "init odd odd-c15 --project odd-shop",
    "init odd odd-c16 --project odd-lab --no-profiles -s odd",
    "launch odd odd-run1 -c limits.memory=100MiB",
    "launch odd odd-run2 -n odd3",
    "pause odd-run2",
    "snapshot create odd-c1 first",
    "copy odd-c2 odd-copy",
    "config device add odd-c5 eth1 nic nictype=bridged parent=odd3 name=lan0 security.mac_filtering=true \
     limits.ingress=10Mbit",
    "config device add odd-c5 eth2 nic network=odd1 ipv6.address=fd42:91::50",
    "config device override odd-c2 eth0 ipv4.address=10.91.0.52",
    "config device add odd-c2 data none",
    "image alias create odd-other FINGERPRINT",
];

/// Profiles are not the source's: what they name is in use as long as they are there.
const PROFILES: &[&str] = &[
    "profile device remove default root",
    "profile device remove default eth0",
    "profile delete odd-web",
    "profile delete odd-idle",
];

/// Nor are images of which nobody knows where they came from.
const LAST: &[&str] = &["image alias delete odd-other", "image alias delete odd"];

#[test]
fn what_people_made_is_imported_and_the_next_plan_is_empty() {
    let server = Server::new("odd");
    server.write(
        "keel.yaml",
        "apiVersion: evenkeel/v1\nkind: Source\nname: odd\n",
    );
    server.write("image.yaml", IMAGE);
    server.converge();
    server.keel(&["forget", "image/odd"]).with(0);
    let fingerprint = server.incus("image list -f csv -c F odd").trim().to_owned();
    for way in WAYS {
        server.incus(&way.replace("FINGERPRINT", &fingerprint));
    }
    let before = server.incus("config show odd-c3");
    let from = format!("incus:unix:{}", runtime::testing::incus_socket().display());
    // Nothing is marked where that is not asked for.
    let looked = server.path().join("looked");
    let looked = looked.to_str().expect("UTF-8");
    server
        .keel(&["import", &from, looked, "--source", "odd-server"])
        .with(0)
        .saying("and does nothing else");
    assert_eq!(server.incus("config show odd-c3"), before);
    let read = |name: &str| path_io::read_to_string(format!("{looked}/{name}")).expect(name);
    assert!(read("profiles.yaml").contains("TIER: web"));
    let three = read("instances/odd-c3.yaml");
    for line in ["memory: 128MiB", "- odd-web", "- odd-idle", "image: odd"] {
        assert!(three.contains(line), "no {line} in {three}");
    }
    for word in ["TIER", "volatile", "nesting", "eth0"] {
        assert!(!three.contains(word), "{word} in {three}");
    }
    server.keel(&["validate", looked]).with(0);
    // And where it is: at once there is nothing to do.
    let into = server.path().join("imported");
    let into = into.to_str().expect("UTF-8");
    server
        .keel(&["import", &from, into, "--source", "odd-server", "--adopt"])
        .with(0);
    let plan = server.keel(&["plan", into, "--detailed-exitcode"]).with(0);
    assert!(plan.stdout.starts_with("Nothing to do"), "{plan:?}");
    let drift = server.keel(&["drift", into, "-o", "json"]).with(0).json();
    assert_eq!(drift["drift"], serde_json::json!([]), "{drift:#}");
    // It is kept like anything else: a profile of the folder reaches its instances, and what somebody changes is seen.
    let profiles = format!("{into}/profiles.yaml");
    let text = path_io::read_to_string(&profiles).expect("profiles");
    path_io::write(&profiles, text.replace("TIER: web", "TIER: shop")).expect("profiles");
    server.keel(&["apply", into, "--yes"]).with(0);
    assert_eq!(server.key("c2", "environment.TIER"), "shop");
    assert_eq!(server.key("c3", "environment.TIER"), "shop");
    server.keel(&["plan", into, "--detailed-exitcode"]).with(0);
    server.incus("config set odd-c1 limits.memory=1GiB");
    let plan = server.keel(&["plan", into, "--detailed-exitcode"]).with(2);
    assert!(plan.stdout.contains("limits.memory"), "{plan:?}");
    // A pool and a network that a profile names stay as long as it does.
    server
        .keel(&["destroy", into, "--no-trash", "--yes"])
        .with(7);
    for way in PROFILES {
        server.incus(way);
    }
    server
        .keel(&["destroy", into, "--no-trash", "--yes"])
        .with(0);
    for way in LAST {
        server.incus(way);
    }
    server.nothing_left();
}
