//! Images that are made of instances: what a container has on its image, and the image below it, as one tree; the layers of a
//! machine's disk as one disk.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use manifests::id::Address;
use manifests::kind::Spec;

use super::NativeRuntime;
use super::definition::Definition;
use super::image::{ImageError, ImageRecord, make_whole};
use super::image_documents;
use super::instance::{InstancePicks, container_snapshots, machine, running};
use super::pools::{self, pool_of, root_volume};
use super::storage::{StorageError, open_merged};
use crate::error::{Class, RuntimeError};
use crate::runtime::Context;

const DOING: &str = "publish";

/// What is to become an image.
#[derive(Debug, Clone)]
pub struct ImagePublish {
    /// Of which instance.
    pub instance: Address,
    /// Of which of its snapshots; none: of itself, which is stopped.
    pub snapshot: Option<String>,
    /// The names that it gets.
    pub aliases: Vec<String>,
    /// Names are taken away from the images that have them.
    pub reuse: bool,
}

impl ImagePublish {
    /// What the image is made of, for people.
    fn source(&self) -> String {
        match &self.snapshot {
            Some(name) => format!("{} at {name}", self.instance),
            None => self.instance.to_string(),
        }
    }
}

fn failed(error: StorageError) -> RuntimeError {
    RuntimeError::new(DOING, pools::class(&error), error)
}

fn image_failed(error: ImageError) -> RuntimeError {
    RuntimeError::new(DOING, image_documents::class(&error), error)
}

impl NativeRuntime {
    /// Makes an image of an instance or of one of its snapshots. The answer is the image, and whether it was there already.
    ///
    /// # Errors
    /// It runs, there is no such snapshot, a name cannot be given, or the disk is full: then there is no
    /// image that was not there before.
    pub fn publish_image(
        &self,
        publish: &ImagePublish,
        context: &Context<'_>,
    ) -> Result<(ImageRecord, bool), RuntimeError> {
        let instance = &publish.instance;
        self.host.definitions.forget();
        let published = self.published(publish, context);
        published.map_err(|error| error.of(instance))
    }

    fn published(
        &self,
        publish: &ImagePublish,
        context: &Context<'_>,
    ) -> Result<(ImageRecord, bool), RuntimeError> {
        let host = &self.host;
        let definition = self.definition(&publish.instance)?;
        if !matches!(&definition.spec, Spec::Instance(instance) if instance.is_container()) {
            return self.one_disk(publish, &definition, context);
        }
        let (_, driver) = pool_of(host, &definition.picks.pool)?;
        let volume = root_volume(&definition.uid);
        let trees = container_snapshots::trees(host, &definition)?;
        let kept = match &publish.snapshot {
            Some(name) => Some(trees.kept(name).map_err(failed)?),
            None if running(host, &definition.uid)?.is_some() => {
                let why = "it runs: stop it, or publish a snapshot of it";
                return Err(RuntimeError::new(DOING, Class::Refused, why));
            }
            None => {
                driver.place(&volume).map_err(failed)?;
                None
            }
        };
        let own = kept.as_deref().unwrap_or(trees.tree());
        let done = self.one_tree(publish, &definition.picks.image, own, context);
        if kept.is_none() {
            driver.release(&volume).map_err(failed)?;
        }
        done
    }

    /// What a container has of its own, over its image.
    fn one_tree(
        &self,
        publish: &ImagePublish,
        fingerprint: &str,
        own: &Path,
        context: &Context<'_>,
    ) -> Result<(ImageRecord, bool), RuntimeError> {
        let store = &self.host.images;
        let base = store.get(fingerprint).map_err(image_failed)?;
        let base = base.ok_or_else(|| {
            let why = format!("its image {fingerprint} is not in the store");
            RuntimeError::new(DOING, Class::NeedsOperator, why)
        })?;
        let below = store.rootfs(fingerprint).map_err(image_failed)?;
        let merged = open_merged(own, &below).map_err(failed)?;
        self.named(&publish.aliases, publish.reuse, || {
            (context.progress)("copying");
            let from = format!("/proc/self/fd/{}/.", merged.as_raw_fd());
            let mut go_on = |_: u64| !context.cancel.load(Ordering::Relaxed);
            store
                .carry_folder(&base, &publish.source(), Path::new(&from), &mut go_on)
                .map_err(image_failed)
        })
    }

    /// What a machine has on its disk, with the kernel of its image. Variables of firmware and a TPM are no part of images.
    fn one_disk(
        &self,
        publish: &ImagePublish,
        definition: &Definition<InstancePicks>,
        context: &Context<'_>,
    ) -> Result<(ImageRecord, bool), RuntimeError> {
        let (host, store) = (&self.host, &self.host.images);
        let base = store
            .machine(&definition.picks.image)
            .map_err(image_failed)?;
        let snapshot = publish.snapshot.as_deref();
        let layers = machine::layers(host, definition, &base, snapshot, DOING)?;
        self.named(&publish.aliases, publish.reuse, || {
            (context.progress)("copying");
            let mut go_on = || !context.cancel.load(Ordering::Relaxed);
            let fill = |disk: &Path| make_whole(&layers, disk, &mut go_on);
            let mut hashed = |_: u64| !context.cancel.load(Ordering::Relaxed);
            store
                .carry_disk(&base, &publish.source(), fill, &mut hashed)
                .map_err(image_failed)
        })
    }
}
