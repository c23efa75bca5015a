//! Changes of projects, pools, networks, NetworkAcls and volumes. What is written is made from what was just read, and says so by its ETag: where
//! somebody else wrote in between, it is read again.

use manifests::action::{Action, Verb};
use manifests::desired::Resource;
use manifests::id::Address;
use manifests::kind::Kind;
use manifests::observed::TrashedBy;
use serde_json::{Value, json};

use super::IncusRuntime;
use super::client::{ClientError, TRIES, at};
use super::images::waiting;
use super::instances::BEGUN;
use super::observe::{TrashNote, is_complete, trash_note};
use super::texts::Texts;
use super::wire::{Config, Devices, Object};
use super::{cluster, marks, objects};
use crate::error::{Class, RuntimeError};
use crate::native::cgroup::Patience;
use crate::runtime::{Context, Effected};

/// The name of something in the trash. It fits everywhere, and no two have it.
pub(super) fn trash_name(uid: &manifests::id::Uid) -> String {
    format!("keel-trash-{}", uid.to_string().replace('-', ""))
}

/// Somebody else's object has the name.
pub(super) fn taken(verb: &Verb) -> RuntimeError {
    let why = "another object has this name";
    RuntimeError::new(verb.word(), Class::Conflict, why)
}

pub(super) fn unsaid(why: String) -> RuntimeError {
    RuntimeError::new("say it in the words of the server", Class::Unsupported, why)
}

/// Whether no server is without it.
fn is_of_each_server(address: &Address) -> bool {
    address.kind == Kind::Project && address.name == "default"
}

