//! Looks at a file as a disk. It is only read, and nothing that its header names is opened.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use manifests::path_io::{AtPath as _, PathError};

use super::error::DiskError;
use super::header::{self, Fault, Header};
use super::{DiskImage, Format, SECTOR, magic};

/// What a stranger's file is as a disk. It has to be whole: a disk over another file is refused.
///
/// # Errors
/// It is no raw or qcow2 disk, or one that leads outside, is encrypted, was not closed, or contradicts itself.
pub fn inspect(path: &Path) -> Result<DiskImage, DiskError> {
    let refused = |what: String| DiskError::Refused {
        path: path.to_path_buf(),
        what,
    };
    let (image, header) = look(path)?;
    if let Some(name) = &image.backing {
        return Err(refused(format!(
            "has the backing file {name:?}, and an image has to be whole; make it so with `qemu-img convert`"
        )));
    }
    if header.is_some_and(|header| header.dirty) {
        return Err(refused(
            "was not closed by whoever wrote it last; see `qemu-img check -r all`".to_owned(),
        ));
    }
    Ok(image)
}

/// What a disk of our own is, which may lie over another one. The name of that is told and not judged: who opens such a
/// disk says himself what is below it.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_overlay(path: &Path) -> Result<DiskImage, DiskError> {
    look(path).map(|(image, _)| image)
}

fn look(path: &Path) -> Result<(DiskImage, Option<Header>), DiskError> {
    let file = open(path)?;
    let seen = file.metadata().at("look at", path)?;
    let no_disk = |what: &str| DiskError::NoDisk {
        path: path.to_path_buf(),
        what: what.to_owned(),
    };
    if !seen.is_file() {
        return Err(no_disk("no file"));
    }
    let length = seen.len();
    let allocated = seen.blocks() * 512;
    if length == 0 {
        return Err(no_disk("empty"));
    }
    let head = read(&file, path, 0, magic::HEAD as u64)?;
    if let Some(header) = read_header(&file, path, &head, length)? {
        let image = DiskImage {
            format: Format::Qcow2,
            virtual_size: header.size,
            allocated,
            backing: header.backing.clone(),
            snapshots: header.snapshots,
        };
        return Ok((image, Some(header)));
    }
    let tail = read(&file, path, length.saturating_sub(SECTOR), SECTOR)?;
    if let Some(what) = magic::what(&head, &tail) {
        return Err(no_disk(what));
    }
    if !length.is_multiple_of(SECTOR) {
        return Err(no_disk(&format!(
            "a file of {length} bytes, which are no whole sectors of 512"
        )));
    }
    let image = DiskImage {
        format: Format::Raw,
        virtual_size: length,
        allocated,
        backing: None,
        snapshots: 0,
    };
    Ok((image, None))
}

/// Opens without waiting for anybody: the path may name a pipe.
fn open(path: &Path) -> Result<File, PathError> {
    File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .at("open", path)
}

/// The qcow2 header of a file that starts as one.
pub(super) fn read_header(
    file: &File,
    path: &Path,
    head: &[u8],
    length: u64,
) -> Result<Option<Header>, DiskError> {
    let Some(extent) = header::extent(head) else {
        return match head.starts_with(header::MAGIC) {
            true => Err(broken(path, "it ends in its header")),
            false => Ok(None),
        };
    };
    let cluster = read(file, path, 0, extent)?;
    Header::parse(&cluster, length)
        .map(Some)
        .map_err(|fault| match fault {
            Fault::Broken(problem) => broken(path, problem),
            Fault::Refused(what) => DiskError::Refused {
                path: path.to_path_buf(),
                what,
            },
        })
}

pub(super) fn broken(path: &Path, problem: impl Into<String>) -> DiskError {
    DiskError::Broken {
        path: path.to_path_buf(),
        problem: problem.into(),
    }
}

/// So many bytes, or fewer where the file ends.
pub(super) fn read(file: &File, path: &Path, at: u64, bytes: u64) -> Result<Vec<u8>, PathError> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).at("read", path),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::path_io;

    fn told(content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.img");
        path_io::write(&path, content).unwrap();
        match inspect(&path) {
            Ok(image) => format!("{} of {}", image.format.word(), image.virtual_size),
            Err(error) => error
                .to_string()
                .replace(&path.display().to_string(), "x.img"),
        }
    }

    fn starting(start: &[u8]) -> Vec<u8> {
        let mut content = start.to_vec();
        content.resize(4096, 0);
        content
    }

    #[test]
    fn what_is_no_disk_is_told_by_name() {
        let mut vdi = starting(b"<<< Oracle VM VirtualBox Disk Image >>>\n");
        vdi[0x40..0x44].copy_from_slice(b"\x7f\x10\xda\xbe");
        let mut tar = starting(b"rootfs.img");
        tar[257..262].copy_from_slice(b"ustar");
        let mut vhd = starting(b"");
        vhd[4096 - 512..4096 - 504].copy_from_slice(b"conectix");
        let table = [
            (
                starting(b"KDMV"),
                "x.img is a vmdk disk and no raw or qcow2 disk",
            ),
            (vdi, "x.img is a vdi disk and no raw or qcow2 disk"),
            (
                starting(b"vhdxfile"),
                "x.img is a vhdx disk and no raw or qcow2 disk",
            ),
            (vhd, "x.img is a vhd disk and no raw or qcow2 disk"),
            (
                starting(b"LUKS\xba\xbe"),
                "x.img is an encrypted volume (LUKS) and no raw or qcow2 disk",
            ),
            (
                starting(b"hsqs"),
                "x.img is a squashfs and no raw or qcow2 disk",
            ),
            (tar, "x.img is a tar archive and no raw or qcow2 disk"),
            (
                starting(b"\x1f\x8b"),
                "x.img is packed by gzip and no raw or qcow2 disk",
            ),
            (Vec::new(), "x.img is empty and no raw or qcow2 disk"),
            (
                b"hello".to_vec(),
                "x.img is a file of 5 bytes, which are no whole sectors of 512 and no raw or qcow2 disk",
            ),
            (
                b"QFI\xfb".to_vec(),
                "x.img is a broken qcow2 disk: it ends in its header",
            ),
            (
                starting(b"QFI\xfb\0\0\0\x01"),
                "x.img is a qcow disk of version 1; convert it with `qemu-img convert`",
            ),
            (vec![0; 4096], "raw of 4096"),
        ];
        for (content, wanted) in table {
            assert_eq!(told(&content), wanted);
        }
    }

    #[test]
    fn what_is_no_file_is_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            inspect(folder.path()),
            Err(DiskError::NoDisk { .. })
        ));
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(
            matches!(inspect(&pipe), Err(DiskError::NoDisk { .. })),
            "and nobody waits for its other end"
        );
        assert!(matches!(
            inspect(&folder.path().join("none")),
            Err(DiskError::Path(_))
        ));
    }
}
