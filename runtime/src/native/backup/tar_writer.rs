//! Writes the members of a backup: headers, content, and the sums that vouch for them. In constant memory.

use std::io::{self, Read, Write};
use std::path::Path;

use manifests::path_io::AtPath as _;
use sha2::{Digest as _, Sha256};

use super::error::BackupError;
use super::format::{HEAD, INDEX, Index, MANIFEST, STRETCH, SUMS, SectionCount};
use crate::native::image::tar_stream::SOCKET;
use crate::native::image::tree_writer::Run;

const BLOCK: usize = 512;

/// What a member is, besides its content.
#[derive(Debug, Clone, Default)]
pub(super) struct Header<'a> {
    pub(super) name: &'a [u8],
    /// The type flag of ustar.
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: (i64, u32),
    pub(super) link: &'a [u8],
    pub(super) device: (u32, u32),
    pub(super) xattrs: &'a [(String, Vec<u8>)],
    pub(super) socket: bool,
}

/// A backup in the making.
pub(in crate::native) struct BackupWriter<W> {
    out: W,
    /// Over the current member.
    hash: Sha256,
    /// Of the members since the last sums.
    stretch: Vec<String>,
    sums: Sha256,
    number: u64,
    members: u64,
    parts: Vec<SectionCount>,
    buffer: Vec<u8>,
}

impl<W: Write> BackupWriter<W> {
    /// Begins with what it is and the configuration.
    pub(in crate::native) fn new(out: W, head: &[u8], manifest: &str) -> io::Result<Self> {
        let mut writer = Self {
            out,
            hash: Sha256::new(),
            stretch: Vec::new(),
            sums: Sha256::new(),
            number: 0,
            members: 0,
            parts: Vec::new(),
            buffer: vec![0; 256 * 1024],
        };
        writer.document(HEAD, head)?;
        writer.sum()?;
        writer.document(MANIFEST, manifest.as_bytes())?;
        writer.sum()?;
        Ok(writer)
    }

    /// The members that follow belong to this part.
    pub(super) fn begin_part(&mut self, name: &str) {
        self.parts.push(SectionCount {
            name: name.to_owned(),
            members: 0,
            bytes: 0,
        });
    }

