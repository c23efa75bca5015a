//! [`KnownFiles`]: small files that are looked at with each of many instances, and read once: who has which address and
//! name in a network, who has claimed which ids.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use manifests::path_io::{self, PathError};

/// A file is changed twice within this at the most without its time telling: the kernel's clock for files goes by ticks
/// (`current_time` in `fs/inode.c`, at least 100 a second).
const TICK: Duration = Duration::from_millis(20);

/// Which file it is that was read, and when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether whoever changes it from now on changes this as well.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is compared with the kernel's own time of a file, and is not the time of a deed"
    )]
    fn is_past(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (seconds, nanoseconds) = self.changed;
        let changed = u64::try_from(seconds)
            .ok()
            .zip(u32::try_from(nanoseconds).ok());
        now.ok()
            .zip(changed)
            .is_some_and(|(now, (seconds, rest))| now > Duration::new(seconds, rest) + TICK)
    }
}

/// What was read of files, so that those which nobody touched since are not read again.
#[derive(Debug, Default)]
pub(super) struct KnownFiles(Mutex<HashMap<PathBuf, (Stamp, String)>>);

impl KnownFiles {
    /// The content of a file; none where there is none.
    pub(super) fn read(&self, path: &Path) -> Result<Option<String>, PathError> {
        let Ok(now) = std::fs::symlink_metadata(path) else {
            return path_io::read_if_exists(path);
        };
        let stamp = Stamp::of(&now);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, content)) = known.get(path)
            && *before == stamp
        {
            return Ok(Some(content.clone()));
        }
        // What is changed after this is seen in its time, but for the tick that it was changed in.
        let is_past = stamp.is_past();
        let content = path_io::read_if_exists(path)?;
        match &content {
            Some(content) if is_past => {
                known.insert(path.to_path_buf(), (stamp, content.clone()));
            }
            _ => {
                known.remove(path);
            }
        }
        Ok(content)
    }

    pub(super) fn forget(&self, path: &Path) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_touches_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("veth0");
        let known = KnownFiles::default();
        assert_eq!(known.read(&path).expect("read"), None);
        path_io::write(&path, "one").expect("written");
        let long_ago = || {
            let mut known = known.0.lock().expect("known");
            known.contains_key(&path).then(|| known.clear())
        };
        // Just written: whoever writes in the same tick leaves the same time.
        assert_eq!(known.read(&path).expect("read").as_deref(), Some("one"));
        assert_eq!(long_ago(), None);
        path_io::write(&path, "two").expect("written");
        assert_eq!(known.read(&path).expect("read").as_deref(), Some("two"));
        let stamp = Stamp::of(&std::fs::symlink_metadata(&path).expect("there"));
        let of = |content: &str| (stamp, content.to_owned());
        known
            .0
            .lock()
            .expect("known")
            .insert(path.clone(), of("what was read"));
        assert_eq!(
            known.read(&path).expect("read").as_deref(),
            Some("what was read")
        );
        // Another file of the same name, size and, it may be, time.
        let other = folder.path().join("other");
        path_io::write(&other, "six").expect("written");
        path_io::rename(&other, &path).expect("renamed");
        assert_eq!(known.read(&path).expect("read").as_deref(), Some("six"));
        known
            .0
            .lock()
            .expect("known")
            .insert(path.clone(), of("gone"));
        path_io::remove_file(&path).expect("removed");
        assert_eq!(known.read(&path).expect("read"), None);
        let past = Stamp {
            changed: (1_700_000_000, 5),
            ..stamp
        };
        assert!(past.is_past());
        assert!(
            !Stamp {
                changed: (i64::from(u32::MAX), 0),
                ..stamp
            }
            .is_past()
        );
    }
}
