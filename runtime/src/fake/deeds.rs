//! What each deed does to a [`World`].

use manifests::action::{Action, Power, Verb};
use manifests::change::FieldChange;
use manifests::desired::{DesiredSet, Resource};
use manifests::effect::Effect;
use manifests::id::{Address, Mark, Uid};
use manifests::kind::{Kind, Spec};
use manifests::observed::{Holds, Item, Remembered, Trashed, TrashedBy};
use serde_json::Value;

use super::World;
use crate::error::{Class, RuntimeError};
use crate::runtime::Effected;

fn refused(action: &Action, class: Class, why: String) -> RuntimeError {
    RuntimeError::new(action.verb.word(), class, why).of(&action.address)
}

impl World {
    /// Does one thing, wholly or not at all.
    pub(super) fn perform(
        &mut self,
        action: &Action,
        desired: &DesiredSet,
    ) -> Result<Effected, RuntimeError> {
        let address = &action.address;
        let resource = desired.resources.get(address);
        let wanted = || {
            resource.ok_or_else(|| {
                refused(action, Class::Bug, "nothing says what is wanted".to_owned())
            })
        };
        match &action.verb {
            Verb::Create => {
                let resource = wanted()?;
                self.needs(action, resource)?;
                match self.items.get(address) {
                    Some(item) if uid_of(item) != Some(action.uid) => {
                        return Err(refused(
                            action,
                            Class::Conflict,
                            "the name is taken".to_owned(),
                        ));
                    }
                    Some(item) if item.complete => return Ok(Effected::NotNeeded),
                    _ => {}
                }
                self.items.insert(address.clone(), made(action, resource));
            }
            Verb::Update { changes } => {
                let resource = wanted()?;
                self.needs(action, resource)?;
                let Some(item) = self.ours(action)? else {
                    self.items.insert(address.clone(), made(action, resource));
                    return Ok(Effected::Done);
                };
                item.last_told = Some(resource.spec.clone());
                let later = runs(item)
                    && changes.iter().any(|change| {
                        manifests::effect_table::effect(address.kind, &change.path)
                            == Effect::NextStart
                    });
                if later {
                    self.pending
                        .entry(action.uid)
                        .or_default()
                        .extend(changes.iter().cloned());
                    return Ok(Effected::NextStart);
                }
                change(item, changes, action)?;
            }
            Verb::Rename { from } => {
                if let Some(item) = self.items.get(address) {
                    if uid_of(item) == Some(action.uid) && !self.items.contains_key(from) {
                        return Ok(Effected::NotNeeded);
                    }
                    return Err(refused(
                        action,
                        Class::Conflict,
                        "the name is taken".to_owned(),
                    ));
                }
                let Some(mut item) = self.items.remove(from) else {
                    return Ok(Effected::NotNeeded);
                };
                item.address = address.clone();
                if let Spec::Volume(volume) = &mut item.spec {
                    volume.pool = address.pool.clone().unwrap_or_default();
                }
                self.items.insert(address.clone(), item);
            }
            Verb::Rebuild | Verb::Replace => {
                let resource = wanted()?;
                self.needs(action, resource)?;
                self.pending.remove(&action.uid);
                let before = self.items.insert(address.clone(), made(action, resource));
                if let (Some(keep), Some(mut item)) = (&action.keep, before) {
                    let by = match action.verb {
                        Verb::Rebuild => TrashedBy::Rebuild,
                        _ => TrashedBy::Replace,
                    };
                    set_state(&mut item, "Stopped", action)?;
                    let mark = Mark {
                        source: action.mark.source.clone(),
                        uid: keep.uid,
                    };
                    item.mark = Some(mark.clone());
                    let (at, expires_at) = (keep.at, keep.expires_at);
                    self.trash.push(trashed(item, mark, (at, expires_at), by));
                }
            }
            Verb::Power { power } => {
                let pending = self.pending.remove(&action.uid).unwrap_or_default();
                let Some(item) = self.ours(action)? else {
                    return Ok(Effected::NotNeeded);
                };
                let state = match power {
                    Power::Start
                    | Power::StartAnew
                    | Power::Restart
                    | Power::Reset
                    | Power::Unfreeze => "Running",
                    Power::Stop | Power::Kill | Power::Save | Power::HostDown => "Stopped",
                    Power::Freeze => "Frozen",
                };
                set_state(item, state, action)?;
                if matches!(power, Power::Freeze | Power::Unfreeze) {
                    self.pending.insert(action.uid, pending);
                } else {
                    change(item, &pending, action)?;
                }
            }
            Verb::Adopt => {
                if let Some(item) = self.items.get_mut(address) {
                    item.mark = Some(action.mark.clone());
                    item.remembered = resource.map(remembered);
                }
            }
            Verb::Forget => {
                let live = self.items.get_mut(address);
                let Some(item) = live.filter(|item| uid_of(item) == Some(action.uid)) else {
                    return Ok(Effected::NotNeeded);
                };
                item.mark = None;
                item.remembered = None;
            }
            Verb::Trash { at, expires_at } => {
                let Some(mut item) = self.gone(action)? else {
                    return Ok(Effected::NotNeeded);
                };
                set_state(&mut item, "Stopped", action)?;
                let times = (*at, *expires_at);
                let by = TrashedBy::Delete;
                self.trash
                    .push(trashed(item, action.mark.clone(), times, by));
            }
            Verb::Restore => {
                if let Some(item) = self.items.get(address) {
                    if uid_of(item) == Some(action.uid) {
                        return Ok(Effected::NotNeeded);
                    }
                    return Err(refused(
                        action,
                        Class::Conflict,
                        "the name is taken".to_owned(),
                    ));
                }
                let index = self
                    .trash
                    .iter()
                    .position(|(trashed, _)| trashed.mark.uid == action.uid)
                    .ok_or_else(|| {
                        refused(action, Class::Conflict, "it is not there".to_owned())
                    })?;
                let (_, mut item) = self.trash.remove(index);
                item.address = address.clone();
                item.mark = Some(action.mark.clone());
                set_state(&mut item, "Stopped", action)?;
                self.items.insert(address.clone(), item);
            }
            Verb::Delete => {
                if self.gone(action)?.is_none() {
                    let before = self.trash.len();
                    self.trash
                        .retain(|(trashed, _)| trashed.mark.uid != action.uid);
                    if self.trash.len() == before {
                        return Ok(Effected::NotNeeded);
                    }
                }
            }
        }
        Ok(Effected::Done)
    }

