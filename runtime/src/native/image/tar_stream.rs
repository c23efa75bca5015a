//! Reads a tar archive entry by entry, in constant memory and without touching a file system.
//!
//! POSIX ustar and pax, GNU long names and both forms of sparse files (`tar(5)` of libarchive, "GNU tar: Sparse
//! Formats"). The tar crate's own iterator reads extended headers of any size into memory, so only its header structure
//! is used.

use std::io::{self, Read};
use std::rc::Rc;

use super::error::{ImageError, Refusal};
use super::limits::Limits;
use super::meter::{Meter, Unpacked};
use super::tree_writer::Run;

const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::native) enum TarKind {
    File,
    HardLink,
    Symlink,
    Folder,
    Pipe,
    CharacterDevice,
    BlockDevice,
    /// Anything else; its type byte.
    Other(u8),
}

/// An entry as the archive has it; nothing of it has been judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::native) struct TarEntry {
    pub(in crate::native) name: Vec<u8>,
    pub(in crate::native) link: Vec<u8>,
    pub(in crate::native) kind: TarKind,
    /// Bytes of the file, holes included.
    pub(in crate::native) size: u64,
    /// Where the data that follows belongs; `None`: all of it, in order.
    pub(in crate::native) runs: Option<Vec<Run>>,
    pub(in crate::native) mode: u32,
    pub(in crate::native) uid: u64,
    pub(in crate::native) gid: u64,
    pub(in crate::native) modified: (i64, u32),
    pub(in crate::native) xattrs: Vec<(String, Vec<u8>)>,
    /// Major and minor number of a device.
    pub(in crate::native) device: (u32, u32),
    /// Whether it stands for a socket, for which tar has no kind: an empty file with the record [`SOCKET`].
    pub(in crate::native) socket: bool,
}

/// The record in an extended header that makes a socket of an empty file.
pub(in crate::native) const SOCKET: &str = "KEEL.socket";

/// The entries of an archive. After [`Self::next`] the data of the entry can be read from the stream itself.
pub(in crate::native) struct TarStream<R> {
    inner: Unpacked<R>,
    limits: Limits,
    /// Data of the current entry that was not read yet.
    left: u64,
    /// Zeros after it.
    padding: u64,
    name: Vec<u8>,
}

/// What extended headers say about the entry after them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<(i64, u32)>,
    xattrs: Vec<(String, Vec<u8>)>,
    socket: bool,
    sparse: Sparse,
}

/// The `GNU.sparse.*` records.
#[derive(Default)]
struct Sparse {
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    major: Option<u64>,
    runs: Vec<Run>,
    offset: Option<u64>,
    any: bool,
}

/// Whether 512 bytes are a tar header: the checksum fits.
pub(in crate::native) fn is_header(block: &[u8]) -> bool {
    let sum = |signed: bool| -> i64 {
        block
            .iter()
            .take(BLOCK)
            .enumerate()
            .map(|(at, byte)| match (at, signed) {
                (148..156, _) => i64::from(b' '),
                // Old archivers summed signed characters.
                (_, true) => i64::from(byte.cast_signed()),
                (_, false) => i64::from(*byte),
            })
            .sum()
    };
    let Some(Ok(stored)) = block.get(148..156).map(number) else {
        return false;
    };
    let stored = i64::try_from(stored).unwrap_or(-1);
    block.len() >= BLOCK
        && block.iter().any(|byte| *byte != 0)
        && (stored == sum(false) || stored == sum(true))
}

struct NotANumber;

/// A number field: octal with blanks or NULs around, or, with the high bit set, big-endian base 256.
fn number(field: &[u8]) -> Result<u64, NotANumber> {
    let Some(first) = field.first() else {
        return Ok(0);
    };
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let mut value = u64::from(first & 0x3f);
        for byte in field.iter().skip(1) {
            if value >> 56 != 0 {
                return Err(NotANumber);
            }
            value = value << 8 | u64::from(*byte);
        }
        return if negative { Err(NotANumber) } else { Ok(value) };
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let digits = field
        .iter()
        .skip_while(|byte| blank(byte))
        .take_while(|byte| !blank(byte));
    digits
        .into_iter()
        .try_fold(0_u64, |value, digit| match digit {
            b'0'..=b'7' => value
                .checked_mul(8)
                .map(|value| value + u64::from(digit - b'0'))
                .ok_or(NotANumber),
            _ => Err(NotANumber),
        })
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `seconds[.fraction]`, possibly negative.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    Some((seconds.parse().ok()?, digits.parse().ok()?))
}

