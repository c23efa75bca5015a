//! Merging trees: what a profile gives and what an instance says; a document and what a patch changes of it.

use crate::scalar::image_ref::ImageSource;
use crate::tree::{Key, Node, Value};

/// Puts `over` over `base`: maps merge by key, lists and scalars replace, `null` removes what was inherited.
///
/// A device of the same name replaces the whole inherited device unless it says `inherit: true`; `type: none` removes it.
pub fn spec(base: &mut Node, over: &Node) {
    maps(base, over, &["devices"]);
}

fn maps(base: &mut Node, over: &Node, whole: &[&str]) {
    let Value::Map(entries) = &over.value else {
        *base = over.clone();
        return;
    };
    if !matches!(base.value, Value::Map(_)) {
        *base = Node {
            place: over.place.clone(),
            value: Value::Map(Vec::new()),
        };
    }
    for (key, node) in entries {
        if node.value == Value::Null {
            base.take(&key.name);
        } else if whole.contains(&key.name.as_str()) {
            let mut below = base.take(&key.name).unwrap_or_else(|| empty(node));
            devices(&mut below, node);
            put(base, key, below);
        } else if let (Value::Map(_), Some(below)) = (&node.value, base.get_mut(&key.name)) {
            if other_text(below, node) {
                *below = node.clone();
            } else {
                maps(below, node, &[]);
            }
        } else {
            put(base, key, without_nulls(node));
        }
    }
}

/// Puts a patch over a document: maps merge by key, devices by name, lists and scalars replace.
///
/// `null` takes a value away: from the document, and in `spec` also what its profiles and defaults give. A device of
/// another type, and another way to a text or to an image, replaces what was there.
pub fn patch(document: &mut Node, over: &Node) {
    let Value::Map(entries) = &over.value else {
        return;
    };
    for (key, node) in entries {
        let nulls = if key.name == "spec" {
            Nulls::Stay
        } else {
            Nulls::TakeAway
        };
        patch_entry(document, key, node, nulls, "");
    }
}

/// What a `null` of a patch becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nulls {
    /// It stands in the document and takes away what is inherited.
    Stay,
    TakeAway,
}

fn patch_entry(base: &mut Node, key: &Key, node: &Node, nulls: Nulls, above: &str) {
    if node.value == Value::Null && nulls == Nulls::TakeAway {
        base.take(&key.name);
        return;
    }
    if let (Value::Map(entries), Some(below)) = (&node.value, base.get_mut(&key.name))
        && matches!(below.value, Value::Map(_))
        && !other_text(below, node)
        && !(above == "devices" && other_type(below, node))
        && !(key.name == "source" && other_image(below, node))
    {
        for (inner, node) in entries {
            patch_entry(below, inner, node, nulls, &key.name);
        }
        return;
    }
    let node = match nulls {
        Nulls::Stay => node.clone(),
        Nulls::TakeAway => without_nulls(node),
    };
    put(base, key, node);
}

/// Whether both are devices, of two types.
fn other_type(base: &Node, over: &Node) -> bool {
    let of = |node: &Node| node.get("type").and_then(Node::text).map(str::to_owned);
    matches!((of(base), of(over)), (Some(base), Some(over)) if base != over)
}

/// Whether both say where an image comes from, each in its way.
fn other_image(base: &Node, over: &Node) -> bool {
    let ways = ImageSource::WAYS;
    let has = |node: &Node, way: &str| node.get(way).is_some_and(|way| way.value != Value::Null);
    ways.iter().any(|way| has(over, way) && !has(base, way))
        && ways.iter().any(|way| has(base, way) && !has(over, way))
}

/// Whether both say where a text comes from, each in its way: one replaces the other.
fn other_text(base: &Node, over: &Node) -> bool {
    let way = |node: &Node| match &node.value {
        Value::Map(entries) => match entries.as_slice() {
            [(key, _)] => ["secretRef", "template", "file"]
                .into_iter()
                .find(|way| *way == key.name),
            _ => None,
        },
        _ => None,
    };
    matches!((way(base), way(over)), (Some(base), Some(over)) if base != over)
}

