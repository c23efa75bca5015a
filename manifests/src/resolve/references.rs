//! What documents name in others: by reference and by `dependsOn`.

use super::*;

/// Where a name is looked up: in its own project, then in the default one.
pub(super) fn candidates(from: &Address, reference: &Reference) -> Vec<Address> {
    let mut address = if reference.kind.belongs_to_host() {
        Address::new(reference.kind, &reference.name)
    } else {
        Address::in_project(reference.kind, from.project_name(), &reference.name)
    };
    address.pool.clone_from(&reference.pool);
    let in_default = Address {
        project: None,
        ..address.clone()
    };
    if address == in_default {
        vec![address]
    } else {
        vec![address, in_default]
    }
}

pub(super) fn dangling(
    address: &Address,
    reference: &Reference,
    documents: &BTreeMap<Address, Document>,
    provenance: &BTreeMap<Pointer, Origin>,
    place: &Place,
) -> Diagnostic {
    let origin = provenance
        .get(&reference.at)
        .cloned()
        .unwrap_or_else(|| place.origin());
    let known: Vec<&str> = documents
        .keys()
        .filter(|known| known.kind == reference.kind)
        .map(|known| known.name.as_str())
        .collect();
    let one = Diagnostic::error(
        DANGLING,
        origin,
        format!("there is no {} `{}`", reference.kind.word(), reference.name),
    )
    .of(address)
    .at(reference.at.clone());
    match nearest(&reference.name, &known) {
        Some(near) => one.hint(format!("did you mean `{near}`?")),
        None => one.hint("declare it, or name it under `external` of keel.yaml"),
    }
}

pub(super) fn depends_on(
    document: &Document,
    documents: &BTreeMap<Address, Document>,
    external: &[Address],
    needs: &mut Vec<(Address, Readiness)>,
    found: &mut Diagnostics,
) {
    let Some(written) = document.node.get("dependsOn") else {
        return;
    };
    let at = Pointer::new("/dependsOn");
    let entries = decode::decode(written, &at, |decoder| {
        Vec::<DependsOn>::deserialize(decoder)
    });
    let entries = match entries {
        Ok(entries) => entries,
        Err(wrong) => {
            found.extend(wrong);
            return;
        }
    };
    let wanted = entries.into_iter().flat_map(|entry| match entry {
        DependsOn::Name(name) => vec![(name, Readiness::Healthy)],
        DependsOn::Until(names) => names.into_iter().collect(),
    });
    for (name, readiness) in wanted {
        match name.parse::<Address>() {
            Ok(address) if documents.contains_key(&address) || external.contains(&address) => {
                needs.push((address, readiness));
            }
            Ok(address) => found.push(
                Diagnostic::error(
                    DANGLING,
                    written.place.origin(),
                    format!("there is no {address}"),
                )
                .of(&document.address)
                .at(at.clone()),
            ),
            Err(error) => found.push(
                Diagnostic::error(DANGLING, written.place.origin(), error.to_string())
                    .of(&document.address)
                    .at(at.clone()),
            ),
        }
    }
}
