//! Bringing images into the store: found out what a source is, copied or unpacked in a folder without a name, and named
//! when all of it is on disk.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _};
use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::archive::For;
use super::download::{self, AllowedAddresses};
use super::error::ImageError;
use super::machine::{self, BootParts};
use super::record::{FORMAT_VERSION, Form, ImageProperties, ImageRecord, MachineRecord};
use super::store::{
    ImageStore, RECORD, ROOTFS, check_fingerprint, normal_fingerprint, sync_folder, unfinished_name,
};
use super::tree_digest::tree_digest;
use super::tree_writer::{TreeWriter, Written, discard};
use super::{archive, builtin, copy, unclaimed};

/// What an image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// The host's static busybox.
    Busybox,
    /// A folder of the host; copied, never changed.
    Folder(PathBuf),
    /// A file of the host, of any form that [`Form`] has.
    Archive {
        /// The archive; of a split image its metadata.
        path: PathBuf,
        /// The root file system of a split image.
        rootfs: Option<PathBuf>,
    },
    /// The same from a server. The SHA-256 (of a split image: of both files) has to be given to the import.
    Url {
        /// The archive; of a split image its metadata.
        url: String,
        /// The root file system of a split image.
        rootfs: Option<String>,
        /// Which addresses may be asked.
        allowed: AllowedAddresses,
    },
}

/// What [`ImageStore::import`] made or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The image.
    pub record: ImageRecord,
    /// It was in the store already.
    pub present: bool,
}

/// Called now and then with the bytes done so far; `false` stops the import.
pub type GoOn<'a> = &'a mut dyn FnMut(u64) -> bool;

impl ImageStore {
    /// Brings an image into the store; one that is there already is left as it is.
    ///
    /// `wanted` is the SHA-256 that was declared. After a crash or an error at any point the image is not there, and
    /// what was unpacked is removed by the next import or [`Self::sweep`].
    ///
    /// # Errors
    /// What is wrong with the source; a full disk; a fingerprint other than `wanted`.
    pub fn import(
        &self,
        source: &ImageSource,
        wanted: Option<&str>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        let none = BootParts::default();
        let wanted = wanted.map(normal_fingerprint);
        self.sweep()?;
        if let Some(record) = self.pinned(wanted.as_deref(), &none, go_on)? {
            return Ok(record);
        }
        match source {
            ImageSource::Busybox => self.import_busybox(wanted.as_deref()),
            ImageSource::Folder(path) => self.import_folder(path, wanted.as_deref(), go_on),
            ImageSource::Archive { .. } | ImageSource::Url { .. } => {
                self.import_files(source, For::Any, &none, wanted.as_deref(), go_on)
            }
        }
    }

    /// As [`Self::import`], for machines: the source has to be a disk, or there is a kernel alone. `parts` become part of
    /// the image and of its fingerprint; `wanted` is the SHA-256 of the source without them.
    ///
    /// # Errors
    /// As [`Self::import`]; a source that is for containers; parts that are no kernel or go without one.
    pub fn import_for_machines(
        &self,
        source: Option<&ImageSource>,
        parts: &BootParts,
        wanted: Option<&str>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        parts.check()?;
        let wanted = wanted.map(normal_fingerprint);
        self.sweep()?;
        if let Some(record) = self.pinned(wanted.as_deref(), parts, go_on)? {
            return Ok(record);
        }
        let for_containers = |path: &str| ImageError::WrongKind {
            path: path.into(),
            what: FOR_CONTAINERS,
        };
        match source {
            None => self.import_kernel(parts, go_on),
            Some(ImageSource::Busybox) => Err(for_containers("busybox")),
            Some(ImageSource::Folder(path)) => Err(for_containers(&path.display().to_string())),
            Some(source) => {
                self.import_files(source, For::Machines, parts, wanted.as_deref(), go_on)
            }
        }
    }

