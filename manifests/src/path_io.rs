//! Every file-system error names its file: `std::fs` with the path and the deed in the error.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the lawful place of std::fs"
)]

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A failed file operation: what was being done, to which path, and the kernel's answer as source.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub struct PathError {
    /// The path as it was given to the kernel.
    pub path: PathBuf,
    /// A verb that fits before the path: `read`, `write to`, `create`.
    pub doing: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

impl PathError {
    /// The kind of the underlying error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The errno of the underlying error, where there was one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// Adds path and verb to an [`io::Result`].
pub trait AtPath<T> {
    /// Names the path and what was being done to it.
    ///
    /// # Errors
    /// The same error as before, wrapped.
    fn at(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, PathError>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, PathError> {
        self.map_err(|source| PathError {
            path: path.as_ref().to_path_buf(),
            doing,
            source: source.into(),
        })
    }
}

/// Room for nearly all files that are read whole. The kernel's own say that they are empty, so `std::fs::read` asks for
/// their size in vain and then reads them in small pieces.
const AT_ONCE: usize = 4096;

/// Reads a whole file.
///
/// # Errors
/// As [`std::fs::read`], with the path.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, PathError> {
    let mut bytes = Vec::with_capacity(AT_ONCE);
    fs::File::open(&path)
        // What has a limit is not asked for its size.
        .and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes))
        .at("read", path)?;
    Ok(bytes)
}

/// Reads a whole file that others may write to meanwhile: once more where it changed while it was read.
///
/// # Errors
/// As [`read`], and that it changed again.
pub fn read_unchanged(path: impl AsRef<Path>) -> Result<Vec<u8>, PathError> {
    unchanged(path.as_ref(), || {})
}

/// As [`read_unchanged`]; `meanwhile` is what happens between the looks at the file.
fn unchanged(path: &Path, mut meanwhile: impl FnMut()) -> Result<Vec<u8>, PathError> {
    let state = |of: &fs::Metadata| (of.ino(), of.len(), of.mtime(), of.mtime_nsec());
    for _ in 0..2 {
        let mut bytes = Vec::with_capacity(AT_ONCE);
        let file = fs::File::open(path).at("read", path)?;
        let before = state(&file.metadata().at("look at", path)?);
        (&file)
            .take(u64::MAX)
            .read_to_end(&mut bytes)
            .at("read", path)?;
        meanwhile();
        // By its path: another file may have taken its place.
        let after = fs::metadata(path).is_ok_and(|after| state(&after) == before);
        if after && bytes.len() as u64 == before.1 {
            return Ok(bytes);
        }
    }
    Err(io::Error::other("it changes while it is read")).at("read", path)
}

/// Reads a whole file as UTF-8.
///
/// # Errors
/// As [`std::fs::read_to_string`], with the path.
pub fn read_to_string(path: impl AsRef<Path>) -> Result<String, PathError> {
    let mut text = String::with_capacity(AT_ONCE);
    fs::File::open(&path)
        .and_then(|file| file.take(u64::MAX).read_to_string(&mut text))
        .at("read", path)?;
    Ok(text)
}

/// As [`read_to_string`], but a file that is not there is `None`.
///
/// # Errors
/// Every error but "not found".
pub fn read_if_exists(path: impl AsRef<Path>) -> Result<Option<String>, PathError> {
    match read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a whole file, creating or truncating it. Not durable: see [`write_durably`].
///
/// # Errors
/// As [`std::fs::write`], with the path.
pub fn write(path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Result<(), PathError> {
    fs::write(&path, data).at("write to", path)
}

/// Writes an existing file in one `write(2)` call, as kernel files (cgroup, proc, sys) want it; never creates.
///
/// # Errors
/// The kernel's refusal, with the path.
pub fn write_kernel_file(path: impl AsRef<Path>, data: &str) -> Result<(), PathError> {
    use std::io::Write as _;
    let path = path.as_ref();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .at("open", path)?;
    let written = file.write(data.as_bytes()).at("write to", path)?;
    if written == data.len() {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::WriteZero)).at("write to", path)
    }
}

