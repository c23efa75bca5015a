//! The header of a qcow2 file: parsed from bytes that may be anything. Pure.

use std::ops::Range;

use super::SECTOR;

/// `QFI\xfb`.
pub(super) const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Bytes of the header of version 2.
const LENGTH_2: u64 = 72;
/// Least bytes of the header of version 3.
const LENGTH_3: u64 = 104;
/// Smallest and biggest clusters as powers of two (QEMU: `MIN_CLUSTER_BITS`, `MAX_CLUSTER_BITS`).
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Bytes of an L1 table, as QEMU bounds it (`QCOW_MAX_L1_SIZE`).
const MOST_L1: u64 = 32 << 20;
/// Bytes of a refcount table (`QCOW_MAX_REFTABLE_SIZE`).
const MOST_REFCOUNT_TABLE: u64 = 8 << 20;
/// Snapshots (`QCOW_MAX_SNAPSHOTS`).
const MOST_SNAPSHOTS: u32 = 65536;
/// Bytes of the name of a backing file.
pub(super) const LONGEST_NAME: usize = 1023;
/// Snapshots have at least this many bytes in their table.
const LEAST_SNAPSHOT: u64 = 40;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

pub(super) const END: u32 = 0;
pub(super) const BACKING_FORMAT: u32 = 0xe279_2aca;
const ENCRYPTION: u32 = 0x0537_be77;
const DATA_FILE_NAME: u32 = 0x4441_5441;

/// What a header says, checked against itself and the length of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) size: u64,
    pub(super) cluster_bits: u32,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    pub(super) snapshots: u32,
    pub(super) backing: Option<String>,
    pub(super) dirty: bool,
    /// Tables with 128 bits an entry.
    pub(super) extended_l2: bool,
}

/// Why a header is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It contradicts itself or the file.
    Broken(String),
    /// It may be good and is not for us.
    Refused(String),
}

fn broken<T>(problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(problem.into()))
}

fn refused<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused(what.into()))
}

fn bytes<const N: usize>(from: &[u8], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A big-endian number; behind the end of the file there is none.
fn u32_at(from: &[u8], at: u64) -> Result<u32, Fault> {
    bytes(from, at).map_or_else(
        || broken("it ends in its header"),
        |b| Ok(u32::from_be_bytes(b)),
    )
}

fn u64_at(from: &[u8], at: u64) -> Result<u64, Fault> {
    bytes(from, at).map_or_else(
        || broken("it ends in its header"),
        |b| Ok(u64::from_be_bytes(b)),
    )
}

/// How many bytes of the file the header may extend over: its first cluster. `None`: there is no qcow2 header.
pub(super) fn extent(head: &[u8]) -> Option<u64> {
    let bits = head.starts_with(MAGIC).then(|| u32_at(head, 20).ok())??;
    Some(match CLUSTER_BITS.contains(&bits) {
        true => 1 << bits,
        false => SECTOR,
    })
}

impl Header {
    /// Reads the header from the first cluster of a file of `length` bytes.
    pub(super) fn parse(head: &[u8], length: u64) -> Result<Self, Fault> {
        if !head.starts_with(MAGIC) {
            return broken("it does not start as one");
        }
        let version = u32_at(head, 4)?;
        let own_length = match version {
            1 => return refused("is a qcow disk of version 1; convert it with `qemu-img convert`"),
            2 => LENGTH_2,
            3 => u32_at(head, 100)?.into(),
            other => {
                return refused(format!(
                    "is a qcow2 disk of version {other}, which is not known here"
                ));
            }
        };
        let cluster_bits = u32_at(head, 20)?;
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return broken(format!(
                "its clusters have 2^{cluster_bits} bytes, and 2^9 to 2^21 is possible"
            ));
        }
        let cluster = 1_u64 << cluster_bits;
        if version == 3
            && (own_length < LENGTH_3 || own_length > cluster || !own_length.is_multiple_of(8))
        {
            return broken(format!("its header is said to have {own_length} bytes"));
        }
        let features = match version {
            2 => Features::default(),
            _ => Features::parse(head, own_length)?,
        };
        match u32_at(head, 32)? {
            0 => {}
            1 | 2 => return refused("is encrypted"),
            other => return broken(format!("its encryption {other} is not known")),
        }
        let extensions = Extensions::walk(head, own_length, cluster)?;
        if extensions.encryption {
            return refused("is encrypted");
        }
        if features.data_file || extensions.data_file {
            return refused("keeps its data in another file, and a disk has to be whole");
        }
        let header = Self {
            version,
            size: u64_at(head, 24)?,
            cluster_bits,
            l1_entries: u32_at(head, 36)?,
            l1_offset: u64_at(head, 40)?,
            snapshots: u32_at(head, 60)?,
            backing: backing(head, own_length, cluster)?,
            dirty: features.dirty,
            extended_l2: features.extended_l2,
        };
        header.check_size()?;
        header.check_tables(head, length)?;
        Ok(header)
    }

    fn check_size(&self) -> Result<(), Fault> {
        if self.size == 0 {
            return refused("is a disk of no bytes");
        }
        // Sizes and offsets are signed in the programs that use them.
        if self.size > i64::MAX as u64 || !self.size.is_multiple_of(SECTOR) {
            return broken(format!("its disk is said to have {} bytes", self.size));
        }
        Ok(())
    }

    /// The tables lie in the file, on whole clusters, and are big enough for the disk.
    fn check_tables(&self, head: &[u8], length: u64) -> Result<(), Fault> {
        let cluster = 1_u64 << self.cluster_bits;
        let lies = |what: &str, offset: u64, bytes: u64, most: u64, aligned: u64| {
            if bytes > most {
                return broken(format!("its {what} is said to have {bytes} bytes"));
            }
            let fits = offset.checked_add(bytes).is_some_and(|end| end <= length);
            match fits && offset >= cluster && offset.is_multiple_of(aligned) {
                true => Ok(()),
                false => broken(format!("its {what} does not lie in the file")),
            }
        };
        let l1_bytes = u64::from(self.l1_entries) * 8;
        lies("L1 table", self.l1_offset, l1_bytes, MOST_L1, cluster)?;
        if self.l1_entries_for(self.size) > u64::from(self.l1_entries) {
            return broken(format!("its L1 table is too small for {} bytes", self.size));
        }
        let clusters = u64::from(u32_at(head, 56)?);
        if clusters == 0 {
            return broken("it has no refcount table");
        }
        let bytes = clusters << self.cluster_bits;
        lies(
            "refcount table",
            u64_at(head, 48)?,
            bytes,
            MOST_REFCOUNT_TABLE,
            cluster,
        )?;
        if self.version == 3 && u32_at(head, 96)? > 6 {
            return broken("its refcounts are wider than 64 bits");
        }
        if self.snapshots > MOST_SNAPSHOTS {
            return broken(format!("it is said to have {} snapshots", self.snapshots));
        }
        if self.snapshots > 0 {
            let bytes = u64::from(self.snapshots) * LEAST_SNAPSHOT;
            lies(
                "table of snapshots",
                u64_at(head, 64)?,
                bytes,
                u64::MAX,
                cluster,
            )?;
        }
        Ok(())
    }

    /// Entries of the L1 table for a disk of `size` bytes: each stands for one cluster full of L2 entries.
    fn l1_entries_for(&self, size: u64) -> u64 {
        size.div_ceil(self.bytes_of_l1_entry())
    }

    fn bytes_of_l1_entry(&self) -> u64 {
        let entry_bits = if self.extended_l2 { 4 } else { 3 };
        // At most 2^39.
        1 << (2 * self.cluster_bits - entry_bits)
    }

    /// The biggest disk for which the clusters of the L1 table have entries.
    pub(super) fn most(&self) -> u64 {
        let cluster = 1_u64 << self.cluster_bits;
        let entries = (u64::from(self.l1_entries) * 8).next_multiple_of(cluster) / 8;
        let most = entries.saturating_mul(self.bytes_of_l1_entry());
        most.min(i64::MAX as u64 / SECTOR * SECTOR)
    }

    /// Entries that the L1 table must have for `size`, never fewer than it has.
    pub(super) fn entries_to_hold(&self, size: u64) -> u32 {
        let wanted = u32::try_from(self.l1_entries_for(size)).unwrap_or(u32::MAX);
        wanted.max(self.l1_entries)
    }
}

