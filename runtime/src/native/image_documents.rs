//! Image documents: what a manifest calls an image, tied to a fingerprint of the content store by aliases.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use manifests::action::{Action, Verb};
use manifests::desired::{DesiredSet, Resource};
use manifests::id::Uid;
use manifests::kind::{Kind, Spec};
use manifests::kinds::image::Image;
use manifests::kinds::instance::InstanceType;
use manifests::observed::{Holds, Item, ObservedSet, Unseen};
use manifests::pointer::Pointer;
use manifests::scalar::image_ref::{ImageRef, ImageSource as Written};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::definition::Definition;
use super::disk_image::DiskError;
use super::host::Host;
use super::image::{AllowedAddresses, BootParts, ImageError, ImageRecord, ImageSource};
use super::storage::StorageError;
use crate::error::{Class, RuntimeError};
use crate::runtime::{Context, Effected};

/// What was picked for an image document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImagePicks {
    /// The fingerprint that its source had.
    pub fingerprint: String,
}

/// The class of a failure of the store. What only another manifest, image or host can mend is not tried again.
pub(super) fn class(error: &ImageError) -> Class {
    match error {
        ImageError::Refused { .. }
        | ImageError::TooBig { .. }
        | ImageError::Forbidden { .. }
        | ImageError::InUse(_) => Class::Refused,
        ImageError::ForeignAlias { .. } => Class::Conflict,
        ImageError::Unsupported { .. } => Class::Unsupported,
        ImageError::Broken { .. }
        | ImageError::WrongKind { .. }
        | ImageError::MadeFor { .. }
        | ImageError::NoKernel
        | ImageError::BadCommandLine
        | ImageError::WrongFingerprint { .. }
        | ImageError::NotFound(_)
        | ImageError::Ambiguous { .. }
        | ImageError::BadAlias(_)
        | ImageError::NoBusybox
        | ImageError::NoProgram(_)
        | ImageError::NoDigest => Class::NeedsOperator,
        ImageError::Path(error) | ImageError::Disk(DiskError::Path(error)) => match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded => Class::NeedsOperator,
            _ => Class::Retry,
        },
        ImageError::Disk(_) => Class::NeedsOperator,
        ImageError::Download { .. }
        | ImageError::Remove(_)
        | ImageError::Command(_)
        | ImageError::Interrupted => Class::Retry,
    }
}

/// A source as the store takes it. Paths are relative to the root of the manifests.
///
/// # Errors
/// What this engine cannot do, with its class.
fn source(
    written: &Written,
    root: &Path,
) -> Result<(ImageSource, Option<String>), (Class, String)> {
    let path = |text: &str| -> PathBuf { root.join(text) };
    let unsupported = |what: &str| Err((Class::Unsupported, what.to_owned()));
    match written {
        Written::Builtin(name) if name == "busybox" => Ok((ImageSource::Busybox, None)),
        Written::Builtin(name) => Err((
            Class::NeedsOperator,
            format!("there is no builtin image {name}; there is busybox"),
        )),
        Written::Rootfs(folder) => Ok((ImageSource::Folder(path(folder)), None)),
        // Of a split image the store wants the metadata first.
        Written::File {
            file,
            sha256,
            metadata,
        } => {
            let (first, rootfs) = split(file, metadata.as_ref());
            let source = ImageSource::Archive {
                path: path(first),
                rootfs: rootfs.map(|file| path(file)),
            };
            Ok((source, sha256.clone()))
        }
        Written::Url {
            url,
            sha256,
            metadata,
        } => {
            let (first, rootfs) = split(url, metadata.as_ref());
            let source = ImageSource::Url {
                url: first.clone(),
                rootfs: rootfs.cloned(),
                // Addresses that only this host reaches are for nobody who writes manifests to name.
                allowed: AllowedAddresses::default(),
            };
            Ok((source, sha256.clone()))
        }
        Written::Alias { .. } | Written::Oci(_) => {
            unsupported("images from servers are not fetched by this engine yet")
        }
        Written::Instance(_) | Written::Snapshot(_) => {
            unsupported("publishing is not done by this engine yet")
        }
    }
}

/// The file with the metadata, and the one with the root file system where that is another.
fn split<'a>(file: &'a String, metadata: Option<&'a String>) -> (&'a String, Option<&'a String>) {
    match metadata {
        Some(metadata) => (metadata, Some(file)),
        None => (file, None),
    }
}

