//! Reads a backup as a stream and checks all of it: structure, order, sums, index. Faults are gathered, each with its name.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use manifests::path_io::AtPath as _;
use sha2::{Digest as _, Sha256};

use super::error::BackupError;
use super::format::{FORMAT_VERSION, Head, Index, LONGEST, MAGIC, STRETCH, SectionCount};
use super::judge::{Blob, Member, Order, Place, Rules, Tree, fits, judge, shown};
use super::streams::{Stopped, Streams};
use crate::native::image::ImageError;
use crate::native::image::attributes::Attributes;
use crate::native::image::limits::Limits;
use crate::native::image::meter::{Meter, Packed, Unpacked};
use crate::native::image::packing::Packing;
use crate::native::image::tar_stream::{TarEntry, TarKind, TarStream};
use crate::native::send_stream::Command;

/// What bounds the reading of a backup. How much it holds is compared with what its pool has: zeros that somebody wrote pack
/// a thousand to one, so no ratio is suspicious.
pub(in crate::native) const LIMITS: Limits = Limits {
    unpacked_bytes: 64 << 40,
    entries: 20_000_000,
    ratio: u64::MAX,
    depth: 300,
    archive_bytes: u64::MAX,
    header_bytes: 2 << 20,
};
/// Faults that are told.
const TOLD: usize = 20;
/// What files encrypted by age begin with.
const AGE: &[u8] = b"age-encryption.org/";
/// What a frame of zstd begins with.
pub(super) const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Takes the encryption off a stream.
pub type Unseal<'a> = dyn for<'r> Fn(Box<dyn Read + 'r>) -> io::Result<Box<dyn Read + 'r>> + 'a;

/// Where a backup comes from.
pub(in crate::native) struct Source<'a> {
    pub(in crate::native) path: &'a Path,
    /// How it is decrypted, where somebody said how.
    pub(in crate::native) unseal: Option<&'a Unseal<'a>>,
}

/// Takes what is in a backup, while it is checked: nothing of it may be believed before [`read`] says that it is whole.
pub(in crate::native) trait Visitor {
    /// What it is: what its trees may hold.
    fn begin(&mut self, head: &Head) -> Result<Rules, BackupError>;

    /// A member of a tree in its order; a path of none is the tree's own root.
    fn entry(
        &mut self,
        tree: &Tree,
        path: Option<&Path>,
        what: &Member,
        attributes: &Attributes,
        entry: &TarEntry,
        data: &mut dyn Read,
    ) -> Result<(), BackupError>;

    /// The next command of the stream of a tree; it was judged.
    fn command(&mut self, tree: &Tree, command: &Command<'_>) -> Result<(), BackupError>;

    /// A file alone.
    fn blob(
        &mut self,
        blob: Blob,
        entry: &TarEntry,
        data: &mut dyn Read,
    ) -> Result<(), BackupError>;
}

/// A backup that was read to its end.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What it is.
    pub head: Head,
    /// The configuration in it, as a document.
    pub manifest: String,
    /// How much there is of what.
    pub parts: Vec<SectionCount>,
    /// Bytes of the file.
    pub packed_bytes: u64,
    /// The SHA-256 of the file.
    pub sha256: String,
    /// What is wrong with it: the first faults.
    pub faults: Vec<String>,
    /// How many there are.
    pub fault_count: u64,
}

impl Checked {
    /// Itself, if it is as it was made.
    ///
    /// # Errors
    /// [`BackupError::Faulty`].
    pub fn whole(self, path: &Path) -> Result<Self, BackupError> {
        match self.fault_count {
            0 => Ok(self),
            count => Err(BackupError::Faulty {
                path: path.to_path_buf(),
                faults: self.faults,
                count,
            }),
        }
    }

    /// Bytes of content, without holes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Passes on what it reads, hashed.
struct Summed<R> {
    inner: R,
    hash: Rc<RefCell<Sha256>>,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let bytes = buffer.get(..got).unwrap_or_default();
        self.hash.borrow_mut().update(bytes);
        Ok(got)
    }
}

#[derive(Default)]
struct Faults {
    lines: Vec<String>,
    count: u64,
}

impl Faults {
    fn add(&mut self, line: impl Into<String>) {
        self.count += 1;
        if self.lines.len() < TOLD {
            self.lines.push(line.into());
        }
    }
}

