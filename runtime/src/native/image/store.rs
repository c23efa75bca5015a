//! The content store: one folder an image, named by its fingerprint, complete or not there at all.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use manifests::path_io::{self, AtPath as _};
use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::aliases::{self, Alias};
use super::download::{self, AllowedAddresses};
use super::error::ImageError;
use super::limits::Limits;
use super::record::{FORMAT_VERSION, Form, ImageProperties, ImageRecord};
use super::tree_digest::tree_digest;
use super::tree_writer::{TreeWriter, Written, discard};
use super::{archive, builtin, copy, unclaimed};

/// Folders whose name starts so are being made or removed.
const UNFINISHED: &str = ".unfinished-";
/// The record beside the tree.
const RECORD: &str = "image.json";
/// Beside the tree of an image that a person brought in.
const KEPT: &str = "kept";
/// The tree.
pub(super) const ROOTFS: &str = "rootfs";
/// Where the aliases are, beside the images.
const ALIASES: &str = "aliases";

/// The images of a state folder: `FOLDER/FINGERPRINT/{rootfs/, image.json}` and `FOLDER/aliases/`.
#[derive(Debug, Clone)]
pub struct ImageStore {
    folder: PathBuf,
    limits: Limits,
    /// Whether what is imported counts as left behind until it is claimed.
    unclaimed: bool,
}

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

/// What is in the store.
#[derive(Debug, Default)]
pub struct Images {
    /// The images, by fingerprint.
    pub images: Vec<ImageRecord>,
    /// Folders that look like an image and cannot be read as one.
    pub broken: Vec<(String, ImageError)>,
}

/// Called now and then with the bytes done so far; `false` stops the import.
pub type GoOn<'a> = &'a mut dyn FnMut(u64) -> bool;

impl ImageStore {
    /// The store in `folder`. Nothing is read or made yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            limits: Limits::default(),
            unclaimed: false,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same store; what it imports counts as left behind until it is claimed.
    #[must_use]
    pub fn for_somebody(&self) -> Self {
        Self {
            unclaimed: true,
            ..self.clone()
        }
    }