    /// A member of which `runs` are stored: all of it, or what is between holes. `data` has those after each other.
    pub(super) fn member(
        &mut self,
        header: &Header<'_>,
        size: u64,
        runs: &[Run],
        data: &mut dyn Read,
        shown: &Path,
    ) -> Result<(), BackupError> {
        let stored: u64 = runs.iter().map(|run| run.1).sum();
        let whole = runs == [(0, size)] || size == 0;
        let map = if whole { Vec::new() } else { sparse_map(runs) };
        let at = |result: io::Result<()>| result.at("write the backup of", shown);
        at(self.headers(header, size, stored + map.len() as u64, !whole))?;
        at(self.write(&map))?;
        let mut left = stored;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let chunk = buffer.get_mut(..want).unwrap_or_default();
            let got = match data.read(chunk) {
                Ok(0) => {
                    return Err(BackupError::Changes {
                        path: shown.to_path_buf(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(BackupError::Interrupted);
                }
                other => other.at("read", shown)?,
            };
            at(self.write(buffer.get(..got).unwrap_or_default()))?;
            left -= got as u64;
        }
        self.buffer = buffer;
        at(self.pad(stored + map.len() as u64))?;
        if let Some(part) = self.parts.last_mut() {
            part.members += 1;
            part.bytes += stored;
        }
        Ok(at(self.sum())?)
    }

    /// Writes the index and the end mark.
    pub(in crate::native) fn finish(mut self) -> io::Result<(W, Index)> {
        if !self.stretch.is_empty() {
            self.write_sums()?;
        }
        let index = Index {
            members: self.members,
            sums: hex::encode(std::mem::take(&mut self.sums).finalize()),
            parts: std::mem::take(&mut self.parts),
        };
        let text = serde_json::to_vec_pretty(&index)?;
        self.document(INDEX, &text)?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok((self.out, index))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let more = length.next_multiple_of(BLOCK as u64) - length;
        let more = usize::try_from(more).unwrap_or(0);
        self.write([0; BLOCK].get(..more).unwrap_or_default())
    }

    /// A member that the writer itself makes.
    fn document(&mut self, name: &str, text: &[u8]) -> io::Result<()> {
        let header = Header {
            name: name.as_bytes(),
            kind: b'0',
            mode: 0o600,
            ..Header::default()
        };
        let length = text.len() as u64;
        self.headers(&header, length, length, false)?;
        self.write(text)?;
        self.pad(length)
    }

    /// Ends a member with its sum.
    fn sum(&mut self) -> io::Result<()> {
        let digest = std::mem::take(&mut self.hash).finalize();
        self.stretch.push(hex::encode(digest));
        self.members += 1;
        if self.stretch.len() < STRETCH {
            return Ok(());
        }
        self.write_sums()
    }

    fn write_sums(&mut self) -> io::Result<()> {
        let body = std::mem::take(&mut self.stretch).join("\n") + "\n";
        self.sums.update(&body);
        self.document(&format!("{SUMS}/{}", self.number), body.as_bytes())?;
        self.number += 1;
        // Sums are vouched for by the index.
        self.hash = Sha256::new();
        Ok(())
    }

    fn headers(
        &mut self,
        header: &Header<'_>,
        size: u64,
        stored: u64,
        sparse: bool,
    ) -> io::Result<()> {
        let mut records = Vec::new();
        let (mut name, mut link) = (header.name, header.link);
        if sparse {
            record(&mut records, "GNU.sparse.major", b"1");
            record(&mut records, "GNU.sparse.minor", b"0");
            record(&mut records, "GNU.sparse.name", header.name);
            record(
                &mut records,
                "GNU.sparse.realsize",
                size.to_string().as_bytes(),
            );
            name = b"GNUSparseFile.0/file";
        } else if name.len() > 100 {
            record(&mut records, "path", name);
            name = name.get(..100).unwrap_or_default();
        }
        if link.len() > 100 {
            record(&mut records, "linkpath", link);
            link = link.get(..100).unwrap_or_default();
        }
        let (seconds, nanoseconds) = header.modified;
        if nanoseconds > 0 || seconds < 0 {
            let text = format!("{seconds}.{nanoseconds:09}");
            record(&mut records, "mtime", text.as_bytes());
        }
        if header.socket {
            record(&mut records, SOCKET, b"1");
        }
        for (key, value) in header.xattrs {
            record(&mut records, &format!("SCHILY.xattr.{key}"), value);
        }
        if !records.is_empty() {
            let about = Header {
                name: b"pax",
                kind: b'x',
                mode: 0o600,
                ..Header::default()
            };
            let length = records.len() as u64;
            self.write(block(&about, b"pax", b"", length).as_bytes())?;
            self.write(&records)?;
            self.pad(length)?;
        }
        self.write(block(header, name, link, stored).as_bytes())
    }
}

/// One header of ustar. Numbers that are too big for its fields are written as GNU tar has it, in base 256.
fn block(header: &Header<'_>, name: &[u8], link: &[u8], stored: u64) -> tar::Header {
    let mut block = tar::Header::new_ustar();
    {
        let old = block.as_old_mut();
        put(&mut old.name, name);
        put(&mut old.linkname, link);
        old.linkflag = [header.kind];
    }
    block.set_mode(header.mode);
    block.set_uid(header.uid.into());
    block.set_gid(header.gid.into());
    block.set_size(stored);
    block.set_mtime(u64::try_from(header.modified.0).unwrap_or(0));
    // A header of ustar has these fields.
    let _ = block.set_device_major(header.device.0);
    let _ = block.set_device_minor(header.device.1);
    block.set_cksum();
    block
}

fn put(field: &mut [u8], bytes: &[u8]) {
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts the whole record (pax, IEEE 1003.1).
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Decimal lines, padded to a whole block ("GNU tar: Sparse Formats", 1.0).
fn sparse_map(runs: &[Run]) -> Vec<u8> {
    let mut map = format!("{}\n", runs.len());
    for (offset, length) in runs {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}