    /// Leaves a deed half done: what is made is there and not complete, of anything else nothing happened.
    pub(super) fn begin(&mut self, action: &Action, desired: &DesiredSet) {
        if let (Verb::Create, Some(resource)) =
            (&action.verb, desired.resources.get(&action.address))
            && !self.items.contains_key(&action.address)
        {
            let mut item = made(action, resource);
            item.complete = false;
            item.spec = Spec::default_of(action.address.kind);
            self.items.insert(action.address.clone(), item);
        }
    }

    /// The object under its name; an error if the one there is another.
    fn ours(&mut self, action: &Action) -> Result<Option<&mut Item>, RuntimeError> {
        match self.items.get_mut(&action.address) {
            Some(item) if uid_of(item) != Some(action.uid) => Err(refused(
                action,
                Class::Conflict,
                "another object has the name".to_owned(),
            )),
            other => Ok(other),
        }
    }

    /// All that it needs lives and is complete.
    fn needs(&self, action: &Action, resource: &Resource) -> Result<(), RuntimeError> {
        for (need, _) in &resource.needs {
            if !self.items.get(need).is_some_and(|item| item.complete) {
                return Err(refused(action, Class::Bug, format!("{need} is not there")));
            }
        }
        Ok(())
    }

    /// Takes an object away that nothing uses; a network also from under its instances, which lose their NICs.
    fn gone(&mut self, action: &Action) -> Result<Option<Item>, RuntimeError> {
        if self.ours(action).is_err() || !self.items.contains_key(&action.address) {
            return Ok(None);
        }
        let uses = |item: &Item| {
            item.spec.references().iter().any(|used| {
                used.kind == action.address.kind
                    && used.name == action.address.name
                    && used.pool == action.address.pool
            })
        };
        for user in self.items.values_mut().filter(|item| uses(item)) {
            if action.address.kind != Kind::Network {
                let why = format!("{} uses it", user.address);
                return Err(refused(action, Class::Refused, why));
            }
            let mut spec = user.spec.to_value();
            if let Some(devices) = spec["devices"].as_object_mut() {
                devices.retain(|_, device| {
                    device.get("network").and_then(Value::as_str) != Some(&action.address.name)
                });
            }
            user.spec = typed(&user.address, spec, action)?;
        }
        self.pending.remove(&action.uid);
        Ok(self.items.remove(&action.address))
    }
}