fn devices(base: &mut Node, over: &Node) {
    let Value::Map(entries) = &over.value else {
        *base = over.clone();
        return;
    };
    for (key, device) in entries {
        let is_none = device.get("type").and_then(Node::text) == Some("none");
        let inherits = device
            .get("inherit")
            .is_some_and(|inherit| inherit.value == Value::Bool(true));
        if is_none || device.value == Value::Null {
            base.take(&key.name);
            continue;
        }
        let mut bare;
        let device = if device.get("inherit").is_some() {
            bare = device.clone();
            bare.take("inherit");
            &bare
        } else {
            device
        };
        match base.get_mut(&key.name).filter(|_| inherits) {
            Some(below) => maps(below, device, &[]),
            None => {
                base.take(&key.name);
                put(base, key, without_nulls(device));
            }
        }
    }
}

/// A `null` with nothing to remove says nothing.
fn without_nulls(node: &Node) -> Node {
    let Value::Map(entries) = &node.value else {
        return node.clone();
    };
    let entries = entries
        .iter()
        .filter(|(_, below)| below.value != Value::Null)
        .map(|(key, below)| (key.clone(), without_nulls(below)))
        .collect();
    Node {
        place: node.place.clone(),
        value: Value::Map(entries),
    }
}

fn empty(like: &Node) -> Node {
    Node {
        place: like.place.clone(),
        value: Value::Map(Vec::new()),
    }
}

