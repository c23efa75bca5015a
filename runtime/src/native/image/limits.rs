//! How much an image may be: what stops a bomb before the disk is full.

use super::error::ImageError;

/// Upper bounds for one import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of file content after unpacking.
    pub unpacked_bytes: u64,
    /// Files, folders, links.
    pub entries: u64,
    /// Bytes that one compressed byte may become, once 256 MiB are exceeded.
    pub ratio: u64,
    /// Folders above an entry.
    pub depth: usize,
    /// Bytes of a download, and of a single blob.
    pub archive_bytes: u64,
    /// Bytes of one extended header (long names, attributes).
    pub header_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 64 << 30,
            entries: 4_000_000,
            ratio: 100,
            depth: 256,
            archive_bytes: 16 << 30,
            header_bytes: 1 << 20,
        }
    }
}

/// Below this much, no ratio is suspicious.
const RATIO_MATTERS_FROM: u64 = 256 << 20;

/// What has been unpacked so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::native) struct Counted {
    pub(in crate::native) bytes: u64,
    pub(in crate::native) entries: u64,
}

impl Counted {
    pub(in crate::native) fn add_entry(&mut self, limits: &Limits) -> Result<(), ImageError> {
        self.entries += 1;
        check(self.entries, limits.entries, "entries in the image")
    }

    pub(in crate::native) fn add_bytes(
        &mut self,
        bytes: u64,
        limits: &Limits,
    ) -> Result<(), ImageError> {
        self.bytes = self.bytes.saturating_add(bytes);
        check(self.bytes, limits.unpacked_bytes, "bytes in the image")
    }
}

/// Checks what came out of a decompressor against what went in.
pub(in crate::native) fn check_ratio(
    packed: u64,
    unpacked: u64,
    limits: &Limits,
) -> Result<(), ImageError> {
    check(
        unpacked,
        // Everything unpacked passes the decompressor: headers and padding on top of the content.
        limits.unpacked_bytes.saturating_mul(2),
        "bytes out of the decompressor",
    )?;
    if unpacked > RATIO_MATTERS_FROM && unpacked / limits.ratio.max(1) > packed {
        return Err(ImageError::TooBig {
            limit: limits.ratio,
            of: "times the size of the packed archive",
        });
    }
    Ok(())
}

fn check(value: u64, limit: u64, of: &'static str) -> Result<(), ImageError> {
    if value > limit {
        return Err(ImageError::TooBig { limit, of });
    }
    Ok(())
}