/// Reads a backup to its end.
///
/// # Errors
/// It is none, or of a newer format; or what the visitor says. What is wrong in it is in the answer.
pub(in crate::native) fn read(
    source: &Source<'_>,
    go_on: &mut dyn FnMut(u64) -> bool,
    visitor: &mut dyn Visitor,
) -> Result<Checked, BackupError> {
    let path = source.path;
    let none = |why: &str| BackupError::NotABackup {
        path: path.to_path_buf(),
        why: why.to_owned(),
    };
    let file = open(path)?;
    let mut digest = Sha256::new();
    let meter = Meter::new(path, LIMITS);
    let mut packed = Packed::new(file, &mut digest, meter.clone(), go_on);
    let mut faults = Faults::default();
    let read = {
        let plain: Box<dyn Read + '_> = match source.unseal {
            None => Box::new(&mut packed),
            Some(unseal) => unseal(Box::new(&mut packed)).at("decrypt", path)?,
        };
        let mut buffered = BufReader::with_capacity(256 * 1024, plain);
        let begin = buffered.fill_buf();
        let begin = meter.judge(begin.at("read", path).map_err(ImageError::from))?;
        if begin.starts_with(AGE) {
            return Err(none("it is encrypted, and no --identity was given"));
        }
        if !begin.starts_with(ZSTD) {
            return Err(none("it does not begin as one"));
        }
        let unpacked = Packing::Zstd.reader(buffered).at("unpack", path)?;
        let hash = Rc::new(RefCell::new(Sha256::new()));
        let summed = Summed {
            inner: BufReader::with_capacity(256 * 1024, unpacked),
            hash: hash.clone(),
        };
        let mut tar = TarStream::new(Unpacked::new(summed, meter.clone()), LIMITS);
        let mut reading = Reading {
            path,
            hash,
            faults: &mut faults,
            visitor,
            head: None,
            manifest: None,
            index: None,
            rules: Rules::ANY,
            order: Order::default(),
            streams: Streams::default(),
            piece: Vec::new(),
            stretch: Vec::new(),
            sums: Sha256::new(),
            members: 0,
            counted: Vec::new(),
        };
        let read = reading.all(&mut tar);
        // Whoever stopped has said why.
        let read = match read {
            Err(BackupError::Archive(error)) => {
                meter.judge::<()>(Err(error)).map_err(BackupError::Archive)
            }
            other => other,
        };
        reading.settle(read)?
    };
    let drained = packed.drain().at("read", path);
    meter.judge(drained.map_err(ImageError::from))?;
    Ok(Checked {
        head: read.0,
        manifest: read.1,
        parts: read.2,
        packed_bytes: meter.packed(),
        sha256: hex::encode(digest.finalize()),
        faults: faults.lines,
        fault_count: faults.count,
    })
}

fn open(path: &Path) -> Result<File, BackupError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .at("open", path)?;
    if !file.metadata().at("look at", path)?.is_file() {
        return Err(BackupError::NotABackup {
            path: path.to_path_buf(),
            why: "it is no file".to_owned(),
        });
    }
    Ok(file)
}

struct Reading<'a> {
    path: &'a Path,
    hash: Rc<RefCell<Sha256>>,
    faults: &'a mut Faults,
    visitor: &'a mut dyn Visitor,
    head: Option<Head>,
    manifest: Option<String>,
    index: Option<Index>,
    rules: Rules,
    order: Order,
    streams: Streams,
    /// Room for what is read of a stream at once.
    piece: Vec<u8>,
    /// Names and sums of members since the last sums.
    stretch: Vec<(String, String)>,
    sums: Sha256,
    members: u64,
    counted: Vec<SectionCount>,
}

