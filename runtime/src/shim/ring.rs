//! The console's log: two files of at most one MiB; a full disk costs output, never time.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// The newer part, in the run folder.
pub const FILE: &str = "console.log";
/// The older part.
pub const OLDER: &str = "console.log.1";
/// The longest one file gets, in bytes.
pub const LONGEST: u64 = 1 << 20;

/// The open log.
#[derive(Debug)]
pub struct Ring {
    folder: OwnedFd,
    file: Option<OwnedFd>,
    length: u64,
    lost: u64,
}

impl Ring {
    /// Opens the log in a folder and goes on behind what is there.
    pub fn open(folder: OwnedFd) -> Self {
        let mut ring = Self {
            folder,
            file: None,
            length: 0,
            lost: 0,
        };
        ring.file = ring.open_file();
        if let Some(file) = &ring.file {
            ring.length = rustix::fs::fstat(file)
                .ok()
                .and_then(|stat| u64::try_from(stat.st_size).ok())
                .unwrap_or(0);
        }
        ring
    }

    fn open_file(&self) -> Option<OwnedFd> {
        let flags =
            OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.folder, FILE, flags, Mode::from_raw_mode(0o600)).ok()
    }

    /// Appends output; what cannot be written is counted.
    pub fn append(&mut self, output: &[u8]) {
        if self.length + output.len() as u64 > LONGEST {
            self.turn();
        }
        let written = match &self.file {
            Some(file) => rustix::io::write(file.as_fd(), output).unwrap_or(0),
            None => 0,
        };
        self.length += written as u64;
        self.lost += (output.len() - written) as u64;
    }

    fn turn(&mut self) {
        // Where the rename fails the old file is cut instead: it must never grow without end.
        if rustix::fs::renameat(&self.folder, FILE, &self.folder, OLDER).is_err()
            && let Some(file) = &self.file
        {
            let _ = rustix::fs::ftruncate(file, 0);
        }
        self.file = self.open_file();
        self.length = 0;
    }

    /// Output that could not be kept so far, in bytes.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &std::path::Path) -> Ring {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ring::open(rustix::fs::open(folder, flags, Mode::empty()).unwrap())
    }

    #[test]
    fn the_log_keeps_the_newest_output_and_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = open(folder.path());
        let chunk = [b'x'; 4096];
        for _ in 0..1000 {
            ring.append(&chunk);
        }
        ring.append(b"the end");
        let newer = manifests::path_io::read(folder.path().join(FILE)).unwrap();
        let older = manifests::path_io::read(folder.path().join(OLDER)).unwrap();
        assert!(newer.ends_with(b"the end"));
        assert!(newer.len() as u64 <= LONGEST && older.len() as u64 <= LONGEST);
        assert_eq!(ring.lost(), 0);
    }

    #[test]
    fn a_log_that_cannot_be_written_counts_what_is_lost() {
        let full = rustix::fs::open("/dev/full", OFlags::WRONLY, Mode::empty()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut ring = open(folder.path());
        ring.file = Some(full);
        ring.append(b"12345");
        assert_eq!(ring.lost(), 5);
    }
}
