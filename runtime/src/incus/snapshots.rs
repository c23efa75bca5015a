//! Snapshots of instances.

use manifests::id::Address;
use manifests::kind::Kind;
use serde_json::json;

use super::IncusRuntime;
use super::client::{ClientError, at};
use super::images::waiting;
use super::wire;
use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, NewSnapshot, Snapshot, Snapshots};

fn all(instance: &Address) -> Result<String, RuntimeError> {
    let project = [("project", instance.project_name()), ("recursion", "1")];
    match instance.kind {
        Kind::Instance => Ok(at(&["instances", &instance.name, "snapshots"], &project)),
        _ => Err(RuntimeError::new(
            "list the snapshots of",
            Class::Unsupported,
            "this engine has snapshots of instances only, so far",
        )
        .of(instance)),
    }
}

fn one(instance: &Address, name: &str) -> String {
    let project = [("project", instance.project_name())];
    at(&["instances", &instance.name, "snapshots", name], &project)
}

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
        expires_at: time(&snapshot.expires_at),
    }
}

impl Snapshots for IncusRuntime {
    fn snapshots(&self, instance: &Address) -> Result<Vec<Snapshot>, RuntimeError> {
        let failed = |error: ClientError| error.doing("list the snapshots of").of(instance);
        let found: Vec<wire::Snapshot> = self.client.list(&all(instance)?).map_err(failed)?;
        let mut found: Vec<Snapshot> = found.iter().map(read).collect();
        found.sort_by_key(|snapshot| snapshot.created_at);
        Ok(found)
    }

    fn create_snapshot(
        &self,
        instance: &Address,
        new: &NewSnapshot,
        context: &Context<'_>,
    ) -> Result<String, RuntimeError> {
        let name = match &new.name {
            Some(name) => name.clone(),
            None => {
                let taken = self.snapshots(instance)?;
                let number = |one: &Snapshot| one.name.strip_prefix("snap")?.parse::<u64>().ok();
                let next = taken
                    .iter()
                    .filter_map(number)
                    .max()
                    .map_or(0, |last| last + 1);
                format!("snap{next}")
            }
        };
        let mut body = json!({"name": name, "stateful": new.memory});
        if let Some(until) = new.expires_at {
            body["expires_at"] = json!(until.to_string());
        }
        let place = all(instance)?;
        let done = self
            .client
            .write("POST", &place, Some(&body), None, &waiting(context));
        done.map_err(|error| error.doing("make a snapshot of").of(instance))?;
        Ok(name)
    }

    fn restore_snapshot(
        &self,
        instance: &Address,
        name: &str,
        _: bool,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let body = json!({"restore": name, "stateful": false});
        let place = super::instances::path(instance);
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
            .write("POST", &one(instance, from), Some(&body), None, &short);
        done.map(|_| ())
            .map_err(|error| error.doing("rename a snapshot of").of(instance))
    }

    fn delete_snapshot(
        &self,
        instance: &Address,
        name: &str,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        let done = self.client.write(
            "DELETE",
            &one(instance, name),
            None,
            None,
            &waiting(context),
        );
        done.map(|_| ())
            .map_err(|error| error.doing("delete a snapshot of").of(instance))
    }
}
