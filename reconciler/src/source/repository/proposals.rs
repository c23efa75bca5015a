//! Pull requests of a repository: references that somebody proposes, of which nothing is taken over.

use std::collections::BTreeMap;

use git2::Oid;
use manifests::controller::ProposalRefs;

use super::choosing::{Offered, object};

/// A commit that is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The number of the pull request.
    pub number: u64,
    /// The whole name of its newest commit.
    pub commit: String,
}

/// The newest pull requests, by their numbers: a server may have any number of them.
pub(super) struct Proposals<'a> {
    refs: &'a ProposalRefs,
    most: usize,
    newest: BTreeMap<u64, Oid>,
}

impl<'a> Proposals<'a> {
    /// So many at most.
    pub(super) const fn new(refs: &'a ProposalRefs, most: usize) -> Self {
        Self {
            refs,
            most,
            newest: BTreeMap::new(),
        }
    }

    /// The newest first.
    pub(super) fn found(self) -> Vec<Proposal> {
        let newest = self.newest.into_iter().rev();
        newest
            .map(|(number, commit)| Proposal {
                number,
                commit: commit.to_string(),
            })
            .collect()
    }
}

impl Offered for Proposals<'_> {
    fn is_known(&self) -> bool {
        false
    }

    fn prefix(&self) -> String {
        self.refs.prefix().to_owned()
    }

    fn offer(&mut self, name: &str, id: &str) {
        if let (Some(number), Some(commit)) = (self.refs.number(name), object(id)) {
            self.newest.insert(number, commit);
        }
        while self.newest.len() > self.most {
            self.newest.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_nothing_else() {
        let refs: ProposalRefs = "refs/pull/*/head".parse().expect("a pattern");
        let mut proposals = Proposals::new(&refs, 2);
        let id = "1".repeat(40);
        for name in [
            "refs/pull/7/head",
            "refs/pull/12/head",
            "refs/pull/12/merge",
            "refs/pull/3/head",
            "refs/pull/x/head",
            "refs/pull/+13/head",
            "refs/pull/99999999999999999999999/head",
            "refs/heads/pull/14/head",
            "refs/pull/14/head^{}",
            "refs/pull/15/16/head",
        ] {
            proposals.offer(name, &id);
        }
        proposals.offer("refs/pull/16/head", "abc");
        let found: Vec<u64> = proposals.found().iter().map(|one| one.number).collect();
        assert_eq!(found, [12, 7]);
    }
}