fn put(base: &mut Node, key: &Key, node: Node) {
    if let Value::Map(entries) = &mut base.value {
        match entries.iter_mut().find(|(found, _)| found.name == key.name) {
            Some((found, old)) => {
                *found = key.clone();
                *old = node;
            }
            None => entries.push((key.clone(), node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::parse;
    use crate::tree::Value;

    fn merged(base: &str, over: &str) -> Vec<String> {
        let mut base = parse("base.yaml", base).0.remove(0);
        spec(&mut base, &parse("over.yaml", over).0.remove(0));
        lines(&base)
    }

    fn lines(base: &Node) -> Vec<String> {
        let mut lines = Vec::new();
        base.walk(&crate::pointer::Pointer::root(), &mut |at, node| {
            if !matches!(node.value, Value::Map(_)) {
                lines.push(format!(
                    "{} {}:{}",
                    at.dotted(),
                    node.place.file,
                    node.place.line
                ));
            }
        });
        lines
    }

    #[test]
    fn each_value_keeps_its_place() {
        assert_eq!(
            merged(
                "limits: {memory: 1GiB, cpu: 2}\ncommand: [a]\n",
                "limits:\n  cpu: 3\n  memory: null\ncommand: [b]\n"
            ),
            [
                "limits.cpu over.yaml:2",
                "command over.yaml:4",
                "command.0 over.yaml:4"
            ]
        );
    }

    fn patched(base: &str, over: &str) -> Vec<String> {
        let mut base = parse("base.yaml", base).0.remove(0);
        patch(&mut base, &parse("over.yaml", over).0.remove(0));
        lines(&base)
    }

    #[test]
    fn a_patch_merges_by_key_and_devices_by_name() {
        let base = "metadata: {labels: {a: x, b: x}}\nspec:\n  limits: {memory: 1GiB, cpu: 2}\n  \
            devices:\n    eth0: {type: nic, network: lan}\n    data: {type: disk, source: a, path: /a}\n  \
            environment: {A: {secretRef: {name: a, key: b}}}\n";
        let over = "metadata: {labels: {a: null, c: y}}\nspec:\n  limits: {cpu: 3, memory: null}\n  devices:\n    \
            eth0: {ipv4: 10.0.0.1}\n    data: {type: none}\n  environment: {A: {file: ./a}}\n";
        assert_eq!(
            patched(base, over),
            [
                "metadata.labels.b base.yaml:1",
                "metadata.labels.c over.yaml:1",
                // What is null in a spec takes away what profiles give.
                "limits.memory over.yaml:3",
                "limits.cpu over.yaml:3",
                "devices.eth0.type base.yaml:5",
                "devices.eth0.network base.yaml:5",
                "devices.eth0.ipv4 over.yaml:5",
                "devices.data.type over.yaml:6",
                "environment.A.file over.yaml:7",
            ]
        );
        let base = "spec: {type: container, source: {url: a, sha256: b}, security: {selinux: {type: a, level: b}}}\n";
        let over = "spec: {type: virtual-machine, source: {builtin: busybox}, security: {selinux: {type: c}}}\n";
        assert_eq!(
            patched(base, over),
            [
                "type over.yaml:1",
                "source.builtin over.yaml:1",
                "security.selinux.type over.yaml:1",
                "security.selinux.level base.yaml:1",
            ]
        );
    }

    /// Any small document.
    fn any_tree() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            "[a-c]".prop_map(|text| Value::Text(text.into())),
            Just(Value::List(vec![Node::made(Value::Bool(true))])),
        ];
        let keys = prop::sample::select(vec![
            "spec", "metadata", "devices", "eth0", "type", "file", "url", "source", "a",
        ]);
        let value = leaf.prop_recursive(5, 40, 4, move |below| {
            prop::collection::btree_map(keys.clone(), below, 0..4).prop_map(|entries| {
                let entry = |(name, value): (&str, Value)| {
                    let key = Key {
                        place: crate::tree::Place::nowhere(),
                        name: name.to_owned(),
                    };
                    (key, Node::made(value))
                };
                Value::Map(entries.into_iter().map(entry).collect())
            })
        });
        value.prop_map(Node::made)
    }

    proptest! {
        #[test]
        fn a_patch_of_nothing_leaves_all_and_one_made_twice_is_made_once(
            base in any_tree(),
            over in any_tree(),
        ) {
            let mut same = base.clone();
            patch(&mut same, &Node::made(Value::Map(Vec::new())));
            prop_assert_eq!(&same, &base);
            if matches!(base.value, Value::Map(_)) {
                let mut once = base;
                patch(&mut once, &over);
                let mut twice = once.clone();
                patch(&mut twice, &over);
                prop_assert_eq!(once, twice);
            }
        }
    }

    #[test]
    fn devices_replace_inherit_or_vanish() {
        assert_eq!(
            merged(
                "devices:\n  a: {type: nic, mtu: 1}\n  b: {type: nic, mtu: 2}\n  c: {type: nic}\n",
                "devices:\n  a: {type: nic}\n  b: {inherit: true, name: x}\n  c: {type: none}\n"
            ),
            [
                "devices.b.type base.yaml:3",
                "devices.b.mtu base.yaml:3",
                "devices.b.name over.yaml:3",
                "devices.a.type over.yaml:2"
            ]
        );
    }

    #[test]
    fn null_takes_all_that_was_inherited() {
        let base =
            "devices:\n  a: {type: nic}\nenvironment: {A: b}\nlimits: {cpu: 2, memory: 1GiB}\n";
        assert_eq!(
            merged(
                base,
                "devices: null\nenvironment: null\nlimits: {cpu: null}\n"
            ),
            ["limits.memory base.yaml:4"]
        );
        // Where nothing was inherited it says nothing.
        assert_eq!(merged("{}\n", "devices: null\n"), Vec::<String>::new());
    }

    #[test]
    fn one_way_to_a_text_replaces_another() {
        let base = "environment: {A: {secretRef: {name: db, key: word}}, B: {file: ./b}, C: {file: ./c}}\n";
        let over = "environment: {A: {file: ./a}, B: plain, C: {file: ./d}}\n";
        assert_eq!(
            merged(base, over),
            [
                "environment.A.file over.yaml:1",
                "environment.B over.yaml:1",
                "environment.C.file over.yaml:1"
            ]
        );
    }
}