    /// The image of a source that was declared with its SHA-256, if it is there: nothing but the parts is read.
    fn pinned(
        &self,
        wanted: Option<&str>,
        parts: &BootParts,
        go_on: GoOn<'_>,
    ) -> Result<Option<Imported>, ImageError> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let fingerprint = machine::fingerprint(Some(wanted), &parts.digests(go_on)?);
        let record = self.get(&fingerprint)?;
        Ok(record.map(|record| Imported {
            record,
            present: true,
        }))
    }

    fn import_files(
        &self,
        source: &ImageSource,
        wanted_for: For,
        parts: &BootParts,
        wanted: Option<&str>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        let files = |path, rootfs, shown| FromFiles {
            path,
            rootfs,
            shown,
            wanted_for,
            parts,
        };
        match source {
            ImageSource::Archive { path, rootfs } => {
                let shown = path.display().to_string();
                self.import_archive(files(path, rootfs.as_deref(), shown), wanted, go_on)
            }
            ImageSource::Url {
                url,
                rootfs,
                allowed,
            } => {
                // What a server sends is only as good as the digest that a manifest pins.
                if wanted.is_none() {
                    return Err(ImageError::NoDigest);
                }
                let staging = Staging::new(self.folder())?;
                let place = staging.path.join("download");
                download::fetch(url, &place, allowed, &self.limits, go_on)?;
                let split = rootfs.as_ref().map(|url| (url, staging.path.join("split")));
                if let Some((url, place)) = &split {
                    download::fetch(url, place, allowed, &self.limits, go_on)?;
                }
                let split = split.as_ref().map(|(_, place)| place.as_path());
                let shown = download::shown(url);
                self.import_archive(files(&place, split, shown), wanted, go_on)
            }
            ImageSource::Busybox | ImageSource::Folder(_) => Err(ImageError::WrongKind {
                path: "it".into(),
                what: FOR_CONTAINERS,
            }),
        }
    }

    /// Brings in a disk that was made here of something; people are shown what that was.
    pub(super) fn import_disk(
        &self,
        path: &Path,
        made_of: &str,
        parts: &BootParts,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        parts.check()?;
        let from = FromFiles {
            path,
            rootfs: None,
            shown: made_of.to_owned(),
            wanted_for: For::Machines,
            parts,
        };
        self.import_archive(from, None, go_on)
    }

    fn import_archive(
        &self,
        from: FromFiles<'_>,
        wanted: Option<&str>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        let (path, rootfs, parts) = (from.path, from.rootfs, from.parts);
        // Hashing is much cheaper than unpacking, but only worth it if the answer may be yes.
        let length = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let packed_bytes = length(path) + rootfs.map_or(0, length) + parts.bytes();
        let images = self.list()?.images;
        if wanted.is_some()
            || images
                .iter()
                .any(|image| image.packed_bytes == packed_bytes)
        {
            let source = archive::fingerprint(path, rootfs, &self.limits, go_on)?;
            check_fingerprint(wanted, &source)?;
            let fingerprint = machine::fingerprint(Some(&source), &parts.digests(go_on)?);
            if let Some(record) = self.get(&fingerprint)? {
                return Ok(Imported {
                    record,
                    present: true,
                });
            }
        }
        let staging = Staging::new(self.folder())?;
        let (place, limits) = (&staging.path, &self.limits);
        let made = archive::import(place, path, rootfs, from.wanted_for, limits, go_on)?;
        check_fingerprint(wanted, &made.fingerprint)?;
        let copied = parts.copy(place, go_on)?;
        let fingerprint = machine::fingerprint(Some(&made.fingerprint), &copied);
        let machine = match made.disk {
            Some(disk) => Some(MachineRecord {
                disk: Some(disk),
                ..copied
            }),
            None if from.wanted_for == For::Machines => {
                return Err(ImageError::WrongKind {
                    path: rootfs.unwrap_or(path).to_path_buf(),
                    what: FOR_CONTAINERS,
                });
            }
            None => None,
        };
        let about = About {
            fingerprint: Some(fingerprint),
            source: from.shown,
            form: made.form,
            packed_bytes: made.packed_bytes + parts.bytes(),
            properties: made.properties,
            machine,
        };
        self.finish(staging, about, made.written, None)
    }

    /// A kernel without a disk.
    fn import_kernel(&self, parts: &BootParts, go_on: GoOn<'_>) -> Result<Imported, ImageError> {
        let Some(kernel) = &parts.kernel else {
            return Err(ImageError::NoKernel);
        };
        let fingerprint = machine::fingerprint(None, &parts.digests(go_on)?);
        if let Some(record) = self.get(&fingerprint)? {
            return Ok(Imported {
                record,
                present: true,
            });
        }
        let staging = Staging::new(self.folder())?;
        let copied = parts.copy(&staging.path, go_on)?;
        let about = About {
            fingerprint: Some(machine::fingerprint(None, &copied)),
            source: kernel.display().to_string(),
            form: Form::Kernel,
            packed_bytes: parts.bytes(),
            properties: ImageProperties::default(),
            machine: Some(copied),
        };
        self.finish(staging, about, Written::default(), None)
    }

    fn import_busybox(&self, wanted: Option<&str>) -> Result<Imported, ImageError> {
        let found = builtin::find()?;
        if let Some(record) = self.get(&found.fingerprint)? {
            return Ok(Imported {
                record,
                present: true,
            });
        }
        let staging = Staging::new(self.folder())?;
        let mut writer = TreeWriter::new(&staging.rootfs()?, self.limits)?;
        let properties = found.write(&mut writer)?;
        let written = writer.finish()?;
        let about = About {
            fingerprint: Some(found.fingerprint),
            source: "builtin: busybox".to_owned(),
            form: Form::Builtin,
            packed_bytes: 0,
            properties,
            machine: None,
        };
        self.finish(staging, about, written, wanted)
    }

    fn import_folder(
        &self,
        path: &Path,
        wanted: Option<&str>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        let staging = Staging::new(self.folder())?;
        let mut writer = TreeWriter::new(&staging.rootfs()?, self.limits)?;
        copy::copy_folder(path, &mut writer, go_on)?;
        let written = writer.finish()?;
        if written.counted.entries <= 1 {
            return Err(ImageError::Broken {
                path: path.to_path_buf(),
                problem: "the folder is empty".to_owned(),
            });
        }
        let about = About {
            fingerprint: None,
            source: path.display().to_string(),
            form: Form::Folder,
            packed_bytes: 0,
            properties: ImageProperties::default(),
            machine: None,
        };
        self.finish(staging, about, written, wanted)
    }

    /// Makes what was unpacked durable and gives it its name.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what was unpacked is finished once"
    )]
    pub(super) fn finish(
        &self,
        staging: Staging,
        about: About,
        mut written: Written,
        wanted: Option<&str>,
    ) -> Result<Imported, ImageError> {
        let rootfs = staging.path.join(ROOTFS);
        // Writing back waits for the disk, the digest for the processor.
        let (synced, digest) = std::thread::scope(|scope| {
            let sync = scope.spawn(|| rustix::fs::syncfs(&staging.lock));
            let digest = match &about.machine {
                None => tree_digest(&rootfs, &self.limits),
                Some(record) => machine::written(&staging.path, record).map(|(files, digest)| {
                    written.counted = files.counted;
                    digest
                }),
            };
            (sync.join(), digest)
        });
        synced.unwrap_or(Err(Errno::IO)).at("sync", &staging.path)?;
        let tree_digest = digest?;
        let fingerprint = about.fingerprint.unwrap_or_else(|| tree_digest.clone());
        check_fingerprint(wanted, &fingerprint)?;
        if let Some(record) = self.get(&fingerprint)? {
            return Ok(Imported {
                record,
                present: true,
            });
        }
        let record = ImageRecord {
            format_version: FORMAT_VERSION,
            fingerprint,
            source: about.source,
            form: about.form,
            packed_bytes: about.packed_bytes,
            unpacked_bytes: written.counted.bytes,
            entries: written.counted.entries,
            machine: about.machine,
            tree_digest,
            properties: about.properties,
            left_out: written.left_out.lines,
            left_out_count: written.left_out.count,
        };
        let path = staging.path.join(RECORD);
        let text = serde_json::to_string_pretty(&record).map_err(|error| ImageError::Broken {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        path_io::write_durably(&path, text)?;
        if self.unclaimed {
            unclaimed::mark(&staging.path)?;
        }
        let place = self.folder().join(&record.fingerprint);
        let from = &staging.path;
        match rustix::fs::renameat_with(
            rustix::fs::CWD,
            from,
            rustix::fs::CWD,
            &place,
            RenameFlags::NOREPLACE,
        ) {
            // Somebody else imported the same, or a broken folder is in the way: the latter is not replaced silently.
            Err(Errno::EXIST) => self.record(&record.fingerprint).map(|record| Imported {
                record,
                present: true,
            }),
            other => {
                other.at("rename", from)?;
                sync_folder(self.folder())?;
                Ok(Imported {
                    record,
                    present: false,
                })
            }
        }
    }
}

/// What is told where a disk is asked for.
const FOR_CONTAINERS: &str = "a root file system for containers, and machines start from a disk";

/// An import from one or two files.
struct FromFiles<'a> {
    path: &'a Path,
    rootfs: Option<&'a Path>,
    /// Where it came from, for people.
    shown: String,
    wanted_for: For,
    parts: &'a BootParts,
}

