//! Values of secrets on this host: their keyed digests, which may be written down, and the values themselves, which are
//! kept in memory and, for the next start of an instance that uses them, in the run folder (a tmpfs) until the host
//! ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use manifests::instance::cloud_init::CloudInit;
use manifests::instance::files::File;
use manifests::kinds::instance::Instance;
use manifests::path_io::{self, AtPath as _};
use manifests::scalar::text::{Sealed, Text};
use manifests::secret::SecretValue;
use ring::hmac;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Class, RuntimeError};

/// The key of the digests, in the state folder: without it they tell nothing of values, also of short ones.
const KEY: &str = "secrets.key";
/// Values that instances use, in the run folder, by their digests.
const FOLDER: &str = "secrets";
const KEY_BYTES: usize = 32;

/// The secrets that one state folder knows.
pub struct SecretStore {
    key: PathBuf,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    key: Option<hmac::Key>,
    values: BTreeMap<String, SecretValue>,
}

/// The key cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub struct KeyError {
    doing: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl SecretStore {
    pub(crate) fn new(state: &Path, run: &Path) -> Self {
        Self {
            key: state.join(KEY),
            folder: run.join(FOLDER),
            state: Mutex::default(),
        }
    }

    /// The digest of a value, which is known from now on.
    ///
    /// # Errors
    /// The key of this state folder can neither be read nor made.
    pub fn seal(&self, value: SecretValue) -> Result<String, KeyError> {
        let digest = self.digest(value.reveal().as_bytes())?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.values.insert(digest.clone(), value);
        Ok(digest)
    }

    /// The digest of what may be a value.
    pub(crate) fn digest(&self, value: &[u8]) -> Result<String, KeyError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match &state.key {
            Some(key) => key.clone(),
            None => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &read_or_make(&self.key)?);
                state.key.insert(key).clone()
            }
        };
        let tag = hmac::sign(&key, value);
        // Half of it tells values apart as surely.
        Ok(hex::encode(&tag.as_ref()[..16]))
    }

    /// A value that was sealed by this process, or that an instance of this host uses.
    fn value(&self, digest: &str) -> Option<SecretValue> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = state.values.get(digest) {
            return Some(value.clone());
        }
        drop(state);
        // A digest is a name here.
        if digest.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let kept = path_io::read_if_exists(self.folder.join(digest));
        kept.ok().flatten().map(SecretValue::new)
    }

    /// The text for the place where it is used.
    pub(crate) fn revealed(&self, text: &Text) -> Result<Text, RuntimeError> {
        match text {
            Text::Sealed(sealed) => {
                let value = self.value(&sealed.digest);
                let value = value.ok_or_else(|| unknown(&sealed.written()))?;
                Ok(Text::Plain(value.reveal().to_owned()))
            }
            // Nobody looked it up.
            text if text.is_secret() => Err(unknown(text)),
            text => Ok(text.clone()),
        }
    }

    /// An instance with its secrets in place, for the moment of a start: it is never written down.
    ///
    /// # Errors
    /// A value is not known here.
    pub(super) fn revealed_instance(&self, instance: &Instance) -> Result<Instance, RuntimeError> {
        let mut revealed = instance.clone();
        let files = revealed.files.0.iter_mut().flatten();
        let texts = files
            .map(|(_, file)| &mut file.content)
            .chain(revealed.environment.values_mut())
            .chain(revealed.sysctl.values_mut());
        for text in texts {
            *text = self.revealed(text)?;
        }
        Ok(revealed)
    }

    /// What cloud-init is given with its secrets in place, for the moment of a start.
    ///
    /// # Errors
    /// A value is not known here.
    pub(super) fn revealed_cloud_init(&self, data: &CloudInit) -> Result<CloudInit, RuntimeError> {
        let mut revealed = data.clone();
        for text in revealed.texts_mut() {
            *text = self.revealed(text)?;
        }
        Ok(revealed)
    }

    /// A file with its content in place, for the moment of writing it.
    ///
    /// # Errors
    /// Its value is not known here.
    pub(super) fn revealed_file(&self, file: &File) -> Result<File, RuntimeError> {
        Ok(File {
            content: self.revealed(&file.content)?,
            ..file.clone()
        })
    }

    /// As [`SecretStore::revealed_file`], of several by their paths.
    ///
    /// # Errors
    /// A value is not known here.
    pub(super) fn revealed_files(
        &self,
        files: &BTreeMap<String, File>,
    ) -> Result<BTreeMap<String, File>, RuntimeError> {
        let all = files.iter();
        all.map(|(path, file)| Ok((path.clone(), self.revealed_file(file)?)))
            .collect()
    }

    /// The environment of a program that is executed inside.
    ///
    /// # Errors
    /// A value is not known here.
    pub(super) fn environment(
        &self,
        instance: &Instance,
    ) -> Result<Vec<(String, String)>, RuntimeError> {
        let mut environment = Vec::new();
        for (name, text) in &instance.environment {
            if let Some(value) = self.revealed(text)?.as_plain() {
                environment.push((name.clone(), value.to_owned()));
            }
        }
        Ok(environment)
    }

    /// The digest of bytes that live in the place of a secret. Where they are a text it is known from now on: an instance
    /// whose own value is left alone is to start with it again.
    fn remembered(&self, bytes: &[u8]) -> Result<String, KeyError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.seal(SecretValue::new(text.to_owned())),
            Err(_) => self.digest(bytes),
        }
    }

    /// Whether the value of a digest can be put in its place.
    pub(crate) fn knows(&self, digest: &str) -> bool {
        self.value(digest).is_some()
    }

    /// What bytes that live in the place of a text are, in its words: a secret stays one, also where it is another.
    pub(super) fn seen(&self, text: &Text, bytes: &[u8]) -> Text {
        match text {
            Text::Sealed(sealed) => Text::Sealed(Sealed {
                // Without the key nothing is known of it; then nothing has this digest.
                digest: self.remembered(bytes).unwrap_or_default(),
                ..sealed.clone()
            }),
            other if other.as_plain().unwrap_or_default().as_bytes() == bytes => other.clone(),
            _ => Text::Plain(String::from_utf8_lossy(bytes).into_owned()),
        }
    }

    /// Keeps the values that an instance uses for its next start.
    ///
    /// # Errors
    /// The run folder cannot be written.
    pub(super) fn keep(&self, instance: &Instance) -> Result<(), path_io::PathError> {
        self.keep_all(digests(instance))
    }

    /// As [`SecretStore::keep`], the values of these digests.
    ///
    /// # Errors
    /// The run folder cannot be written.
    pub(super) fn keep_all(
        &self,
        digests: impl IntoIterator<Item = String>,
    ) -> Result<(), path_io::PathError> {
        for digest in digests {
            if let Some(value) = self.value(&digest) {
                self.write(&digest, &value).at("write", &self.folder)?;
            }
        }
        Ok(())
    }

    fn write(&self, digest: &str, value: &SecretValue) -> std::io::Result<()> {
        match rustix::fs::mkdir(&self.folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        make(&self.folder.join(digest), value.reveal().as_bytes())
    }

    /// Forgets the values that nothing uses any more.
    ///
    /// # Errors
    /// One could not be removed.
    pub(super) fn sweep(&self, used: &BTreeSet<String>) -> Result<(), path_io::PathError> {
        for path in self.kept()? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_none_or(|name| !used.contains(name)) {
                path_io::remove_file(&path)?;
            }
        }
        // Not while there are any.
        let _ = path_io::remove_empty_dir(&self.folder);
        Ok(())
    }

    /// The files of values.
    pub(super) fn kept(&self) -> Result<Vec<PathBuf>, path_io::PathError> {
        match path_io::list(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            kept => kept,
        }
    }

    /// Whether anything was ever sealed here.
    pub fn is_used(&self) -> bool {
        self.key.exists()
    }
}

