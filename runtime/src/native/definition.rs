//! [`Definition`]: what this engine was last told an object is, kept as one small file an object.
//!
//! It is to the native engine what a running Incus keeps in its database: the mark, the spec, and what was picked once
//! and is kept (identity range, addresses, MACs). What the kernel can tell is read from the kernel instead.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manifests::id::{Address, Mark, Uid};
use manifests::kind::{Kind, Spec};
use manifests::observed::Remembered;
use manifests::path_io::{self, PathError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::at_once;

/// The version of the file that this program writes; it reads this one and the one before.
const FORMAT_VERSION: u32 = 1;

/// One object as this engine was last told.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition<P> {
    /// The name under which it lives.
    pub address: Address,
    /// Who owns it.
    pub mark: Option<Mark>,
    /// Its identity; kept also where nobody owns it.
    pub uid: Uid,
    /// Whether it was made to its end.
    pub complete: bool,
    /// What it is.
    pub spec: Spec,
    /// What is remembered for the time when its manifest is gone.
    pub remembered: Remembered,
    /// What was picked once and is kept.
    pub picks: P,
}

/// A definition that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The file could not be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The file is no definition: cut short by a power cut, or edited.
    #[error("understand {}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// The `spec` in the file is not of its kind.
    #[error("understand the spec in {}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// The file is of a newer program.
    #[error("{} has format version {found}, this program knows {FORMAT_VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<P> {
    format_version: u32,
    address: Address,
    mark: Option<Mark>,
    uid: Uid,
    complete: bool,
    remembered: Remembered,
    picks: P,
    spec: serde_json::Value,
}

impl<P: Serialize + Clone> Definition<P> {
    fn written(&self) -> Written<P> {
        Written {
            format_version: FORMAT_VERSION,
            address: self.address.clone(),
            mark: self.mark.clone(),
            uid: self.uid,
            complete: self.complete,
            remembered: self.remembered,
            picks: self.picks.clone(),
            spec: self.spec.to_value(),
        }
    }

    /// The definition as it is put into the trash.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::to_value(self.written())
    }
}

impl<P: DeserializeOwned> Definition<P> {
    /// Reads what [`Definition::to_json`] wrote.
    ///
    /// # Errors
    /// It is no definition, or one of a newer program.
    pub fn from_json(kind: Kind, value: &serde_json::Value) -> Result<Self, DefinitionError> {
        Self::from_value(kind, value, Path::new("the trash"))
    }

    /// The name in what [`Definition::to_json`] wrote, also where nothing else of it can be understood.
    pub fn address_in(kind: Kind, value: &serde_json::Value) -> Option<Address> {
        let address = Address::deserialize(&value["address"]).ok()?;
        (address.kind == kind).then_some(address)
    }

    fn from_value(
        kind: Kind,
        value: &serde_json::Value,
        path: &Path,
    ) -> Result<Self, DefinitionError> {
        let path = path.to_path_buf();
        let found = value["formatVersion"].as_u64().unwrap_or(0);
        if found > u64::from(FORMAT_VERSION) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(DefinitionError::Newer { path, found });
        }
        let written =
            Written::<P>::deserialize(value).map_err(|source| DefinitionError::Damaged {
                path: path.clone(),
                source,
            })?;
        let spec = Spec::deserialize(kind, &written.spec)
            .map_err(|source| DefinitionError::Spec { path, source })?;
        Ok(Self {
            address: written.address,
            mark: written.mark,
            uid: written.uid,
            complete: written.complete,
            spec,
            remembered: written.remembered,
            picks: written.picks,
        })
    }
}

/// The definitions of a kind by identity; each is a `Definition<P>` of the picks of its kind.
type Kept = BTreeMap<Uid, Arc<dyn Any + Send + Sync>>;

/// Where the definitions of a state folder are.
///
/// What [`Definitions::all`] has read is kept, so that fifty starts do not read fifty files each; whoever changes
/// anything holds the lock of the state folder, so nobody else writes meanwhile.
#[derive(Debug, Clone)]
pub struct Definitions {
    state: PathBuf,
    kept: Arc<Mutex<BTreeMap<Kind, Kept>>>,
}

/// All definitions of a kind, and what could not be understood.
pub type All<P> = (Vec<Arc<Definition<P>>>, Vec<(Uid, DefinitionError)>);

