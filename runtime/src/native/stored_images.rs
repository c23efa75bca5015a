//! The image store as `keel image` works with it: what is in it and who uses it, bringing in, deleting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use manifests::kind::Kind;
use manifests::kinds::instance::InstanceType;
use serde::Serialize;

use super::image::{Alias, BootParts, ImageError, ImageRecord, ImageSource, Imported};
use super::image_documents::{ImagePicks, class};
use super::pools::{self, PoolPicks};
use super::{NativeRuntime, chain};
use crate::error::{Class, RuntimeError};
use crate::runtime::Context;

/// One image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredImage {
    /// Which instances start from it.
    pub r#type: InstanceType,
    /// What the store says of it.
    #[serde(flatten)]
    pub record: ImageRecord,
    /// Its names.
    pub aliases: Vec<String>,
    /// Instances and documents that need it; what lies in the trash has ` (in the trash)` behind it.
    pub used_by: Vec<String>,
}

/// All images of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoredImages {
    /// By fingerprint.
    pub images: Vec<StoredImage>,
    /// Fingerprints of folders that cannot be read as images, with the reason.
    pub broken: BTreeMap<String, String>,
}

/// How an image is brought in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageImport {
    /// The file or folder; of a split image its metadata.
    pub path: PathBuf,
    /// The root file system of a split image.
    pub rootfs: Option<PathBuf>,
    /// What a machine boots from it without firmware.
    pub parts: BootParts,
    /// The SHA-256 that it must have.
    pub sha256: Option<String>,
    /// The names that it gets.
    pub aliases: Vec<String>,
    /// Names are taken away from the images that have them.
    pub reuse: bool,
}

fn failed(doing: &'static str) -> impl Fn(ImageError) -> RuntimeError {
    move |error| RuntimeError::new(doing, class(&error), error)
}

fn refused(doing: &str, why: String) -> RuntimeError {
    RuntimeError::new(doing, Class::Refused, why)
}

impl NativeRuntime {
    /// All images of the store with their names and users.
    ///
    /// # Errors
    /// The store or the definitions cannot be read.
    pub fn stored_images(&self) -> Result<StoredImages, RuntimeError> {
        let reading = failed("list the images");
        let images = self.host.images.list().map_err(&reading)?;
        let aliases = self.host.images.list_aliases().map_err(&reading)?;
        let mut users = self.image_users()?;
        let stored = images.images.into_iter().map(|record| StoredImage {
            aliases: aliases
                .iter()
                .filter(|alias| alias.fingerprint == record.fingerprint)
                .map(|alias| alias.alias.clone())
                .collect(),
            used_by: users.remove(&record.fingerprint).unwrap_or_default(),
            r#type: record.made_for(),
            record,
        });
        Ok(StoredImages {
            images: stored.collect(),
            broken: images
                .broken
                .into_iter()
                .map(|(name, error)| (name, chain(&error)))
                .collect(),
        })
    }

    /// Who needs which image, by fingerprint.
    fn image_users(&self) -> Result<BTreeMap<String, Vec<String>>, RuntimeError> {
        let host = &self.host;
        let failed =
            |error| RuntimeError::new("find out which images are used", Class::Retry, error);
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut add = |fingerprint: String, user: String| {
            users.entry(fingerprint).or_default().push(user);
        };
        let documents = host
            .definitions
            .every::<ImagePicks>(Kind::Image)
            .map_err(failed)?;
        for document in documents {
            add(
                document.picks.fingerprint.clone(),
                document.address.to_string(),
            );
        }
        for instance in host.instances().map_err(failed)? {
            add(instance.picks.image.clone(), instance.address.to_string());
        }
        let pools = host
            .definitions
            .every::<PoolPicks>(Kind::StoragePool)
            .map_err(failed)?;
        for pool in pools {
            // What lies in the trash of a pool out of reach cannot be told: nothing may be deleted then.
            let trashed = pools::driver(host, &pool).trashed().map_err(|error| {
                RuntimeError::new("find out which images are used", Class::Retry, error)
            })?;
            for entry in trashed {
                let address = entry.definition["address"].as_str().unwrap_or(&entry.uid);
                let image = entry.definition["picks"]["image"].as_str();
                add(
                    image.unwrap_or_default().to_owned(),
                    format!("{address} (in the trash)"),
                );
            }
        }
        Ok(users)
    }

