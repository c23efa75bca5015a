//! Projects and NetworkAcls: made, seen when somebody changes them, mended, taken out, and never those of others.

use crate::world::Server;

const RULES: &str = "\
apiVersion: evenkeel/v1
kind: NetworkAcl
metadata: { name: kinds-web }
spec:
  description: what reaches the shop
  ingress:
    - { protocol: tcp, destinationPort: \"80,443\", description: pages }
    - { protocol: icmp4, icmpType: 8, state: logged }
  egress:
    - { action: drop, destination: [10.0.0.0/8, 192.168.0.0/16] }
    - { action: allow, protocol: udp, destinationPort: 53 }
";

const SHOP: &str = "\
apiVersion: evenkeel/v1
kind: Project
metadata: { name: shops }
spec:
  description: of the shop
  features: { buckets: false }
  limits: { instances: 3, memory: 1GiB, diskPools: { shop-pool: 5GiB } }
  restrictions: { enabled: true, lowLevel: allow, nesting: allow, devices: { disk: allow }, idmap: [\"1000\", 2000-3000] }
lifecycle: { prune: delete }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: shop, project: shops }
spec:
  source: { builtin: busybox }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: shop-three, project: shops }
spec:
  image: shop
  state: Stopped
  limits: { memory: 64MiB }
  devices:
    root: { type: disk, path: /, pool: shop-pool, size: 1GiB }
    eth0: { type: nic, network: shop0 }
";

#[test]
fn rules_of_networks_are_put_in_force() {
    let server = Server::furnished("kinds", 73);
    server.write("rules.yaml", RULES);
    server.edit(
        "host.yaml",
        "  ipv6: { address: none }\n",
        "  ipv6: { address: none }\n  acls: [kinds-web]\n  aclDefaults: { egress: allow, logged: true }\n",
    );
    server.incus("network acl create kinds-other");
    server.converge();
    assert_eq!(
        server.incus("network get kinds0 security.acls"),
        "kinds-web\n"
    );
    let shown = server.incus("network acl show kinds-web");
    for words in ["destination_port: 443,80", "action: drop", "state: logged"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    // By hand: a rule more, and none for a network.
    server.incus("network acl rule add kinds-web egress action=reject destination=172.16.0.0/12");
    server.incus("network set kinds0 security.acls.default.egress.action=drop");
    assert_eq!(
        server.drifted(),
        [
            "network/kinds0 /spec/aclDefaults/egress",
            "network-acl/kinds-web /spec/egress"
        ]
    );
    server.converge();
    server.edit("rules.yaml", "80,443", "443");
    server.converge();
    assert!(
        server
            .incus("network acl show kinds-web")
            .contains("destination_port: \"443\"")
    );

    // One of somebody else's keeps its name.
    server.write(
        "other.yaml",
        "apiVersion: evenkeel/v1\nkind: NetworkAcl\nmetadata: { name: kinds-other }\nspec: { description: ours }\n",
    );
    let refused = server.keel(&["apply", "--yes"]);
    assert_ne!(
        refused.code,
        Some(0),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    assert!(
        server
            .incus("network acl show kinds-other")
            .contains("description: \"\"")
    );
    server.unwrite("other.yaml");

    server.destroy();
    assert_eq!(
        server
            .incus("network acl list -f csv")
            .matches("kinds")
            .count(),
        1,
        "the other is left alone"
    );
    server.incus("network acl delete kinds-other");
}

#[test]
fn a_project_is_made_before_what_is_in_it() {
    let server = Server::furnished("shop", 74);
    server.write("shop.yaml", SHOP);
    server.edit("shop.yaml", "buckets: false", "profiles: false");
    let refused = server.keel(&["plan"]).with(3);
    assert!(
        refused.stderr.contains("profiles of their own"),
        "{}",
        refused.stderr
    );
    server.edit("shop.yaml", "profiles: false", "buckets: false");
    server.converge();
    assert_eq!(
        server.incus("list --project shops -f csv -c ns"),
        "shop-three,STOPPED\n"
    );
    for (key, value) in [
        ("features.images", "true"),
        ("features.storage.buckets", "false"),
        ("limits.disk.pool.shop-pool", "5GiB"),
        ("restricted.containers.lowlevel", "allow"),
        ("restricted.virtual-machines.lowlevel", "allow"),
        ("restricted.idmap.gid", "1000,2000-3000"),
    ] {
        let found = server.client(&["project", "get", "shops", key]);
        assert_eq!(found.trim_end(), value, "{key}");
    }
    server.incus("project set shops limits.instances=5 restricted.devices.usb=allow");
    server.incus("project unset shops limits.disk.pool.shop-pool");
    assert_eq!(
        server.drifted(),
        [
            "project/shops /spec/limits/instances",
            "project/shops /spec/limits/diskPools/shop-pool",
            "project/shops /spec/restrictions/devices/usb"
        ]
    );
    server.converge();
    server.edit("shop.yaml", "instances: 3", "instances: 4");
    server.converge();
    let limit = server.client(&["project", "get", "shops", "limits.instances"]);
    assert_eq!(limit, "4\n");
    // An image that somebody has given a name of his own stays.
    let image = server.get("image/shop")["status"]["fingerprint"].clone();
    let image = image.as_str().expect("a fingerprint");
    server.client(&["image", "alias", "create", "their-shop", image]);
    server.destroy();
    let projects = server.incus("project list -f csv");
    assert!(!projects.contains("shops"), "{projects}");
    let kept = server.client(&["image", "list", "their-shop", "-f", "csv", "-c", "F"]);
    assert_eq!(kept.trim_end(), image);
    server.client(&["image", "delete", "their-shop"]);
}

const FORWARD: &str = "\
apiVersion: evenkeel/v1
kind: NetworkForward
metadata: { name: shop-front }
spec:
  network: front0
  listenAddress: 192.0.2.10
  targetAddress: 10.75.0.5
  ports:
    - { listenPort: \"80,443\", targetAddress: 10.75.0.8, description: pages }
    - { protocol: udp, listenPort: 5000-5001, targetPort: 6000-6001, targetAddress: 10.75.0.6 }
";

#[test]
fn a_forward_is_known_by_its_name_wherever_it_is() {
    let server = Server::furnished("front", 75);
    server.converge();
    server.incus("network forward create front0 192.0.2.99 target_address=10.75.0.9");
    server.write("forward.yaml", FORWARD);
    server.converge();
    let shown = |address: &str| server.incus(&format!("network forward show front0 {address}"));
    let front = shown("192.0.2.10");
    for words in [
        "listen_port: 80,443",
        "target_port: 6000-6001",
        "target_address: 10.75.0.5",
    ] {
        assert!(front.contains(words), "{words}: {front}");
    }

    // By hand: another target, and a port less.
    server.incus("network forward set front0 192.0.2.10 target_address=10.75.0.7");
    server.incus("network forward port remove front0 192.0.2.10 udp");
    assert_eq!(
        server.drifted(),
        [
            "network-forward/shop-front /spec/targetAddress",
            "network-forward/shop-front /spec/ports"
        ]
    );
    server.converge();

    // Another outer address is another one on the server, and still this one of git.
    server.edit("forward.yaml", "192.0.2.10", "192.0.2.11");
    server.converge();
    assert!(shown("192.0.2.11").contains("listen_port: 80,443"));
    let list = || server.incus("network forward list front0 -f csv");
    assert!(!list().contains("192.0.2.10,"), "{}", list());
    server.edit(
        "forward.yaml",
        "name: shop-front }",
        "name: shop-door, previousNames: [shop-front] }",
    );
    server.converge();

    // The place of somebody else's is taken.
    server.edit("forward.yaml", "192.0.2.11", "192.0.2.99");
    let refused = server.keel(&["apply", "--yes"]);
    assert_ne!(refused.code, Some(0), "{}", refused.stdout);
    assert!(shown("192.0.2.99").contains("10.75.0.9"));
    server.edit("forward.yaml", "192.0.2.99", "192.0.2.11");
    server.converge();

    server.unwrite("forward.yaml");
    server.converge();
    assert!(!list().contains("192.0.2.11"), "{}", list());
    assert!(list().contains("192.0.2.99"), "{}", list());
    server.incus("network forward delete front0 192.0.2.99");
    server.destroy();
}

#[test]
fn a_key_that_the_server_does_not_have_is_told_with_its_line() {
    let server = Server::furnished("keys", 81);
    server.edit(
        "one.yaml",
        "  state: Running\n",
        "  state: Running\n  config: { cluster.evacuate: stop, limits.memry.swap: \"5\", user.mine: x }\n",
    );
    let refused = server.keel(&["plan"]);
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    assert!(refused.stderr.contains("one.yaml:7"), "{refused:#?}");
    let words = "has no key `limits.memry.swap`; is `limits.memory.swap` meant?";
    let refused = refused.saying(words);
    assert!(!refused.stderr.contains("no key `cluster"), "{refused:#?}");
    refused.saying("`user.mine` has a field: write `user: { mine: … }`");
    server.edit("one.yaml", ", limits.memry.swap: \"5\", user.mine: x", "");
    server.converge();
    assert_eq!(server.key("one", "cluster.evacuate"), "stop");
    server.destroy();
}