impl Reading<'_> {
    fn all<R: Read>(&mut self, tar: &mut TarStream<R>) -> Result<(), BackupError> {
        loop {
            *self.hash.borrow_mut() = Sha256::new();
            let Some(entry) = tar.next()? else {
                break;
            };
            if !matches!(
                Place::of(&entry.name),
                Ok(Place::Stream(_, 1..) | Place::Sums)
            ) && let Err(fault) = self.streams.end()
            {
                self.faults.add(fault);
            }
            let vouched = self.one(tar, &entry)?;
            tar.skip_rest()?;
            if vouched {
                let digest = std::mem::take(&mut *self.hash.borrow_mut()).finalize();
                self.members += 1;
                if self.members > LIMITS.entries {
                    let limit = LIMITS.entries;
                    let of = "members in the backup";
                    return Err(ImageError::TooBig { limit, of }.into());
                }
                self.stretch.push((shown(&entry.name), hex::encode(digest)));
                if self.stretch.len() > STRETCH {
                    self.faults.add("sums are missing");
                    self.stretch.clear();
                }
            }
        }
        Ok(tar.drain()?)
    }

    fn none(&self, why: impl Into<String>) -> BackupError {
        BackupError::NotABackup {
            path: self.path.to_path_buf(),
            why: why.into(),
        }
    }

    /// One member; whether sums vouch for it.
    fn one<R: Read>(
        &mut self,
        tar: &mut TarStream<R>,
        entry: &TarEntry,
    ) -> Result<bool, BackupError> {
        let place = Place::of(&entry.name);
        if self.head.is_none() {
            if place != Ok(Place::Head) {
                return Err(self.none("it does not say what it is"));
            }
            self.take_head(&document(tar, entry)?)?;
            return Ok(true);
        }
        let name = shown(&entry.name);
        if self.index.is_some() {
            self.faults.add(format!("{name} comes after the end"));
            return Ok(false);
        }
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                self.faults.add(format!("{name} {why}"));
                return Ok(true);
            }
        };
        match &place {
            Place::Head => self.faults.add(format!("{name} is there twice")),
            Place::Manifest if self.manifest.is_some() => {
                self.faults.add(format!("{name} is there twice"));
            }
            Place::Manifest => {
                let text = document(tar, entry)?;
                let text =
                    String::from_utf8(text).map_err(|_| self.none("its manifest is no text"))?;
                self.manifest = Some(text);
            }
            Place::Sums => {
                let body = document(tar, entry)?;
                self.compare(&body);
                return Ok(false);
            }
            Place::Index => {
                let text = document(tar, entry)?;
                match serde_json::from_slice(&text) {
                    Ok(index) => self.index = Some(index),
                    Err(error) => self.faults.add(format!("{name}: {error}")),
                }
                return Ok(false);
            }
            Place::Tree(tree, path) => {
                let path = path.as_deref();
                self.count(&place, entry);
                let folder = entry.kind == TarKind::Folder;
                let judged = self
                    .order
                    .take(&place, folder)
                    .and_then(|()| judge(entry, tree, path, self.rules));
                match judged {
                    Ok((what, attributes)) => {
                        self.visitor
                            .entry(tree, path, &what, &attributes, entry, tar)?;
                    }
                    Err(why) => self.faults.add(format!("{name} {why}")),
                }
            }
            Place::Stream(tree, number) => {
                self.count(&place, entry);
                let judged = self
                    .order
                    .take(&place, false)
                    .and_then(|()| is_a_file(entry));
                match judged {
                    Ok(()) => self.piece_of(tree, *number, tar)?,
                    Err(why) => self.faults.add(format!("{name} {why}")),
                }
            }
            Place::Blob(blob) => {
                self.count(&place, entry);
                let judged = self
                    .order
                    .take(&place, false)
                    .and_then(|()| is_a_file(entry));
                match judged {
                    Ok(()) => self.visitor.blob(*blob, entry, tar)?,
                    Err(why) => self.faults.add(format!("{name} {why}")),
                }
            }
        }
        Ok(true)
    }

    /// A piece of a stream.
    fn piece_of<R: Read>(
        &mut self,
        tree: &Tree,
        number: u32,
        tar: &mut TarStream<R>,
    ) -> Result<(), BackupError> {
        if number == 0 {
            self.streams.begin(tree);
        }
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(256 * 1024, 0);
        loop {
            let got = match tar.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.at("read", self.path).map_err(ImageError::from)?,
            };
            if got == 0 {
                break;
            }
            let bytes = piece.get(..got).unwrap_or_default();
            let visitor = &mut *self.visitor;
            let mut take = |command: &Command<'_>| visitor.command(tree, command);
            match self.streams.feed(bytes, self.rules, &mut take) {
                Ok(()) => {}
                Err(Stopped::Taker(error)) => return Err(error),
                Err(Stopped::Fault(why)) => self.faults.add(format!("{} {why}", tree.stream())),
            }
        }
        self.piece = piece;
        Ok(())
    }

    fn take_head(&mut self, text: &[u8]) -> Result<(), BackupError> {
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| self.none(error.to_string()))?;
        if value["format"] != MAGIC {
            return Err(self.none("it does not say that it is one"));
        }
        let found = value["formatVersion"].as_u64().unwrap_or(0);
        if found > u64::from(FORMAT_VERSION) {
            return Err(BackupError::Newer {
                path: self.path.to_path_buf(),
                found: u32::try_from(found).unwrap_or(u32::MAX),
            });
        }
        let head: Head =
            serde_json::from_value(value).map_err(|error| self.none(error.to_string()))?;
        if let Some(fault) = head.faults().into_iter().next() {
            return Err(self.none(fault));
        }
        if u64::from(head.version()) > found {
            return Err(self.none(format!("it is of version {found}, and has streams")));
        }
        self.rules = self.visitor.begin(&head)?;
        self.head = Some(head);
        Ok(())
    }

    fn count(&mut self, place: &Place, entry: &TarEntry) {
        let part = place.part();
        let bytes = match (&entry.runs, entry.kind) {
            (Some(runs), _) => runs.iter().map(|run| run.1).sum(),
            (None, TarKind::File) => entry.size,
            _ => 0,
        };
        match self.counted.last_mut() {
            Some(last) if last.name == part => {
                last.members += 1;
                last.bytes += bytes;
            }
            _ => self.counted.push(SectionCount {
                name: part,
                members: 1,
                bytes,
            }),
        }
    }

    /// Compares what was read with the sums of it.
    fn compare(&mut self, body: &[u8]) {
        self.sums.update(body);
        let body = String::from_utf8_lossy(body);
        let mut lines = body.lines();
        for (name, found) in std::mem::take(&mut self.stretch) {
            match lines.next() {
                Some(sum) if sum == found => {}
                Some(_) => self.faults.add(format!("{name} is not what it was")),
                None => self.faults.add(format!("{name} has no sum")),
            }
        }
        for _ in lines {
            self.faults.add("a member that has a sum is missing");
        }
    }

    /// Judges the whole.
    fn settle(
        mut self,
        read: Result<(), BackupError>,
    ) -> Result<(Head, String, Vec<SectionCount>), BackupError> {
        let (head, manifest) = match (self.head, self.manifest, read) {
            (Some(head), Some(manifest), Ok(())) => (head, manifest),
            // What cannot be read on is the fault of the file, where the file is why.
            (Some(head), Some(manifest), Err(BackupError::Archive(error)))
                if is_of_file(&error) =>
            {
                self.faults.add(error.to_string());
                return Ok((head, manifest, self.counted));
            }
            (_, _, Err(BackupError::Archive(error))) if is_of_file(&error) => {
                return Err(BackupError::NotABackup {
                    path: self.path.to_path_buf(),
                    why: error.to_string(),
                });
            }
            (_, _, Err(error)) => return Err(error),
            (_, _, Ok(())) => {
                return Err(BackupError::NotABackup {
                    path: self.path.to_path_buf(),
                    why: "it has no configuration in it".to_owned(),
                });
            }
        };
        if let Err(fault) = self.streams.end() {
            self.faults.add(fault);
        }
        if !self.stretch.is_empty() {
            self.faults.add("the last sums are missing");
        }
        match self.index {
            None => self.faults.add("index.json is missing"),
            Some(index) => {
                if index.members != self.members {
                    let (wanted, found) = (index.members, self.members);
                    self.faults
                        .add(format!("it has {found} members, and had {wanted}"));
                }
                if index.sums != hex::encode(self.sums.finalize()) {
                    self.faults.add("its sums are not what they were");
                }
                if index.parts != self.counted {
                    self.faults.add("its parts are not what they were");
                }
            }
        }
        let there: std::collections::BTreeSet<&String> = self.order.parts.iter().collect();
        for part in head.parts().iter().filter(|part| !there.contains(part)) {
            self.faults.add(format!("{part} is missing"));
        }
        let announced = head.parts();
        for part in there {
            let by_name = ["snapshots/", "volumes/", "streams/"];
            if by_name.iter().any(|begin| part.starts_with(begin)) && !announced.contains(part) {
                self.faults.add(format!("{part} is announced nowhere"));
            }
        }
        Ok((head, manifest, self.counted))
    }
}

/// Whether a member is one plain file.
fn is_a_file(entry: &TarEntry) -> Result<(), String> {
    match entry.kind == TarKind::File && !entry.socket {
        true => fits(entry),
        false => Err("is no file".to_owned()),
    }
}

/// Whether a failure is one of the file and not of this host.
const fn is_of_file(error: &ImageError) -> bool {
    !matches!(
        error,
        ImageError::Path(_) | ImageError::Interrupted | ImageError::Remove(_)
    )
}

/// A document of ours.
fn document<R: Read>(tar: &mut TarStream<R>, entry: &TarEntry) -> Result<Vec<u8>, BackupError> {
    if entry.kind != TarKind::File || entry.runs.is_some() || entry.size > LONGEST {
        let why = format!("{} is no document", shown(&entry.name));
        return Err(BackupError::Archive(tar.meter().broken(why)));
    }
    let mut text = Vec::new();
    let length = entry.size;
    let read = Read::take(&mut *tar, length).read_to_end(&mut text);
    let read = read.at("read", Path::new("it")).map_err(ImageError::from);
    tar.meter().judge(read)?;
    Ok(text)
}