    /// Brings an image into the store and names it. The answer is the image, and whether it was there already.
    ///
    /// # Errors
    /// A name cannot be given, or the source is no image; nothing is left of an import that failed.
    pub fn import_image(
        &self,
        import: &ImageImport,
        context: &Context<'_>,
    ) -> Result<(ImageRecord, bool), RuntimeError> {
        self.named(&import.aliases, import.reuse, || {
            let source = if import.path.is_dir() && import.rootfs.is_none() {
                ImageSource::Folder(import.path.clone())
            } else {
                ImageSource::Archive {
                    path: import.path.clone(),
                    rootfs: import.rootfs.clone(),
                }
            };
            (context.progress)("unpacking");
            let mut go_on = |_: u64| !context.cancel.load(std::sync::atomic::Ordering::Relaxed);
            let (store, wanted) = (&self.host.images, import.sha256.as_deref());
            match import.parts.is_empty() {
                true => store.import(&source, wanted, &mut go_on),
                false => {
                    store.import_for_machines(Some(&source), &import.parts, wanted, &mut go_on)
                }
            }
            .map_err(failed("import the image"))
        })
    }

    /// Gives names to an image that is brought in, once it is sure that it may have them.
    ///
    /// # Errors
    /// A name cannot be given, or it cannot be brought in.
    pub(super) fn named(
        &self,
        aliases: &[String],
        reuse: bool,
        bring: impl FnOnce() -> Result<Imported, RuntimeError>,
    ) -> Result<(ImageRecord, bool), RuntimeError> {
        let naming = failed("give an alias to the image");
        let before = self.host.images.list_aliases().map_err(&naming)?;
        for alias in aliases {
            self.host.images.check_alias(alias, None).map_err(|error| {
                match &error {
                    // The mark of the owner means nothing to a person.
                    ImageError::ForeignAlias { .. } => refused(
                        "give an alias to the image",
                        format!("{alias:?} is the name of {}", self.owner_of(&before, alias)),
                    ),
                    _ => naming(error),
                }
            })?;
        }
        let imported = bring()?;
        let record = imported.record;
        let taken = |alias: &&String| {
            before
                .iter()
                .any(|one| one.alias == **alias && one.fingerprint != record.fingerprint)
        };
        if let Some(alias) = aliases.iter().find(taken).filter(|_| !reuse) {
            return Err(refused(
                "give an alias to the image",
                format!("{alias:?} is the name of another image (the new one is in the store)"),
            ));
        }
        self.host
            .images
            .keep(&record.fingerprint)
            .map_err(failed("keep the image"))?;
        for alias in aliases {
            self.host
                .images
                .set_alias(alias, &record.fingerprint, None)
                .map_err(&naming)?;
        }
        Ok((record, imported.present))
    }

    /// The document whose alias this is.
    fn owner_of(&self, aliases: &[Alias], name: &str) -> String {
        let found = aliases.iter().find(|alias| alias.alias == name);
        let mark = found.and_then(|alias| alias.mark.as_deref()).unwrap_or("?");
        let documents = self.host.definitions.all::<ImagePicks>(Kind::Image);
        let (documents, _) = documents.unwrap_or_default();
        documents
            .iter()
            .find(|one| mark.ends_with(&one.uid.to_string()))
            .map_or_else(|| mark.to_owned(), |one| one.address.to_string())
    }

    /// The image of an alias, a fingerprint or the start of one.
    ///
    /// # Errors
    /// There is none, or several.
    pub fn find_image(&self, name: &str) -> Result<ImageRecord, RuntimeError> {
        self.host
            .images
            .find(name)
            .map_err(failed("find the image"))
    }

    /// Deletes an image and the names that people gave it.
    ///
    /// # Errors
    /// There is no such image, or somebody needs it; then nothing was done.
    pub fn delete_image(&self, fingerprint: &str) -> Result<(), RuntimeError> {
        let users = self.image_users()?;
        if let Some(users) = users.get(fingerprint) {
            let why = format!("{} needs it", users.join(", "));
            return Err(refused("delete the image", why));
        }
        let used: BTreeSet<String> = users.into_keys().collect();
        self.host
            .images
            .delete(fingerprint, &used)
            .map_err(failed("delete the image"))
    }
}
