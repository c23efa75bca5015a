//! Every field of what the native engine makes has a decision: where its value goes, and whether a change by hand is seen.
//! `fields.txt` is the table. A new field without a line fails here, and so does a line that says `told` where nothing is
//! told.

use std::collections::BTreeSet;
use std::path::Path;

use manifests::effect::Effect;
use manifests::effect_table::effect;
use manifests::kind::Kind;
use manifests::pointer::Pointer;
use manifests::read::Texts;
use manifests::resolve::resolve;
use manifests::support::unsupported;
use manifests::{path_io, schema};
use serde_json::{Value, json};

/// One line of the table.
struct Line {
    kind: Kind,
    pattern: String,
    decision: String,
    /// For what is told: a value that is not as by default.
    value: Option<Value>,
}

fn table() -> Vec<Line> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fields.txt");
    let text = path_io::read_to_string(path).expect("the table");
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || {
                words
                    .next()
                    .unwrap_or_else(|| panic!("a word more: {line}"))
            };
            let kind = Kind::from_word(word()).unwrap_or_else(|| panic!("a kind: {line}"));
            let (pattern, decision) = (word().to_owned(), word().to_owned());
            let rest = words.collect::<Vec<_>>().join(" ");
            let value = (!rest.is_empty()).then(|| {
                serde_json::from_str(&rest).unwrap_or_else(|error| panic!("{error}: {line}"))
            });
            Line {
                kind,
                pattern,
                decision,
                value,
            }
        })
        .collect()
}

/// The fields of a schema that have no fields below: `/spec/devices/*<nic>/mtu`. Lists count by what is in them.
fn leaves(node: &Value, root: &Value, at: &str, out: &mut BTreeSet<String>) {
    if let Some(name) = node["$ref"].as_str() {
        let name = name.trim_start_matches("#/definitions/");
        leaves(&root["definitions"][name], root, at, out);
        return;
    }
    let mut deeper = false;
    for choice in ["anyOf", "oneOf", "allOf"] {
        for one in node[choice].as_array().into_iter().flatten() {
            let variant = one["if"]["properties"]["type"]["const"].as_str();
            match (one.get("then"), variant) {
                (Some(then), Some(word)) => leaves(then, root, &format!("{at}<{word}>"), out),
                (Some(_), None) => {}
                (None, _) if one["type"] == "null" => {}
                (None, _) if one.get("defaultSnippets").is_some() => {}
                (None, _) => leaves(one, root, at, out),
            }
            deeper = true;
        }
    }
    for (name, below) in node["properties"].as_object().into_iter().flatten() {
        leaves(below, root, &format!("{at}/{name}"), out);
        deeper = true;
    }
    if node["additionalProperties"].is_object() {
        leaves(&node["additionalProperties"], root, &format!("{at}/*"), out);
        deeper = true;
    }
    if node["items"].is_object() {
        let mut below = BTreeSet::new();
        leaves(&node["items"], root, "", &mut below);
        for one in below {
            out.insert(format!("{at}{one}"));
        }
        deeper = true;
    }
    if !deeper {
        out.insert(at.to_owned());
    }
}

const KINDS: [Kind; 7] = [
    Kind::Instance,
    Kind::Network,
    Kind::StoragePool,
    Kind::Image,
    Kind::Volume,
    Kind::SnapshotSchedule,
    Kind::Backup,
];

fn covers(pattern: &str, leaf: &str) -> bool {
    match pattern.strip_suffix("/**") {
        Some(above) => leaf.starts_with(above),
        None => leaf == pattern,
    }
}