impl<R: Read> TarStream<R> {
    pub(in crate::native) fn new(inner: Unpacked<R>, limits: Limits) -> Self {
        Self {
            inner,
            limits,
            left: 0,
            padding: 0,
            name: Vec::new(),
        }
    }

    pub(in crate::native) fn meter(&self) -> Rc<Meter> {
        self.inner.meter().clone()
    }

    /// The next entry; what was not read of the one before is skipped. `None` at the end mark.
    pub(in crate::native) fn next(&mut self) -> Result<Option<TarEntry>, ImageError> {
        let mut extended = Extended::default();
        loop {
            self.skip_rest()?;
            let mut block = [0; BLOCK];
            self.fill(&mut block, "has no end mark")?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            if !is_header(&block) {
                return Err(self.broken("a header is damaged"));
            }
            let header = tar::Header::from_byte_slice(&block);
            let old = header.as_old();
            let kind = old.linkflag[0];
            // Links, devices, folders and pipes have no data, whatever their size field says (POSIX).
            let stored = match kind {
                b'1'..=b'6' => Ok(0),
                _ => number(&old.size),
            };
            let stored = stored.map_err(|_| refused(&header.path_bytes(), Refusal::BadSize))?;
            match kind {
                b'x' | b'X' => {
                    // Of several the last one counts, so that they do not pile up.
                    let text = self.extended_header(stored)?;
                    extended = self.pax(&text, extended)?;
                }
                b'g' => {
                    self.expect(stored)?;
                }
                b'L' => extended.path = Some(until_nul(self.extended_header(stored)?)),
                b'K' => extended.link = Some(until_nul(self.extended_header(stored)?)),
                _ => return self.entry(&block, kind, stored, extended).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        kind: u8,
        stored: u64,
        extended: Extended,
    ) -> Result<TarEntry, ImageError> {
        let header = tar::Header::from_byte_slice(block);
        let old = header.as_old();
        let sparse_name = extended.sparse.name;
        let name = sparse_name
            .or(extended.path)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extended
            .link
            .or_else(|| header.link_name_bytes().map(|link| link.into_owned()))
            .unwrap_or_default();
        let field = |what: Result<u64, NotANumber>| {
            what.map_err(|_| {
                self.broken(format!(
                    "the header of {:?} is damaged",
                    String::from_utf8_lossy(&name)
                ))
            })
        };
        let (uid, gid) = (
            extended.uid.map_or_else(|| field(number(&old.uid)), Ok)?,
            extended.gid.map_or_else(|| field(number(&old.gid)), Ok)?,
        );
        let mode = u32::try_from(field(number(&old.mode))? & 0o7777).unwrap_or(0);
        // struct posix_header: devmajor at 329, devminor at 337, in the GNU form as well.
        let part = |at: usize| {
            let found = number(block.get(at..at + 8).unwrap_or_default());
            found
                .ok()
                .and_then(|found| u32::try_from(found).ok())
                .unwrap_or(u32::MAX)
        };
        let device = match kind {
            b'3' | b'4' => (part(329), part(337)),
            _ => (0, 0),
        };
        // A time that cannot be read is no reason to refuse.
        let modified = extended.modified.unwrap_or_else(|| {
            let seconds = number(&old.mtime).unwrap_or(0);
            (i64::try_from(seconds).unwrap_or(0), 0)
        });
        let kind = match kind {
            // Before POSIX a folder was a file whose name ends in a slash.
            b'0' | 0 | b'7' if name.last() == Some(&b'/') => TarKind::Folder,
            b'0' | 0 | b'7' | b'S' => TarKind::File,
            b'1' => TarKind::HardLink,
            b'2' => TarKind::Symlink,
            b'3' => TarKind::CharacterDevice,
            b'4' => TarKind::BlockDevice,
            b'5' => TarKind::Folder,
            b'6' => TarKind::Pipe,
            other => TarKind::Other(other),
        };
        let stored = match kind {
            TarKind::File | TarKind::Other(_) => extended.size.unwrap_or(stored),
            _ => stored,
        };
        self.name.clone_from(&name);
        self.expect(stored)?;
        let (mut size, mut runs) = (stored, None);
        if old.linkflag[0] == b'S' {
            (size, runs) = self.old_sparse(block)?;
        } else if extended.sparse.any && kind == TarKind::File {
            let map = if extended.sparse.major == Some(1) {
                self.sparse_map_in_data()?
            } else {
                extended.sparse.runs
            };
            size = extended
                .sparse
                .real_size
                .ok_or_else(|| refused(&name, Refusal::BadSparse))?;
            runs = Some(map);
        }
        if let Some(runs) = &runs {
            let data = runs
                .iter()
                .try_fold(0_u64, |sum, run| sum.checked_add(run.1));
            if data != Some(self.left) {
                return Err(refused(&name, Refusal::BadSparse));
            }
        }
        Ok(TarEntry {
            name,
            link,
            kind,
            size,
            runs,
            mode,
            uid,
            gid,
            modified,
            xattrs: extended.xattrs,
            device,
            socket: extended.socket && kind == TarKind::File && size == 0,
        })
    }

    /// Announces data and its padding.
    fn expect(&mut self, stored: u64) -> Result<(), ImageError> {
        if stored > u64::MAX / 2 {
            return Err(refused(&self.name, Refusal::BadSize));
        }
        self.left = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        Ok(())
    }

    fn extended_header(&mut self, stored: u64) -> Result<Vec<u8>, ImageError> {
        if stored > self.limits.header_bytes {
            return Err(ImageError::TooBig {
                limit: self.limits.header_bytes,
                of: "bytes in an extended header",
            });
        }
        self.expect(stored)?;
        let mut text = vec![0; usize::try_from(stored).unwrap_or(0)];
        self.fill(&mut text, "ends in an extended header")?;
        self.left = 0;
        Ok(text)
    }

    /// `LENGTH KEY=VALUE\n`, where the length counts the whole record (pax, IEEE 1003.1).
    fn pax(&self, text: &[u8], before: Extended) -> Result<Extended, ImageError> {
        // Long names of GNU headers before a pax header still count, as GNU tar has it.
        let mut found = Extended {
            path: before.path,
            link: before.link,
            ..Extended::default()
        };
        let mut rest = text;
        while !rest.is_empty() {
            let damaged = || self.broken("an extended header is damaged");
            let space = rest
                .iter()
                .position(|byte| *byte == b' ')
                .ok_or_else(damaged)?;
            let length = rest.get(..space).and_then(decimal).ok_or_else(damaged)?;
            let length = usize::try_from(length).map_err(|_| damaged())?;
            let record = rest.get(space + 1..length).ok_or_else(damaged)?;
            let record = record.strip_suffix(b"\n").ok_or_else(damaged)?;
            let equals = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or_else(damaged)?;
            let (key, value) = (
                record.get(..equals).unwrap_or_default(),
                record.get(equals + 1..).unwrap_or_default(),
            );
            found.take(key, value).ok_or_else(damaged)?;
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(found)
    }

    /// Form `S`: four runs in the header, more in blocks after it, then the data.
    fn old_sparse(&mut self, block: &[u8; BLOCK]) -> Result<(u64, Option<Vec<Run>>), ImageError> {
        let refuse = |this: &Self| refused(&this.name, Refusal::BadSparse);
        let field = |from: &[u8], at: usize| -> Option<u64> { number(from.get(at..at + 12)?).ok() };
        let mut runs = Vec::new();
        // struct oldgnu: sparse[4] at 386, isextended at 482, realsize at 483.
        let real_size = field(block, 483).ok_or_else(|| refuse(self))?;
        let mut take = |from: &[u8], start: usize, count: usize| -> Option<()> {
            for index in 0..count {
                let at = start + index * 24;
                if from.get(at..at + 24)?.iter().all(|byte| *byte == 0) {
                    continue;
                }
                runs.push((field(from, at)?, field(from, at + 12)?));
            }
            Some(())
        };
        take(block, 386, 4).ok_or_else(|| refuse(self))?;
        let mut more = block[482] != 0;
        let mut blocks = 0;
        // The extra blocks lie before the data and are not counted in its size.
        let mut extra = [0; BLOCK];
        while more {
            blocks += 1;
            if blocks * BLOCK as u64 > self.limits.header_bytes {
                return Err(refuse(self));
            }
            let (left, padding) = (self.left, self.padding);
            self.fill(&mut extra, "ends in a sparse map")?;
            (self.left, self.padding) = (left, padding);
            take(&extra, 0, 21).ok_or_else(|| refuse(self))?;
            more = extra[504] != 0;
        }
        Ok((real_size, Some(runs)))
    }

    /// Form 1.0: the map is decimal lines at the start of the data, padded to a whole block.
    fn sparse_map_in_data(&mut self) -> Result<Vec<Run>, ImageError> {
        let mut numbers = Vec::new();
        let mut wanted: Option<u64> = None;
        let mut digits = Vec::new();
        let mut used = 0;
        while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
            used += BLOCK as u64;
            if used > self.limits.header_bytes || used > self.left {
                return Err(refused(&self.name, Refusal::BadSparse));
            }
            let mut block = [0; BLOCK];
            self.fill(&mut block, "ends in a sparse map")?;
            for byte in block {
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                if wanted.is_some_and(|wanted| numbers.len() as u64 >= wanted) {
                    break;
                }
                let value =
                    decimal(&digits).ok_or_else(|| refused(&self.name, Refusal::BadSparse))?;
                digits.clear();
                if wanted.is_none() {
                    wanted = Some(value.saturating_mul(2));
                } else {
                    numbers.push(value);
                }
            }
        }
        self.left -= used;
        Ok(numbers
            .chunks_exact(2)
            .filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
            .collect())
    }

    /// Skips what was not read of the current entry, with the padding behind it.
    pub(in crate::native) fn skip_rest(&mut self) -> Result<(), ImageError> {
        let mut rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let mut buffer = vec![0; 64 * 1024];
        while rest > 0 {
            let want = usize::try_from(rest)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let chunk = buffer.get_mut(..want).unwrap_or_default();
            self.fill(chunk, "ends in the middle of an entry")?;
            rest -= want as u64;
        }
        Ok(())
    }

    /// Reads exactly so much, past the bounds of the entry.
    fn fill(&mut self, buffer: &mut [u8], problem: &str) -> Result<(), ImageError> {
        self.inner.read_exact(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.broken(problem)
            } else {
                self.broken(error.to_string())
            }
        })
    }

