//! Volumes of btrfs that come as streams: each becomes a subvolume, under a name that nothing looks at until all of it is there.

use std::io::Read;
use std::path::{Path, PathBuf};

use manifests::path_io::AtPath as _;

use super::btrfs::{self, open_folder};
use super::copied::Beside;
use super::driver::Initial;
use super::error::StorageError;
use super::folders::{make_private, prepare, sync_folder};
use super::kept_trees::{KeptTrees, copy as copy_of, next_to};
use super::sending::{Sending, Sent};
use crate::native::send_stream::{Command, Parser, ReceiveError, Receiver, StreamId};
use crate::sys;
use crate::sys::compare_tree::compare;
use crate::sys::copy_bytes::CopyError;
use crate::sys::copy_tree::{CopyTreeError, exchange};

/// Read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// What comes into one volume, which is empty.
#[derive(Debug)]
pub struct Receiving {
    trees: KeptTrees,
    /// Those that are there, with the identities that they had.
    done: Vec<(StreamId, PathBuf)>,
    /// The one that is being written.
    current: Option<(StreamId, PathBuf, Receiver)>,
    /// What is to be the volume itself.
    own: Option<PathBuf>,
}

impl KeptTrees {
    /// Takes streams into this volume; none: its trees are no subvolumes.
    pub fn receiving(&self) -> Option<Receiving> {
        self.has_streams().then(|| Receiving {
            trees: self.clone(),
            done: Vec::new(),
            current: None,
            own: None,
        })
    }
}

impl Receiving {
    /// Does the next command of a stream, of a snapshot or of the volume itself.
    ///
    /// # Errors
    /// It cannot be done, or is of no stream.
    pub(in crate::native) fn take(
        &mut self,
        snapshot: Option<&str>,
        command: &Command<'_>,
    ) -> Result<(), StorageError> {
        match command {
            Command::Begin { id, on } => self.begin(snapshot, *id, *on),
            Command::End => {
                if let Some((id, path, _)) = self.current.take() {
                    self.whole(&path, snapshot.is_some())?;
                    self.done.push((id, path));
                }
                Ok(())
            }
            other => match &mut self.current {
                Some((_, _, receiver)) => Ok(receiver.take(other)?),
                None => Err(ReceiveError::NotBefore.into()),
            },
        }
    }

    fn begin(
        &mut self,
        snapshot: Option<&str>,
        id: StreamId,
        on: Option<StreamId>,
    ) -> Result<(), StorageError> {
        let path = match (snapshot, &self.trees.subvolume) {
            (Some(name), _) => self.trees.prepare(name)?,
            (None, Some(subvolume)) => next_to(&subvolume.path),
            (None, None) => return Err(ReceiveError::NotBefore.into()),
        };
        btrfs::discard(&path)?;
        let above = open_folder(path.parent().unwrap_or(&path))?;
        let name = path.file_name().unwrap_or_default();
        let before = match on {
            None => {
                sys::btrfs::create(above, name).at("create", &path)?;
                None
            }
            Some(on) => {
                let mut done = self.done.iter().rev();
                let found = done
                    .find(|(id, _)| *id == on)
                    .ok_or(ReceiveError::NotBefore)?;
                let from = open_folder(&found.1)?;
                let copied = sys::btrfs::snapshot(from, above, name, false);
                copied.at("make a copy of", &found.1)?;
                Some(found)
            }
        };
        let receiver = Receiver::new(id, &path, before)?;
        if snapshot.is_none() {
            self.own = Some(path.clone());
        }
        self.current = Some((id, path, receiver));
        Ok(())
    }

    /// What was received is as our own subvolumes are: whatever its stream says of its root.
    fn whole(&self, path: &Path, kept: bool) -> Result<(), StorageError> {
        make_private(path)?;
        std::os::unix::fs::chown(path, Some(0), Some(0)).at("own", path)?;
        // Where they are there they are folders: a link in their place leads elsewhere.
        prepare(path, &self.trees.id, Initial::default())?;
        for name in [super::folders::files_of(&self.trees.id), "work"] {
            let found = path.join(name).symlink_metadata();
            if found.is_ok_and(|found| !found.is_dir()) {
                let (path, wanted) = (path.join(name), "folder");
                return Err(ReceiveError::Kind { path, wanted }.into());
            }
        }
        if kept {
            sys::btrfs::make_read_only(open_folder(path)?).at("make read-only", path)?;
        }
        Ok(())
    }

    /// Puts what came in the place of the volume; all of it is on disk then.
    ///
    /// # Errors
    /// Not all came, or it does not fit.
    pub fn settle(&mut self) -> Result<(), StorageError> {
        let own = self.own.take();
        let (Some(own), Some(subvolume), None) = (own, &self.trees.subvolume, &self.current) else {
            return Err(ReceiveError::NotBefore.into());
        };
        if let Some(size) = subvolume.size {
            btrfs::limit_to(&own, size, &self.trees.id)?;
        }
        let tree = open_folder(&own)?;
        rustix::fs::syncfs(&tree).at("sync", &own)?;
        exchange(&own, &subvolume.path)?;
        sync_folder(&self.trees.volume)?;
        btrfs::discard(&own)
    }
}

