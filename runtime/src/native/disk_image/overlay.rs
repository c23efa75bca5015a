//! Makes an empty copy-on-write disk: a header, a refcount table with one block, and an L1 table that is a hole.
//!
//! ```text
//! cluster 0     header, form and name of the disk below
//!         1     refcount table: one entry
//!         2     refcount block: one for each cluster of these
//!         3 …   L1 table
//! ```

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use manifests::path_io::{self, AtPath as _};

use super::error::DiskError;
use super::header::LONGEST_NAME;
use super::new_header::NewHeader;
use super::{Format, SECTOR, whole_sectors};

/// QEMU's own default.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of the disk for which one entry of the L1 table stands.
const BYTES_OF_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// Entries in one cluster. A table never has fewer: so a disk can grow to 4 TiB without moving it.
const L1_ENTRIES_OF_CLUSTER: u64 = CLUSTER / 8;
/// The L1 table may have 32 MiB (QEMU: `QCOW_MAX_L1_SIZE`).
const MOST: u64 = (32 << 20) / 8 * BYTES_OF_L1_ENTRY;

/// The disk below a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Below<'a> {
    /// Its path as the header is to have it: absolute, so that it does not depend on where the new one lies.
    pub name: &'a str,
    /// How its bytes lie.
    pub format: Format,
    /// Its size.
    pub virtual_size: u64,
}

/// Makes an empty qcow2 disk of `virtual_size` bytes (rounded up to whole sectors) at `path`, which only its owner can
/// read. What is there is replaced at once, when the new one is on disk.
///
/// # Errors
/// [`DiskError::SmallerThanBelow`], [`DiskError::Size`], [`DiskError::BadBackingName`], or the kernel's refusal.
pub fn create_overlay(
    path: &Path,
    virtual_size: u64,
    below: Option<Below<'_>>,
) -> Result<(), DiskError> {
    if virtual_size == 0 || virtual_size > MOST {
        return Err(DiskError::Size {
            wanted: virtual_size,
            most: MOST,
        });
    }
    let virtual_size = whole_sectors(virtual_size).max(SECTOR);
    if let Some(below) = &below {
        if below.virtual_size > virtual_size {
            return Err(DiskError::SmallerThanBelow {
                wanted: virtual_size,
                below: below.virtual_size,
            });
        }
        check_name(below.name)?;
    }
    let l1_clusters = virtual_size
        .div_ceil(BYTES_OF_L1_ENTRY)
        .div_ceil(L1_ENTRIES_OF_CLUSTER);
    let clusters = 3 + l1_clusters;
    let header = NewHeader {
        cluster_bits: CLUSTER_BITS,
        size: virtual_size,
        l1_entries: u32::try_from(l1_clusters * L1_ENTRIES_OF_CLUSTER).unwrap_or(u32::MAX),
        l1_offset: 3 * CLUSTER,
        refcount_table_offset: CLUSTER,
        refcount_table_clusters: 1,
        backing: below
            .as_ref()
            .map(|below| (below.name, below.format.word())),
    };
    let used: Vec<u8> = (0..clusters).flat_map(|_| 1_u16.to_be_bytes()).collect();
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.new", std::process::id()));
    let made = (|| {
        let file = create(&temporary)?;
        file.set_len(clusters * CLUSTER).at("extend", &temporary)?;
        for (at, bytes) in [
            (0, header.bytes().as_slice()),
            (CLUSTER, (2 * CLUSTER).to_be_bytes().as_slice()),
            (2 * CLUSTER, used.as_slice()),
        ] {
            file.write_all_at(bytes, at).at("write to", &temporary)?;
        }
        file.sync_all().at("sync", &temporary)?;
        path_io::rename(&temporary, path)
    })();
    if made.is_err() {
        let _first_error_counts = path_io::remove_file(&temporary);
    }
    Ok(made?)
}

fn create(path: &Path) -> Result<File, path_io::PathError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .at("create", path)
}

/// QEMU takes a name with a colon before its first slash for a protocol, and a relative one for relative to the disk.
fn check_name(name: &str) -> Result<(), DiskError> {
    let lawful = name.starts_with('/') && name.len() <= LONGEST_NAME && !name.contains('\0');
    match lawful {
        true => Ok(()),
        false => Err(DiskError::BadBackingName(name.to_owned())),
    }
}
