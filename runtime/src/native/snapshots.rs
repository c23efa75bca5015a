//! Snapshots of the instances and volumes of this host.

use std::sync::Arc;

use manifests::id::Address;
use manifests::kind::{Kind, Spec};

use super::NativeRuntime;
use super::busy::{self, Read};
use super::definition::Definition;
use super::instance::machine::snapshots;
use super::instance::{InstancePicks, container_snapshots};
use super::volumes::{VolumePicks, snapshots as of_volumes};
use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, NewSnapshot, Snapshot, Snapshots};

fn is_container(definition: &Definition<InstancePicks>) -> bool {
    matches!(&definition.spec, Spec::Instance(instance) if instance.is_container())
}

impl NativeRuntime {
    /// The volume of an address; `None`: it is not that of a volume.
    pub(super) fn volume(
        &self,
        address: &Address,
    ) -> Result<Option<Arc<Definition<VolumePicks>>>, RuntimeError> {
        if address.kind != Kind::Volume {
            return Ok(None);
        }
        let all = self.host.definitions.every::<VolumePicks>(Kind::Volume);
        let all = all
            .map_err(|error| RuntimeError::new("find", Class::NeedsOperator, error).of(address))?;
        match all.into_iter().find(|one| one.address == *address) {
            Some(found) => Ok(Some(found)),
            None => Err(
                RuntimeError::new("find", Class::NeedsOperator, "there is no such volume")
                    .of(address),
            ),
        }
    }
}

impl NativeRuntime {
    /// Refuses what would disturb who writes a backup.
    fn undisturbed(
        &self,
        object: &Address,
        disturbed: impl Fn(Read) -> bool,
    ) -> Result<(), RuntimeError> {
        let uid = match self.volume(object)? {
            Some(volume) => volume.uid,
            None => self.definition(object)?.uid,
        };
        busy::refuse(&self.host, &uid, disturbed).map_err(|error| error.of(object))
    }
}

impl Snapshots for NativeRuntime {
    fn snapshots(&self, instance: &Address) -> Result<Vec<Snapshot>, RuntimeError> {
        if let Some(volume) = self.volume(instance)? {
            let told = of_volumes::told(&self.host, &volume);
            return told.map_err(|error| error.of(instance));
        }
        let definition = self.definition(instance)?;
        match is_container(&definition) {
            true => container_snapshots::told(&self.host, &definition),
            false => snapshots::told(&self.host, &definition),
        }
        .map_err(|error| error.of(instance))
    }

    fn create_snapshot(
        &self,
        instance: &Address,
        new: &NewSnapshot,
        context: &Context<'_>,
    ) -> Result<String, RuntimeError> {
        if let Some(volume) = self.volume(instance)? {
            let made = of_volumes::create(&self.host, &volume, new, context);
            return made.map_err(|error| error.of(instance));
        }
        let definition = self.definition(instance)?;
        match is_container(&definition) {
            true => container_snapshots::create(&self.host, &definition, new, context),
            false => snapshots::create(&self.host, &definition, new, context),
        }
        .map_err(|error| error.of(instance))
    }

    fn restore_snapshot(
        &self,
        instance: &Address,
        name: &str,
        disk_only: bool,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        self.undisturbed(instance, |read| read == Read::Live)?;
        if let Some(volume) = self.volume(instance)? {
            let restored = of_volumes::restore(&self.host, &volume, name, context);
            return restored.map_err(|error| error.of(instance));
        }
        let definition = self.definition(instance)?;
        match is_container(&definition) {
            true => container_snapshots::restore(&self.host, &definition, name, context),
            false => snapshots::restore(&self.host, &definition, name, disk_only, context),
        }
        .map_err(|error| error.of(instance))
    }

    fn rename_snapshot(
        &self,
        instance: &Address,
        from: &str,
        to: &str,
    ) -> Result<(), RuntimeError> {
        self.undisturbed(instance, |_| true)?;
        if let Some(volume) = self.volume(instance)? {
            let renamed = of_volumes::rename(&self.host, &volume, from, to);
            return renamed.map_err(|error| error.of(instance));
        }
        let definition = self.definition(instance)?;
        match is_container(&definition) {
            true => container_snapshots::rename(&self.host, &definition, from, to),
            false => snapshots::rename(&self.host, &definition, from, to),
        }
        .map_err(|error| error.of(instance))
    }

    fn delete_snapshot(
        &self,
        instance: &Address,
        name: &str,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        self.undisturbed(instance, |_| true)?;
        if let Some(volume) = self.volume(instance)? {
            let deleted = of_volumes::delete(&self.host, &volume, name);
            return deleted.map_err(|error| error.of(instance));
        }
        let definition = self.definition(instance)?;
        match is_container(&definition) {
            true => container_snapshots::delete(&self.host, &definition, name),
            false => snapshots::delete(&self.host, &definition, name, context),
        }
        .map_err(|error| error.of(instance))
    }
}
