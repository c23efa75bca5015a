//! How far what a repository says by now is ahead of a commit that a person keeps in force.

use git2::Oid;

use super::choosing::{Choosing, object};
use super::lineage::{Lineage, lineage};
use super::{Git, Place};
use crate::source::failure::SourceError;
use crate::source::followed::Ahead;

impl Ahead {
    /// What the history says of a commit.
    pub(super) fn of(commit: Oid, found: &Lineage) -> Self {
        let is_known = found.descends && !found.is_cut;
        Self {
            commit: commit.to_string(),
            commits: is_known.then_some(found.since.len()),
        }
    }
}

/// What was answered last: of which object, beside which commit, and what.
pub(super) type Answered = (Oid, Oid, Option<Ahead>);

impl Git {
    /// Counts. What was counted is not counted again.
    ///
    /// # Errors
    /// It cannot be reached, or what it has cannot be read.
    pub(super) fn count(&mut self, kept: &str) -> Result<Option<Ahead>, SourceError> {
        let Some(kept) = object(kept) else {
            return Ok(None);
        };
        let choosing = Choosing::new(&self.wanted, Some(kept));
        let wanted = self.wanted.to_string();
        let chosen = match &mut self.place {
            Place::Local(local) => local.choose(choosing, &wanted)?,
            Place::Remote(remote) => remote.choose(choosing, &wanted)?,
        };
        if let Some((of, beside, ahead)) = &self.ahead
            && (*of, *beside) == (chosen.object, kept)
        {
            return Ok(ahead.clone());
        }
        let ahead = match &mut self.place {
            Place::Local(local) => {
                let objects = local.objects()?;
                let (_, commit) = objects.peeled(chosen.object)?;
                Some(Ahead::of(commit, &lineage(&objects, commit, kept)?))
            }
            Place::Remote(remote) => remote.ahead(&chosen, kept)?,
        };
        self.ahead = Some((chosen.object, kept, ahead.clone()));
        Ok(ahead)
    }
}
