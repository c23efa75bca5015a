//! Makes a disk bigger while nobody uses it.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use manifests::path_io::AtPath as _;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::DiskError;
use super::header::Header;
use super::inspect::{broken, read, read_header};
use super::{Format, SECTOR, magic, whole_sectors};

/// Whether something had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grown {
    /// It had that size already.
    Already,
    /// It is bigger now.
    Done,
}

/// Where the header of a qcow2 disk has its size; the number of L1 entries is twelve bytes further, in the same sector.
const SIZE: usize = 24;
const L1_ENTRIES: usize = 36;
/// What only who understands it may leave on when he writes (version 3).
const AUTOCLEAR: usize = 88;

/// Gives a disk of our own `virtual_size` bytes (rounded up to whole sectors). A crash leaves it as it was or as it
/// shall be.
///
/// # Errors
/// [`DiskError::Shrinks`], [`DiskError::InUse`], [`DiskError::Size`] (a qcow2 disk only grows as far as its L1 table
/// goes: those made here to 4 TiB, or to what they were made with), and what [`super::inspect`] has.
pub fn grow(path: &Path, format: Format, virtual_size: u64) -> Result<Grown, DiskError> {
    let wanted = whole_sectors(virtual_size);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .at("open", path)?;
    let seen = Seen::of(&file, path, format)?;
    match wanted.cmp(&seen.size) {
        Ordering::Less => {
            return Err(DiskError::Shrinks {
                path: path.to_path_buf(),
                has: seen.size,
                wanted,
            });
        }
        Ordering::Equal => return Ok(Grown::Already),
        Ordering::Greater => {}
    }
    lock(&file, path)?;
    // A machine may have grown it and ended before it was locked.
    let seen = Seen::of(&file, path, format)?;
    if wanted <= seen.size {
        return Ok(Grown::Already);
    }
    match seen.header {
        None => {
            let most = i64::MAX as u64 / SECTOR * SECTOR;
            if wanted > most {
                return Err(DiskError::Size { wanted, most });
            }
            file.set_len(wanted).at("extend", path)?;
        }
        Some(header) => grow_qcow2(&file, path, &header, seen.length, wanted)?,
    }
    file.sync_all().at("sync", path)?;
    Ok(Grown::Done)
}

/// A disk as it is.
struct Seen {
    /// Bytes of the file.
    length: u64,
    /// Bytes of the disk.
    size: u64,
    /// `None`: it is raw.
    header: Option<Header>,
}

impl Seen {
    fn of(file: &File, path: &Path, format: Format) -> Result<Self, DiskError> {
        let length = file.metadata().at("look at", path)?.len();
        let header = match format {
            Format::Raw => None,
            Format::Qcow2 => {
                let head = read(file, path, 0, magic::HEAD as u64)?;
                let header = read_header(file, path, &head, length)?;
                Some(header.ok_or_else(|| broken(path, "it does not start as one"))?)
            }
        };
        let size = header.as_ref().map_or(length, |header| header.size);
        Ok(Self {
            length,
            size,
            header,
        })
    }
}

/// QEMU holds locks on what it uses; they conflict with ours. It goes with the file.
fn lock(file: &File, path: &Path) -> Result<(), DiskError> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(DiskError::InUse {
            path: path.to_path_buf(),
        }),
        Err(error) => Ok(Err(error).at("lock", path)?),
    }
}

/// The clusters of the L1 table have room behind its end. It is cleared first; then one write in one sector counts.
fn grow_qcow2(
    file: &File,
    path: &Path,
    header: &Header,
    length: u64,
    wanted: u64,
) -> Result<(), DiskError> {
    let most = header.most();
    if wanted > most {
        return Err(DiskError::Size { wanted, most });
    }
    // Snapshots of version 2 do not know of sizes.
    if header.version == 2 && header.snapshots > 0 {
        return Err(DiskError::Refused {
            path: path.to_path_buf(),
            what: "is of version 2 and has snapshots: it cannot grow".to_owned(),
        });
    }
    let entries = header.entries_to_hold(wanted);
    if entries > header.l1_entries {
        let from = header.l1_offset + u64::from(header.l1_entries) * 8;
        let to = header.l1_offset + u64::from(entries) * 8;
        let zeros = vec![0; usize::try_from(to - from).unwrap_or(0)];
        file.write_all_at(&zeros, from).at("write to", path)?;
        if to > length {
            // A table at the end of its file: QEMU expects whole clusters.
            let cluster = 1_u64 << header.cluster_bits;
            file.set_len(to.next_multiple_of(cluster))
                .at("extend", path)?;
        }
        file.sync_all().at("sync", path)?;
    }
    let mut head = read(file, path, 0, SECTOR)?;
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = head.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(SIZE, &wanted.to_be_bytes());
    put(L1_ENTRIES, &entries.to_be_bytes());
    if header.version > 2 {
        put(AUTOCLEAR, &[0; 8]);
    }
    Ok(file.write_all_at(&head, 0).at("write to", path)?)
}
