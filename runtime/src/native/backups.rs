//! Backups as `keel backup` works with them: written, checked, brought in.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use manifests::action::{Action, Verb};
use manifests::desired::Resource;
use manifests::id::{Address, SourceName, Uid};
use manifests::kind::{Kind, Spec};

use super::NativeRuntime;
use super::backup::{
    self, BackupError, Blob, Checked, Form, Head, Member, Rules, SectionCount, Sink,
};
use super::backup::{From, Making, Source, Target, Tree, Unseal, Visitor};
use super::busy::{self, Read};
use super::host::Host;
use super::image::ImageError;
use super::image::attributes::Attributes;
use super::image::tar_stream::TarEntry;
use super::send_stream::Command;
use super::storage::{KeptTrees, Receiving};
use super::{imports, instance, volumes};
use crate::error::{Class, RuntimeError};
use crate::runtime::Context;

/// Encrypts what is written into a file.
pub type Seal<'a> = dyn Fn(File) -> io::Result<Box<dyn Sink>> + 'a;

/// A backup that is to be made.
pub struct BackupExport<'a> {
    /// The file.
    pub path: PathBuf,
    /// A file that is there is replaced.
    pub replace: bool,
    /// What is written stays beside the file until all of it is, and what is there of it is gone on with. Not where it is
    /// encrypted.
    pub resume: bool,
    /// The configuration, as a document.
    pub manifest: String,
    /// Which program makes it, for people.
    pub program: String,
    /// The snapshot of which it is to be; none: the instance as it is.
    pub snapshot: Option<String>,
    /// Whether its snapshots are in it.
    pub snapshots: bool,
    /// Whether the image below its root is in it.
    pub image: bool,
    /// Whether trees are in the form of their pool's driver, where that has one: faster, and for that driver alone.
    pub optimized: bool,
    /// The volumes of the instance that are in it, in the order of their documents.
    pub volumes: Vec<Address>,
    /// How it is encrypted; none: not.
    pub seal: Option<&'a Seal<'a>>,
    /// The schedule that makes it; none: a person does.
    pub made_by: Option<MadeBy>,
}

/// Who makes a backup by schedule, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeBy {
    /// The identity of the Backup.
    pub backup: Uid,
    /// The identity of the object.
    pub object: Uid,
}

/// What a volume of a backup becomes.
#[derive(Debug, Clone)]
pub struct VolumeImport {
    /// Its number in the backup.
    pub number: u32,
    /// The name and the pool that it gets.
    pub address: Address,
    /// What it is to be.
    pub spec: Spec,
}

/// A backup that is to be brought in.
pub struct BackupImport<'a> {
    /// The file.
    pub path: PathBuf,
    /// How it is decrypted; none: it is not encrypted.
    pub unseal: Option<&'a Unseal<'a>>,
    /// What [`check_backup`] said of it: it has no fault.
    pub checked: &'a Checked,
    /// The name that the instance gets, and what it is to be: its configuration, validated as any manifest. None: it is a
    /// backup of a volume.
    pub instance: Option<(Address, Spec)>,
    /// The volumes that are brought in.
    pub volumes: Vec<VolumeImport>,
    /// The source that owns all of it; none: nobody does.
    pub source: Option<SourceName>,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Bytes of the file.
    pub bytes: u64,
    /// How many of them an export that was cut off had left.
    pub kept: u64,
    /// How much there is in it of what.
    pub parts: Vec<SectionCount>,
    /// What is not in it, for people.
    pub left_out: Vec<String>,
}

pub(super) const DOING: &str = "make a backup of";

/// What a backup is made of, gathered: nobody writes to it.
pub(super) struct Gathered {
    pub(super) head: Head,
    /// The parts in their order.
    pub(super) parts: Vec<(String, From)>,
    pub(super) left_out: Vec<String>,
}

/// A backup that is being made: what it is made of, and what has to be undone after that.
pub struct Exporting {
    /// The file, until it is written.
    target: Option<Target>,
    gathered: Gathered,
    instance: Option<instance::export::Reading>,
    volumes: Vec<volumes::export::Reading>,
}

