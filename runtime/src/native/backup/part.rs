//! What an export that was cut off has left, and how it is gone on with.
//!
//! A part is the beginning of a backup and nothing else: `FILE.keel-part`, beside the file that it is to become. Nothing is
//! noted of it, and nothing in it is believed: who goes on makes the whole stream again from what is there now, compares it
//! frame by frame with what the part has, and writes from the first one that is not whole or not the same. So the file that
//! comes of it is the one that an export from the beginning would have made, but for the time at which it was begun.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use manifests::path_io::AtPath as _;

use super::error::BackupError;
use super::format::{HEAD, Head, LONGEST, MANIFEST};
use super::packer::FRAME;
use super::reader::ZSTD;

/// What the name of a part ends with.
pub const PART: &str = ".keel-part";

/// Where the part of a file is.
pub fn part_of(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(PART);
    PathBuf::from(name)
}

/// What a part says that it is the beginning of.
#[derive(Debug)]
pub(super) struct Begun {
    head: Head,
    manifest: String,
}

/// Reads the beginning of a part; none: not one frame of it is whole, so nothing of it is of use.
///
/// # Errors
/// It is something else, or cannot be read.
pub(super) fn begun(file: &File, path: &Path) -> Result<Option<Begun>, BackupError> {
    let not_one = || BackupError::NotAPart {
        path: path.to_path_buf(),
    };
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0)).at("read", path)?;
    let mut magic = Vec::new();
    let length = ZSTD.len() as u64;
    let mut begin = (&mut reader).take(length);
    begin.read_to_end(&mut magic).at("read", path)?;
    if !ZSTD.starts_with(&magic) {
        return Err(not_one());
    }
    reader.seek(SeekFrom::Start(0)).at("read", path)?;
    let mut first = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(&mut reader);
    let decoder = decoder.at("unpack", path)?.single_frame();
    let whole = decoder.take(FRAME as u64 + 1).read_to_end(&mut first);
    match whole {
        Ok(read) if read > FRAME => Err(not_one()),
        Ok(0) | Err(_) => Ok(None),
        Ok(_) => documents(&first).ok_or_else(not_one).map(Some),
    }
}

/// The documents with which a backup begins.
fn documents(stream: &[u8]) -> Option<Begun> {
    let mut archive = tar::Archive::new(stream);
    let mut entries = archive.entries().ok()?;
    let mut next = |name: &str| {
        let entry = entries.next()?.ok()?;
        let is_it = *entry.path_bytes() == *name.as_bytes();
        let mut text = String::new();
        let read = entry.take(LONGEST).read_to_string(&mut text);
        (is_it && read.is_ok()).then_some(text)
    };
    let head = serde_json::from_str(&next(HEAD)?).ok()?;
    let manifest = next(MANIFEST)?;
    Some(Begun { head, manifest })
}

impl Begun {
    /// What has to be written for it to be gone on with: `head`, as if it had been begun when this was.
    ///
    /// # Errors
    /// It is the beginning of another backup.
    pub(super) fn taken_up(
        &self,
        head: &Head,
        manifest: &str,
        path: &Path,
    ) -> Result<Head, BackupError> {
        let mut head = head.clone();
        head.created_at = self.head.created_at;
        let mut others = others(&self.head, &head);
        if self.manifest != manifest {
            others.push("configuration".to_owned());
        }
        match others.is_empty() {
            true => Ok(head),
            false => Err(BackupError::OtherPart {
                path: path.to_path_buf(),
                of: self.head.of().map(ToString::to_string).unwrap_or_default(),
                others,
            }),
        }
    }
}

/// The fields of which these two have not the same.
fn others(one: &Head, other: &Head) -> Vec<String> {
    let fields = |head: &Head| match serde_json::to_value(head) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (one, other) = (fields(one), fields(other));
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name));
    differ.cloned().collect()
}

/// A part whose frames are compared one after another.
pub(in crate::native) struct Before {
    reader: BufReader<File>,
    /// Where the next frame begins.
    at: u64,
}

impl Before {
    /// From its beginning. `part` is a handle of the file that is written: they have one position.
    pub(super) fn new(part: File) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 20, part);
        reader.seek(SeekFrom::Start(0))?;
        Ok(Self { reader, at: 0 })
    }

    /// Whether its next frame is whole and has these bytes.
    pub(super) fn next_is(&mut self, chunks: &[Vec<u8>]) -> io::Result<bool> {
        let decoder = zstd::stream::read::Decoder::with_buffer(&mut self.reader)?;
        // What cannot be unpacked is not the same, whatever the reason: it is written anew.
        let same = same(decoder.single_frame(), chunks).unwrap_or(false);
        if same {
            self.at = self.reader.stream_position()?;
        }
        Ok(same)
    }

    /// Removes what comes from the frame on that was not the same; what is written follows there. Answers where that is.
    pub(super) fn cut(self) -> io::Result<u64> {
        let mut file = self.reader.into_inner();
        file.set_len(self.at)?;
        file.seek(SeekFrom::Start(self.at))
    }
}