impl KeptTrees {
    /// Copies the volume with its snapshots into an empty one of another pool, each as what differs from one before, and
    /// compares; false: nothing was done, since one of the two has no subvolumes.
    ///
    /// # Errors
    /// Something cannot be copied, or does not fit.
    pub fn stream_to(
        &self,
        to: &Self,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StorageError> {
        let Some(mut receiving) = to.receiving().filter(|_| self.has_streams()) else {
            return Ok(false);
        };
        let copy = self.pass(go_on)?;
        let done = (|| {
            let all = self.in_order()?;
            let files = all.iter().map(|(name, _)| self.kept(name));
            let mut files = files.collect::<Result<Vec<_>, _>>()?;
            files.push(copy.at.clone());
            let sent = self.sent(&files)?;
            let names = all.iter().map(|(name, _)| Some(name.as_str()));
            for ((name, sent), files) in names.chain([None]).zip(sent).zip(&files) {
                match (sent, name) {
                    (Some(sent), name) => {
                        stream(&sent, go_on, &mut |command| receiving.take(name, command))?;
                    }
                    // It came from elsewhere, and shares nothing.
                    (None, Some(name)) => {
                        copy_of(files, &to.prepare(name)?, go_on)?;
                    }
                    (None, None) => return Err(ReceiveError::NotBefore.into()),
                }
            }
            for (name, kept) in &all {
                to.complete(name, kept)?;
            }
            receiving.settle()?;
            for ((name, _), files) in all.iter().zip(&files) {
                compare(files, &to.kept(name)?, go_on)?;
            }
            Ok(compare(&copy.at, to.tree(), go_on)?)
        })();
        drop(copy);
        self.passed()?;
        done.map(|()| true)
    }
}

impl KeptTrees {
    /// Copies one snapshot of this volume, or a copy that was made of it, into an empty volume of another pool, and compares.
    /// Where that pool has a copy of another of its snapshots, what differs from that is all that is sent. Answers how many
    /// bytes were; none: nothing was done, since one of the two is no subvolume. `files`: where its files are.
    ///
    /// # Errors
    /// It cannot be copied, or does not fit.
    pub fn send(
        &self,
        files: &Path,
        to: &Self,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<u64>, StorageError> {
        if !to.has_streams() {
            return Ok(None);
        }
        let Some((mut sent, copy)) = self.sent_beside(files, to, go_on)? else {
            return Ok(None);
        };
        if copy.is_some() {
            match send_to(&sent, copy, files, to, go_on) {
                // Somebody has written there, and it looks as before.
                Err(error) if go_on() && !matches!(error, StorageError::DoesNotFit { .. }) => {
                    tracing::warn!(path = %files.display(), %error, "cannot send only what differs from a copy that is there");
                }
                other => return other.map(Some),
            }
            sent.before = None;
        }
        send_to(&sent, None, files, to, go_on).map(Some)
    }
}

/// Sends a subvolume into an empty volume, beside the copy on which that stands, and compares its files.
fn send_to(
    sent: &Sent,
    copy: Option<Beside>,
    files: &Path,
    to: &KeptTrees,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<u64, StorageError> {
    let mut receiving = to.receiving().ok_or(ReceiveError::NotBefore)?;
    receiving.done = copy.into_iter().collect();
    let bytes = stream(sent, go_on, &mut |command| receiving.take(None, command))?;
    let of = receiving.done.last().map(|(id, _)| *id);
    receiving.settle()?;
    compare(files, to.tree(), go_on)?;
    if let Some(of) = of {
        to.note_copy(of)?;
    }
    tracing::debug!(path = %files.display(), bytes, before = ?sent.before, "sent");
    Ok(bytes)
}

/// Sends a subvolume to somebody in this process. Answers how many bytes that were.
fn stream(
    sent: &Sent,
    go_on: &mut dyn FnMut() -> bool,
    take: &mut dyn FnMut(&Command<'_>) -> Result<(), StorageError>,
) -> Result<u64, StorageError> {
    let mut sending = Sending::begin(sent)?;
    let mut parser = Parser::default();
    let mut bytes = 0;
    let mut buffer = vec![0; CHUNK];
    loop {
        if !go_on() {
            return Err(StorageError::Copy(CopyTreeError::Copy {
                path: sent.subvolume.clone(),
                source: CopyError::Interrupted,
            }));
        }
        let got = match sending.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.at("send", &sent.subvolume)?,
        };
        if got == 0 {
            break;
        }
        bytes += got as u64;
        parser.feed(buffer.get(..got).unwrap_or_default(), take)?;
    }
    // Why it ended too early is known to who wrote it.
    sending.end()?;
    parser.finish()?;
    Ok(bytes)
}