/// Replaces a file so that after a power cut either the old or the new content is there: temporary file in the
/// same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// The first step that failed, with its path; the temporary file is then removed.
pub fn write_durably(path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Result<(), PathError> {
    use std::io::Write as _;
    let path = path.as_ref();
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let temporary = folder.join(name);
    let result = (|| {
        let mut file = fs::File::create(&temporary).at("create", &temporary)?;
        file.write_all(data.as_ref()).at("write to", &temporary)?;
        file.sync_all().at("sync", &temporary)?;
        fs::rename(&temporary, path).at("rename to", path)?;
        fs::File::open(folder)
            .and_then(|f| f.sync_all())
            .at("sync", folder)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Replaces a file so that a reader sees the old or the new content, also after `kill -9`; a power cut may leave
/// an empty file. For what the next start throws away anyway.
///
/// # Errors
/// The first step that failed, with its path.
pub fn write_atomically(path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Result<(), PathError> {
    let path = path.as_ref();
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    fs::write(&temporary, data).at("write to", &temporary)?;
    fs::rename(&temporary, path).at("rename to", path)
}

/// Removes from a folder what [`write_durably`] and [`write_atomically`] left there in processes that were killed. A
/// folder that is not there is fine.
///
/// # Errors
/// The folder cannot be listed, or a file of it not removed.
pub fn sweep_unfinished(folder: impl AsRef<Path>) -> Result<(), PathError> {
    let files = match list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let writer = name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(".new"))
            .and_then(|name| name.rsplit_once('.')?.1.parse::<u32>().ok());
        if writer.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove_file(&file)?;
        }
    }
    Ok(())
}

/// Creates one folder; one that is there already is fine.
///
/// # Errors
/// Every error but "exists".
pub fn ensure_dir(path: impl AsRef<Path>) -> Result<(), PathError> {
    match fs::create_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.at("create", path),
    }
}

/// Creates a folder and those above it.
///
/// # Errors
/// As [`std::fs::create_dir_all`], with the path.
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<(), PathError> {
    fs::create_dir_all(&path).at("create", path)
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// Every error but "not found".
pub fn remove_file(path: impl AsRef<Path>) -> Result<(), PathError> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// Removes an empty folder; one that is not there is fine.
///
/// # Errors
/// Every error but "not found", among them "not empty".
pub fn remove_empty_dir(path: impl AsRef<Path>) -> Result<(), PathError> {
    match fs::remove_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// Renames within one file system.
///
/// # Errors
/// As [`std::fs::rename`], with the old path.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), PathError> {
    fs::rename(&from, to).at("rename", from)
}

/// The entries of a folder, sorted by name. A folder that is not there is an error.
///
/// # Errors
/// As [`std::fs::read_dir`], with the path.
pub fn list(path: impl AsRef<Path>) -> Result<Vec<PathBuf>, PathError> {
    let mut entries = fs::read_dir(&path)
        .and_then(|entries| {
            entries
                .map(|e| e.map(|e| e.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .at("list", &path)?;
    entries.sort();
    Ok(entries)
}

/// As [`list`], and of what kind each entry is; links are not followed.
///
/// # Errors
/// The folder cannot be read.
pub fn list_kinds(path: impl AsRef<Path>) -> Result<Vec<(PathBuf, fs::FileType)>, PathError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(&path).at("list", &path)? {
        let entry = entry.at("list", &path)?;
        let kind = entry.file_type().at("look at", entry.path())?;
        entries.push((entry.path(), kind));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// The folders in a folder, sorted by name; nothing else in it is looked at, and a link to a folder is none.
///
/// # Errors
/// The folder cannot be read.
pub fn list_folders(path: impl AsRef<Path>) -> Result<Vec<PathBuf>, PathError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(&path).at("list", &path)? {
        let entry = entry.at("list", &path)?;
        if entry.file_type().at("look at", entry.path())?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.yaml");
        let put = |text: &str| write(&file, text).expect("written");
        let replace = |text: &str| write_atomically(&file, text).expect("written");
        for (how, change) in [("written", &put as &dyn Fn(&str)), ("replaced", &replace)] {
            for (times, told) in [(0, Some("a")), (1, Some("aa")), (2, None)] {
                put("a");
                let mut done = 0;
                let read = unchanged(&file, || {
                    if done < times {
                        done += 1;
                        change(&"a".repeat(done + 1));
                    }
                });
                match (read, told) {
                    (Ok(bytes), Some(text)) => assert_eq!(bytes, text.as_bytes(), "{how}"),
                    (Err(error), None) => {
                        assert!(error.to_string().ends_with("a.yaml"), "{error}");
                        assert_eq!(error.source.to_string(), "it changes while it is read");
                    }
                    other => panic!("{how} {times}: {other:?}"),
                }
            }
        }
        // What goes away while it is read was read in vain.
        let gone = unchanged(&file, || drop(remove_file(&file))).expect_err("gone");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
