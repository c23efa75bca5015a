//! Reads manifests for the commands that need them: texts, revision, meaning; says what is wrong with them.

use std::path::{Path, PathBuf};

use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use manifests::id::SourceName;
use manifests::read::{self, Texts};
use manifests::repository::Repository;
use manifests::resolve::{Resolved, resolve, source_of};

use super::invocation::{Invocation, environment, say};
use crate::error::{CliError, Exit};
use crate::meaning::{examine, meaning, strict};
use crate::source::git;
use crate::view::diagnostics;
use crate::view::findings::{Looked, Validated};
use crate::view::places::Places;

/// What a path holds, and what it means.
pub(super) struct Source {
    pub(super) texts: Texts,
    pub(super) resolved: Resolved,
}

impl Source {
    /// Reads and resolves; findings are in the answer.
    ///
    /// # Errors
    /// There is no such path, or it cannot be read.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, CliError> {
        let path = path.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let texts = read::read(&path).map_err(|error| {
            CliError::new(Exit::Invalid, error).hint("name a folder or a file of manifests")
        })?;
        // git takes as long as a thousand manifests: it is asked meanwhile.
        let sudo = environment("SUDO_UID");
        let (mut resolved, revision, repository) = std::thread::scope(|scope| {
            let revision =
                scope.spawn(|| git::revision(&texts.root, &texts.bases, sudo.as_deref()));
            let repository = scope.spawn(|| git::repository(&texts.root, sudo.as_deref()));
            let resolved = resolve(&texts, None);
            let answer = (revision.join(), repository.join());
            (
                resolved,
                answer.0.unwrap_or_default(),
                answer.1.unwrap_or_default(),
            )
        });
        if let Some(desired) = &mut resolved.desired {
            desired.source.revision = revision;
            desired.source.repository = repository;
        }
        examine(&mut resolved);
        Ok(Self { texts, resolved })
    }

    /// Where the source lies in its repository.
    pub(super) fn places(&self) -> Places {
        Places::of(&self.texts.root, git::top(&self.texts.root))
    }

    /// What texts mean that were read before.
    pub(super) fn of(
        texts: Texts,
        revision: Option<String>,
        repository: Option<Repository>,
    ) -> Self {
        let resolved = meaning(&texts, revision, repository);
        Self { texts, resolved }
    }

    /// The findings for people; empty where nothing was found.
    pub(super) fn findings(&self) -> String {
        diagnostics::page(&self.resolved.found, &self.texts.files)
    }

    /// What is wanted, also what this engine cannot do. What was found is told on stderr.
    ///
    /// # Errors
    /// Something is wrong with the manifests; it was said.
    pub(super) fn meaning(self, invocation: &Invocation) -> Result<Wanted, CliError> {
        let findings = self.findings();
        let places = self.places();
        let Some(desired) = self.resolved.desired else {
            say(&findings);
            let summary = diagnostics::summary(&self.resolved.found).unwrap_or_default();
            say(&format!("{summary}: nothing is done\n"));
            return Err(CliError::said(Exit::Invalid));
        };
        invocation.note(&findings);
        Ok(Wanted {
            desired,
            places,
            found: self.resolved.found,
            texts: self.texts,
        })
    }

    /// What is wanted and can be done: what this engine cannot do is an error.
    ///
    /// # Errors
    /// Something is wrong with the manifests, or they ask for what the engine cannot do; it was said.
    pub(super) fn desired(self, invocation: &Invocation) -> Result<Wanted, CliError> {
        self.strict().meaning(invocation)
    }

    /// Makes an error of what this engine cannot do.
    pub(super) fn strict(mut self) -> Self {
        self.resolved = strict(self.resolved);
        self
    }

    /// Names files and places from the top of the repository: two sources may have files of one name.
    pub(super) fn named_in_repository(mut self) -> Self {
        let places = self.places();
        for (name, _) in &mut self.texts.files {
            *name = places.file(name);
        }
        places.rename(&mut self.resolved.found);
        for resource in self
            .resolved
            .desired
            .iter_mut()
            .flat_map(|desired| desired.resources.values_mut())
        {
            resource.origin.file = places.path(&resource.origin).into();
        }
        self
    }

    /// What reports say of it, under a name.
    pub(super) fn validated(self, name: String) -> Validated {
        Validated {
            source: name,
            objects: self.declared(),
            found: self.resolved.found,
        }
    }

    /// Its name; of an invalid source as its `keel.yaml` says it. Asked before its files are named otherwise.
    pub(super) fn name(&self) -> String {
        let known = self.resolved.desired.as_ref();
        let known = known.map(|desired| desired.source.name.clone());
        let name = known.or_else(|| Some(source_of(&self.texts)?.name));
        name.unwrap_or_else(SourceName::unnamed).as_str().to_owned()
    }

    /// The objects that are declared, as far as they are known: of an invalid source its findings name some.
    fn declared(&self) -> Vec<Looked> {
        let resources = self.resolved.desired.iter();
        resources
            .flat_map(|desired| desired.resources.values())
            .map(|resource| Looked {
                name: resource.address.to_string(),
                source: None,
                origin: Some(resource.origin.clone()),
                left_alone: None,
            })
            .collect()
    }
}

/// Manifests with nothing wrong.
pub(super) struct Wanted {
    pub(super) desired: DesiredSet,
    /// Where the source lies in its repository.
    pub(super) places: Places,
    /// Warnings.
    pub(super) found: Diagnostics,
    pub(super) texts: Texts,
}