/// Refuses a deed that would disturb who writes a backup.
pub(super) fn undisturbed(
    host: &Host,
    action: &Action,
    resource: Option<&Resource>,
) -> Result<(), RuntimeError> {
    let address = &action.address;
    if !matches!(address.kind, Kind::Instance | Kind::Volume) {
        return Ok(());
    }
    // Into another pool: what is read would be gone from this one.
    let moves = match &action.verb {
        Verb::Rename { from } => from.pool != address.pool,
        Verb::Update { changes } => changes
            .iter()
            .any(|change| change.path.as_str().ends_with("/pool")),
        _ => false,
    };
    let disturbed = |read: Read| moves || read.is_disturbed_by(&action.verb);
    busy::refuse(host, &action.uid, disturbed).map_err(|error| error.of(address))?;
    // A volume that is read as it is: whoever starts writes to it.
    let Some(Spec::Instance(instance)) = resource.map(|resource| &resource.spec) else {
        return Ok(());
    };
    for (_, pool, name) in volumes::uses(instance) {
        if let Some(found) = volumes::named(host, address.project_name(), pool, name)? {
            let refused = busy::refuse(host, &found.uid, |read| read == Read::Live);
            refused.map_err(|error| error.of(&found.address))?;
        }
    }
    Ok(())
}

/// Refuses the form of a driver where that has none.
pub(super) fn has_own_form(trees: &KeptTrees, optimized: bool) -> Result<(), RuntimeError> {
    if !optimized || trees.has_streams() {
        return Ok(());
    }
    let why = "only pools of driver btrfs have a form of their own: leave optimized out";
    Err(RuntimeError::new(DOING, Class::Unsupported, why))
}

/// Takes streams into a volume, where some of its trees are such; a pool of another driver refuses them.
pub(super) fn streams(
    trees: &KeptTrees,
    own: Form,
    mut kept: impl Iterator<Item = Form>,
) -> Result<Option<Receiving>, RuntimeError> {
    if own == Form::Files && kept.all(|form| form == Form::Files) {
        return Ok(None);
    }
    if let Some(receiving) = trees.receiving() {
        return Ok(Some(receiving));
    }
    let why = "it is in the form of pools of driver btrfs (optimized), and this pool is of another one: export it without \
               --optimized, or name a pool of btrfs with --pool";
    Err(imports::refused(why.to_owned()))
}

/// The class of a failure with a backup.
pub(super) fn class(error: &BackupError) -> Class {
    match error {
        BackupError::Exists { .. }
        | BackupError::NotAPart { .. }
        | BackupError::OtherPart { .. } => Class::Refused,
        BackupError::Busy { .. } => Class::Conflict,
        BackupError::Changes { .. } | BackupError::Interrupted => Class::Retry,
        _ => Class::NeedsOperator,
    }
}

pub(super) fn failed(doing: &'static str) -> impl Fn(BackupError) -> RuntimeError {
    move |error| RuntimeError::new(doing, class(&error), error)
}

/// Looks at nothing: what was read is checked all the same.
struct OnlyChecks;

impl Visitor for OnlyChecks {
    fn begin(&mut self, _: &Head) -> Result<Rules, BackupError> {
        Ok(Rules::ANY)
    }

    fn entry(
        &mut self,
        _: &Tree,
        _: Option<&Path>,
        _: &Member,
        _: &Attributes,
        _: &TarEntry,
        _: &mut dyn io::Read,
    ) -> Result<(), BackupError> {
        Ok(())
    }

    fn command(&mut self, _: &Tree, _: &Command<'_>) -> Result<(), BackupError> {
        Ok(())
    }

    fn blob(&mut self, _: Blob, _: &TarEntry, _: &mut dyn io::Read) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Reads a backup to its end and says what it is and what is wrong with it. Nothing is written.
///
/// # Errors
/// It is none, is of a newer format, or cannot be read at all.
pub fn check_backup(
    path: &Path,
    unseal: Option<&Unseal<'_>>,
    context: &Context<'_>,
) -> Result<Checked, RuntimeError> {
    let source = Source { path, unseal };
    let mut go_on = |_: u64| !context.cancel.load(Ordering::Relaxed);
    let checked = backup::read(&source, &mut go_on, &mut OnlyChecks);
    checked.map_err(|error| match error {
        BackupError::Archive(ImageError::Interrupted) => {
            failed("read the backup")(BackupError::Interrupted)
        }
        other => failed("read the backup")(other),
    })
}

impl NativeRuntime {
    /// The volumes that an instance uses, each once.
    ///
    /// # Errors
    /// There is no such instance, or what is known of volumes cannot be read.
    pub fn volumes_of(&self, instance: &Address) -> Result<Vec<Address>, RuntimeError> {
        let definition = self.definition(instance)?;
        let used = instance::used_volumes(&self.host, &definition)?;
        Ok(used.iter().map(|one| one.address.clone()).collect())
    }

