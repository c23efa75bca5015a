//! The content store: one folder an image, named by its fingerprint, complete or not there at all.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use manifests::path_io::{self, AtPath as _};
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::aliases::{self, Alias};
use super::error::ImageError;
use super::limits::Limits;
use super::machine::{self, MachineImage};
use super::record::{FORMAT_VERSION, ImageRecord};
use super::tree_digest::tree_digest;
use super::tree_writer::discard;
use crate::native::cgroup::Patience;

/// Folders whose name starts so are being made or removed.
const UNFINISHED: &str = ".unfinished-";
/// The record beside the tree.
pub(super) const RECORD: &str = "image.json";
/// Beside the tree of an image that a person brought in.
const KEPT: &str = "kept";
/// The tree.
pub(super) const ROOTFS: &str = "rootfs";
/// For how long a folder may still be held after the death of who made it: a program that was just started by it has all
/// that it had open until it is executed.
const INHERITED: Duration = Duration::from_secs(1);
/// Where the aliases are, beside the images.
const ALIASES: &str = "aliases";

/// The images of a state folder: `FOLDER/FINGERPRINT/{rootfs/, image.json}` and `FOLDER/aliases/`.
#[derive(Debug, Clone)]
pub struct ImageStore {
    folder: PathBuf,
    pub(super) limits: Limits,
    /// Whether what is imported counts as left behind until it is claimed.
    pub(super) unclaimed: bool,
}

/// What is in the store.
#[derive(Debug, Default)]
pub struct Images {
    /// The images, by fingerprint.
    pub images: Vec<ImageRecord>,
    /// Folders that look like an image and cannot be read as one.
    pub broken: Vec<(String, ImageError)>,
}

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
            let mut patience = Patience::new(INHERITED);
            loop {
                match rustix::fs::flock(&open, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => break discard(&path)?,
                    Err(_) if patience.wait() => {}
                    Err(_) => break,
                }
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
    /// [`ImageError::NotFound`], [`ImageError::MadeFor`].
    pub fn rootfs(&self, fingerprint: &str) -> Result<PathBuf, ImageError> {
        let path = self.folder.join(fingerprint).join(ROOTFS);
        if is_fingerprint(fingerprint) && path.is_dir() {
            return Ok(path);
        }
        Err(match self.record(fingerprint)? {
            record if record.machine.is_some() => made_for(&record),
            _ => ImageError::NotFound(fingerprint.to_owned()),
        })
    }

    /// What machines start from: nobody may write to it, and whoever has a disk over it needs it.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::MadeFor`].
    pub fn machine(&self, fingerprint: &str) -> Result<MachineImage, ImageError> {
        let record = self.record(fingerprint)?;
        match &record.machine {
            Some(machine) => Ok(MachineImage::of(&self.folder.join(fingerprint), machine)),
            None => Err(made_for(&record)),
        }
    }

    /// Whether the tree is still what was imported: `false` when anything but times changed.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or the tree cannot be read.
    pub fn verify(&self, fingerprint: &str) -> Result<bool, ImageError> {
        let record = self.record(fingerprint)?;
        let now = match &record.machine {
            Some(_) => machine::digest_now(&self.machine(fingerprint)?)?,
            None => tree_digest(&self.rootfs(fingerprint)?, &self.limits)?,
        };
        Ok(now == record.tree_digest)
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

    pub(super) fn record(&self, fingerprint: &str) -> Result<ImageRecord, ImageError> {
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

pub(super) fn unfinished_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = uuid::Uuid::now_v7().simple();
    format!("{UNFINISHED}{}-{count}-{random}", std::process::id())
}

pub(super) fn sync_folder(path: &Path) -> Result<(), ImageError> {
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

fn made_for(record: &ImageRecord) -> ImageError {
    ImageError::MadeFor {
        fingerprint: record.fingerprint.clone(),
        made_for: record.made_for().word(),
    }
}

/// Whether this is a whole fingerprint: 64 lower-case hexadecimal digits. Nothing else ever becomes part of a path.
fn is_fingerprint(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

pub(super) fn check_fingerprint(wanted: Option<&str>, found: &str) -> Result<(), ImageError> {
    match wanted {
        Some(wanted) if wanted != found => Err(ImageError::WrongFingerprint {
            wanted: wanted.to_owned(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

pub(super) fn normal_fingerprint(text: &str) -> String {
    text.strip_prefix("sha256:")
        .unwrap_or(text)
        .to_ascii_lowercase()
}
