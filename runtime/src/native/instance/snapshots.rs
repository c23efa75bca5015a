//! What snapshots of containers and of machines have in common: their names, their order, how they fail.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::pools;
use crate::native::storage::{KeptTree, StorageError};
use crate::runtime::{Context, NewSnapshot, Snapshot};

/// The class of a failure with a snapshot.
pub(super) fn disk_failed(doing: &'static str) -> impl Fn(StorageError) -> RuntimeError {
    move |error| {
        let class = match &error {
            StorageError::NoSnapshot(_) | StorageError::SnapshotExists(_) => Class::NeedsOperator,
            other => pools::class(other),
        };
        RuntimeError::new(doing, class, error)
    }
}

/// Refuses names that are no file names.
pub(in crate::native) fn checked(name: &str) -> Result<(), RuntimeError> {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty()
        || name.len() > 63
        || name.starts_with(['.', '-'])
        || !name.bytes().all(lawful)
    {
        let why = format!(
            "{name:?} is no name for a snapshot: up to 63 letters, digits and any of `._-`, and the first is a letter or digit"
        );
        return Err(RuntimeError::new(
            "name the snapshot of",
            Class::Refused,
            why,
        ));
    }
    Ok(())
}

/// The name of a new snapshot: the one asked for, or the first `snap` with a number that is free.
pub(in crate::native) fn name_for(
    new: &NewSnapshot,
    taken: impl Fn(&str) -> bool,
) -> Result<String, RuntimeError> {
    let mut free = (0_u32..).map(|number| format!("snap{number}"));
    let name = new.name.clone().or_else(|| free.find(|name| !taken(name)));
    let name = name.unwrap_or_default();
    checked(&name)?;
    Ok(name)
}

/// Snapshots that are copies, oldest first.
pub(in crate::native) fn of_trees(all: BTreeMap<String, KeptTree>) -> Vec<Snapshot> {
    oldest_first(all.into_iter().map(|(name, kept)| Snapshot {
        name,
        created_at: kept.created_at,
        description: kept.description,
        memory: false,
        made_by: kept.made_by,
        expires_at: kept.expires_at,
    }))
}

/// What is written beside a copy: of what it is one, and why there is one.
pub(in crate::native) fn kept_tree<P: Serialize + Clone>(
    definition: &Definition<P>,
    new: &NewSnapshot,
    context: &Context<'_>,
) -> Result<KeptTree, RuntimeError> {
    Ok(KeptTree {
        created_at: context.now,
        description: new.description.clone(),
        made_by: new.made_by,
        expires_at: new.expires_at,
        about: definition
            .to_json()
            .map_err(|error| RuntimeError::new("record the snapshot of", Class::Bug, error))?,
    })
}

/// In the order in which they were made.
pub(super) fn oldest_first(all: impl Iterator<Item = Snapshot>) -> Vec<Snapshot> {
    let mut all: Vec<Snapshot> = all.collect();
    all.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    all
}