impl IncusRuntime {
    pub(super) fn perform_on_object(
        &self,
        action: &Action,
        resource: Option<&Resource>,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let address = &action.address;
        let path = objects::path(address);
        let doing = |error: ClientError| error.doing(action.verb.word());
        let live: Option<Object> = self.client.get(&path).map_err(doing)?;
        let bears = |object: &Object, at: &Address| {
            marks::own(&object.config, at).is_some_and(|mark| mark.uid == action.uid)
        };
        let is_ours = live.as_ref().is_some_and(|live| bears(live, address));
        match &action.verb {
            Verb::Create => match (live, resource) {
                (Some(_), _) if !is_ours => Err(taken(&action.verb)),
                (Some(live), Some(resource)) if !is_complete(&live) => {
                    self.make_again(action, resource, context)
                }
                (Some(_), Some(resource)) => self.change_object(action, resource, context),
                (None, Some(resource)) => self.make_object(action, resource, context),
                (_, None) => Err(super::wrong_kind(address)),
            },
            Verb::Update { .. } => match resource {
                Some(_) if live.is_some() && !is_ours => Err(taken(&action.verb)),
                Some(resource) => self.change_object(action, resource, context),
                None => Err(super::wrong_kind(address)),
            },
            Verb::Adopt => {
                let asked = match resource {
                    Some(resource) => objects::to_wire(&resource.spec, &Texts(&self.secrets), None)
                        .map_err(unsaid)?
                        .remove(marks::ASKED),
                    None => None,
                };
                self.mark_object(address, context, &mut |config| {
                    marks::put(config, action, resource);
                    if let Some(asked) = &asked {
                        config.insert(marks::ASKED.to_owned(), asked.clone());
                    }
                })
            }
            Verb::Forget if is_ours => self.mark_object(address, context, &mut marks::take_off),
            Verb::Forget => Ok(Effected::NotNeeded),
            Verb::Rename { from } => {
                let from_path = objects::path(from);
                let live: Option<Object> = self.client.get(&from_path).map_err(doing)?;
                match live {
                    None if is_ours => Ok(Effected::NotNeeded),
                    Some(live) if bears(&live, from) && from.pool == address.pool => {
                        self.mark_on_its_way(from, address, context)?;
                        let body = json!({"name": address.name});
                        let done = self.client.write(
                            "POST",
                            &from_path,
                            Some(&body),
                            None,
                            &waiting(context),
                        );
                        done.map_err(doing)?;
                        self.made.moved(from, address)?;
                        self.mark_object(address, context, &mut |config| {
                            marks::put(config, action, resource);
                        })
                    }
                    _ => Err(super::cannot(&action.verb, address)),
                }
            }
            Verb::Trash { at, expires_at } if address.kind == Kind::Volume => {
                if !is_ours {
                    return Ok(Effected::NotNeeded);
                }
                let note = TrashNote {
                    name: address.name.clone(),
                    at: *at,
                    until: *expires_at,
                    by: TrashedBy::Delete,
                    off: Config::new(),
                    nics: Devices::new(),
                };
                let note = manifests::change::shown(&note).to_string();
                self.mark_object(address, context, &mut |config| {
                    config.insert(marks::TRASH.to_owned(), note.clone());
                })?;
                let body = json!({"name": trash_name(&action.uid)});
                let done = self
                    .client
                    .write("POST", &path, Some(&body), None, &waiting(context));
                done.map_err(doing)?;
                Ok(Effected::Done)
            }
            Verb::Restore => {
                let mut lies = address.clone();
                lies.name = trash_name(&action.uid);
                if live.is_some() && !is_ours {
                    return Err(taken(&action.verb));
                }
                if live.is_none() {
                    let body = json!({"name": address.name});
                    let from = objects::path(&lies);
                    self.mark_on_its_way(&lies, address, context)?;
                    let done =
                        self.client
                            .write("POST", &from, Some(&body), None, &waiting(context));
                    done.map_err(doing)?;
                }
                self.mark_object(address, context, &mut |config| {
                    config.remove(marks::TRASH);
                    marks::put(config, action, resource);
                })
            }
            // Each server has it, and keeps it: it is let go of.
            Verb::Delete | Verb::Trash { .. } if is_ours && is_of_each_server(address) => {
                self.mark_object(address, context, &mut marks::take_off)
            }
            Verb::Delete | Verb::Trash { .. } => {
                let place = if is_ours {
                    path
                } else {
                    let mut lies = address.clone();
                    lies.name = trash_name(&action.uid);
                    let lies = objects::path(&lies);
                    let found: Option<Object> = self.client.get(&lies).map_err(doing)?;
                    if found.is_none_or(|found| trash_note(&found.config).is_none()) {
                        return Ok(Effected::NotNeeded);
                    }
                    lies
                };
                let done = self
                    .client
                    .write("DELETE", &place, None, None, &waiting(context));
                match done {
                    Err(error) if !error.is_not_found() => Err(doing(error)),
                    _ => Ok(Effected::Done),
                }
            }
            other => Err(super::cannot(other, address)),
        }
    }

    fn make_object(
        &self,
        action: &Action,
        resource: &Resource,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let address = &action.address;
        let texts = Texts(&self.secrets);
        let mut config = objects::to_wire(&resource.spec, &texts, None).map_err(unsaid)?;
        marks::put(&mut config, action, Some(resource));
        let mut body = objects::creating(address, &resource.spec, &config).map_err(unsaid)?;
        if self.dialect.clustered && !cluster::of_members(address.kind).is_empty() {
            self.make_on_members(address, &resource.spec, &mut body, context)?;
        }
        let all = collection(address);
        let done = self
            .client
            .write("POST", &all, Some(&body), None, &waiting(context));
        let Err(error) = done else {
            return Ok(Effected::Done);
        };
        // Whatever it says: what counts is what is there.
        let found = self.client.get::<Object>(&objects::path(address));
        match found {
            Ok(Some(found)) if marks::mark(&found.config).as_ref() == Some(&action.mark) => {
                Ok(Effected::Done)
            }
            _ => Err(error.doing("create")),
        }
    }

