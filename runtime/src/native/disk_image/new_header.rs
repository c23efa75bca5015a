//! The header of a qcow2 file that is written.

use super::header::{BACKING_FORMAT, END, LONGEST_NAME, MAGIC};
use super::whole_sectors;

/// Bytes of the header itself: with the field for the type of compression and its filling.
const LENGTH: u32 = 112;

/// A header that is written: version 3, 16 bits a refcount, nothing optional.
#[derive(Debug)]
pub(super) struct NewHeader<'a> {
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    /// Name and form of the file below.
    pub(super) backing: Option<(&'a str, &'a str)>,
}

impl NewHeader<'_> {
    /// Its bytes. The name of the backing file is not longer than [`LONGEST_NAME`].
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        if let Some((_, format)) = self.backing {
            extensions.extend(BACKING_FORMAT.to_be_bytes());
            extensions.extend(count(format).to_be_bytes());
            extensions.extend(format.as_bytes());
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        }
        extensions.extend(END.to_be_bytes());
        extensions.extend(0_u32.to_be_bytes());
        let name = self.backing.map_or("", |(name, _)| name);
        let name_offset = match self.backing {
            Some(_) => u64::from(LENGTH) + extensions.len() as u64,
            None => 0,
        };
        let mut out = Vec::with_capacity(LONGEST_NAME + 256);
        out.extend(MAGIC);
        out.extend(3_u32.to_be_bytes());
        out.extend(name_offset.to_be_bytes());
        out.extend(count(name).to_be_bytes());
        out.extend(self.cluster_bits.to_be_bytes());
        out.extend(whole_sectors(self.size).to_be_bytes());
        out.extend(0_u32.to_be_bytes()); // not encrypted
        out.extend(self.l1_entries.to_be_bytes());
        out.extend(self.l1_offset.to_be_bytes());
        out.extend(self.refcount_table_offset.to_be_bytes());
        out.extend(self.refcount_table_clusters.to_be_bytes());
        out.extend(0_u32.to_be_bytes()); // no snapshots
        out.extend([0_u64; 4].map(u64::to_be_bytes).as_flattened()); // nowhere; no features of three kinds
        out.extend(4_u32.to_be_bytes()); // 2^4 bits a refcount
        out.extend(LENGTH.to_be_bytes());
        out.extend([0; 8]); // zlib, and filling
        out.extend(extensions);
        out.extend(name.as_bytes());
        out
    }
}

fn count(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}