    /// Reads on to the end of the packed stream, so that its checksum is checked.
    pub(in crate::native) fn drain(&mut self) -> Result<(), ImageError> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.inner.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error.to_string())),
            }
        }
    }

    fn broken(&self, problem: impl Into<String>) -> ImageError {
        self.inner.meter().broken(problem)
    }
}

pub(in crate::native) fn refused(name: &[u8], refusal: Refusal) -> ImageError {
    let mut entry = String::from_utf8_lossy(name).into_owned();
    if entry.chars().count() > 200 {
        entry = entry.chars().take(200).chain("…".chars()).collect();
    }
    ImageError::Refused { entry, refusal }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    text
}

impl Extended {
    /// `None` when a value that matters cannot be read.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let key = String::from_utf8_lossy(key);
        match key.as_ref() {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(decimal(value)?),
            "uid" => self.uid = Some(decimal(value)?),
            "gid" => self.gid = Some(decimal(value)?),
            "mtime" => self.modified = time(value),
            "GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            "GNU.sparse.realsize" | "GNU.sparse.size" => {
                self.sparse.any = true;
                self.sparse.real_size = Some(decimal(value)?);
            }
            "GNU.sparse.major" => {
                self.sparse.any = true;
                self.sparse.major = Some(decimal(value)?);
            }
            "GNU.sparse.offset" => self.sparse.offset = Some(decimal(value)?),
            "GNU.sparse.numbytes" => {
                self.sparse.any = true;
                self.sparse
                    .runs
                    .push((self.sparse.offset.take()?, decimal(value)?));
            }
            "GNU.sparse.map" => {
                self.sparse.any = true;
                let numbers: Option<Vec<u64>> =
                    value.split(|byte| *byte == b',').map(decimal).collect();
                for pair in numbers?.chunks(2) {
                    self.sparse.runs.push((*pair.first()?, *pair.get(1)?));
                }
            }
            SOCKET => self.socket = true,
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    self.xattrs.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

impl<R: Read> Read for TarStream<R> {
    /// The data of the current entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(chunk) = buffer.get_mut(..want) else {
            return Ok(0);
        };
        if chunk.is_empty() {
            return Ok(0);
        }
        let got = self.inner.read(chunk)?;
        if got == 0 {
            let broken = self.broken(format!(
                "ends in the middle of {:?}",
                String::from_utf8_lossy(&self.name)
            ));
            return Err(self.inner.meter().stop(broken));
        }
        self.left -= got as u64;
        Ok(got)
    }
}