    /// The same store with other limits for imports.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

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
        let wanted = wanted.map(normal_fingerprint);
        self.sweep()?;
        if let Some(wanted) = &wanted
            && let Some(record) = self.get(wanted)?
        {
            return Ok(Imported {
                record,
                present: true,
            });
        }
        match source {
            ImageSource::Busybox => self.import_busybox(wanted.as_deref()),
            ImageSource::Folder(path) => self.import_folder(path, wanted.as_deref(), go_on),
            ImageSource::Archive { path, rootfs } => {
                let shown = path.display().to_string();
                self.import_archive(path, rootfs.as_deref(), shown, wanted.as_deref(), go_on)
            }
            ImageSource::Url {
                url,
                rootfs,
                allowed,
            } => {
                // What a server sends is only as good as the digest that a manifest pins.
                let Some(wanted) = wanted else {
                    return Err(ImageError::NoDigest);
                };
                let staging = Staging::new(&self.folder)?;
                let place = staging.path.join("download");
                download::fetch(url, &place, allowed, &self.limits, go_on)?;
                let split = rootfs.as_ref().map(|url| (url, staging.path.join("split")));
                if let Some((url, place)) = &split {
                    download::fetch(url, place, allowed, &self.limits, go_on)?;
                }
                let split = split.as_ref().map(|(_, place)| place.as_path());
                let shown = download::shown(url);
                self.import_archive(&place, split, shown, Some(&wanted), go_on)
            }
        }
    }

    fn import_archive(
        &self,
        path: &Path,
        rootfs: Option<&Path>,
        source: String,
        wanted: Option<&str>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        // Hashing is much cheaper than unpacking, but only worth it if the answer may be yes.
        let length = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let packed_bytes = length(path) + rootfs.map_or(0, length);
        let images = self.list()?.images;
        if wanted.is_some()
            || images
                .iter()
                .any(|image| image.packed_bytes == packed_bytes)
        {
            let fingerprint = archive::fingerprint(path, rootfs, &self.limits, go_on)?;
            check_fingerprint(wanted, &fingerprint)?;
            if let Some(record) = self.get(&fingerprint)? {
                return Ok(Imported {
                    record,
                    present: true,
                });
            }
        }
        let staging = Staging::new(&self.folder)?;
        let made = archive::import(&staging.path, path, rootfs, &self.limits, go_on)?;
        let about = About {
            fingerprint: Some(made.fingerprint),
            source,
            form: made.form,
            packed_bytes: made.packed_bytes,
            properties: made.properties,
        };
        self.finish(staging, about, made.written, wanted)
    }

    fn import_busybox(&self, wanted: Option<&str>) -> Result<Imported, ImageError> {
        let found = builtin::find()?;
        if let Some(record) = self.get(&found.fingerprint)? {
            return Ok(Imported {
                record,
                present: true,
            });
        }
        let staging = Staging::new(&self.folder)?;
        let mut writer = TreeWriter::new(&staging.rootfs()?, self.limits)?;
        let properties = found.write(&mut writer)?;
        let written = writer.finish()?;
        let about = About {
            fingerprint: Some(found.fingerprint),
            source: "builtin: busybox".to_owned(),
            form: Form::Builtin,
            packed_bytes: 0,
            properties,
        };
        self.finish(staging, about, written, wanted)
    }

    fn import_folder(
        &self,
        path: &Path,
        wanted: Option<&str>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        let staging = Staging::new(&self.folder)?;
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
        };
        self.finish(staging, about, written, wanted)
    }

    /// Makes what was unpacked durable and gives it its name.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what was unpacked is finished once"
    )]
    fn finish(
        &self,
        staging: Staging,
        about: About,
        written: Written,
        wanted: Option<&str>,
    ) -> Result<Imported, ImageError> {
        let rootfs = staging.path.join(ROOTFS);
        // Writing back waits for the disk, the digest for the processor.
        let (synced, digest) = std::thread::scope(|scope| {
            let sync = scope.spawn(|| rustix::fs::syncfs(&staging.lock));
            let digest = tree_digest(&rootfs, &self.limits);
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
        let place = self.folder.join(&record.fingerprint);
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
                sync_folder(&self.folder)?;
                Ok(Imported {
                    record,
                    present: false,
                })
            }
        }
    }

    /// Removes what interrupted imports and removals left. Those of living processes are locked and stay.
    ///
    /// # Errors
    /// A leftover that cannot be removed.
    pub fn sweep(&self) -> Result<(), ImageError> {
        for path in self.entries()? {
            if !name_of(&path).starts_with(UNFINISHED) {
                if path.is_dir() {
                    path_io::sweep_unfinished(&path)?;
                }
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(open) = rustix::fs::open(&path, flags, Mode::empty()) else {
                continue;
            };
            if rustix::fs::flock(&open, FlockOperation::NonBlockingLockExclusive).is_ok() {
                discard(&path)?;
            }
        }
        Ok(())
    }

    /// All images. A store that was never used is empty.
    ///
    /// # Errors
    /// The folder cannot be listed; a single unreadable image is in [`Images::broken`].
    pub fn list(&self) -> Result<Images, ImageError> {
        let mut images = Images::default();
        for path in self.entries()? {
            let name = name_of(&path);
            if is_fingerprint(&name) {
                match self.record(&name) {
                    Ok(record) => images.images.push(record),
                    Err(ImageError::NotFound(_)) => {}
                    Err(error) => images.broken.push((name, error)),
                }
            }
        }
        Ok(images)
    }

    /// The image with this whole fingerprint, if it is there.
    ///
    /// # Errors
    /// It is there and its record cannot be read.
    pub fn get(&self, fingerprint: &str) -> Result<Option<ImageRecord>, ImageError> {
        match self.record(fingerprint) {
            Ok(record) => Ok(Some(record)),
            Err(ImageError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The image of an alias, of a fingerprint, or of a unique start of one with 12 digits or more (`sha256:` may precede).
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`], or a record that cannot be read.
    pub fn find(&self, name: &str) -> Result<ImageRecord, ImageError> {
        if let Some(alias) = aliases::get(&self.aliases(), name)? {
            return self.record(&alias.fingerprint);
        }
        let prefix = normal_fingerprint(name);
        let lawful = (12..=64).contains(&prefix.len());
        if !lawful || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ImageError::NotFound(name.to_owned()));
        }
        let fits: Vec<String> = self
            .entries()?
            .iter()
            .map(|path| name_of(path))
            .filter(|found| is_fingerprint(found) && found.starts_with(&prefix))
            .collect();
        match fits.as_slice() {
            [] => Err(ImageError::NotFound(name.to_owned())),
            [one] => self.record(one),
            several => Err(ImageError::Ambiguous {
                prefix: name.to_owned(),
                count: several.len(),
            }),
        }
    }

    /// The tree of an image: uids 0 to 65535 as inside the containers, to be shown to them by an id-mapped mount and
    /// never written to.
    ///
    /// # Errors
    /// [`ImageError::NotFound`].
    pub fn rootfs(&self, fingerprint: &str) -> Result<PathBuf, ImageError> {
        let path = self.folder.join(fingerprint).join(ROOTFS);
        if is_fingerprint(fingerprint) && path.is_dir() {
            Ok(path)
        } else {
            Err(ImageError::NotFound(fingerprint.to_owned()))
        }
    }

    /// Whether the tree is still what was imported: `false` when anything but times changed.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or the tree cannot be read.
    pub fn verify(&self, fingerprint: &str) -> Result<bool, ImageError> {
        let record = self.record(fingerprint)?;
        Ok(tree_digest(&self.rootfs(fingerprint)?, &self.limits)? == record.tree_digest)
    }

    /// Removes an image and the aliases that name it; one that is not there is fine.
    ///
    /// # Errors
    /// [`ImageError::InUse`] when `used` has it; a tree that cannot be removed.
    pub fn delete(&self, fingerprint: &str, used: &BTreeSet<String>) -> Result<(), ImageError> {
        if !is_fingerprint(fingerprint) {
            return Err(ImageError::NotFound(fingerprint.to_owned()));
        }
        if used.contains(fingerprint) {
            return Err(ImageError::InUse(fingerprint.to_owned()));
        }
        for alias in self.list_aliases()? {
            if alias.fingerprint == fingerprint {
                aliases::remove(&self.aliases(), &alias.alias)?;
            }
        }
        let place = self.folder.join(fingerprint);
        let gone = self.folder.join(unfinished_name());
        match path_io::rename(&place, &gone) {
            Ok(()) => discard(&gone),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets an alias name an image. It may be moved by its owner; one without a mark by everybody.
    ///
    /// # Errors
    /// [`ImageError::ForeignAlias`] when another mark owns it, [`ImageError::BadAlias`], [`ImageError::NotFound`].
    pub fn set_alias(
        &self,
        alias: &str,
        fingerprint: &str,
        mark: Option<&str>,
    ) -> Result<(), ImageError> {
        aliases::check(alias)?;
        self.record(fingerprint)?;
        self.check_owner(alias, mark)?;
        let alias = Alias {
            format_version: 1,
            alias: alias.to_owned(),
            fingerprint: fingerprint.to_owned(),
            mark: mark.map(str::to_owned),
        };
        aliases::set(&self.aliases(), &alias)
    }

    /// Removes an alias; one that is not there is fine. The image stays.
    ///
    /// # Errors
    /// [`ImageError::ForeignAlias`] when another mark owns it.
    pub fn remove_alias(&self, alias: &str, mark: Option<&str>) -> Result<(), ImageError> {
        self.check_owner(alias, mark)?;
        aliases::remove(&self.aliases(), alias)
    }

    /// All aliases, by name.
    ///
    /// # Errors
    /// The folder or one of its files cannot be read.
    pub fn list_aliases(&self) -> Result<Vec<Alias>, ImageError> {
        aliases::list(&self.aliases())
    }

    /// Marks an image as brought in by a person: it stays until a person deletes it.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or the mark cannot be written.
    pub fn keep(&self, fingerprint: &str) -> Result<(), ImageError> {
        self.record(fingerprint)?;
        Ok(path_io::write_durably(
            self.folder.join(fingerprint).join(KEPT),
            "",
        )?)
    }

    /// Whether a person brought the image in.
    pub fn is_kept(&self, fingerprint: &str) -> bool {
        is_fingerprint(fingerprint) && self.folder.join(fingerprint).join(KEPT).exists()
    }

    /// Whether an alias can be given on behalf of a mark.
    ///
    /// # Errors
    /// [`ImageError::ForeignAlias`] when another mark owns it, [`ImageError::BadAlias`].
    pub fn check_alias(&self, alias: &str, mark: Option<&str>) -> Result<(), ImageError> {
        aliases::check(alias)?;
        self.check_owner(alias, mark)
    }

    fn check_owner(&self, alias: &str, mark: Option<&str>) -> Result<(), ImageError> {
        if let Some(found) = aliases::get(&self.aliases(), alias)?
            && let Some(owner) = found.mark
            && Some(owner.as_str()) != mark
        {
            return Err(ImageError::ForeignAlias {
                alias: alias.to_owned(),
                owner,
            });
        }
        Ok(())
    }

    fn aliases(&self) -> PathBuf {
        self.folder.join(ALIASES)
    }

    fn entries(&self) -> Result<Vec<PathBuf>, ImageError> {
        match path_io::list(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => Ok(other?),
        }
    }

    fn record(&self, fingerprint: &str) -> Result<ImageRecord, ImageError> {
        let not_found = || ImageError::NotFound(fingerprint.to_owned());
        if !is_fingerprint(fingerprint) {
            return Err(not_found());
        }
        let folder = self.folder.join(fingerprint);
        let path = folder.join(RECORD);
        let broken = |problem| ImageError::Broken {
            path: path.clone(),
            problem,
        };
        let Some(text) = path_io::read_if_exists(&path)? else {
            // A folder without its record is not an image, but not nothing either.
            return Err(if folder.exists() {
                broken("the record is missing".to_owned())
            } else {
                not_found()
            });
        };
        let record: ImageRecord =
            serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
        if record.format_version > FORMAT_VERSION {
            return Err(broken(format!(
                "form {} is newer than this program",
                record.format_version
            )));
        }
        if record.fingerprint != fingerprint {
            return Err(broken("the record is of another image".to_owned()));
        }
        Ok(record)
    }
}

/// What is known about an import when its tree is written.
struct About {
    /// `None`: the digest of the tree.
    fingerprint: Option<String>,
    source: String,
    form: Form,
    packed_bytes: u64,
    properties: ImageProperties,
}

/// A folder in which an image grows; removed when it is dropped before it got its name.
struct Staging {
    path: PathBuf,
    /// Locked as long as this process lives, so that nobody sweeps it.
    lock: File,
}

impl Staging {
    fn new(store: &Path) -> Result<Self, ImageError> {
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
    fn rootfs(&self) -> Result<PathBuf, ImageError> {
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

fn unfinished_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = uuid::Uuid::now_v7().simple();
    format!("{UNFINISHED}{}-{count}-{random}", std::process::id())
}

fn sync_folder(path: &Path) -> Result<(), ImageError> {
    Ok(File::open(path)
        .and_then(|folder| folder.sync_all())
        .at("sync", path)?)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy()
        .into_owned()
}

/// Whether this is a whole fingerprint: 64 lower-case hexadecimal digits. Nothing else ever becomes part of a path.
fn is_fingerprint(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn check_fingerprint(wanted: Option<&str>, found: &str) -> Result<(), ImageError> {
    match wanted {
        Some(wanted) if wanted != found => Err(ImageError::WrongFingerprint {
            wanted: wanted.to_owned(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn normal_fingerprint(text: &str) -> String {
    text.strip_prefix("sha256:")
        .unwrap_or(text)
        .to_ascii_lowercase()
}
