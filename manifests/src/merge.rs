//! Merging trees: what a profile gives and what an instance says.

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
    use super::*;
    use crate::parse::parse;

    fn merged(base: &str, over: &str) -> Vec<String> {
        let mut base = parse("base.yaml", base).0.remove(0);
        spec(&mut base, &parse("over.yaml", over).0.remove(0));
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
