//! Looking at one source: what is new is read, and what it means decides whether it comes into force.

use std::collections::BTreeSet;

use manifests::desired::DesiredSet;
use manifests::diagnostic::Severity;
use manifests::id::SourceName;
use runtime::error::Class;

use super::aside::Aside;
use super::event::{Event, Fetched};
use super::in_force::{InForces, NotPut};
use super::revisions::{Fate, Revision};
use crate::clock::Clock;
use crate::diff::suspension::Pin;
use crate::error::chain;
use crate::meaning::{meaning, strict};
use crate::source::failure::{SourceClass, SourceError};
use crate::source::followed::{Last, Latest, Tree};

/// So many errors of a revision are told; a person who mends it sees all by `keel validate`.
const TOLD: usize = 3;

/// One source and what was last seen of it.
pub(super) struct Fetcher<'a> {
    pub(super) name: SourceName,
    pub(super) source: Aside,
    /// The projects that it may have; empty: all, and what belongs to the host.
    pub(super) projects: BTreeSet<String>,
    pub(super) in_force: &'a InForces,
    pub(super) clock: &'a dyn Clock,
    /// The revision that a person wants to stay in force.
    pub(super) pinned: Option<Pin>,
    /// Also what did not come into force: it is told once.
    pub(super) seen: Option<Last>,
}