impl Definitions {
    /// The definitions of a state folder.
    pub fn new(state: &Path) -> Self {
        Self {
            state: state.to_path_buf(),
            kept: Arc::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Kind, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others may have written since is read again.
    pub fn forget(&self) {
        self.kept().clear();
    }

    /// The folder that holds what is known of one object: `instances/UID`, `networks/UID`, …
    pub fn folder(&self, kind: Kind, uid: &Uid) -> PathBuf {
        self.of_kind(kind).join(uid.to_string())
    }

    fn of_kind(&self, kind: Kind) -> PathBuf {
        // `images/` and `pools/` hold content; their definitions have folders of their own beside them.
        self.state.join(match kind {
            Kind::Instance => "instances",
            Kind::Network => "networks",
            Kind::StoragePool => "storage-pools",
            Kind::Image => "image-documents",
            Kind::SnapshotSchedule => "snapshot-schedules",
            Kind::Backup => "backups",
            Kind::Volume => "volumes",
            other => other.word(),
        })
    }

    fn file(&self, kind: Kind, uid: &Uid) -> PathBuf {
        self.folder(kind, uid).join("definition.json")
    }

    /// All definitions of a kind by identity; what cannot be understood is in the second list.
    ///
    /// # Errors
    /// The folder could not be listed.
    pub fn all<P: DeserializeOwned + Send + Sync + 'static>(
        &self,
        kind: Kind,
    ) -> Result<All<P>, PathError> {
        // Held while reading: what is written meanwhile must not be overtaken by what was read before.
        let mut kept = self.kept();
        if let Some(kept) = kept.get(&kind) {
            let known = kept
                .values()
                .filter_map(|one| Arc::clone(one).downcast::<Definition<P>>().ok());
            return Ok((known.collect(), Vec::new()));
        }
        let folder = self.of_kind(kind);
        let entries = match path_io::list(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let uids: Vec<Uid> = entries
            .iter()
            .filter_map(|entry| entry.file_name()?.to_str()?.parse().ok())
            .collect();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let read = at_once::each(&uids, |uid| self.read(kind, uid));
        for (uid, definition) in uids.iter().zip(read) {
            match definition {
                Ok(Some(definition)) => good.push(Arc::new(definition)),
                // A folder without a definition: making it was cut short before anything could be lost.
                Ok(None) => {}
                Err(error) => bad.push((*uid, error)),
            }
        }
        good.sort_by_key(|one| one.uid);
        if bad.is_empty() {
            let of_kind = good.iter().map(|one| (one.uid, Arc::clone(one) as _));
            kept.insert(kind, of_kind.collect());
        }
        Ok((good, bad))
    }

    /// All definitions of a kind, for those who must overlook none: an address that counts as free, an image as not
    /// needed.
    ///
    /// # Errors
    /// The folder could not be listed, or a definition not be understood.
    pub fn every<P: DeserializeOwned + Send + Sync + 'static>(
        &self,
        kind: Kind,
    ) -> Result<Vec<Arc<Definition<P>>>, DefinitionError> {
        let (good, bad) = self.all(kind)?;
        match bad.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(good),
        }
    }

    /// The name of an object whose definition cannot be understood, where at least that can.
    pub fn address(&self, kind: Kind, uid: &Uid) -> Option<Address> {
        let text = path_io::read_if_exists(self.file(kind, uid)).ok()??;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        Definition::<()>::address_in(kind, &value)
    }

    /// One definition; none where there is no file.
    ///
    /// # Errors
    /// The file is there and cannot be understood.
    pub fn read<P: DeserializeOwned>(
        &self,
        kind: Kind,
        uid: &Uid,
    ) -> Result<Option<Definition<P>>, DefinitionError> {
        let path = self.file(kind, uid);
        let Some(text) = path_io::read_if_exists(&path)? else {
            return Ok(None);
        };
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|source| DefinitionError::Damaged {
                path: path.clone(),
                source,
            })?;
        Definition::from_value(kind, &value, &path).map(Some)
    }

    /// Writes a definition. A complete one survives a power cut; one of an object in the making need not.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write<P: Serialize + Clone + Send + Sync + 'static>(
        &self,
        definition: &Definition<P>,
    ) -> Result<(), DefinitionError> {
        let kind = definition.address.kind;
        let folder = self.folder(kind, &definition.uid);
        path_io::create_dir_all(&folder)?;
        let path = folder.join("definition.json");
        let written = definition.written();
        let text = serde_json::to_vec(&written).map_err(|source| DefinitionError::Damaged {
            path: path.clone(),
            source,
        })?;
        if definition.complete {
            path_io::write_durably(&path, text)?;
        } else {
            path_io::write_atomically(&path, text)?;
        }
        if let Some(kept) = self.kept().get_mut(&kind) {
            kept.insert(definition.uid, Arc::new(definition.clone()));
        }
        Ok(())
    }

    /// Removes a definition and its folder, which must hold nothing else.
    ///
    /// # Errors
    /// The folder holds something else, or the kernel refuses.
    pub fn remove(&self, kind: Kind, uid: &Uid) -> Result<(), PathError> {
        if let Some(kept) = self.kept().get_mut(&kind) {
            kept.remove(uid);
        }
        let folder = self.folder(kind, uid);
        path_io::remove_file(self.file(kind, uid))?;
        path_io::sweep_unfinished(&folder)?;
        path_io::remove_empty_dir(folder)
    }

    /// Removes what processes left that were killed while they wrote or removed a definition.
    ///
    /// # Errors
    /// A folder could not be read, or something of it not removed.
    pub fn sweep(&self) -> Result<(), PathError> {
        for kind in Kind::ALL {
            let entries = match path_io::list(self.of_kind(*kind)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for folder in entries {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                if name.parse::<Uid>().is_err() {
                    continue;
                }
                path_io::sweep_unfinished(&folder)?;
                if path_io::list(&folder)?.is_empty() {
                    path_io::remove_empty_dir(&folder)?;
                }
            }
        }
        Ok(())
    }
}