#[test]
fn every_field_has_a_decision() {
    let table = table();
    let mut wrong = Vec::new();
    let mut used = vec![false; table.len()];
    for kind in KINDS {
        let schema = schema::of_kind(kind);
        let mut fields = BTreeSet::new();
        leaves(&schema["properties"]["spec"], &schema, "/spec", &mut fields);
        // Where a text comes from is one decision for all texts.
        let texts = fields.clone();
        fields.retain(|field| {
            let ends = ["/secretRef/name", "/secretRef/key", "/template", "/file"];
            let mut above = ends.iter().filter_map(|end| field.strip_suffix(end));
            !above.any(|above| texts.contains(above) && !above.ends_with("/source"))
        });
        assert!(fields.len() > 8, "{kind:?}: {fields:?}");
        for field in fields {
            let lines: Vec<usize> = (0..table.len())
                .filter(|index| {
                    table[*index].kind == kind && covers(&table[*index].pattern, &field)
                })
                .collect();
            if lines.len() != 1 {
                wrong.push(format!("{} {field} has {} lines", kind.word(), lines.len()));
            }
            lines.iter().for_each(|index| used[*index] = true);
        }
    }
    let idle = table.iter().zip(&used).filter(|(_, used)| !**used);
    wrong
        .extend(idle.map(|(line, _)| format!("{} {} is no field", line.kind.word(), line.pattern)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_in_force_at_a_start_costs_one() {
    for line in table().iter().filter(|line| line.decision == "start") {
        let path = line.pattern.replace("/**", "");
        let path = path.split('<').next().map(|before| {
            let after = path.split_once('>').map_or("", |(_, after)| after);
            format!("{before}{after}")
        });
        let path = path.expect("a path").replace('*', "x");
        let found = effect(line.kind, &Pointer::new(&path));
        assert!(found > Effect::Live, "{path} is {found}");
    }
}

#[test]
fn what_is_told_is_told_where_it_stands() {
    for line in table().iter().filter(|line| line.decision == "told") {
        let value = line.value.clone();
        let value = value.unwrap_or_else(|| panic!("an example for {}", line.pattern));
        let path = line.pattern.replace("/**", "");
        let (mut spec, path) = base(line.kind, &path);
        set(&mut spec, path.trim_start_matches("/spec"), value);
        let document = json!({"apiVersion": "evenkeel/v1", "kind": line.kind.name(), "metadata": {"name": "subject"}, "spec": spec});
        let files = vec![
            ("subject.yaml".to_owned(), format!("{document}\n")),
            ("ground.yaml".to_owned(), GROUND.to_owned()),
            ("keel.yaml".to_owned(), SOURCE.to_owned()),
        ];
        let texts = Texts {
            root: "/".into(),
            files,
            ..Texts::default()
        };
        let resolved = resolve(&texts, None);
        let mut found = resolved.found;
        if let Some(desired) = &resolved.desired {
            found.extend(unsupported(desired));
        }
        let told: Vec<String> = found
            .sorted()
            .iter()
            .map(|d| format!("{} {}", d.code, d.path))
            .collect();
        let here = |told: &String| {
            told.split(' ')
                .nth(1)
                .is_some_and(|at| path.starts_with(at) || at.starts_with(&path))
        };
        assert!(told.iter().any(here), "{path} in {document}: {told:?}");
    }
}

const SOURCE: &str = "\
apiVersion: evenkeel/v1
kind: Source
name: test
external: [NetworkAcl/web, Network/x]
";

const GROUND: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: lan }
spec: { ipv4: { address: 10.9.0.1/24 }, ipv6: { address: 'fd42:9::1/64', stateful: true } }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: busybox }
spec: { source: { builtin: busybox } }
";

/// The least of a spec, and the field in it: `*<nic>` is an interface named `x`.
fn base(kind: Kind, pattern: &str) -> (Value, String) {
    let mut spec = match kind {
        Kind::Instance => {
            json!({"image": "busybox", "devices": {"root": {"type": "disk", "path": "/", "pool": "fast"}}})
        }
        Kind::Image => json!({"source": {"builtin": "busybox"}}),
        Kind::Volume => json!({"pool": "fast"}),
        Kind::SnapshotSchedule => json!({"schedule": "@daily"}),
        Kind::Backup => json!({"destination": {"path": "/srv/backups"}}),
        _ => json!({}),
    };
    let Some((before, rest)) = pattern.split_once("*<") else {
        return (spec, pattern.replace('*', "x"));
    };
    let (word, after) = rest.split_once('>').expect("closed");
    let device = match word {
        "disk" => json!({"type": "disk", "source": "/srv", "path": "/srv"}),
        "nic" => json!({"type": "nic", "network": "lan"}),
        "proxy" => {
            json!({"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp:127.0.0.1:80"})
        }
        "pci" => json!({"type": "pci", "address": "0000:00:02.0"}),
        other => json!({"type": other}),
    };
    spec["devices"]["x"] = device;
    (spec, format!("{before}x{after}"))
}

/// Puts a value where a pointer says, with what is above it.
fn set(into: &mut Value, path: &str, value: Value) {
    let mut here = into;
    for step in path.split('/').skip(1) {
        if here.is_null() {
            *here = json!({});
        }
        here = &mut here[step];
    }
    match (here.as_object_mut(), value) {
        (Some(there), Value::Object(more)) => there.extend(more),
        (_, value) => *here = value,
    }
}
