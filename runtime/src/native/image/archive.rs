//! `file` and `url`: one archive, or the two halves of a split image, become a root file system or the disk of a machine.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use manifests::path_io::{self, AtPath as _};
use sha2::{Digest as _, Sha256};

use super::copy_file::open;
use super::error::ImageError;
use super::layout::{self, Layout};
use super::limits::Limits;
use super::meter::{Meter, Packed, Unpacked};
use super::packing::{Detected, HEAD, Packing, detect};
use super::record::{DiskRecord, Form, ImageProperties};
use super::store::ROOTFS;
use super::tar_stream::TarStream;
use super::tree_writer::{TreeWriter, Written, discard};
use super::unpack::{Whiteouts, unpack};
use super::{machine, metadata, oci, squashfs};
use crate::sys::beneath;

/// Longest `metadata.yaml` or `config.json`.
const LONGEST_TEXT: u64 = 1 << 20;
/// Where an archive is unpacked whose layout is not known yet.
const ARCHIVE: &str = "archive";

/// For which instances an image is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// It is seen what it is.
    Any,
    /// A disk, also one of which nothing tells that it is one.
    Machines,
}

/// A root file system or disk that was made from an archive.
pub(super) struct FromArchive {
    pub(super) form: Form,
    pub(super) packed_bytes: u64,
    pub(super) fingerprint: String,
    pub(super) properties: ImageProperties,
    pub(super) written: Written,
    pub(super) disk: Option<DiskRecord>,
}

