//! Which objects a project has for itself, and which it takes from project `default`.

use super::*;
use crate::kinds::project::Features;

/// The features of the declared projects.
pub(super) struct Projects(BTreeMap<String, Features>);

impl Projects {
    /// Of the documents of a tree; what is wrong with them is found elsewhere.
    pub(super) fn of(documents: &BTreeMap<Address, Document>) -> Self {
        let features = |document: &Document| {
            let features = document.node.at(&Pointer::new("/spec/features"))?;
            Features::deserialize(Decoder(features)).ok()
        };
        let projects = documents
            .values()
            .filter(|document| document.kind == Kind::Project)
            .map(|document| {
                let features = features(document).unwrap_or_default();
                (document.address.name.clone(), features)
            });
        Self(projects.collect())
    }

    /// Whether a project has objects of a kind for itself; none where it is not declared here.
    fn has(&self, project: &str, kind: Kind) -> Option<bool> {
        if project == "default" {
            return Some(true);
        }
        let features = self.0.get(project)?;
        Some(match kind {
            Kind::Image => features.images,
            Kind::Profile => features.profiles,
            Kind::Volume => features.volumes,
            Kind::Network | Kind::NetworkAcl | Kind::NetworkForward => features.networks,
            _ => true,
        })
    }

    /// Where a name is looked up: in its own project if that has the feature, else in the default one. Of a project that
    /// is declared elsewhere both are possible.
    pub(super) fn candidates(&self, from: &Address, reference: &Reference) -> Vec<Address> {
        let mut own = if reference.kind.belongs_to_host() {
            Address::new(reference.kind, &reference.name)
        } else {
            Address::in_project(reference.kind, from.project_name(), &reference.name)
        };
        own.pool.clone_from(&reference.pool);
        let in_default = Address {
            project: None,
            ..own.clone()
        };
        match self.has(from.project_name(), reference.kind) {
            _ if own == in_default => vec![own],
            Some(true) => vec![own],
            Some(false) => vec![in_default],
            None => vec![own, in_default],
        }
    }
}

/// Every project that objects are in is known, and has objects of their kind.
pub(super) fn check(tree: &Tree, found: &mut Diagnostics) {
    for document in tree.documents.values() {
        let Some(project) = &document.address.project else {
            continue;
        };
        let at = Pointer::new("/metadata/project");
        let written = document.node.at(&at);
        let origin = written.map_or_else(|| document.named.origin(), |node| node.place.origin());
        let kind = document.kind;
        if !tree.knows(&Address::new(Kind::Project, project.as_str())) {
            let one =
                Diagnostic::error(DANGLING, origin, format!("there is no project `{project}`"));
            let one = match nearest(project, &tree.names(Kind::Project)) {
                Some(near) => one.hint(format!("did you mean `{near}`?")),
                None => one.hint(format!(
                    "declare it, or name `Project/{project}` under `external` of keel.yaml"
                )),
            };
            found.push(one.of(&document.address).at(at));
        } else if tree.projects.has(project, kind) == Some(false) {
            found.push(
                Diagnostic::error(
                    NOT_OF_PROJECT,
                    origin,
                    format!("project `{project}` has no {} of its own", kind.name()),
                )
                .hint("declare it in project `default`, or switch the feature on in the project")
                .of(&document.address)
                .at(at),
            );
        }
    }
}
