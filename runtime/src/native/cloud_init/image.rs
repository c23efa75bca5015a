//! The disk: a FAT file system with the documents in it. The same documents are the same bytes.

use std::io::{Cursor, Write as _};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use manifests::instance::cloud_init::MOST_BYTES;

use super::documents::Documents;

/// The name of the file system, by which cloud-init finds it.
pub const LABEL: [u8; 11] = *b"CIDATA     ";
/// Disks are whole numbers of these.
const PIECE: usize = 1 << 20;
/// What tables, names and half-filled clusters may take.
const ROOM: usize = 256 << 10;
/// Of its own disk a machine sees a number; it is the same for all, as their documents may be.
const VOLUME_ID: u32 = 0x4b45_454c;

/// The documents do not become a disk.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is too much in them.
    #[error("what cloud-init is given has {0} bytes, more than {MOST_BYTES}")]
    TooLarge(usize),
    /// The file system could not be made.
    #[error("make a file system of it")]
    FileSystem(#[from] std::io::Error),
}

/// The disk with these documents.
///
/// # Errors
/// They are larger than it may be.
pub fn image(documents: &Documents) -> Result<Vec<u8>, ImageError> {
    let bytes: usize = documents.iter().map(|(_, text)| text.len()).sum();
    // Coding parts for the archive takes a third, which nobody counts who writes them.
    if bytes > MOST_BYTES * 2 {
        return Err(ImageError::TooLarge(bytes));
    }
    let size = (bytes + ROOM).next_multiple_of(PIECE);
    let mut disk = Cursor::new(vec![0; size]);
    let options = FormatVolumeOptions::new()
        .volume_label(LABEL)
        .volume_id(VOLUME_ID);
    format_volume(&mut disk, options)?;
    let file_system = FileSystem::new(&mut disk, FsOptions::new())?;
    for (name, text) in documents {
        let mut file = file_system.root_dir().create_file(name)?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
    }
    file_system.unmount()?;
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;

    use super::*;

    fn read_back(disk: Vec<u8>) -> Vec<(String, String)> {
        let file_system = FileSystem::new(Cursor::new(disk), FsOptions::new()).expect("a disk");
        assert_eq!(file_system.volume_label(), "CIDATA");
        let root = file_system.root_dir();
        root.iter()
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.is_file())
            .map(|entry| {
                let mut text = String::new();
                entry.to_file().read_to_string(&mut text).expect("UTF-8");
                (entry.file_name(), text)
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back_and_is_always_the_same_bytes() {
        for length in [0, 1, 511, 700 << 10, 1 << 20, 3 << 20, MOST_BYTES] {
            let documents = vec![
                ("meta-data", "instance-id: a\n".to_owned()),
                ("user-data", "ü".repeat(length / 2)),
                ("network-config", "version: 2\n".to_owned()),
            ];
            let disk = image(&documents).expect("a disk");
            assert_eq!(disk.len() % PIECE, 0);
            assert_eq!(image(&documents).expect("a disk"), disk);
            let expected: Vec<_> = documents
                .into_iter()
                .map(|(name, text)| (name.to_owned(), text))
                .collect();
            assert!(read_back(disk) == expected, "{length} bytes");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the test asks another reader")]
    #[test]
    fn the_smallest_disk_has_a_mebibyte_and_is_known_by_its_label() {
        let disk = image(&vec![("meta-data", "a\n".to_owned())]).expect("a disk");
        assert_eq!(disk.len(), PIECE);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        manifests::path_io::write(&path, disk).expect("written");
        let said = Command::new("blkid")
            .args(["-p", "-o", "export"])
            .arg(&path)
            .output();
        let said = String::from_utf8(said.expect("blkid").stdout).expect("UTF-8");
        for line in ["LABEL=CIDATA", "TYPE=vfat", "UUID=4B45-454C"] {
            assert!(said.lines().any(|one| one == line), "{said}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let documents = vec![("user-data", "x".repeat(2 * MOST_BYTES + 1))];
        let error = image(&documents).expect_err("too large");
        assert!(matches!(error, ImageError::TooLarge(_)), "{error}");
    }
}
