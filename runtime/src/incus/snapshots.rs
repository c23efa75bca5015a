//! Snapshots of instances and volumes.

use manifests::id::Address;
use manifests::kind::Kind;
use serde_json::json;

use super::IncusRuntime;
use super::client::{ClientError, at};
use super::images::waiting;
use super::wire;
use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, NewSnapshot, Snapshot, Snapshots};

/// The place of an object whose snapshots are meant, and what is below it.
fn below(object: &Address, steps: &[&str], more: &[(&str, &str)]) -> Result<String, RuntimeError> {
    let pool = object.pool.as_deref().unwrap_or_default();
    let mut place = match object.kind {
        Kind::Instance => vec!["instances", &object.name],
        Kind::Volume => vec!["storage-pools", pool, "volumes", "custom", &object.name],
        _ => {
            let why = "only instances and volumes have snapshots";
            return Err(
                RuntimeError::new("list the snapshots of", Class::Unsupported, why).of(object),
            );
        }
    };
    place.extend(steps);
    let mut query = vec![("project", object.project_name())];
    query.extend(more);
    Ok(at(&place, &query))
}

fn all(object: &Address) -> Result<String, RuntimeError> {
    below(object, &["snapshots"], &[("recursion", "1")])
}

fn one(object: &Address, name: &str) -> Result<String, RuntimeError> {
    below(object, &["snapshots", name], &[])
}

/// How the server says that it never goes.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The server has the year 1 for never.
fn time(text: &str) -> Option<jiff::Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    (time.as_second() > 0).then_some(time)
}

fn read(snapshot: &wire::Snapshot) -> Snapshot {
    let name = snapshot
        .name
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    Snapshot {
        name,
        created_at: time(&snapshot.created_at).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        description: String::new(),
        memory: snapshot.stateful,
        made_by: None,
        expires_at: snapshot.expires_at.as_deref().and_then(time),
    }
}

impl Snapshots for IncusRuntime {
    fn snapshots(&self, instance: &Address) -> Result<Vec<Snapshot>, RuntimeError> {
        let failed = |error: ClientError| error.doing("list the snapshots of").of(instance);
        let found: Vec<wire::Snapshot> = self.client.list(&all(instance)?).map_err(failed)?;
        let mut found: Vec<Snapshot> = found.iter().map(read).collect();
        found.sort_by_key(|snapshot| snapshot.created_at);
        self.made.tell(instance, &mut found)?;
        Ok(found)
    }

    fn create_snapshot(
        &self,
        instance: &Address,
        new: &NewSnapshot,
        context: &Context<'_>,
    ) -> Result<String, RuntimeError> {
        let there = self.snapshots(instance)?;
        let name = match &new.name {
            Some(name) => name.clone(),
            None => {
                let number = |one: &Snapshot| one.name.strip_prefix("snap")?.parse::<u64>().ok();
                let next = there
                    .iter()
                    .filter_map(number)
                    .max()
                    .map_or(0, |last| last + 1);
                format!("snap{next}")
            }
        };
        let mut body = json!({"name": name});
        if instance.kind == Kind::Instance {
            body["stateful"] = json!(new.memory);
        }
        match (new.made_by, new.expires_at) {
            // Its schedule lets go of it, and else nobody: neither the server by what the instance asks for itself.
            (Some(_), _) => body["expires_at"] = json!(NEVER),
            (None, Some(until)) => body["expires_at"] = json!(until.to_string()),
            (None, None) => {}
        }
        let place = all(instance)?;
        self.made.begin(instance, &name, new, &there, context.now)?;
        let done = self
            .client
            .write("POST", &place, Some(&body), None, &waiting(context));
        // Whatever it says: whether it is there tells how it went.
        let made = one(instance, &name)
            .and_then(|place| {
                let found: Option<wire::Snapshot> = self
                    .client
                    .get(&place)
                    .map_err(|error| error.doing("make a snapshot of").of(instance))?;
                Ok(found)
            })?
            .map(|found| read(&found).created_at);
        let is_new = made.filter(|_| !there.iter().any(|one| one.name == name));
        self.made.end(instance, &name, is_new)?;
        match is_new {
            Some(_) => Ok(name),
            None => Err(match done {
                Err(error) => error.doing("make a snapshot of").of(instance),
                Ok(_) => RuntimeError::new(
                    "make a snapshot of",
                    Class::Conflict,
                    "it is not there after it was made",
                )
                .of(instance),
            }),
        }
    }

    fn restore_snapshot(
        &self,
        instance: &Address,
        name: &str,
        _: bool,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let body = match instance.kind {
            Kind::Instance => json!({"restore": name, "stateful": false}),
            _ => json!({"restore": name}),
        };
        let place = below(instance, &[], &[])?;
        let done = self
            .client
            .write("PUT", &place, Some(&body), None, &waiting(context));
        done.map(|_| ())
            .map_err(|error| error.doing("go back to a snapshot of").of(instance))
    }

    fn rename_snapshot(
        &self,
        instance: &Address,
        from: &str,
        to: &str,
    ) -> Result<(), RuntimeError> {
        let body = json!({"name": to});
        let short = super::client::Waiting::SHORT;
        let done = self
            .client
            .write("POST", &one(instance, from)?, Some(&body), None, &short);
        done.map_err(|error| error.doing("rename a snapshot of").of(instance))?;
        self.made.renamed(instance, from, to)
    }

    fn delete_snapshot(
        &self,
        instance: &Address,
        name: &str,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let done = self.client.write(
            "DELETE",
            &one(instance, name)?,
            None,
            None,
            &waiting(context),
        );
        done.map(|_| ())
            .map_err(|error| error.doing("delete a snapshot of").of(instance))
    }
}