    /// Makes what the server did not finish, because it or who asked for it ended meanwhile. Nobody ever used that, and
    /// there is no other way on with it.
    fn make_again(
        &self,
        action: &Action,
        resource: &Resource,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let path = objects::path(&action.address);
        let mut patience = Patience::new(BEGUN);
        loop {
            let found = self.client.get::<Object>(&path);
            match found.map_err(|error| error.doing("look at"))? {
                None => break,
                // It was still at it.
                Some(now) if is_complete(&now) => {
                    return self.change_object(action, resource, context);
                }
                Some(_) if patience.wait() => {}
                Some(_) => {
                    let done = self
                        .client
                        .write("DELETE", &path, None, None, &waiting(context));
                    done.map_err(|error| error.doing("remove what was not finished of"))?;
                    break;
                }
            }
        }
        self.make_object(action, resource, context)
    }

    fn change_object(
        &self,
        action: &Action,
        resource: &Resource,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let path = objects::path(&action.address);
        let texts = Texts(&self.secrets);
        let kind = action.address.kind;
        let of_members = self.dialect.clustered && !cluster::of_members(kind).is_empty();
        let mut wanted = Config::new();
        let done = self.change(&path, context, &mut |object: &Object| {
            let mut now = objects::changed(object, &resource.spec, &texts)?;
            marks::put(&mut now.config, action, Some(resource));
            if of_members {
                // The members have these, each for itself.
                wanted = cluster::split(kind, &mut now.config);
            }
            Ok((now != *object).then(|| objects::writing(kind, &now)))
        })?;
        if of_members && self.change_on_members(&action.address, &resource.spec, wanted, context)? {
            return Ok(Effected::Done);
        }
        Ok(done)
    }

    /// A volume that is renamed is ours before and after: whenever that is cut short, it is known.
    fn mark_on_its_way(
        &self,
        from: &Address,
        to: &Address,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        if to.kind == Kind::Volume {
            self.mark_object(from, context, &mut |config| marks::put_also(config, to))?;
        }
        Ok(())
    }

    fn mark_object(
        &self,
        address: &Address,
        context: &Context<'_>,
        put: &mut dyn FnMut(&mut Config),
    ) -> Result<Effected, RuntimeError> {
        let path = objects::path(address);
        self.change(&path, context, &mut |object: &Object| {
            let mut now = object.clone();
            put(&mut now.config);
            Ok((now != *object).then(|| objects::writing(address.kind, &now)))
        })
    }

    /// Reads something, and writes what is made of it, unless that is nothing; again where it moved in between.
    pub(super) fn change<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        context: &Context<'_>,
        make: &mut dyn FnMut(&T) -> Result<Option<Value>, String>,
    ) -> Result<Effected, RuntimeError> {
        let mut tries = TRIES;
        loop {
            let found = self.client.get_tagged::<T>(path);
            let found = found.map_err(|error| error.doing("look at"))?;
            let (document, etag) = found.ok_or_else(|| {
                RuntimeError::new("change", Class::Conflict, "it is not there any more")
            })?;
            let Some(body) = make(&document).map_err(unsaid)? else {
                return Ok(Effected::NotNeeded);
            };
            let etag = etag.as_deref();
            tries -= 1;
            match self
                .client
                .write("PUT", path, Some(&body), etag, &waiting(context))
            {
                Ok(_) => return Ok(Effected::Done),
                // How it ended is told by how it is now.
                Err(error) if (error.is_stale() || error.is_unknown()) && tries > 0 => {}
                Err(error) => return Err(error.doing("change")),
            }
        }
    }
}

pub(super) fn collection(address: &Address) -> String {
    let project = [("project", address.project_name())];
    match address.kind {
        Kind::StoragePool => at(&["storage-pools"], &[]),
        Kind::Network => at(&["networks"], &project),
        Kind::NetworkAcl => at(&["network-acls"], &project),
        Kind::Project => at(&["projects"], &[]),
        _ => {
            let pool = address.pool.as_deref().unwrap_or_default();
            at(&["storage-pools", pool, "volumes", "custom"], &project)
        }
    }
}