/// What an image is asked to be.
struct Asked<'a> {
    source: Option<&'a Written>,
    made_for: Option<InstanceType>,
    parts: BootParts,
}

impl<'a> Asked<'a> {
    /// What a document asks for.
    fn by(image: &'a Image, root: &Path) -> Self {
        let path = |text: &Option<String>| text.as_ref().map(|text| root.join(text));
        Self {
            source: image.source.as_ref(),
            made_for: image.r#type,
            parts: BootParts {
                kernel: path(&image.kernel),
                initrd: path(&image.initrd),
                cmdline: image.cmdline.clone(),
            },
        }
    }
}

/// Brings an image into the store, for somebody who claims it once that is recorded.
fn import(
    host: &Host,
    asked: &Asked<'_>,
    root: &Path,
    context: &Context<'_>,
) -> Result<ImageRecord, RuntimeError> {
    let failed = |class, why: String| RuntimeError::new("fetch the image", class, why);
    let (source, wanted) = match asked.source {
        None => (None, None),
        Some(written) => {
            let (source, wanted) =
                source(written, root).map_err(|(class, why)| failed(class, why))?;
            (Some(source), wanted)
        }
    };
    (context.progress)(match &source {
        Some(ImageSource::Url { .. }) => "downloading",
        _ => "unpacking",
    });
    let mut go_on = |_: u64| !context.cancel.load(std::sync::atomic::Ordering::Relaxed);
    let store = host.images.for_somebody();
    let for_machines = asked.made_for == Some(InstanceType::VirtualMachine)
        || asked.source.is_none()
        || !asked.parts.is_empty();
    let imported = match &source {
        Some(source) if !for_machines => store.import(source, wanted.as_deref(), &mut go_on),
        source => {
            let (source, wanted) = (source.as_ref(), wanted.as_deref());
            store.import_for_machines(source, &asked.parts, wanted, &mut go_on)
        }
    };
    let record = imported
        .map_err(|error| RuntimeError::new("fetch the image", class(&error), error))?
        .record;
    match asked.made_for {
        Some(made_for) if made_for != record.made_for() => Err(failed(
            Class::NeedsOperator,
            format!(
                "{} is for instances of type {}, and {made_for} is asked for",
                record.source,
                record.made_for()
            ),
        )),
        _ => Ok(record),
    }
}

/// The image that an instance of this type starts from.
pub(super) fn resolve(
    host: &Host,
    image: Option<&ImageRef>,
    made_for: InstanceType,
    desired: &DesiredSet,
    context: &Context<'_>,
) -> Result<ImageRecord, RuntimeError> {
    let find = |name: &str| {
        host.images
            .find(name)
            .map_err(|error| RuntimeError::new("find the image", class(&error), error))
            .and_then(|record| match record.made_for() {
                other if other == made_for => Ok(record),
                other => Err(RuntimeError::new(
                    "find the image",
                    Class::NeedsOperator,
                    format!(
                        "image {name} is for instances of type {other}, and this is a {made_for}"
                    ),
                )),
            })
    };
    match image {
        Some(ImageRef::Alias {
            remote: None,
            alias,
        }) => find(alias),
        Some(ImageRef::Fingerprint(prefix)) => find(prefix),
        Some(ImageRef::Source(source)) => {
            let asked = Asked {
                source: Some(source),
                made_for: Some(made_for),
                parts: BootParts::default(),
            };
            import(host, &asked, &desired.source.root, context)
        }
        Some(ImageRef::Alias {
            remote: Some(remote),
            ..
        }) => Err(RuntimeError::new(
            "find the image",
            Class::Unsupported,
            format!("images of the server {remote} are not fetched by this engine yet"),
        )),
        None => Err(RuntimeError::new(
            "find the image",
            Class::NeedsOperator,
            "no image is named",
        )),
    }
}

fn aliases<'a>(name: &'a str, image: &'a Image) -> impl Iterator<Item = &'a str> {
    std::iter::once(name).chain(image.aliases.iter().map(String::as_str))
}

