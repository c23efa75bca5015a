//! Whether a commit comes after another one, and what lies between them.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use git2::Oid;

use super::objects::Objects;
use crate::source::failure::SourceError;

/// More commits are not walked through.
const MOST: usize = 200_000;

/// What the history says of a commit and the one in force.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lineage {
    /// It comes after the one in force, or is it.
    pub(super) descends: bool,
    /// What came since: all that it is made from and the one in force is not.
    pub(super) since: Vec<Oid>,
    /// Some of that history is not here: more may have come since, and where it does not descend, that is not known.
    pub(super) is_cut: bool,
}

impl Lineage {
    /// That of the commit in force itself.
    pub(super) const fn none() -> Self {
        Self {
            descends: true,
            since: Vec::new(),
            is_cut: false,
        }
    }
}

/// Whose history a commit is in: that of the new one, of the one in force, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sides {
    new: bool,
    old: bool,
}

const NEW: Sides = Sides {
    new: true,
    old: false,
};
const OLD: Sides = Sides {
    new: false,
    old: true,
};

/// Walks the histories of both, the newest commits first, until all that is left belongs to the one in force.
///
/// # Errors
/// A commit cannot be read, or there are too many.
pub(super) fn lineage(objects: &Objects, commit: Oid, last: Oid) -> Result<Lineage, SourceError> {
    let mut walk = Walk {
        objects,
        last,
        sides: BTreeMap::new(),
        heap: BinaryHeap::new(),
        open: BTreeSet::new(),
        is_cut: false,
    };
    walk.reach(last, OLD)?;
    walk.reach(commit, NEW)?;
    while !walk.open.is_empty()
        && let Some((_, id)) = walk.heap.pop()
    {
        walk.open.remove(&id);
        let sides = walk.sides.get(&id).copied().unwrap_or_default();
        let parents: Vec<Oid> = objects.commit(id)?.parent_ids().collect();
        for parent in parents {
            walk.reach(parent, sides)?;
        }
    }
    let is_new = |(id, sides): (&Oid, &Sides)| (*sides == NEW).then_some(*id);
    Ok(Lineage {
        descends: walk.sides.get(&last).is_some_and(|sides| sides.new),
        since: walk.sides.iter().filter_map(is_new).collect(),
        is_cut: walk.is_cut,
    })
}

struct Walk<'a> {
    objects: &'a Objects,
    last: Oid,
    sides: BTreeMap<Oid, Sides>,
    /// What is to be walked on from, by its time.
    heap: BinaryHeap<(i64, Oid)>,
    /// What of that only the new one is made from.
    open: BTreeSet<Oid>,
    is_cut: bool,
}

impl Walk<'_> {
    fn reach(&mut self, id: Oid, by: Sides) -> Result<(), SourceError> {
        let known = self.sides.entry(id).or_default();
        let before = *known;
        known.new |= by.new;
        known.old |= by.old;
        let now = *known;
        if now == before {
            return Ok(());
        }
        self.open.remove(&id);
        if !self.objects.has(id) {
            self.is_cut |= now == NEW && id != self.last;
            return Ok(());
        }
        if self.sides.len() > MOST {
            return Err(SourceError::TooLarge {
                what: "the history since the commit in force".to_owned(),
                limit: format!("{MOST} commits"),
            });
        }
        if now == NEW {
            self.open.insert(id);
        }
        let time = self.objects.commit(id)?.time().seconds();
        self.heap.push((time, id));
        Ok(())
    }
}