impl Fetcher<'_> {
    /// Looks at it once, or has the pinned revision in force.
    pub(super) fn fetch(&mut self, pin: Option<Pin>) -> Fetched {
        let is_news = pin != self.pinned;
        if is_news {
            let fate = match &pin {
                Some(_) => Fate::Pinned,
                None => Fate::Unpinned,
            };
            self.remember(Revision {
                revision: pin.as_ref().map(|pin| pin.revision.clone()),
                digest: pin.as_ref().map(|pin| pin.digest.clone()),
                why: pin.as_ref().map(Pin::words),
                ..Revision::new(self.clock.now(), fate)
            });
            self.pinned = pin;
            // What comes next is compared with what is in force then, and not with what was seen before.
            self.seen = None;
        }
        match &self.pinned {
            Some(pin) => self.hold(pin),
            None => self.look(),
        }
    }

    /// Where a revision is pinned: how far what the source says by now is ahead of it. A source that does not answer
    /// tells nothing, and holds up nothing.
    pub(super) fn ahead(&mut self) -> Option<Event> {
        let pin = self.pinned.clone()?;
        let commit = self.in_force.of(&self.name)?.commit.clone()?;
        match self.source.ahead(commit)? {
            Ok(ahead) => Some(Event::Ahead(self.name.clone(), pin.digest, ahead?)),
            Err(error) => {
                let why = chain(&error);
                tracing::debug!(source = %self.name, why, "how far it is behind is not known");
                None
            }
        }
    }

    /// The pinned revision is in force.
    fn hold(&self, pin: &Pin) -> Fetched {
        let in_force = self.in_force.of(&self.name);
        if in_force.is_some_and(|one| one.digest == pin.digest) {
            return Fetched::Unchanged;
        }
        match self.in_force.put_back(&self.name, &pin.digest) {
            Ok(()) => {}
            Err(error @ NotPut::NotKept(_)) => {
                tracing::error!(source = %self.name, "{}", chain(&error));
            }
            Err(error) => {
                return Fetched::Failed {
                    class: Class::NeedsOperator,
                    why: chain(&error),
                };
            }
        }
        tracing::info!(source = %self.name, revision = pin.revision, "in force again: it is pinned");
        Fetched::Moved(pin.digest.clone())
    }

    fn remember(&self, revision: Revision) {
        self.in_force.revisions().add(&self.name, revision);
    }

    fn look(&mut self) -> Fetched {
        let in_force = self.in_force.of(&self.name);
        let last = match (&self.seen, in_force.map(|one| one.last())) {
            (None, last) => last,
            // What was seen last is no news; what comes must descend from what is in force.
            (Some(seen), last) => Some(Last {
                digest: seen.digest.clone(),
                commit: last.and_then(|last| last.commit),
                approved_rewind: None,
            }),
        };
        let Some(looked) = self.source.latest(last) else {
            return Fetched::Unchanged;
        };
        let tree = match looked {
            Ok(Latest::Unchanged { .. }) => return Fetched::Unchanged,
            Ok(Latest::Moved(tree)) => tree,
            Err(error) => {
                if error.class() == SourceClass::Refused {
                    self.remember(Revision {
                        revision: error.commit().map(short),
                        why: Some(chain(&error)),
                        ..Revision::new(self.clock.now(), Fate::Refused)
                    });
                }
                return failed(&error);
            }
        };
        let revision = label(&tree);
        for passed in &tree.passed_over {
            tracing::warn!(source = %self.name, revision, "{passed}");
        }
        self.seen = Some(Last {
            commit: tree.commit.clone(),
            digest: tree.digest.clone(),
            approved_rewind: None,
        });
        let digest = tree.digest.clone();
        let signed_by = tree.signed_by.clone();
        let mut said = Revision {
            revision: Some(revision.clone()),
            commit: tree.commit.clone(),
            digest: Some(digest.clone()),
            about: tree.about.clone(),
            signed_by: signed_by.clone(),
            ..Revision::new(self.clock.now(), Fate::InForce)
        };
        let put = self.mean(&tree).and_then(|desired| {
            match self.in_force.put(&self.name, *tree, desired) {
                Err(error @ NotPut::NotKept(_)) => {
                    tracing::error!(source = %self.name, "{}", chain(&error));
                    Ok(())
                }
                other => other.map_err(|error| chain(&error)),
            }
        });
        match put {
            Ok(()) => {
                self.remember(said);
                tracing::info!(source = %self.name, revision, signed_by, "in force");
                Fetched::Moved(digest)
            }
            Err(why) => {
                tracing::error!(source = %self.name, revision, why, "invalid: what was in force stays in force");
                said.fate = Fate::Invalid;
                said.why = Some(why.clone());
                self.remember(said);
                Fetched::Invalid { revision, why }
            }
        }
    }

    fn mean(&self, tree: &Tree) -> Result<DesiredSet, String> {
        let (revision, repository) = (tree.revision.clone(), tree.repository.clone());
        let resolved = strict(meaning(&tree.texts, revision, repository));
        let Some(desired) = resolved.desired else {
            let found = resolved.found.sorted();
            let errors: Vec<String> = found
                .iter()
                .filter(|one| one.severity == Severity::Error)
                .map(|one| format!("{}: {} [{}]", one.origin, one.message, one.code))
                .collect();
            let more = errors.len().saturating_sub(TOLD);
            let mut why = errors[..errors.len().min(TOLD)].join("; ");
            if more > 0 {
                why.push_str(&format!("; and {more} more"));
            }
            return Err(why);
        };
        self.within_projects(&desired)?;
        Ok(desired)
    }

    fn within_projects(&self, desired: &DesiredSet) -> Result<(), String> {
        if self.projects.is_empty() {
            return Ok(());
        }
        let strange = desired.resources.values().find(|resource| {
            let address = &resource.address;
            address.kind.belongs_to_host() || !self.projects.contains(address.project_name())
        });
        match strange {
            None => Ok(()),
            Some(resource) => Err(format!(
                "{}: {} is in none of the projects that this source may have",
                resource.origin, resource.address
            )),
        }
    }
}

fn label(tree: &Tree) -> String {
    let digest = || tree.digest.chars().take(7).collect();
    tree.revision.clone().unwrap_or_else(digest)
}

/// A commit as people see it.
fn short(object: &str) -> String {
    let kinds = ["commit ", "tag "];
    let commit = kinds.iter().find_map(|kind| object.strip_prefix(kind));
    let commit = commit.unwrap_or(object);
    let is_whole = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    commit
        .chars()
        .take(if is_whole { 7 } else { usize::MAX })
        .collect()
}

fn failed(error: &SourceError) -> Fetched {
    Fetched::Failed {
        class: match error.class() {
            SourceClass::Retry => Class::Retry,
            SourceClass::Refused => Class::Refused,
            SourceClass::Config => Class::NeedsOperator,
        },
        why: chain(error),
    }
}
