//! Volumes of btrfs as streams: each snapshot as what differs from one before it, and the volume itself at the end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use manifests::path_io::AtPath as _;
use rustix::pipe::PipeFlags;

use super::btrfs::{self, open_folder};
use super::error::StorageError;
use super::kept_trees::{KeptTree, KeptTrees};
use crate::sys;

/// Bytes that wait in the pipe at most; the kernel gives as many to everybody.
const WAITING: usize = 1 << 20;

/// A subvolume that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// It: nobody writes to it.
    pub subvolume: PathBuf,
    /// One that is sent before it; what they share is not sent again.
    pub before: Option<PathBuf>,
}

/// A subvolume, and the one of which it was made as a snapshot.
type Identity = ([u8; 16], [u8; 16]);

/// On which of those before it each subvolume stands: the last one that has the same origin. `others` are not sent, and tell of
/// origins. What two subvolumes of different origins have in common is chance, of which a stream may know nothing.
fn standing_on(sent: &[Identity], others: &[Identity]) -> Vec<Option<usize>> {
    let origins = |one: &Identity| {
        let mut all = vec![one.0];
        let mut next = Some(one.1);
        while let Some(origin) = next.filter(|id| *id != [0; 16] && !all.contains(id)) {
            all.push(origin);
            let mut known = sent.iter().chain(others);
            next = known.find(|one| one.0 == origin).map(|one| one.1);
        }
        all
    };
    let all: Vec<Vec<[u8; 16]>> = sent.iter().map(origins).collect();
    let related = |one: &[[u8; 16]], other: &[[u8; 16]]| one.iter().any(|id| other.contains(id));
    let on = |(at, own): (usize, &Vec<[u8; 16]>)| {
        let before = all.iter().take(at);
        before
            .rev()
            .zip((0..at).rev())
            .find_map(|(other, at)| related(own, other).then_some(at))
    };
    all.iter().enumerate().map(on).collect()
}

impl KeptTrees {
    /// All snapshots in the order in which they were made.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn in_order(&self) -> Result<Vec<(String, KeptTree)>, StorageError> {
        let mut all: Vec<_> = self.all()?.into_iter().collect();
        all.sort_by_key(|(_, kept)| kept.created_at);
        Ok(all)
    }

    /// Whether its trees are subvolumes, which can be sent.
    pub const fn has_streams(&self) -> bool {
        self.subvolume.is_some()
    }

    /// How these are sent after each other: the files of snapshots, and of a copy that was made of the volume. None for one
    /// that is a plain folder: it came from elsewhere.
    ///
    /// # Errors
    /// One of them cannot be looked at.
    pub fn sent(&self, files: &[PathBuf]) -> Result<Vec<Option<Sent>>, StorageError> {
        let of = |files: &PathBuf| {
            let above = files.parent().filter(|above| btrfs::is_one(above));
            above.filter(|_| self.has_streams()).map(Path::to_path_buf)
        };
        let subvolumes: Vec<Option<PathBuf>> = files.iter().map(of).collect();
        let identity = |path: &PathBuf| {
            sys::btrfs::identity(open_folder(path)?)
                .at("look at", path)
                .map_err(StorageError::from)
        };
        let there = subvolumes.iter().flatten();
        let ids: Vec<Identity> = there.clone().map(identity).collect::<Result<_, _>>()?;
        // Somebody may have deleted it.
        let live = self.subvolume.as_ref().map(|own| &own.path);
        let live: Vec<Identity> = live
            .and_then(|path| identity(path).ok())
            .into_iter()
            .collect();
        let there: Vec<&PathBuf> = there.collect();
        let mut on = standing_on(&ids, &live).into_iter();
        let sent = |subvolume: &PathBuf| Sent {
            subvolume: subvolume.clone(),
            before: on
                .next()
                .flatten()
                .and_then(|at| there.get(at))
                .map(|path| (*path).clone()),
        };
        let mut sent = sent;
        Ok(subvolumes
            .iter()
            .map(|one| one.as_ref().map(&mut sent))
            .collect())
    }
}

/// A stream that is being written by the kernel, and read here.
#[derive(Debug)]
pub struct Sending {
    of: PathBuf,
    pipe: Option<File>,
    worker: Option<JoinHandle<rustix::io::Result<()>>>,
}

impl Sending {
    /// Begins to send.
    ///
    /// # Errors
    /// A subvolume is not there.
    pub fn begin(sent: &Sent) -> Result<Self, StorageError> {
        let of = sent.subvolume.clone();
        let subvolume = open_folder(&of)?;
        let before: Option<OwnedFd> = sent.before.as_deref().map(open_folder).transpose()?;
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        let (reader, writer) = pipe.at("make a pipe for", &of)?;
        // Less is only slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, WAITING);
        let worker = std::thread::spawn(move || {
            let before = before.as_ref().map(|before| before.as_fd());
            sys::btrfs::send(&subvolume, before, &writer)
        });
        Ok(Self {
            of,
            pipe: Some(File::from(reader)),
            worker: Some(worker),
        })
    }

    /// Says whether all was sent.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn end(mut self) -> Result<(), StorageError> {
        Ok(self.join().at("send", &self.of)?)
    }

    /// Waits for who writes: he stops where nobody reads any more.
    fn join(&mut self) -> rustix::io::Result<()> {
        self.pipe = None;
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(rustix::io::Errno::IO),
            None => Ok(()),
        }
    }
}

impl Read for Sending {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pipe.as_mut().map_or(Ok(0), |pipe| pipe.read(buffer))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // A subvolume that is being sent cannot be deleted.
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_on_the_last_before_it_of_the_same_origin() {
        let id = |number: u8| [number; 16];
        let none = id(0);
        let live = [(id(1), none)];
        // Two of the volume, one that came from elsewhere, one more of the volume.
        let sent = [
            (id(10), id(1)),
            (id(11), id(1)),
            (id(20), none),
            (id(12), id(1)),
        ];
        assert_eq!(standing_on(&sent, &live), [None, Some(0), None, Some(1)]);
        // It went back to the first: now it is a copy of that, and so are those after it.
        let live = [(id(2), id(10))];
        let sent = [(id(10), id(1)), (id(11), id(1)), (id(13), id(2))];
        assert_eq!(standing_on(&sent, &live), [None, Some(0), Some(1)]);
        // What is told of origins goes round.
        let odd = [(id(1), id(2)), (id(2), id(1))];
        assert_eq!(standing_on(&odd, &[]), [None, Some(0)]);
    }
}
