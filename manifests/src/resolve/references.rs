//! What documents name in others: by reference and by `dependsOn`.

use super::*;
use crate::secret::in_template;

/// What a spec refers to; tells what is not there.
pub(super) fn needs_of(
    spec: &Spec,
    document: &Document,
    tree: &Tree,
    provenance: &Provenance,
    found: &mut Diagnostics,
) -> Vec<(Address, Readiness)> {
    let mut needs = Vec::new();
    for reference in spec.references() {
        let candidates = tree.projects.candidates(&document.address, &reference);
        match candidates.into_iter().find(|address| tree.knows(address)) {
            Some(target) => needs.push((target, Readiness::Started)),
            // An image may be in the store already, under this alias.
            None if reference.kind == Kind::Image => {}
            None => found.push(dangling(document, &reference, tree, provenance)),
        }
    }
    needs
}

fn dangling(
    document: &Document,
    reference: &Reference,
    tree: &Tree,
    provenance: &Provenance,
) -> Diagnostic {
    let origin = provenance
        .at(&reference.at)
        .unwrap_or_else(|| document.place.origin());
    let noun = reference.kind.noun();
    let one = match &reference.pool {
        Some(pool) => format!("there is no {noun} `{}` in pool `{pool}`", reference.name),
        None => format!("there is no {noun} `{}`", reference.name),
    };
    let one = Diagnostic::error(DANGLING, origin, one)
        .of(&document.address)
        .at(reference.at.clone());
    match nearest(&reference.name, &tree.names(reference.kind)) {
        Some(near) if near == reference.name => {
            let elsewhere = tree
                .documents
                .keys()
                .find(|known| known.kind == reference.kind && known.name == reference.name);
            match elsewhere {
                Some(elsewhere) => one.hint(format!("{elsewhere} is another one")),
                None => one.hint("declare it here"),
            }
        }
        Some(near) => one.hint(format!("did you mean `{near}`?")),
        None => one.hint("declare it, or name it under `external` of keel.yaml"),
    }
}

pub(super) fn depends_on(
    document: &Document,
    tree: &Tree,
    found: &mut Diagnostics,
) -> Vec<(Address, Readiness)> {
    let mut needs = Vec::new();
    let Some(written) = document.node.get("dependsOn") else {
        return needs;
    };
    let all = Pointer::new("/dependsOn");
    let decoded = decode::decode(written, &all, |decoder| DependsOn::deserialize(decoder));
    let entries = match decoded {
        Ok(depends_on) => depends_on.entries,
        Err(wrong) => {
            found.extend(wrong);
            return needs;
        }
    };
    for entry in entries {
        let at = all.field(&entry.step);
        let place = written
            .at(&Pointer::root().field(&entry.step))
            .unwrap_or(written);
        let place = match (&place.value, written.entry(&entry.step)) {
            (Value::Map(_), _) => place.entry(&entry.name).map(|(key, _)| &key.place),
            (_, Some((key, _))) => Some(&key.place),
            _ => None,
        }
        .unwrap_or(&place.place);
        match entry.name.parse::<Address>() {
            Ok(address) if tree.knows(&address) => needs.push((address, entry.readiness)),
            Ok(address) => {
                let one =
                    Diagnostic::error(DANGLING, place.origin(), format!("there is no {address}"));
                let near = nearest(&address.name, &tree.names(address.kind))
                    .filter(|near| *near != address.name);
                let one = match near {
                    Some(near) => {
                        one.hint(format!("did you mean `{}/{near}`?", address.kind.name()))
                    }
                    None => one.hint("declare it, or name it under `external` of keel.yaml"),
                };
                found.push(one.of(&document.address).at(at));
            }
            Err(error) => {
                let others = tree.documents.keys();
                let others = others.filter(|address| address.kind != Kind::Profile);
                let one = not_an_address(&error, place.origin(), others);
                found.push(one.of(&document.address).at(at));
            }
        }
    }
    needs
}

/// What a document takes from secrets: `secretRef`, and `${secret.NAME.KEY}` in templates.
pub(super) fn secrets_of(
    spec: &Node,
    document: &Document,
    tree: &Tree,
    found: &mut Diagnostics,
) -> Vec<(Address, Readiness)> {
    let mut named = Vec::new();
    collect(spec, &mut named);
    let mut needs = Vec::new();
    for (name, key, place) in named {
        let reference = Reference {
            kind: Kind::Secret,
            pool: None,
            name: name.to_owned(),
            at: Pointer::root(),
        };
        let candidates = tree.projects.candidates(&document.address, &reference);
        let Some(target) = candidates.into_iter().find(|address| tree.knows(address)) else {
            let message = format!("there is no secret `{name}`");
            let one = Diagnostic::error(DANGLING, place.origin(), message).of(&document.address);
            found.push(match nearest(name, &tree.names(Kind::Secret)) {
                Some(near) => one.hint(format!("did you mean `{near}`?")),
                None => one.hint("declare a Secret of this name"),
            });
            continue;
        };
        if let Some(keys) = tree.documents.get(&target).and_then(keys_of)
            && !keys.contains(&key)
        {
            let message = format!("secret `{name}` has no key `{key}`");
            let one = Diagnostic::error(DANGLING, place.origin(), message).of(&document.address);
            found.push(hinted(one, key, &keys).note(format!("keys: {}", keys.join(", "))));
        }
        needs.push((target, Readiness::Started));
    }
    needs
}

/// The keys that a Secret document names; none where they are in a document of SOPS.
fn keys_of(secret: &Document) -> Option<Vec<&str>> {
    let source = secret.node.at(&Pointer::new("/spec/source"))?;
    if source.get("sops").is_some() {
        return None;
    }
    let keys = |group: &str| match source.get(group).map(|group| &group.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| key.name.as_str()).collect(),
        _ => Vec::new(),
    };
    Some(
        ["age", "environment", "files", "credentials"]
            .into_iter()
            .flat_map(keys)
            .collect(),
    )
}

/// Names and keys of secrets, with their places.
fn collect<'a>(node: &'a Node, out: &mut Vec<(&'a str, &'a str, &'a Place)>) {
    match &node.value {
        Value::Map(entries) => {
            if let [(key, value)] = entries.as_slice() {
                let text = |field: &str| {
                    value
                        .get(field)
                        .and_then(|node| substitute::text(&node.value))
                };
                match (key.name.as_str(), text("name"), text("key")) {
                    ("secretRef", Some(name), Some(key)) => {
                        out.push((name, key, &value.place));
                        return;
                    }
                    ("template", ..) => {
                        let names = in_template(value.text().unwrap_or_default());
                        out.extend(names.map(|(name, key)| (name, key, &value.place)));
                        return;
                    }
                    _ => {}
                }
            }
            for (_, below) in entries {
                collect(below, out);
            }
        }
        Value::List(items) => {
            for below in items {
                collect(below, out);
            }
        }
        _ => {}
    }
}