/// Does one deed on an image document.
pub(super) fn perform(
    host: &Host,
    action: &Action,
    resource: Option<&Resource>,
    desired: &DesiredSet,
    context: &Context<'_>,
) -> Result<Effected, RuntimeError> {
    let stored =
        |error| RuntimeError::new("record", Class::NeedsOperator, error).of(&action.address);
    let failed = |doing: &'static str| {
        move |error: ImageError| RuntimeError::new(doing, class(&error), error)
    };
    let before = host
        .definitions
        .read::<ImagePicks>(Kind::Image, &action.uid)
        .map_err(stored)?;
    let owner = format!("keel:{}", action.uid);
    match (&action.verb, resource) {
        (
            Verb::Create | Verb::Update { .. } | Verb::Adopt | Verb::Rename { .. } | Verb::Replace,
            Some(resource),
        ) => {
            let Spec::Image(image) = &resource.spec else {
                return Err(super::wrong_kind(&action.address));
            };
            let root = &desired.source.root;
            let record = import(host, &Asked::by(image, root), root, context)
                .map_err(|error| error.of(&action.address))?;
            let mut definition = Definition {
                address: action.address.clone(),
                mark: Some(action.mark.clone()),
                uid: action.uid,
                complete: false,
                spec: resource.spec.clone(),
                remembered: super::remember(resource),
                picks: ImagePicks {
                    fingerprint: record.fingerprint.clone(),
                },
            };
            host.definitions.write(&definition).map_err(stored)?;
            host.images
                .claim(&record.fingerprint)
                .map_err(failed("claim"))?;
            let wanted: BTreeSet<&str> = aliases(&action.address.name, image).collect();
            if let Some(before) = &before
                && let Spec::Image(old) = &before.spec
            {
                for gone in aliases(&before.address.name, old).filter(|a| !wanted.contains(a)) {
                    take_alias(host, gone, &owner).map_err(failed("take away an alias of"))?;
                }
            }
            for alias in wanted {
                host.images
                    .set_alias(alias, &record.fingerprint, Some(&owner))
                    .map_err(failed("give an alias to"))?;
            }
            definition.complete = true;
            host.definitions.write(&definition).map_err(stored)?;
            Ok(Effected::Done)
        }
        (Verb::Adopt | Verb::Forget, _) => {
            let adopts = matches!(action.verb, Verb::Adopt);
            match before {
                Some(mut before) => {
                    before.mark = adopts.then(|| action.mark.clone());
                    host.definitions.write(&before).map_err(stored)?;
                }
                None if adopts => return Err(super::not_made_here(&action.address)),
                None => {}
            }
            Ok(Effected::Done)
        }
        (Verb::Delete | Verb::Trash { .. }, _) => {
            let Some(before) = before else {
                return Ok(Effected::NotNeeded);
            };
            if let Spec::Image(image) = &before.spec {
                for alias in aliases(&before.address.name, image) {
                    take_alias(host, alias, &owner).map_err(failed("take away an alias of"))?;
                }
            }
            // Before its definition: without that, nobody would find the content again.
            forget_content(host, Some(&action.uid), &before.picks.fingerprint)
                .map_err(|error| error.of(&action.address))?;
            host.definitions
                .remove(Kind::Image, &action.uid)
                .map_err(|error| {
                    RuntimeError::new("delete", Class::NeedsOperator, error).of(&action.address)
                })?;
            Ok(Effected::Done)
        }
        (verb, _) => Err(super::cannot(verb, &action.address)),
    }
}

