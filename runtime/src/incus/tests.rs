//! What is written is read back, and a server that is not as it should be is told.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use manifests::id::Uid;
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::Instance as Wanted;
use serde_json::{Value, json};

use super::instance_words::{self, Facts};
use super::texts::Texts;
use super::wire::{Config, Instance, Object};
use super::{Endpoint, IncusRuntime, marks, objects};
use crate::error::Class;
use crate::native::SecretStore;

struct Nobody;

impl Facts for Nobody {
    fn fingerprint(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn alias(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn is_bridge(&self, network: &str) -> bool {
        network != "wire"
    }
}

fn secrets() -> (tempfile::TempDir, SecretStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SecretStore::new(folder.path(), folder.path());
    (folder, store)
}

/// An instance as the server would show it after it was made so.
fn shown(wanted: &Wanted, store: &SecretStore) -> Instance {
    let on_bridge = |nic: &manifests::devices::Nic| nic.network.as_deref() != Some("wire");
    let mut written = instance_words::to_wire(wanted, &Texts(store), &on_bridge).expect("words");
    let mark = format!("keel:edge:{}", Uid::nobody(7));
    written.config.insert(marks::MARK.to_owned(), mark);
    Instance {
        description: wanted.description.clone(),
        ephemeral: wanted.ephemeral,
        kind: wanted.r#type.to_string(),
        status: "Running".to_owned(),
        expanded_config: written.config.clone(),
        config: written.config,
        expanded_devices: written.devices.clone(),
        devices: written.devices,
        ..Instance::default()
    }
}

#[test]
fn an_instance_is_read_back_as_it_was_written() {
    let (_folder, store) = secrets();
    for wanted in [
        json!({"image": "busybox", "state": "Running"}),
        json!({
            "type": "container", "image": "debian/12", "state": "Running", "description": "all of it", "ephemeral": true,
            "profiles": ["small", "net"],
            "environment": {"LANG": "C.UTF-8", "EMPTY": "x"}, "user": {"owner": "me"},
            "sysctl": {"net.ipv4.ip_forward": "1"}, "credentials": {"token": "t"}, "kernelModules": ["tun", "fuse"],
            "boot": {"autostart": true, "priority": 5, "delay": "10s", "stopPriority": 2, "autorestart": true,
                     "hostShutdownAction": "forceStop", "hostShutdownTimeout": "1m"},
            "limits": {"cpu": "0-1", "cpuAllowance": "50%", "cpuPriority": 3, "memory": "512MiB", "memoryEnforce": "soft",
                       "memorySwap": false, "processes": 100, "diskPriority": 7, "hugepages": {"2MiB": "64MiB"},
                       "kernel": {"nofile": "1024:4096", "core": "unlimited"}},
            "security": {"nesting": true, "idmap": {"isolated": false, "extra": ["both 1000 1000"]}, "guestApi": false,
                         "seccomp": {"profile": "unconfined", "deny": ["keyctl"]},
                         "intercept": {"mknod": true, "mount": {"allowed": ["ext4"], "fuse": {"ext4": "fuse2fs"}, "shift": true}}},
            "cloudInit": {"userData": {"packages": ["git"]}, "networkConfig": {"version": 2}, "onChange": "rerun"},
            "snapshots": {"schedule": "@daily", "scheduleStopped": true, "expiry": "2w", "pattern": "nightly-%d"},
            "config": {"raw.lxc": "lxc.x=1"},
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": "fast", "size": "10GiB", "limits": {"read": "30MB"}},
                "data": {"type": "disk", "pool": "fast", "source": "data", "path": "/srv", "readonly": true},
                "host": {"type": "disk", "source": "/srv/x", "path": "/x", "shift": true, "recursive": true, "required": false},
                "eth0": {"type": "nic", "network": "lan", "ipv4": "10.0.0.5", "limits": {"ingress": "10Mbit"},
                         "routes": ["10.9.0.0/24", "fd00:9::/64"], "filtering": {"mac": true, "ipv4": false, "ipv6": false}},
                "eth1": {"type": "nic", "network": "wire", "name": "out", "mtu": 1400},
                "eth2": {"type": "nic", "nicType": "macvlan", "parent": "enp1s0", "vlan": 7},
                "web": {"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp:127.0.0.1:80", "bind": "instance"},
                "fuse": {"type": "unix-char", "source": "/dev/fuse", "mode": "0666"},
                "stick": {"type": "usb", "vendorId": "046d", "required": true},
                "card": {"type": "gpu", "id": 0},
            },
        }),
        json!({"type": "virtual-machine", "image": "debian/12", "state": "Running", "boot": {"mode": "bios"},
               "limits": {"cpu": 2}, "devices": {"root": {"type": "disk", "path": "/", "pool": "fast", "ioBus": "nvme"}}}),
        json!({"image": {"source": {"builtin": "busybox"}}, "state": "Running", "security": {"privileged": true}}),
        json!({"image": "busybox", "state": "Running", "profiles": []}),
    ] {
        let spec = Spec::deserialize(Kind::Instance, &wanted).expect("an instance");
        let Spec::Instance(instance) = &spec else {
            panic!("{spec:?}")
        };
        let live = shown(instance, &store);
        let (read, unseen) =
            instance_words::from_wire(&live, &Texts(&store), &Nobody).expect("read");
        assert_eq!(unseen, [], "{wanted}");
        assert_eq!(spec.compare(&read), [], "{wanted}");
    }
}

#[test]
fn what_nobody_owns_lies_over_the_profiles_of_the_server() {
    let (_folder, store) = secrets();
    let wanted = json!({"image": "a", "state": "Running", "limits": {"memory": "1GiB"}});
    let spec = Spec::deserialize(Kind::Instance, &wanted).expect("an instance");
    let Spec::Instance(instance) = &spec else {
        panic!("{spec:?}")
    };
    let mut live = shown(instance, &store);
    live.profiles = vec!["default".to_owned(), "web".to_owned()];
    // With a device that keeps out one of them.
    let none = Config::from([("type".to_owned(), "none".to_owned())]);
    live.expanded_devices.insert("eth0".to_owned(), none);
    let read = |live: &Instance| {
        let (read, unseen) =
            instance_words::from_wire(live, &Texts(&store), &Nobody).expect("read");
        assert_eq!(unseen, []);
        read.to_value()
    };
    assert_eq!(read(&live)["profiles"], Value::Null);
    live.config.remove(marks::MARK);
    let read = read(&live);
    assert_eq!(read["profiles"], json!(["default", "web"]));
    assert_eq!(read.get("devices"), None);
}

#[test]
fn what_somebody_did_by_hand_is_seen() {
    let (_folder, store) = secrets();
    let wanted = json!({"image": "a", "state": "Running", "devices": {"root": {"type": "disk", "path": "/", "pool": "p"}}});
    let spec = Spec::deserialize(Kind::Instance, &wanted).expect("an instance");
    let Spec::Instance(instance) = &spec else {
        panic!("{spec:?}")
    };
    let mut live = shown(instance, &store);
    // By a profile of the server's, by its own keys, and a device that no manifest has words for.
    live.expanded_config
        .insert("limits.memory".to_owned(), "1GiB".to_owned());
    live.config
        .insert("raw.apparmor".to_owned(), "x".to_owned());
    live.config
        .insert("limits.processes".to_owned(), "many".to_owned());
    let device = Config::from([("type".to_owned(), "infiniband".to_owned())]);
    live.expanded_devices.insert("ib0".to_owned(), device);
    let (read, unseen) = instance_words::from_wire(&live, &Texts(&store), &Nobody).expect("read");
    let changes = spec.compare(&read);
    let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["/spec/limits/memory", "/spec/config/raw.apparmor"]);
    let hidden: Vec<&str> = unseen.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(hidden, ["/spec/limits/processes", "/spec/devices/ib0"]);
}