    /// Gathers what a backup of an instance or a volume is made of: it stands still, or is copied while it does. The caller
    /// holds the lock of the state folder; [`Self::write_backup`] needs none, and [`Self::end_backup`] follows in any case.
    ///
    /// # Errors
    /// The file is there, or something cannot be copied: then nothing is left of it.
    pub fn begin_backup(
        &self,
        object: &Address,
        export: &BackupExport<'_>,
        context: &Context<'_>,
    ) -> Result<Exporting, RuntimeError> {
        let host = &self.host;
        // Others may have changed them until the lock was ours.
        host.definitions.forget();
        let of = |error: RuntimeError| error.of(object);
        if export.resume && export.seal.is_some() {
            // One key of a stream, of which the holder alone knows, would have to be kept, and used twice for one place.
            let why = "what is encrypted cannot be gone on with: leave resume out";
            return Err(of(RuntimeError::new(DOING, Class::Unsupported, why)));
        }
        // Before anything stands still for it.
        let target = Target::begin(&export.path, export.replace, export.resume);
        let target = Some(target.map_err(failed(DOING)).map_err(of)?);
        if let Some(volume) = self.volume(object)? {
            let (gathered, reading) =
                volumes::export::gather(host, &volume, export, context).map_err(of)?;
            return Ok(Exporting {
                target,
                gathered,
                instance: None,
                volumes: vec![reading],
            });
        }
        let volumes = export.volumes.iter().map(|address| {
            let found = self.volume(address)?;
            found.ok_or_else(|| super::wrong_kind(address))
        });
        let volumes = volumes.collect::<Result<_, _>>()?;
        let definition = self.definition(object)?;
        let (gathered, instance, volumes) =
            instance::export::gather(host, &definition, volumes, export, context).map_err(of)?;
        Ok(Exporting {
            target,
            gathered,
            instance: Some(instance),
            volumes,
        })
    }

    /// Writes a backup of what was gathered for it. Others may do what they like meanwhile, but to what is read.
    ///
    /// # Errors
    /// The disk is full, or something cannot be read: then there is no file.
    pub fn write_backup(
        &self,
        exporting: &mut Exporting,
        export: &BackupExport<'_>,
        context: &Context<'_>,
    ) -> Result<Exported, RuntimeError> {
        let Exporting {
            target, gathered, ..
        } = exporting;
        let Some(target) = target.take() else {
            return Err(RuntimeError::new(
                DOING,
                Class::Bug,
                "it is written already",
            ));
        };
        (context.progress)("writing");
        let making = Making {
            path: &export.path,
            head: &gathered.head,
            manifest: &export.manifest,
            parts: &gathered.parts,
            seal: export.seal,
            made_by: export.made_by.map(|who| (who.object, who.backup)),
        };
        let go_on = || !context.cancel.load(Ordering::Relaxed);
        let made = making.write(target, &go_on).map_err(failed(DOING))?;
        Ok(Exported {
            bytes: made.bytes,
            kept: made.kept,
            parts: made.index.parts,
            left_out: gathered.left_out.clone(),
        })
    }

    /// Removes what was copied for a backup. The caller holds the lock again.
    ///
    /// # Errors
    /// Something of it cannot be removed.
    pub fn end_backup(
        &self,
        exporting: Exporting,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        self.host.definitions.forget();
        let mut ended = match exporting.instance {
            Some(reading) => reading.end(&self.host, context),
            None => Ok(()),
        };
        for reading in exporting.volumes {
            ended = ended.and(reading.end(&self.host));
        }
        ended
    }

    /// Brings in what is in a backup: the instance stopped, with its snapshots, and the volumes.
    ///
    /// # Errors
    /// A name is taken, a pool is too small, or the file is another by now: then nothing is there that was not before.
    pub fn import_backup(
        &self,
        import: &BackupImport<'_>,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError> {
        imports::import(&self.host, import, context)
    }
}