/// Takes an alias of a document away, unless another one has it by now.
fn take_alias(host: &Host, alias: &str, owner: &str) -> Result<(), ImageError> {
    match host.images.remove_alias(alias, Some(owner)) {
        Ok(_) | Err(ImageError::ForeignAlias { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The fingerprints that instances, the trash and other documents need.
pub(super) fn used(host: &Host) -> Result<BTreeSet<String>, RuntimeError> {
    used_by_others(host, None)
}

/// As [`used`], without what one document needs.
fn used_by_others(host: &Host, document: Option<&Uid>) -> Result<BTreeSet<String>, RuntimeError> {
    let failed = |error| RuntimeError::new("find out who uses", Class::Retry, error);
    let mut used: BTreeSet<String> = host
        .instances()
        .map_err(failed)?
        .iter()
        .map(|d| d.picks.image.clone())
        .collect();
    let documents = host
        .definitions
        .every::<ImagePicks>(Kind::Image)
        .map_err(failed)?;
    used.extend(
        documents
            .iter()
            .filter(|other| Some(&other.uid) != document)
            .map(|other| other.picks.fingerprint.clone()),
    );
    let pools = host
        .definitions
        .every::<super::pools::PoolPicks>(Kind::StoragePool)
        .map_err(failed)?;
    for pool in pools {
        let driver = super::pools::driver(host, &pool);
        // An image that lies in the trash of a pool out of reach cannot be told: nothing is thrown away then.
        let trashed = match driver.trashed() {
            Ok(trashed) => trashed,
            // Another step is removing that pool, which it does only when nothing is in its trash; or it was never
            // made, and its folder is another one.
            Err(
                StorageError::PoolMissing { .. }
                | StorageError::PoolUnmounted { .. }
                | StorageError::ForeignPool { .. },
            ) if being_removed(host, &pool.uid)? => {
                continue;
            }
            Err(error) => {
                return Err(RuntimeError::new("find out who uses", Class::Retry, error));
            }
        };
        used.extend(trashed.iter().filter_map(|entry| {
            Some(
                entry
                    .definition
                    .get("picks")?
                    .get("image")?
                    .as_str()?
                    .to_owned(),
            )
        }));
    }
    Ok(used)
}

/// Removes what interrupted imports left, and images that were brought for a document or an instance which was then
/// never recorded.
pub(super) fn sweep_content(host: &Host) -> Result<(), RuntimeError> {
    let failed = |error: ImageError| {
        RuntimeError::new("clear up in the store of images", Class::Retry, error)
    };
    host.images.sweep().map_err(failed)?;
    host.images.sweep_unclaimed(&used(host)?).map_err(failed)
}

/// Whether a pool is on its way out, or gone already.
fn being_removed(host: &Host, pool: &Uid) -> Result<bool, RuntimeError> {
    let pool = host
        .definitions
        .read::<super::pools::PoolPicks>(Kind::StoragePool, pool)
        .map_err(|error| RuntimeError::new("find out who uses", Class::Retry, error))?;
    Ok(pool.is_none_or(|pool| !pool.complete))
}

/// Deletes content that nobody needs any more and that no person brought in. What `document` needs does not count: it
/// is to go.
pub(super) fn forget_content(
    host: &Host,
    document: Option<&Uid>,
    fingerprint: &str,
) -> Result<(), RuntimeError> {
    let used = used_by_others(host, document)?;
    if used.contains(fingerprint) || host.images.is_kept(fingerprint) {
        return Ok(());
    }
    match host.images.delete(fingerprint, &used) {
        Ok(()) | Err(ImageError::NotFound(_)) => Ok(()),
        Err(error) => Err(RuntimeError::new(
            "delete the content of",
            class(&error),
            error,
        )),
    }
}

/// What an image document is: its aliases and its content are looked at on disk.
pub(super) fn observe(host: &Host, document: &Definition<ImagePicks>, out: &mut ObservedSet) {
    let mut spec = document.spec.clone();
    let mut unseen = Vec::new();
    let record = match host.images.get(&document.picks.fingerprint) {
        Ok(record) => record,
        Err(error) => {
            unseen.push(Unseen {
                path: Pointer::new("/spec"),
                why: super::chain(&error),
            });
            None
        }
    };
    let known = host.images.list_aliases().unwrap_or_default();
    let points_here = |alias: &str| {
        known
            .iter()
            .any(|known| known.alias == alias && known.fingerprint == document.picks.fingerprint)
    };
    if let Spec::Image(image) = &mut spec {
        image.aliases.retain(|alias| points_here(alias));
        match &record {
            Some(record) => {
                let machine = record.machine.clone().unwrap_or_default();
                image.kernel = image.kernel.take().filter(|_| machine.kernel.is_some());
                image.initrd = image.initrd.take().filter(|_| machine.initrd.is_some());
                image.cmdline = machine.cmdline;
            }
            None if unseen.is_empty() => {
                image.source = None;
                image.kernel = None;
            }
            None => {}
        }
    }
    let used_by: Vec<String> = host
        .instances()
        .unwrap_or_default()
        .iter()
        .filter(|one| one.picks.image == document.picks.fingerprint)
        .map(|one| one.address.to_string())
        .collect();
    let complete = document.complete && points_here(&document.address.name);
    out.items.push(Item {
        address: document.address.clone(),
        mark: document.mark.clone(),
        complete,
        spec,
        last_told: Some(document.spec.clone()),
        unseen,
        remembered: Some(document.remembered),
        holds: Holds::default(),
        status: json!({
            "uid": document.uid,
            "fingerprint": document.picks.fingerprint,
            "type": record.as_ref().map(ImageRecord::made_for),
            "size": record.as_ref().map(|record| record.unpacked_bytes),
            "usedBy": used_by,
        }),
    });
}