fn same(mut frame: impl Read, chunks: &[Vec<u8>]) -> io::Result<bool> {
    let mut there = Vec::new();
    for chunk in chunks {
        there.resize(chunk.len(), 0);
        frame.read_exact(&mut there)?;
        if there != *chunk {
            return Ok(false);
        }
    }
    // The checksum is read with the end.
    Ok(frame.read(&mut [0])? == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::packer::Packer;
    use super::super::tests::{head, named, written};
    use super::*;

    /// Three frames and a bit, of which no two bytes are told by others.
    fn plain() -> Vec<u8> {
        let mut state = 7_u64;
        let mut noise = Vec::new();
        while noise.len() < 3 * FRAME {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            noise.extend_from_slice(&state.to_be_bytes()[..4]);
        }
        let mut all = written(&head(), |writer| {
            super::super::tests::add(writer, &named("disk/0.qcow2", b'0'), &noise);
        });
        all.truncate(3 * FRAME + 1000);
        all
    }

    fn pack(file: &File, plain: &[u8], goes_on: bool) -> u64 {
        let own = || file.try_clone().unwrap();
        let before = goes_on.then(|| Before::new(own()).unwrap());
        let mut packer = Packer::new(Box::new(own()), before, false);
        packer.write_all(plain).unwrap();
        packer.finish().unwrap()
    }

    fn bytes(mut file: &File) -> Vec<u8> {
        let mut all = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut all).unwrap();
        all
    }

    fn put(mut file: &File, bytes: &[u8]) {
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(bytes).unwrap();
    }

    /// Where each frame of it begins, and its end.
    fn frames(packed: &[u8]) -> Vec<usize> {
        let mut at = vec![0];
        let mut rest = packed;
        while !rest.is_empty() {
            let length = zstd::zstd_safe::find_frame_compressed_size(rest).unwrap();
            rest = &rest[length..];
            at.push(packed.len() - rest.len());
        }
        at
    }

    #[test]
    fn wherever_it_is_cut_off_the_same_file_comes_of_it() {
        let plain = plain();
        let file = tempfile::tempfile().unwrap();
        pack(&file, &plain, false);
        let whole = bytes(&file);
        assert_eq!(zstd::decode_all(&whole[..]).unwrap(), plain);
        let frames = frames(&whole);
        assert_eq!(frames.len(), 5);
        let cuts = frames
            .iter()
            .flat_map(|at| [at.saturating_sub(1), *at, at + 1]);
        for cut in cuts.filter(|cut| *cut <= whole.len()) {
            put(&file, &whole[..cut]);
            let kept = pack(&file, &plain, true);
            let wanted = frames.iter().rfind(|at| **at <= cut).unwrap();
            assert_eq!(
                (kept, bytes(&file) == whole),
                (*wanted as u64, true),
                "{cut}"
            );
        }
    }

    #[test]
    fn what_differs_is_written_anew_from_there() {
        let first = plain();
        let file = tempfile::tempfile().unwrap();
        pack(&file, &first, false);
        let whole = bytes(&file);
        let frames = frames(&whole);
        // Of the source.
        let mut second = first.clone();
        second[FRAME + 5] ^= 1;
        assert_eq!(pack(&file, &second, true), frames[1] as u64);
        assert_eq!(zstd::decode_all(&bytes(&file)[..]).unwrap(), second);
        // It has become shorter, by whole frames.
        put(&file, &whole);
        let short = &first[..FRAME + 1];
        assert_eq!(pack(&file, short, true), frames[1] as u64);
        assert_eq!(zstd::decode_all(&bytes(&file)[..]).unwrap(), short);
        // Of the disk that the part was on.
        for at in [frames[2] + 9, frames[3] - 2] {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            put(&file, &bad);
            assert_eq!(pack(&file, &first, true), frames[2] as u64, "{at}");
            assert!(bytes(&file) == whole, "{at}");
        }
        // What follows the end.
        put(&file, &[&whole[..], b"more"].concat());
        assert_eq!(pack(&file, &first, true), whole.len() as u64);
        assert!(bytes(&file) == whole);
    }

    #[test]
    fn a_part_is_only_gone_on_with_as_what_it_is() {
        let path = Path::new("web.keel-part");
        let file = tempfile::tempfile().unwrap();
        assert!(begun(&file, path).unwrap().is_none());
        pack(&file, &plain(), false);
        let part = begun(&file, path).unwrap().unwrap();
        let later = Head {
            created_at: jiff::Timestamp::MAX,
            ..head()
        };
        let taken = part.taken_up(&later, "kind: Instance\n", path).unwrap();
        assert_eq!(taken, head());
        let other = Head {
            of_snapshot: Some("first".to_owned()),
            ..head()
        };
        let refused = part.taken_up(&other, "kind: Volume\n", path).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "web.keel-part is the beginning of another backup of instance/web: it has another ofSnapshot, configuration"
        );
        let whole = bytes(&file);
        put(&file, &whole[..FRAME / 2]);
        assert!(begun(&file, path).unwrap().is_none());
        let foreign = zstd::encode_all(&b"a letter"[..], 3).unwrap();
        for foreign in [&b"PK"[..], b"a letter to somebody", &foreign] {
            put(&file, foreign);
            let refused = begun(&file, path).unwrap_err();
            assert!(
                matches!(refused, BackupError::NotAPart { .. }),
                "{foreign:?}"
            );
            assert_eq!(bytes(&file), foreign);
        }
    }
}