#[derive(Debug, Default)]
struct Features {
    dirty: bool,
    data_file: bool,
    extended_l2: bool,
}

impl Features {
    fn parse(head: &[u8], own_length: u64) -> Result<Self, Fault> {
        let bits = u64_at(head, 72)?;
        let unknown = bits & !(DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2);
        if unknown != 0 {
            return refused(format!(
                "needs features of qcow2 that are not known here (bits {unknown:#x})"
            ));
        }
        if bits & CORRUPT != 0 {
            return broken("it is marked as corrupt; see `qemu-img check`");
        }
        // Without the bit it is zlib; a field behind the end of the header counts as zero.
        let compression = match own_length > 104 {
            true => bytes::<1>(head, 104).map_or(0, |[kind]| kind),
            false => 0,
        };
        match (bits & COMPRESSION != 0, compression) {
            (false, 0) | (true, 1) => {}
            (_, other) => return broken(format!("its compression {other} is not known")),
        }
        Ok(Self {
            dirty: bits & DIRTY != 0,
            data_file: bits & DATA_FILE != 0,
            extended_l2: bits & EXTENDED_L2 != 0,
        })
    }
}

#[derive(Debug, Default)]
struct Extensions {
    encryption: bool,
    data_file: bool,
}

impl Extensions {
    /// Walks the extensions: each has its type, its length and its content, filled up to eight bytes.
    fn walk(head: &[u8], from: u64, cluster: u64) -> Result<Self, Fault> {
        let end = match u64_at(head, 8)? {
            0 => cluster,
            // The name of the backing file is the end of them.
            name => name.min(cluster),
        };
        let mut found = Self::default();
        let mut at = from;
        while at + 8 <= end {
            let kind = u32_at(head, at)?;
            let length = u64::from(u32_at(head, at + 4)?);
            if kind == END {
                break;
            }
            let next = at + 8 + length.next_multiple_of(8);
            // The filling of the last one may be cut off by the name.
            if at + 8 + length > end {
                return broken("an extension of its header leads out of it");
            }
            match kind {
                ENCRYPTION => found.encryption = true,
                DATA_FILE_NAME => found.data_file = true,
                _ => {}
            }
            at = next;
        }
        Ok(found)
    }
}

fn backing(head: &[u8], own_length: u64, cluster: u64) -> Result<Option<String>, Fault> {
    let (offset, length) = (u64_at(head, 8)?, u32_at(head, 16)?);
    if offset == 0 {
        return Ok(None);
    }
    let range = name_range(offset, length, own_length, cluster);
    let Some(name) = range.and_then(|range| head.get(range)) else {
        return broken("the name of its backing file does not lie in its header");
    };
    Ok(Some(String::from_utf8_lossy(name).into_owned()))
}

fn name_range(offset: u64, length: u32, own_length: u64, cluster: u64) -> Option<Range<usize>> {
    let length = usize::try_from(length).ok()?;
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(length)?;
    let lawful = length <= LONGEST_NAME && offset >= own_length && end as u64 <= cluster;
    lawful.then_some(start..end)
}
