//! Which live object belongs to which manifest: by the mark on it, by its name, by a name it had before.

use std::collections::{BTreeMap, HashMap, HashSet};

use manifests::desired::{DesiredSet, Resource};
use manifests::id::{Address, SourceName, Uid};
use manifests::kind::Kind;
use manifests::observed::{Item, ObservedSet, Trashed, TrashedBy};

use super::known::Known;

/// What was found for one manifest.
#[derive(Debug, Clone)]
pub(super) enum Pair<'a> {
    Nothing,
    /// All of this name in our trash, the newest first.
    Trashed(Vec<&'a Trashed>),
    Unclear(String),
    Foreign(&'a Item),
    OtherSource(&'a Item, SourceName),
    Ours(&'a Item),
}

/// All pairs of a set.
pub(super) struct Pairing<'a> {
    pairs: BTreeMap<Address, Pair<'a>>,
    orphans: Vec<(&'a Item, Option<String>)>,
}

impl<'a> Pairing<'a> {
    /// Pairs each manifest with at most one live object, and each live object of this source with at most one manifest.
    /// All that is declared is paired, also where only a part is meant: a part must not take for its own what the whole
    /// gives to another manifest.
    pub(super) fn new(desired: &DesiredSet, observed: &'a ObservedSet, known: &Known) -> Self {
        let seen = Seen::new(desired, observed, known);
        let mut taken: HashSet<Uid> = HashSet::new();
        let mut pairs = BTreeMap::new();
        // Renames first: an object that moves away must not be taken for the one that gets its old name.
        for resource in desired.declared() {
            if let Some((item, uid)) = seen.renamed_to(resource, desired)
                && taken.insert(uid)
            {
                pairs.insert(resource.address.clone(), Pair::Ours(item));
            }
        }
        for resource in desired.declared() {
            if pairs.contains_key(&resource.address) {
                continue;
            }
            let pair = seen.find(resource, &taken);
            if let Pair::Ours(Item {
                mark: Some(mark), ..
            }) = &pair
            {
                taken.insert(mark.uid);
            }
            pairs.insert(resource.address.clone(), pair);
        }
        seen.wait_for_others(desired, &mut pairs);
        let mut orphans: Vec<(&Item, Option<String>)> = seen
            .ours
            .iter()
            .filter(|(uid, _)| !taken.contains(*uid))
            .map(|(_, item)| (*item, None))
            .chain(
                seen.doubles
                    .iter()
                    .map(|item| (*item, Some("another object bears the same mark".to_owned()))),
            )
            .collect();
        orphans.sort_by(|a, b| a.0.address.cmp(&b.0.address));
        Self { pairs, orphans }
    }

    /// The pair of a manifest.
    pub(super) fn of(&self, address: &Address) -> Pair<'a> {
        self.pairs.get(address).cloned().unwrap_or(Pair::Nothing)
    }

    /// Live objects of this source that no manifest wants, by address, with a doubt where there is one.
    pub(super) fn orphans(self) -> impl Iterator<Item = (&'a Item, Option<String>)> {
        self.orphans.into_iter()
    }
}

/// Indexes over what was seen.
struct Seen<'a> {
    source: SourceName,
    at: HashMap<&'a Address, &'a Item>,
    ours: BTreeMap<Uid, &'a Item>,
    doubles: Vec<&'a Item>,
    unclear: HashMap<Address, String>,
    /// Objects of which nothing but the kind is known, not even to us.
    nameless: Vec<(Kind, String)>,
    /// By name, the newest first.
    trash: HashMap<&'a Address, Vec<&'a Trashed>>,
    /// Where each of our objects was last applied.
    known: HashMap<Address, Uid>,
    /// Which manifests had a name before.
    claimants: HashMap<Address, Vec<Address>>,
}

impl<'a> Seen<'a> {
    fn new(desired: &DesiredSet, observed: &'a ObservedSet, known: &Known) -> Self {
        let source = desired.source.name.clone();
        let mut ours: BTreeMap<Uid, &'a Item> = BTreeMap::new();
        let mut doubles = Vec::new();
        for item in &observed.items {
            let Some(mark) = item.mark.as_ref().filter(|mark| mark.source == source) else {
                continue;
            };
            // A copy made by hand copies the mark as well. The one at the remembered name is the original; of the
            // other nothing is certain, so it is never deleted.
            let original = known.owned.get(&mark.uid).map(|owned| &owned.address);
            match ours.get(&mark.uid) {
                None => {
                    ours.insert(mark.uid, item);
                }
                Some(first) if original == Some(&item.address) => {
                    doubles.push(*first);
                    ours.insert(mark.uid, item);
                }
                Some(_) => doubles.push(item),
            }
        }
        let mut trash: HashMap<&'a Address, Vec<&'a Trashed>> = HashMap::new();
        for trashed in observed
            .trash
            .iter()
            .filter(|trashed| trashed.mark.source == source)
            // What was made anew by intent is not what a manifest asks for.
            .filter(|trashed| trashed.by == TrashedBy::Delete)
        {
            trash.entry(&trashed.address).or_default().push(trashed);
        }
        for same in trash.values_mut() {
            same.sort_by_key(|one| std::cmp::Reverse((one.deleted_at, one.mark.uid)));
        }
        let mut claimants: HashMap<Address, Vec<Address>> = HashMap::new();
        for resource in desired.declared() {
            for previous in &resource.previous {
                claimants
                    .entry(previous.clone())
                    .or_default()
                    .push(resource.address.clone());
            }
        }
        let mut unclear = HashMap::new();
        let mut nameless = Vec::new();
        for one in &observed.unclear {
            let remembered = one.nameless.and_then(|uid| known.owned.get(&uid));
            match (one.nameless, remembered) {
                (None, _) => {
                    unclear.insert(one.address.clone(), one.why.clone());
                }
                (Some(_), Some(owned)) => {
                    unclear.insert(owned.address.clone(), one.why.clone());
                }
                (Some(_), None) => nameless.push((one.address.kind, one.why.clone())),
            }
        }
        Self {
            claimants,
            unclear,
            nameless,
            at: observed
                .items
                .iter()
                .map(|item| (&item.address, item))
                .collect(),
            known: known
                .owned
                .values()
                .filter(|owned| owned.source == source)
                .map(|owned| (owned.address.clone(), owned.uid))
                .collect(),
            source,
            ours,
            doubles,
            trash,
        }
    }

    /// Our object that lives at an address and is the only bearer of its mark.
    fn ours_at(&self, address: &Address) -> Option<(&'a Item, Uid)> {
        let item = *self.at.get(address)?;
        let mark = item
            .mark
            .as_ref()
            .filter(|mark| mark.source == self.source)?;
        self.ours
            .get(&mark.uid)
            .is_some_and(|own| own.address == item.address)
            .then_some((item, mark.uid))
    }

    /// The object that `previousNames` gives to a manifest: one of ours, which lives under a name it had before that
    /// no other manifest wants, or whose own manifest is renamed in turn.
    fn renamed_to(&self, resource: &Resource, desired: &DesiredSet) -> Option<(&'a Item, Uid)> {
        if self.at.contains_key(&resource.address) && !self.leaves(&resource.address, desired, 0) {
            return None;
        }
        let renamed = resource.previous.iter().find_map(|previous| {
            let found = self.ours_at(previous)?;
            let free = desired.declares(previous).is_none() || self.leaves(previous, desired, 0);
            free.then_some(found)
        });
        renamed.or_else(|| self.moved_to(resource, desired))
    }

    /// The volume that goes into the pool of a manifest: the only one of ours with its name, or one that it had before, that
    /// no manifest wants where it is.
    fn moved_to(&self, resource: &Resource, desired: &DesiredSet) -> Option<(&'a Item, Uid)> {
        let address = &resource.address;
        if address.kind != Kind::Volume {
            return None;
        }
        let names =
            std::iter::once(&address.name).chain(resource.previous.iter().map(|one| &one.name));
        let names: HashSet<&String> = names.collect();
        let mut found = self.ours.iter().filter(|(_, item)| {
            let live = &item.address;
            live.kind == Kind::Volume
                && live.project == address.project
                && live.pool != address.pool
                && names.contains(&live.name)
                && desired.declares(live).is_none()
        });
        let (uid, item) = found.next()?;
        // Of two nobody knows which one is meant.
        found.next().is_none().then_some((*item, *uid))
    }

    /// Whether our object at this wanted name is the old one of another manifest that nothing lives under yet, while
    /// the manifest of this name has an old one of its own: `a → b` while `b → c`.
    fn leaves(&self, address: &Address, desired: &DesiredSet, depth: usize) -> bool {
        let Some(resource) = desired.declares(address) else {
            return false;
        };
        if resource.previous.is_empty() || depth > 16 || self.ours_at(address).is_none() {
            return false;
        }
        let wanted_elsewhere = self
            .claimants
            .get(address)
            .into_iter()
            .flatten()
            .any(|other| {
                other != address
                    && (!self.at.contains_key(other) || self.leaves(other, desired, depth + 1))
            });
        wanted_elsewhere
            && resource
                .previous
                .iter()
                .any(|previous| match desired.declares(previous) {
                    None => self.ours_at(previous).is_some(),
                    Some(_) => self.leaves(previous, desired, depth + 1),
                })
    }

    fn find(&self, resource: &Resource, taken: &HashSet<Uid>) -> Pair<'a> {
        let address = &resource.address;
        let free = |found: &(&'a Item, Uid)| !taken.contains(&found.1);
        if let Some((item, _)) = self.ours_at(address).filter(free) {
            return Pair::Ours(item);
        }
        // Somebody gave our object another name: the mark on it says which one it is.
        let moved = self
            .known
            .get(address)
            .and_then(|uid| self.ours.get(uid).map(|item| (*item, *uid)))
            .filter(free);
        if let Some((item, _)) = moved {
            return Pair::Ours(item);
        }
        if let Some(why) = self.unclear.get(address) {
            return Pair::Unclear(why.clone());
        }
        match self.at.get(address).copied() {
            Some(item) => match &item.mark {
                None => Pair::Foreign(item),
                Some(mark) if mark.source != self.source => {
                    Pair::OtherSource(item, mark.source.clone())
                }
                Some(mark) if taken.contains(&mark.uid) => self.not_there(address),
                Some(_) => Pair::Unclear("another object bears the same mark".to_owned()),
            },
            None => self.not_there(address),
        }
    }

    /// In a part, what lives under a wanted name may be what another manifest, outside the part, is to get: nothing is
    /// done in its place before that one has it.
    fn wait_for_others(&self, desired: &DesiredSet, pairs: &mut BTreeMap<Address, Pair<'a>>) {
        let mut promised: HashMap<Uid, &Address> = HashMap::new();
        for address in desired.others.keys() {
            if let Some(Pair::Ours(item)) = pairs.get(address)
                && item.address != *address
                && let Some(mark) = &item.mark
            {
                promised.insert(mark.uid, address);
            }
        }
        for address in desired.resources.keys() {
            let there = self
                .ours_at(address)
                .and_then(|(_, uid)| promised.get(&uid));
            if let Some(other) = there {
                let why = format!("what lives there becomes {other}, which is not in this part");
                pairs.insert(address.clone(), Pair::Unclear(why));
            }
        }
    }

    fn not_there(&self, address: &Address) -> Pair<'a> {
        let doubt = self.nameless.iter().find(|(kind, _)| *kind == address.kind);
        if let Some((kind, why)) = doubt {
            let word = kind.word();
            return Pair::Unclear(format!("it may be the {word} that cannot be read: {why}"));
        }
        let trashed = self.trash.get(address).into_iter().flatten().copied();
        // An identity that lives is not taken out of the trash a second time.
        let free: Vec<_> = trashed
            .filter(|trashed| !self.ours.contains_key(&trashed.mark.uid))
            .collect();
        match free.is_empty() {
            true => Pair::Nothing,
            false => Pair::Trashed(free),
        }
    }
}
