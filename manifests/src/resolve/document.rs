//! The envelope of one document.

use super::*;

/// One document after parsing.
pub(super) struct Document {
    pub(super) kind: Kind,
    pub(super) metadata: Metadata,
    pub(super) address: Address,
    pub(super) node: Node,
    /// What its layers say of it, by index.
    pub(super) scope: usize,
    /// Where it begins.
    pub(super) place: Place,
    /// Where its name is.
    pub(super) named: Place,
}

impl Document {
    /// The document with all that it says; what stays in its place says as much only where others look into it: ten
    /// thousand trees are not kept beside what they mean.
    pub(super) fn taken(&mut self) -> Self {
        let nothing = Node::made(Value::Null);
        let node = match self.kind {
            Kind::Profile | Kind::Secret | Kind::StoragePool => self.node.clone(),
            _ => std::mem::replace(&mut self.node, nothing),
        };
        Self {
            kind: self.kind,
            metadata: self.metadata.clone(),
            address: self.address.clone(),
            node,
            scope: self.scope,
            place: self.place.clone(),
            named: self.named.clone(),
        }
    }
}

/// Reads the envelope of one document; its spec is decoded when profiles lie under it. `project` is that of what names none.
pub(super) fn read_document(
    node: Node,
    scope: usize,
    project: Option<&str>,
    found: &mut Diagnostics,
) -> Option<Document> {
    let place = node.place.clone();
    if !is_map(&node, found) {
        return None;
    }
    let mut unknown = Diagnostics::default();
    unknown_keys(&node, envelope::KEYS, &mut unknown);
    api_version(&node, found);
    let kind = kind(&node, found);
    found.extend(match kind {
        Some(kind) => misplaced(kind, unknown),
        None => unknown,
    });
    for key in ["spec", "lifecycle"] {
        if let Some(part) = node.get(key)
            && !matches!(part.value, Value::Map(_) | Value::Null)
        {
            found.push(wrong_type(key, part, "a map").at(Pointer::root().field(key)));
            return None;
        }
    }
    let (metadata, kind) = (metadata(&node, found)?, kind?);
    let named = node
        .at(&Pointer::new("/metadata/name"))
        .map_or(&place, |name| &name.place);
    let name = metadata.name.clone();
    let mut good = true;
    let names = std::iter::once((named, &name, "/metadata/name".to_owned())).chain(
        metadata
            .previous_names
            .iter()
            .enumerate()
            .filter_map(|(index, name)| {
                let at = format!("/metadata/previousNames/{index}");
                Some((&node.at(&Pointer::new(&at))?.place, name, at))
            }),
    );
    for (place, name, at) in names {
        if let Some(wrong) = envelope::wrong_name(kind, name) {
            found.push(bad_name(name, place.origin(), wrong).at(Pointer::new(&at)));
            good = false;
        }
    }
    let mut address = Address::new(kind, name);
    match &metadata.project {
        Some(project) if kind.belongs_to_host() => {
            let place = node
                .at(&Pointer::new("/metadata"))
                .and_then(|metadata| metadata.entry("project"));
            let place = place.map_or(named, |(key, _)| &key.place);
            found.push(
                Diagnostic::error(
                    UNKNOWN_FIELD,
                    place.origin(),
                    format!("a {} belongs to the host and to no project", kind.name()),
                )
                .hint(format!("take `project: {project}` away"))
                .at(Pointer::new("/metadata/project")),
            );
        }
        Some(project) => address = Address::in_project(kind, project, address.name),
        None => {
            if let Some(project) = project.filter(|_| !kind.belongs_to_host()) {
                address = Address::in_project(kind, project, address.name);
            }
        }
    }
    if kind == Kind::Volume {
        let pool = node.at(&Pointer::new("/spec/pool")).and_then(Node::text);
        address.pool = Some(pool.unwrap_or_default().to_owned());
    }
    let named = named.clone();
    good.then_some(Document {
        kind,
        metadata,
        address,
        node,
        scope,
        place,
        named,
    })
}

fn kind(node: &Node, found: &mut Diagnostics) -> Option<Kind> {
    let Some(written) = node.get("kind") else {
        found.push(
            Diagnostic::error(
                MISSING_FIELD,
                node.place.origin(),
                "field `kind` is missing",
            )
            .hint("write what the object is, such as `kind: Instance`"),
        );
        return None;
    };
    let word = substitute::text(&written.value);
    let kind = Kind::ALL.iter().find(|kind| Some(kind.name()) == word);
    if kind.is_none() {
        found.push(match word {
            Some(crate::schema::SOURCE_KIND) => Diagnostic::error(
                UNKNOWN_WORD,
                written.place.origin(),
                "a Source stands in a file of the name keel.yaml",
            )
            .hint("move it into keel.yaml"),
            Some(crate::controller::KIND) => Diagnostic::error(
                UNKNOWN_WORD,
                written.place.origin(),
                "the settings of a controller are no manifest: they say what is followed on a host",
            )
            .hint(format!("move them to {}", crate::controller::FILE)),
            Some(word) => unknown_kind(word, written.place.origin()),
            None => wrong_type("kind", written, "a word such as `Instance`"),
        });
    }
    kind.copied()
}

fn metadata(node: &Node, found: &mut Diagnostics) -> Option<Metadata> {
    let Some(written) = node.get("metadata") else {
        found.push(
            Diagnostic::error(
                MISSING_FIELD,
                node.place.origin(),
                "field `metadata` is missing",
            )
            .hint("write `metadata: { name: … }`"),
        );
        return None;
    };
    let at = Pointer::new("/metadata");
    let metadata = decode::decode(written, &at, |decoder| Metadata::deserialize(decoder));
    let metadata = metadata.map_err(|wrong| found.extend(wrong)).ok()?;
    if written.get("name").is_none() {
        found.push(
            Diagnostic::error(
                MISSING_FIELD,
                written.place.origin(),
                "field `name` is missing in metadata",
            )
            .at(at),
        );
        return None;
    }
    Some(metadata)
}