fn uid_of(item: &Item) -> Option<Uid> {
    item.mark.as_ref().map(|mark| mark.uid)
}

fn remembered(resource: &Resource) -> Remembered {
    Remembered {
        prune: resource.lifecycle.prune,
        protect: resource.lifecycle.protect,
    }
}

fn made(action: &Action, resource: &Resource) -> Item {
    Item {
        address: action.address.clone(),
        mark: Some(action.mark.clone()),
        complete: true,
        spec: resource.spec.clone(),
        last_told: Some(resource.spec.clone()),
        unseen: Vec::new(),
        remembered: Some(remembered(resource)),
        holds: Holds::default(),
        status: Value::Object(serde_json::Map::new()),
    }
}

/// Whether a live object is an instance that runs.
fn runs(item: &Item) -> bool {
    item.address.kind == Kind::Instance
        && item.spec.to_value().get("state").and_then(Value::as_str) != Some("Stopped")
}

/// Something on its way into the trash.
fn trashed(
    item: Item,
    mark: Mark,
    (deleted_at, expires_at): (jiff::Timestamp, jiff::Timestamp),
    by: TrashedBy,
) -> (Trashed, Item) {
    let trashed = Trashed {
        address: item.address.clone(),
        mark,
        deleted_at,
        expires_at,
        holds: item.holds,
        by,
        pool: None,
        was: Some(Box::new(item.clone())),
    };
    (trashed, item)
}

fn set_state(item: &mut Item, state: &str, action: &Action) -> Result<(), RuntimeError> {
    if item.address.kind != Kind::Instance {
        return Ok(());
    }
    let mut spec = item.spec.to_value();
    spec["state"] = Value::String(state.to_owned());
    item.spec = typed(&item.address, spec, action)?;
    Ok(())
}

fn typed(address: &Address, spec: Value, action: &Action) -> Result<Spec, RuntimeError> {
    Spec::deserialize(address.kind, spec)
        .map_err(|error| refused(action, Class::Bug, error.to_string()))
}

/// Puts changes at their places.
fn change(item: &mut Item, changes: &[FieldChange], action: &Action) -> Result<(), RuntimeError> {
    let mut spec = item.spec.to_value();
    for change in changes {
        match change.path.as_str() {
            "/lifecycle/prune" => {
                if let (Some(remembered), Ok(prune)) = (
                    &mut item.remembered,
                    serde_json::from_value(change.after.clone()),
                ) {
                    remembered.prune = prune;
                }
            }
            "/lifecycle/protect" => {
                if let Some(remembered) = &mut item.remembered {
                    remembered.protect = change.after == Value::Bool(true);
                }
            }
            _ => put(&mut spec, change),
        }
    }
    item.spec = typed(&item.address, spec, action)?;
    Ok(())
}

fn put(spec: &mut Value, change: &FieldChange) {
    let steps: Vec<String> = change.path.steps().skip(1).collect();
    let Some((last, above)) = steps.split_last() else {
        return;
    };
    let mut at = spec;
    for step in above {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        at = &mut at[step.as_str()];
    }
    if !at.is_object() {
        *at = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(map) = at {
        if change.after.is_null() {
            map.shift_remove(last);
        } else {
            map.insert(last.clone(), change.after.clone());
        }
    }
}