/// Unpacks `path` (and `split`, the root file system of a split image) to `rootfs/` in the folder `staging`.
pub(super) fn import(
    staging: &Path,
    path: &Path,
    split: Option<&Path>,
    wanted: For,
    limits: &Limits,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<FromArchive, ImageError> {
    let mut hash = Sha256::new();
    if split.is_none() && is_disk(path, wanted)? {
        let disk = machine::take_disk(staging, path, limits, &mut hash, go_on)?;
        return Ok(FromArchive {
            form: Form::Disk,
            packed_bytes: path.metadata().at("look at", path)?.len(),
            fingerprint: hex::encode(hash.finalize()),
            properties: ImageProperties::default(),
            written: Written::default(),
            disk: Some(disk),
        });
    }
    let archive = staging.join(ARCHIVE);
    let rootfs = staging.join(ROOTFS);
    let first = unpack_file(path, &archive, limits, &mut hash, go_on)?;
    let root = beneath::open_root(&archive)?;
    let broken = |problem: &str| ImageError::Broken {
        path: path.to_path_buf(),
        problem: problem.to_owned(),
    };
    let read = |name: &str| layout::read_text(&root, name, LONGEST_TEXT);
    let about = |name: &str, result: Result<ImageProperties, String>| {
        result.map_err(|problem| broken(&format!("{name}: {problem}")))
    };
    let layout = layout::look(&root, &archive)?;
    if split.is_some() && layout != Layout::Metadata {
        return Err(broken("is not the metadata of a split image"));
    }
    let mut packed_bytes = first.packed_bytes;
    let mut written = first.written;
    let mut disk = None;
    let (form, properties) = match layout {
        Layout::Empty => return Err(broken("is empty")),
        Layout::Plain => {
            path_io::rename(&archive, &rootfs)?;
            (first.form, ImageProperties::default())
        }
        Layout::Unified => {
            let properties = metadata::from_metadata_yaml(&read("metadata.yaml")?);
            path_io::rename(archive.join(ROOTFS), &rootfs)?;
            (Form::Unified, about("metadata.yaml", properties)?)
        }
        Layout::UnifiedDisk => {
            let properties = metadata::from_metadata_yaml(&read("metadata.yaml")?);
            let unpacked = archive.join(layout::DISK);
            let shown = path.join(layout::DISK);
            disk = Some(machine::keep_disk(staging, &unpacked, &shown, go_on)?);
            (Form::Unified, about("metadata.yaml", properties)?)
        }
        Layout::OciBundle => {
            let properties = metadata::from_bundle_config(&read("config.json")?);
            path_io::rename(archive.join(ROOTFS), &rootfs)?;
            (Form::OciBundle, about("config.json", properties)?)
        }
        Layout::Metadata => {
            let Some(split) = split else {
                return Err(broken(
                    "is the metadata of a split image, whose root file system is another file",
                ));
            };
            let properties = metadata::from_metadata_yaml(&read("metadata.yaml")?);
            let properties = about("metadata.yaml", properties)?;
            if is_disk(split, wanted)? {
                packed_bytes += split.metadata().at("look at", split)?.len();
                disk = Some(machine::take_disk(
                    staging, split, limits, &mut hash, go_on,
                )?);
                discard(&archive)?;
                return Ok(FromArchive {
                    form: Form::Split,
                    packed_bytes,
                    fingerprint: hex::encode(hash.finalize()),
                    properties,
                    written,
                    disk,
                });
            }
            let second = unpack_file(split, &rootfs, limits, &mut hash, go_on)?;
            if path_io::list(&rootfs)?.is_empty() {
                return Err(ImageError::Broken {
                    path: split.to_path_buf(),
                    problem: "is empty".to_owned(),
                });
            }
            packed_bytes += second.packed_bytes;
            written = second.written;
            (Form::Split, properties)
        }
        Layout::OciLayout => {
            make_root(&rootfs)?;
            let mut writer = TreeWriter::new(&rootfs, *limits)?;
            let properties = oci::flatten(&root, path, &mut writer, limits, go_on)?;
            written = writer.finish()?;
            (Form::OciLayout, properties)
        }
    };
    discard(&archive)?;
    Ok(FromArchive {
        form,
        packed_bytes,
        fingerprint: hex::encode(hash.finalize()),
        properties,
        written,
        disk,
    })
}

/// Whether a file is a disk by its first bytes. Where a disk is wanted, what is not known is taken for one, and looked at.
fn is_disk(path: &Path, wanted: For) -> Result<bool, ImageError> {
    Ok(match detect(&head_of(&mut open(path)?, path)?) {
        Detected::Disk => true,
        Detected::Unknown | Detected::Unsupported(_) => wanted == For::Machines,
        Detected::Squashfs | Detected::Tar(_) => false,
    })
}

/// The SHA-256 of a file, or of two after each other.
pub(super) fn fingerprint(
    path: &Path,
    split: Option<&Path>,
    limits: &Limits,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<String, ImageError> {
    let mut hash = Sha256::new();
    for path in std::iter::once(path).chain(split) {
        // Disks are counted as they lie, with their holes.
        let limits = match is_disk(path, For::Machines)? {
            true => Limits {
                archive_bytes: limits.unpacked_bytes,
                ..*limits
            },
            false => *limits,
        };
        let meter = Meter::new(path, limits);
        let mut packed = Packed::new(open(path)?, &mut hash, meter.clone(), go_on);
        let drained = packed.drain().at("read", path);
        meter.judge(drained.map_err(Into::into))?;
    }
    Ok(hex::encode(hash.finalize()))
}

struct OneFile {
    form: Form,
    packed_bytes: u64,
    written: Written,
}

fn unpack_file(
    path: &Path,
    into: &Path,
    limits: &Limits,
    hash: &mut Sha256,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<OneFile, ImageError> {
    make_root(into)?;
    let mut file = open(path)?;
    let meter = Meter::new(path, *limits);
    let (form, written) = match detect(&head_of(&mut file, path)?) {
        Detected::Tar(packing) => {
            let mut writer = TreeWriter::new(into, *limits)?;
            let packed = Packed::new(file, hash, meter.clone(), go_on);
            unpack_tar(packed, packing, &mut writer, Whiteouts::Names, path, &meter)?;
            (Form::Plain, writer.finish()?)
        }
        Detected::Squashfs => {
            let mut packed = Packed::new(file, hash, meter.clone(), go_on);
            let drained = packed.drain().at("read", path);
            meter.judge(drained.map_err(Into::into))?;
            let packed_bytes = meter.packed();
            let mut go_on = || go_on(packed_bytes);
            let written = squashfs::unpack(path, into, limits, &mut go_on)?;
            (Form::Squashfs, written)
        }
        Detected::Unsupported(what) => {
            return Err(ImageError::Unsupported {
                path: path.to_path_buf(),
                what: what.to_owned(),
            });
        }
        Detected::Disk => {
            return Err(ImageError::WrongKind {
                path: path.to_path_buf(),
                what: "a disk, where an archive should be",
            });
        }
        Detected::Unknown => return Err(meter.broken("is no archive that is known here")),
    };
    Ok(OneFile {
        form,
        packed_bytes: meter.packed(),
        written,
    })
}

/// Unpacks a packed tar archive and reads its file to the end.
pub(super) fn unpack_tar<R: Read>(
    mut packed: Packed<'_, R>,
    packing: Packing,
    writer: &mut TreeWriter,
    whiteouts: Whiteouts,
    path: &Path,
    meter: &Rc<Meter>,
) -> Result<(), ImageError> {
    {
        let buffered = BufReader::with_capacity(256 * 1024, &mut packed);
        let unpacked = packing.reader(buffered).at("unpack", path)?;
        let mut tar = TarStream::new(Unpacked::new(unpacked, meter.clone()), *writer.limits());
        unpack(&mut tar, writer, whiteouts)?;
    }
    let drained = packed.drain().at("read", path);
    meter.judge(drained.map_err(Into::into))
}

/// The first bytes; the file is left at its start.
pub(super) fn head_of(file: &mut File, path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64)
        .read_to_end(&mut head)
        .at("read", path)?;
    file.seek(SeekFrom::Start(0)).at("read", path)?;
    Ok(head)
}

/// Makes a folder with the mode that a root has when the archive does not say.
fn make_root(path: &Path) -> Result<PathBuf, ImageError> {
    use std::os::unix::fs::PermissionsExt as _;
    path_io::ensure_dir(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .at("set the mode of", path)?;
    Ok(path.to_path_buf())
}
