//! Whether all that one layer of a disk has is in another one by now: read from their files. QEMU tells that a merge is done
//! while tables of it are only in its own memory still (`stream_prepare` of `block/stream.c` flushes nothing).

use std::fs::File;
use std::path::Path;

use manifests::path_io::AtPath as _;

use super::error::DiskError;
use super::header::Header;
use super::inspect::{broken, read, read_header};
use super::magic;

/// Where a table or a cluster is, in an entry (`docs/interop/qcow2.rst`, "Cluster mapping").
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Whether a cluster is used once only: that says nothing of what is in it.
const COPIED: u64 = 1 << 63;

/// Whether `above` has something in each cluster in which `below` has something, of what both are disks of.
///
/// # Errors
/// One of them is no qcow2 layer of our own.
pub fn has_all_of(above: &Path, below: &Path) -> Result<bool, DiskError> {
    let (above, below) = (Tables::open(above)?, Tables::open(below)?);
    let mut there: Option<(u64, Vec<u64>)> = None;
    for (index, table) in below.first.iter().enumerate() {
        let Some(entries) = below.second(*table)? else {
            continue;
        };
        for (place, _) in entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| is_used(**entry))
        {
            let cluster = index as u64 * below.entries() + place as u64;
            let first = cluster << below.header.cluster_bits;
            let end = (first + (1 << below.header.cluster_bits)).min(above.header.size);
            let mut at = first;
            while at < end {
                let (index, place) = above.place(at);
                if there.as_ref().is_none_or(|(of, _)| *of != index) {
                    let table = above
                        .first
                        .get(usize::try_from(index).unwrap_or(usize::MAX));
                    let Some(entries) = above.second(table.copied().unwrap_or(0))? else {
                        return Ok(false);
                    };
                    there = Some((index, entries));
                }
                let entry = there.as_ref().and_then(|(_, entries)| entries.get(place));
                if !entry.is_some_and(|entry| is_used(*entry)) {
                    return Ok(false);
                }
                at += 1 << above.header.cluster_bits;
            }
        }
    }
    Ok(true)
}

const fn is_used(entry: u64) -> bool {
    entry & !COPIED != 0
}

/// A file with its tables of the first kind.
struct Tables<'p> {
    file: File,
    path: &'p Path,
    header: Header,
    first: Vec<u64>,
}

impl<'p> Tables<'p> {
    fn open(path: &'p Path) -> Result<Self, DiskError> {
        let file = File::open(path).at("open", path)?;
        let length = file.metadata().at("look at", path)?.len();
        let head = read(&file, path, 0, magic::HEAD as u64)?;
        let header = read_header(&file, path, &head, length)?;
        let header = header.ok_or_else(|| broken(path, "it does not start as one"))?;
        if header.extended_l2 {
            return Err(DiskError::Refused {
                path: path.to_path_buf(),
                what: "has tables of parts of clusters, and no layer of ours has".to_owned(),
            });
        }
        let mut tables = Self {
            file,
            path,
            header,
            first: Vec::new(),
        };
        let (offset, entries) = (tables.header.l1_offset, tables.header.l1_entries);
        tables.first = tables.numbers(offset, u64::from(entries))?;
        Ok(tables)
    }

    fn numbers(&self, offset: u64, count: u64) -> Result<Vec<u64>, DiskError> {
        let bytes = read(&self.file, self.path, offset, count * 8)?;
        if bytes.len() as u64 != count * 8 {
            return Err(broken(self.path, "a table does not lie in the file"));
        }
        let (numbers, _) = bytes.as_chunks::<8>();
        Ok(numbers.iter().map(|one| u64::from_be_bytes(*one)).collect())
    }

    /// Entries of a table of the second kind.
    const fn entries(&self) -> u64 {
        (1 << self.header.cluster_bits) / 8
    }

    /// The table that an entry of the first kind leads to; none: nothing is there.
    fn second(&self, entry: u64) -> Result<Option<Vec<u64>>, DiskError> {
        match entry & OFFSET {
            0 => Ok(None),
            offset => self.numbers(offset, self.entries()).map(Some),
        }
    }

    /// In which table a byte of the disk is, and where there.
    fn place(&self, at: u64) -> (u64, usize) {
        let cluster = at >> self.header.cluster_bits;
        let place = usize::try_from(cluster % self.entries()).unwrap_or(0);
        (cluster / self.entries(), place)
    }
}
