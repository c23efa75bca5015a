//! Snapshots of the instances of this host.

use manifests::id::Address;
use manifests::kind::Spec;

use super::NativeRuntime;
use super::definition::Definition;
use super::instance::machine::snapshots;
use super::instance::{InstancePicks, container_snapshots};
use crate::error::RuntimeError;
use crate::runtime::{Context, NewSnapshot, Snapshot, Snapshots};

fn is_container(definition: &Definition<InstancePicks>) -> bool {
    matches!(&definition.spec, Spec::Instance(instance) if instance.is_container())
}

impl Snapshots for NativeRuntime {
    fn snapshots(&self, instance: &Address) -> Result<Vec<Snapshot>, RuntimeError> {
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
        let definition = self.definition(instance)?;
        match is_container(&definition) {
            true => container_snapshots::delete(&self.host, &definition, name),
            false => snapshots::delete(&self.host, &definition, name, context),
        }
        .map_err(|error| error.of(instance))
    }
}
