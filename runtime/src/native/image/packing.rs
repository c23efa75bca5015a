//! What a file is, by its first bytes and never by its name, and the decompressor for it.

use std::io::{self, BufRead, Read};

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::native) enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
}

/// What the first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::native) enum Detected {
    /// A tar archive, or something packed that should be one.
    Tar(Packing),
    Squashfs,
    /// The disk of a machine.
    Disk,
    /// Known, and nothing starts from it.
    Unsupported(&'static str),
    Unknown,
}

/// How many bytes [`detect`] wants.
pub(in crate::native) const HEAD: usize = 512;

pub(in crate::native) fn detect(head: &[u8]) -> Detected {
    const MAGICS: &[(&[u8], Detected)] = &[
        (b"\x1f\x8b", Detected::Tar(Packing::Gzip)),
        (b"\xfd7zXZ\0", Detected::Tar(Packing::Xz)),
        (b"\x28\xb5\x2f\xfd", Detected::Tar(Packing::Zstd)),
        (b"hsqs", Detected::Squashfs),
        (b"QFI\xfb", Detected::Disk),
        (b"BZh", Detected::Unsupported("packed by bzip2")),
        (b"PK\x03\x04", Detected::Unsupported("a zip archive")),
        (b"\x5d\0\0", Detected::Unsupported("packed by lzma")),
        (b"LZIP", Detected::Unsupported("packed by lzip")),
        (b"\x04\x22\x4d\x18", Detected::Unsupported("packed by lz4")),
        (b"KDMV", Detected::Unsupported("a vmdk disk")),
        (b"\x7fELF", Detected::Unsupported("a program")),
        (b"070701", Detected::Unsupported("a cpio archive")),
        (b"7z\xbc\xaf\x27\x1c", Detected::Unsupported("a 7z archive")),
    ];
    for (magic, detected) in MAGICS {
        if head.starts_with(magic) {
            return *detected;
        }
    }
    if head.len() >= HEAD && super::tar_stream::is_header(head) {
        return Detected::Tar(Packing::None);
    }
    if head.get(510..512) == Some(b"\x55\xaa") {
        // A boot sector.
        return Detected::Disk;
    }
    Detected::Unknown
}

/// The memory that a decompressor may use: the largest window of `zstd --long` and of `xz -9` fit.
const WINDOW_LOG: u32 = 27;
const XZ_MEMORY: u64 = 160 << 20;

impl Packing {
    /// Unpacks a stream; several streams after each other count as one.
    pub(in crate::native) fn reader<'a>(
        self,
        packed: impl BufRead + 'a,
    ) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(
                    XZ_MEMORY,
                    liblzma::stream::CONCATENATED,
                )
                .map_err(io::Error::other)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
                decoder.window_log_max(WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let mut disk = vec![0; 512];
        disk[510..].copy_from_slice(b"\x55\xaa");
        let table: &[(&[u8], Detected)] = &[
            (b"\x1f\x8b\x08", Detected::Tar(Packing::Gzip)),
            (b"\xfd7zXZ\0\0", Detected::Tar(Packing::Xz)),
            (b"\x28\xb5\x2f\xfd", Detected::Tar(Packing::Zstd)),
            (b"hsqs....", Detected::Squashfs),
            (b"QFI\xfb\0", Detected::Disk),
            (&disk, Detected::Disk),
            (b"", Detected::Unknown),
            (b"hello", Detected::Unknown),
            (&[0; 512], Detected::Unknown),
        ];
        for (head, detected) in table {
            assert_eq!(detect(head), *detected, "{head:?}");
        }
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_cksum();
        assert_eq!(detect(header.as_bytes()), Detected::Tar(Packing::None));
    }
}
