//! What editors offer to write as a whole: a document of each kind, a device of each type. `${1:word}` is a place where
//! the person writes on.

use serde_json::{Map, Value, json};

use crate::envelope::API_VERSION;
use crate::kind::Kind;

/// A document of a kind, or `keel.yaml`.
pub(super) fn document(kind: Option<Kind>) -> Value {
    let Some(kind) = kind else {
        let body =
            json!({ "apiVersion": API_VERSION, "kind": super::SOURCE_KIND, "name": "${1:edge}" });
        return snippet(super::SOURCE_KIND, super::envelope::OF_SOURCE, &body);
    };
    let (name, spec) = match kind {
        Kind::Project => ("shop", json!({ "limits": { "instances": "${2:10}" } })),
        Kind::Secret => ("db", json!({ "source": { "sops": "${2:./db.sops.yaml}" } })),
        Kind::Policy => (
            "no-privileged",
            json!({
                "match": { "kinds": ["${2:Instance}"] },
                "expression": "${3:!change.after.security.privileged}",
                "message": "${4:privileged containers are not for this host}",
            }),
        ),
        Kind::StoragePool => ("fast", json!({ "driver": "${2|dir,btrfs,zfs,lvm|}" })),
        Kind::Network => ("lan", json!({ "ipv4": { "address": "${2:10.20.0.1/24}" } })),
        Kind::NetworkAcl => (
            "web",
            json!({ "ingress": [{ "action": "allow", "protocol": "tcp", "destinationPort": "${2:80}" }] }),
        ),
        Kind::NetworkForward => (
            "outer",
            json!({
                "network": "${2:lan}",
                "listenAddress": "${3:192.0.2.1}",
                "ports": [{ "listenPort": "${4:80}", "targetAddress": "${5:10.20.0.10}" }],
            }),
        ),
        Kind::Image => (
            "debian/12",
            json!({ "source": { "alias": "${2:debian/12}", "server": "${3:images}" } }),
        ),
        Kind::Volume => ("data", json!({ "pool": "${2:fast}", "size": "${3:10GiB}" })),
        Kind::Profile => (
            "default",
            json!({ "devices": { "root": root(2), "eth0": nic(4) } }),
        ),
        Kind::Instance => (
            "web",
            json!({
                "image": "${2:busybox}",
                "state": "Running",
                "devices": { "root": root(3), "eth0": nic(5) },
            }),
        ),
        Kind::SnapshotSchedule => (
            "nightly",
            json!({ "schedule": "'${2:@daily}'", "retention": { "keepDaily": "${3:7}" } }),
        ),
        Kind::Backup => (
            "nightly",
            json!({ "schedule": "'${2:@daily}'", "destination": { "path": "${3:/srv/backups}" } }),
        ),
    };
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": kind.name(),
        "metadata": { "name": format!("${{1:{name}}}") },
        "spec": spec,
    });
    snippet(kind.name(), kind.describe(), &body)
}

/// Devices, as they are written below their name.
pub(super) fn devices() -> Value {
    all_devices()
        .map(|(label, meaning, _, body)| snippet(label, meaning, &body))
        .collect()
}

/// Devices with a name.
pub(super) fn named_devices() -> Value {
    all_devices()
        .map(|(label, meaning, name, body)| {
            let named = Map::from_iter([(name.to_owned(), body)]);
            snippet(label, meaning, &Value::Object(named))
        })
        .collect()
}

/// Label, meaning, name, and the device.
fn all_devices() -> impl Iterator<Item = (&'static str, &'static str, &'static str, Value)> {
    [
        ("a root disk", "The root file system, in a pool.", "root", root(1)),
        (
            "a volume",
            "A Volume of a pool, mounted somewhere.",
            "data",
            json!({ "type": "disk", "pool": "${1:fast}", "source": "${2:data}", "path": "${3:/srv}" }),
        ),
        (
            "a folder of the host",
            "A folder of the host, mounted somewhere.",
            "src",
            json!({ "type": "disk", "source": "${1:/srv/src}", "path": "${2:/src}", "shift": true }),
        ),
        ("a network interface", "An interface in a Network.", "eth0", nic(1)),
        (
            "a port",
            "A port of the host, led into the instance.",
            "http",
            json!({ "type": "proxy", "listen": "tcp:0.0.0.0:${1:8080}", "connect": "tcp:127.0.0.1:${2:80}" }),
        ),
        (
            "a device node",
            "A character device of the host.",
            "tty0",
            json!({ "type": "unix-char", "source": "${1:/dev/ttyUSB0}" }),
        ),
    ]
    .into_iter()
}

fn root(first: usize) -> Value {
    json!({
        "type": "disk",
        "path": "/",
        "pool": format!("${{{first}:fast}}"),
        "size": format!("${{{}:10GiB}}", first + 1),
    })
}

fn nic(first: usize) -> Value {
    json!({ "type": "nic", "network": format!("${{{first}:lan}}") })
}

fn snippet(label: &str, meaning: &str, body: &Value) -> Value {
    json!({ "label": label, "description": meaning, "body": body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Texts;
    use crate::resolve::resolve;

    /// A snippet as it stands where nobody writes on.
    fn filled(body: &Value) -> Value {
        match body {
            Value::String(text) => {
                let mut out = String::new();
                let mut rest = text.as_str();
                while let Some((before, place)) = rest.split_once("${") {
                    let (place, after) = place.split_once('}').expect("closed");
                    let (_, word) = place.split_at(place.find([':', '|']).expect("a word") + 1);
                    out.push_str(before);
                    out.push_str(word.split([',', '|']).next().expect("one of them"));
                    rest = after;
                }
                out.push_str(rest);
                let bare = out.trim_matches('\'');
                serde_json::from_str(bare).unwrap_or_else(|_| bare.into())
            }
            Value::Array(items) => items.iter().map(filled).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), filled(value)))
                .collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn what_is_offered_means_something() {
        let kinds = Kind::ALL.iter().map(|kind| Some(*kind));
        let mut documents: Vec<Value> = kinds
            .chain([None])
            .map(|kind| filled(&document(kind)["body"]))
            .collect();
        let mut instance = documents
            .iter()
            .find(|document| document["kind"] == "Instance")
            .expect("an instance")
            .clone();
        instance["metadata"]["name"] = "all-devices".into();
        let devices = instance["spec"]["devices"].as_object_mut().expect("a map");
        for one in named_devices().as_array().expect("a list") {
            let body = filled(&one["body"]);
            devices.extend(body.as_object().expect("a map").clone());
        }
        documents.push(instance);
        let name = |document: &Value| match document["kind"].as_str() {
            Some("Source") => "keel.yaml".to_owned(),
            kind => format!(
                "{}-{}.yaml",
                kind.expect("a kind"),
                document["metadata"]["name"]
                    .as_str()
                    .expect("a name")
                    .replace('/', "-")
            ),
        };
        let files = documents
            .iter()
            .map(|document| (name(document), format!("{document}\n")))
            .collect();
        let texts = Texts {
            root: "/".into(),
            files,
            ..Texts::default()
        };
        let found = resolve(&texts, None).found;
        let errors: Vec<String> = found
            .sorted()
            .iter()
            .map(|found| format!("{} {}: {}", found.code, found.path, found.message))
            .collect();
        assert_eq!(errors, Vec::<String>::new());
    }
}