#[test]
fn what_the_server_fills_in_counts_where_a_manifest_gives_it() {
    let (_folder, store) = secrets();
    for (kind, wanted, filled) in [
        (
            Kind::Network,
            json!({}),
            json!({"ipv4.address": "10.1.2.1/24", "ipv6.address": "fd42::1/64", "volatile.bridge.hwaddr": "x"}),
        ),
        (
            Kind::Network,
            json!({"ipv4": {"address": "10.0.0.1/24", "dhcp": {"expiry": "30min"}}, "ipv6": {"address": "none"}, "dns": {"domain": "incus"}}),
            json!({}),
        ),
        (
            Kind::StoragePool,
            json!({"driver": "dir"}),
            json!({"source": "/var/lib/incus/storage-pools/a"}),
        ),
        (
            Kind::StoragePool,
            json!({"driver": "btrfs", "size": "2GiB"}),
            json!({"source": "/var/lib/incus/disks/a.img"}),
        ),
        (
            Kind::Volume,
            json!({"pool": "fast", "contentType": "filesystem"}),
            json!({"size": "1GiB", "volatile.uuid": "x"}),
        ),
        (
            Kind::Volume,
            json!({"pool": "fast", "contentType": "filesystem", "size": "1GiB", "snapshots": {"expiry": "1mo"}}),
            json!({}),
        ),
    ] {
        let spec = Spec::deserialize(kind, &wanted).expect("a spec");
        let mut config = objects::to_wire(&spec, &Texts(&store), None).expect("words");
        config.insert(
            "user.keel.mark".to_owned(),
            "keel:a:0191e7a0-1111-7222-8333-444455556666".to_owned(),
        );
        for (key, value) in filled.as_object().into_iter().flatten() {
            config.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        let word = |field: &str| {
            wanted
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let object = Object {
            driver: word("driver"),
            kind: "bridge".to_owned(),
            content_type: word("contentType"),
            config: config.clone(),
            ..Object::default()
        };
        let (read, unseen) = objects::from_wire(kind, &object, Some("fast")).expect("read");
        assert_eq!(
            (spec.compare(&read), unseen),
            (Vec::new(), Vec::new()),
            "{wanted}"
        );
        // What is written again is what is there: no address is rolled anew.
        let again = objects::to_wire(&spec, &Texts(&store), Some(&config)).expect("words");
        let mut before = config;
        before.remove("user.keel.mark");
        assert_eq!(again, before, "{wanted}");
    }
}

/// Answers each request with these words, on connections that it closes.
fn server(answer: &'static str) -> (tempfile::TempDir, Endpoint) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (folder, Endpoint::Unix(socket))
}

#[test]
fn a_server_that_does_not_trust_us_or_answers_nonsense_is_told() {
    for (answer, class) in [
        (
            "HTTP/1.1 200 OK\r\n\r\n{\"type\":\"sync\",\"metadata\":{\"auth\":\"untrusted\",\"api_extensions\":[]}}",
            Class::NeedsOperator,
        ),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n{\"type\":\"error\",\"error\":\"no\"}",
            Class::NeedsOperator,
        ),
        (
            "HTTP/1.1 500 Oh\r\n\r\n{\"type\":\"error\",\"error\":\"full\"}",
            Class::Retry,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{",
            Class::Retry,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n<html>", Class::Bug),
        ("", Class::Retry),
    ] {
        let (folder, endpoint) = server(answer);
        let Err(error) = IncusRuntime::open(endpoint, folder.path(), "id") else {
            panic!("{answer} was taken for a server")
        };
        assert_eq!(error.class, class, "{answer}: {error:?}");
    }
}

/// Answers each request by its line, on connections that it closes.
fn answering(
    mut answer: impl FnMut(&str) -> (u16, Value) + Send + 'static,
) -> (tempfile::TempDir, IncusRuntime) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, document) = answer(path);
            let kind = if status == 200 { "sync" } else { "error" };
            let body = json!({"type": kind, "metadata": document, "error": "not told"});
            let _ = write!(stream, "HTTP/1.1 {status} So\r\n\r\n{body}");
        }
    });
    let engine = IncusRuntime::open(Endpoint::Unix(socket), folder.path(), "id");
    (folder, engine.expect("it trusts us"))
}