/// What is known about an import when its tree is written.
pub(super) struct About {
    /// `None`: the digest of the tree.
    pub(super) fingerprint: Option<String>,
    pub(super) source: String,
    pub(super) form: Form,
    pub(super) packed_bytes: u64,
    pub(super) properties: ImageProperties,
    pub(super) machine: Option<MachineRecord>,
}

/// A folder in which an image grows; removed when it is dropped before it got its name.
pub(super) struct Staging {
    pub(super) path: PathBuf,
    /// Locked as long as this process lives, so that nobody sweeps it.
    lock: File,
}

impl Staging {
    pub(super) fn new(store: &Path) -> Result<Self, ImageError> {
        path_io::create_dir_all(store)?;
        // Set-uid programs of strangers lie in here: nobody but root may reach them.
        std::fs::set_permissions(store, std::fs::Permissions::from_mode(0o700))
            .at("set the mode of", store)?;
        loop {
            let path = store.join(unfinished_name());
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .at("create", &path)?;
            let Ok(lock) = File::open(&path) else {
                continue;
            };
            // A sweep between creation and lock takes it for a leftover: then it is locked or gone, and we try anew.
            let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && path.exists() {
                return Ok(Self { path, lock });
            }
        }
    }

    /// Makes the folder for the tree, mode 0755.
    pub(super) fn rootfs(&self) -> Result<PathBuf, ImageError> {
        let path = self.path.join(ROOTFS);
        path_io::ensure_dir(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .at("set the mode of", &path)?;
        Ok(path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = discard(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "left an unfinished image behind");
        }
    }
}
