//! Backups as `keel backup` works with them: written, checked, brought in.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use manifests::id::{Address, SourceName};
use manifests::kind::Spec;

use super::NativeRuntime;
use super::backup::{self, BackupError, Blob, Checked, Head, Member, Rules, SectionCount, Sink};
use super::backup::{Source, Tree, Unseal, Visitor};
use super::image::ImageError;
use super::image::attributes::Attributes;
use super::image::tar_stream::TarEntry;
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
    /// The volumes of the instance that are in it, in the order of their documents.
    pub volumes: Vec<Address>,
    /// How it is encrypted; none: not.
    pub seal: Option<&'a Seal<'a>>,
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
    /// How much there is in it of what.
    pub parts: Vec<SectionCount>,
    /// What is not in it, for people.
    pub left_out: Vec<String>,
}

pub(super) const DOING: &str = "make a backup of";

/// The class of a failure with a backup.
pub(super) fn class(error: &BackupError) -> Class {
    match error {
        BackupError::Exists { .. } => Class::Refused,
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

    /// Writes a backup of an instance or a volume.
    ///
    /// # Errors
    /// The file is there, the disk is full, or something cannot be read: then there is no file.
    pub fn export_backup(
        &self,
        object: &Address,
        export: &BackupExport<'_>,
        context: &Context<'_>,
    ) -> Result<Exported, RuntimeError> {
        if let Some(volume) = self.volume(object)? {
            return volumes::export::export(&self.host, &volume, export, context)
                .map_err(|error| error.of(object));
        }
        let volumes = export.volumes.iter().map(|address| {
            let found = self.volume(address)?;
            found.ok_or_else(|| super::wrong_kind(address))
        });
        let volumes = volumes.collect::<Result<_, _>>()?;
        let definition = self.definition(object)?;
        instance::export::export(&self.host, &definition, volumes, export, context)
            .map_err(|error| error.of(object))
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