/// The digests of the values that an instance uses.
pub(super) fn digests(instance: &Instance) -> BTreeSet<String> {
    let files = instance.files.0.iter().flatten();
    let texts = files
        .map(|(_, file)| &file.content)
        .chain(instance.environment.values())
        .chain(instance.sysctl.values());
    let own = texts.filter_map(digest_of);
    own.chain(cloud_init_digests(&instance.cloud_init))
        .collect()
}

/// Those of the values that cloud-init is given.
pub(super) fn cloud_init_digests(data: &CloudInit) -> impl Iterator<Item = String> {
    data.texts().filter_map(digest_of)
}

fn digest_of(text: &Text) -> Option<String> {
    match text {
        Text::Sealed(sealed) => Some(sealed.digest.clone()),
        _ => None,
    }
}

fn unknown(text: &Text) -> RuntimeError {
    let why =
        format!("the value of {text:?} is not known since the host started; `keel apply` gives it");
    RuntimeError::new("look up a secret for", Class::NeedsOperator, why)
}

/// The key of a state folder; of two who make it at once one wins, and the other takes that one.
fn read_or_make(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |doing| {
        move |source| KeyError {
            doing,
            path: path.to_path_buf(),
            source,
        }
    };
    for _ in 0..2 {
        match path_io::read(path) {
            Ok(key) if key.len() == KEY_BYTES => return Ok(key),
            Ok(_) => return Err(failed("understand")(std::io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read")(error.source)),
        }
        let mut key = [0; KEY_BYTES];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut key)
            .map_err(|_| failed("make")(std::io::Error::other("no random bytes")))?;
        make(path, &key).map_err(failed("make"))?;
    }
    Err(failed("read")(std::io::ErrorKind::NotFound.into()))
}

/// A file that only root reads, whole or not at all; one that is there stays.
fn make(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    // Without a name until all of it is there.
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR)?;
    let mut rest = content;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    rustix::fs::fsync(&file)?;
    let by_descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let (here, follow) = (rustix::fs::CWD, rustix::fs::AtFlags::SYMLINK_FOLLOW);
    match rustix::fs::linkat(here, by_descriptor, here, path, follow) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store(folder: &Path) -> SecretStore {
        SecretStore::new(folder, folder)
    }

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned())
    }

    fn sealed(digest: &str) -> Text {
        let written = format!("{{\"sealed\":{{\"digest\":\"{digest}\",\"template\":\"x\"}}}}");
        serde_json::from_str(&written).expect(&written)
    }

    #[test]
    fn digests_are_of_the_value_and_of_the_state_folder() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let digest = |folder: &Path, text| store(folder).seal(value(text)).unwrap();
        assert_eq!(digest(one.path(), "a"), digest(one.path(), "a"));
        assert_ne!(digest(one.path(), "a"), digest(one.path(), "b"));
        assert_ne!(digest(one.path(), "a"), digest(two.path(), "a"));
        let mode = one
            .path()
            .join(KEY)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o400);
    }

    #[test]
    fn values_are_kept_for_who_uses_them_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let first = store(folder.path());
        let digest = first.seal(value("hunter2")).unwrap();
        let mut instance = Instance::default();
        instance
            .environment
            .insert("WORD".to_owned(), sealed(&digest));
        // Nobody uses it yet: another process does not know it.
        let error = store(folder.path())
            .revealed_instance(&instance)
            .unwrap_err();
        assert!(
            error
                .source
                .as_ref()
                .is_some_and(|why| why.to_string().contains("`keel apply` gives it")),
            "{error:?}"
        );
        first.keep(&instance).unwrap();
        let kept = folder.path().join(FOLDER).join(&digest);
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o400);
        let next = store(folder.path());
        let revealed = next.revealed_instance(&instance).unwrap();
        assert_eq!(revealed.environment["WORD"], Text::from("hunter2"));
        assert_eq!(
            next.environment(&instance).unwrap(),
            [("WORD".to_owned(), "hunter2".to_owned())]
        );
        next.sweep(&digests(&instance)).unwrap();
        assert!(kept.exists());
        next.sweep(&BTreeSet::new()).unwrap();
        assert!(!kept.exists());
    }

    #[test]
    fn what_lives_in_the_place_of_a_secret_is_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let text = sealed(&store.seal(value("hunter2")).unwrap());
        assert_eq!(store.seen(&text, b"hunter2"), text);
        let other = store.seen(&text, b"hunter3");
        assert_ne!(other, text);
        assert!(
            !format!("{other:?} {}", serde_json::to_string(&other).unwrap()).contains("hunter")
        );
        assert_eq!(store.seen(&"a".into(), b"a"), "a".into());
        assert_eq!(store.seen(&"a".into(), b"b"), "b".into());
    }
}