#[test]
fn what_goes_while_it_is_looked_at_is_gone_and_takes_nothing_else_with_it() {
    let mut asked = std::collections::HashMap::new();
    let (_folder, engine) = answering(move |path| {
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let times = asked.entry(path.clone()).or_insert(0);
        *times += 1;
        let is_first = *times == 1;
        let pool = |name: &str| json!({"name": name, "driver": "dir", "status": "Created"});
        match path.as_str() {
            "/1.0" => (200, json!({"auth": "trusted"})),
            // Something goes while each of these is put together.
            "/1.0/storage-pools" | "/1.0/networks" | "/1.0/instances" if is_first => {
                (404, json!(null))
            }
            "/1.0/storage-pools" => (200, json!([pool("goes"), pool("stays")])),
            "/1.0/storage-pools/stays" => (200, pool("stays")),
            "/1.0/storage-pools/stays/volumes/custom" if !is_first => {
                let volume =
                    json!({"name": "data", "type": "custom", "content_type": "filesystem"});
                (200, json!([volume]))
            }
            path if path.starts_with("/1.0/storage-pools/") => (404, json!(null)),
            _ => (200, json!([])),
        }
    });
    let seen = crate::runtime::Runtime::observe(&engine).expect("the rest");
    let seen: Vec<String> = seen
        .items
        .iter()
        .map(|item| item.address.to_string())
        .collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(
        seen[0].contains("stays") && seen[1].contains("data"),
        "{seen:?}"
    );
}

#[test]
fn a_list_that_is_never_there_is_told_and_not_taken_for_an_empty_one() {
    let (_folder, engine) = answering(|path| match path {
        "/1.0" => (200, json!({"auth": "trusted"})),
        path if path.starts_with("/1.0/networks") => (404, json!(null)),
        _ => (200, json!([])),
    });
    let error = crate::runtime::Runtime::observe(&engine).expect_err("no networks");
    assert_eq!(error.class, Class::Conflict, "{error:?}");
}
