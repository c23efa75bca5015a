//! Images of machines: a disk, and a kernel with what goes with it where they boot without firmware.
//!
//! ```text
//! FINGERPRINT/image.json
//!            /machine/disk.qcow2 or disk.raw    below the disks of machines: never written to
//!                    /kernel, initrd
//! ```

use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _};
use sha2::{Digest as _, Sha256};

use super::copy_file::{copy_file, digest, open};
use super::error::ImageError;
use super::limits::{Counted, Limits};
use super::record::{DiskRecord, MachineRecord};
use super::tree_writer::Written;
use crate::native::disk_image::{self, Format};

/// The folder of the files.
pub(super) const MACHINE: &str = "machine";
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";
/// Kernels and their initial file systems are read into memory whole.
const BIGGEST_PART: u64 = 1 << 30;
/// As the kernel of x86 has it (`COMMAND_LINE_SIZE`).
const LONGEST_COMMAND_LINE: usize = 2047;

/// What a machine boots from without firmware. It becomes part of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootParts {
    /// The kernel.
    pub kernel: Option<PathBuf>,
    /// Its initial file system.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub cmdline: Option<String>,
}

/// An image of the store, as a machine starts from it. Nobody may write to its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineImage {
    /// What the machine's own disk is a copy of. None: that is empty.
    pub disk: Option<MachineDisk>,
    /// The kernel.
    pub kernel: Option<PathBuf>,
    /// Its initial file system.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub cmdline: Option<String>,
}

/// The disk in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDisk {
    /// Where it lies.
    pub path: PathBuf,
    /// How its bytes lie.
    pub format: Format,
    /// Its size.
    pub virtual_size: u64,
}

impl MachineImage {
    /// The files that a record tells of, in the folder of its image.
    pub(super) fn of(folder: &Path, record: &MachineRecord) -> Self {
        let file = |name: &str| folder.join(MACHINE).join(name);
        Self {
            disk: record.disk.as_ref().map(|disk| MachineDisk {
                path: file(disk_name(disk.format)),
                format: disk.format,
                virtual_size: disk.virtual_size,
            }),
            kernel: record.kernel.as_ref().map(|_| file(KERNEL)),
            initrd: record.initrd.as_ref().map(|_| file(INITRD)),
            cmdline: record.cmdline.clone(),
        }
    }
}

const fn disk_name(format: Format) -> &'static str {
    match format {
        Format::Raw => "disk.raw",
        Format::Qcow2 => "disk.qcow2",
    }
}

impl BootParts {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let files = [(KERNEL, &self.kernel), (INITRD, &self.initrd)];
        files
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_deref()?)))
    }

    /// Bytes of the files.
    pub(super) fn bytes(&self) -> u64 {
        self.files()
            .map(|(_, path)| path.metadata().map_or(0, |metadata| metadata.len()))
            .sum()
    }

    /// What they are, before anything is copied.
    pub(super) fn check(&self) -> Result<(), ImageError> {
        if self.kernel.is_none() && !self.is_empty() {
            return Err(ImageError::NoKernel);
        }
        if let Some(line) = &self.cmdline
            && (line.len() > LONGEST_COMMAND_LINE || line.chars().any(char::is_control))
        {
            return Err(ImageError::BadCommandLine);
        }
        for (name, path) in self.files() {
            let mut head = Vec::new();
            let file = open(path)?;
            file.take(0x206).read_to_end(&mut head).at("read", path)?;
            let broken = |problem: &str| {
                Err(ImageError::Broken {
                    path: path.to_path_buf(),
                    problem: problem.to_owned(),
                })
            };
            if head.is_empty() {
                return broken("is empty");
            }
            if name == KERNEL && !looks_like_a_kernel(&head) {
                return broken("is no kernel: neither a bzImage nor an Image nor a vmlinux");
            }
        }
        Ok(())
    }

    /// The digests of the files where they are now.
    pub(super) fn digests(
        &self,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<MachineRecord, ImageError> {
        let mut of = |path: &Option<PathBuf>| match path {
            Some(path) => digest(path, None, go_on).map(Some),
            None => Ok(None),
        };
        Ok(MachineRecord {
            disk: None,
            kernel: of(&self.kernel)?,
            initrd: of(&self.initrd)?,
            cmdline: self.cmdline.clone(),
        })
    }

    /// Copies the files into the folder `machine/` of an image that grows in `staging`.
    pub(super) fn copy(
        &self,
        staging: &Path,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<MachineRecord, ImageError> {
        let mut copies = self.clone();
        for (name, copy) in [(KERNEL, &mut copies.kernel), (INITRD, &mut copies.initrd)] {
            if let Some(path) = copy {
                let to = folder(staging)?.join(name);
                copy_file(path, &to, BIGGEST_PART, go_on)?;
                seal(&to, 0o444)?;
                *path = to;
            }
        }
        copies.digests(go_on)
    }
}

/// x86 has a mark of its own (Documentation/arch/x86/boot.rst), others that of a program or of EFI.
fn looks_like_a_kernel(head: &[u8]) -> bool {
    let at = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    at(0x202, b"HdrS")
        || at(0x38, b"ARM\x64")
        || at(0, b"MZ")
        || at(0, b"\x7fELF")
        || at(0, b"\x1f\x8b")
}

/// The fingerprint of an image of these parts. `source` is that of the disk, as it would be without the others.
pub(super) fn fingerprint(source: Option<&str>, parts: &MachineRecord) -> String {
    match source {
        Some(source) if *parts == MachineRecord::default() => source.to_owned(),
        _ => hashed("keel-machine-1", source, parts),
    }
}

/// For `verify`: over all files.
fn files_digest(disk: Option<&str>, parts: &MachineRecord) -> String {
    hashed("keel-machine-files-1", disk, parts)
}

fn hashed(what: &str, disk: Option<&str>, parts: &MachineRecord) -> String {
    let mut hash = Sha256::new();
    let mut field = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            hash.update(format!("{name} {}\n{value}\n", value.len()));
        }
    };
    field(what, Some(""));
    field("disk", disk);
    field(KERNEL, parts.kernel.as_deref());
    field(INITRD, parts.initrd.as_deref());
    field("cmdline", parts.cmdline.as_deref());
    hex::encode(hash.finalize())
}

/// The digest of the files of an image as they are now.
pub(super) fn digest_now(image: &MachineImage) -> Result<String, ImageError> {
    let go_on: &mut dyn FnMut(u64) -> bool = &mut |_| true;
    let parts = BootParts {
        kernel: image.kernel.clone(),
        initrd: image.initrd.clone(),
        cmdline: image.cmdline.clone(),
    };
    let parts = parts.digests(go_on)?;
    let disk = match &image.disk {
        Some(disk) => Some(digest(&disk.path, None, go_on)?),
        None => None,
    };
    Ok(files_digest(disk.as_deref(), &parts))
}

fn folder(staging: &Path) -> Result<PathBuf, ImageError> {
    let folder = staging.join(MACHINE);
    path_io::ensure_dir(&folder)?;
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700))
        .at("set the mode of", &folder)?;
    Ok(folder)
}

/// Makes a file root's, and nobody's to write to. QEMU opens a kernel by its name, as an unprivileged user: who may read it is
/// decided by the folders above.
fn seal(path: &Path, mode: u32) -> Result<(), ImageError> {
    chown(path, Some(0), Some(0)).at("own", path)?;
    let mode = Permissions::from_mode(mode);
    Ok(std::fs::set_permissions(path, mode).at("set the mode of", path)?)
}

/// Takes a disk of a stranger: copies it, looks at the copy, and hashes that into `hash`.
pub(super) fn take_disk(
    staging: &Path,
    path: &Path,
    limits: &Limits,
    hash: &mut Sha256,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<DiskRecord, ImageError> {
    // Before the copy: most of what is wrong is seen at once.
    let seen = disk_image::inspect(path)?;
    let to = folder(staging)?.join(disk_name(seen.format));
    copy_file(path, &to, limits.unpacked_bytes, go_on)?;
    record(&to, path, Some(hash), go_on)
}

/// Takes a disk that has been unpacked into the folder of the image already.
pub(super) fn keep_disk(
    staging: &Path,
    unpacked: &Path,
    shown: &Path,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<DiskRecord, ImageError> {
    let seen = disk_image::inspect(unpacked).map_err(|error| error.of(shown))?;
    let to = folder(staging)?.join(disk_name(seen.format));
    path_io::rename(unpacked, &to)?;
    record(&to, shown, None, go_on)
}

fn record(
    disk: &Path,
    shown: &Path,
    hash: Option<&mut Sha256>,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<DiskRecord, ImageError> {
    seal(disk, 0o400)?;
    let seen = disk_image::inspect(disk).map_err(|error| error.of(shown))?;
    Ok(DiskRecord {
        format: seen.format,
        virtual_size: seen.virtual_size,
        sha256: digest(disk, hash, go_on)?,
    })
}

/// The digest of what lies in `staging`, and how much it is.
pub(super) fn written(
    staging: &Path,
    record: &MachineRecord,
) -> Result<(Written, String), ImageError> {
    let image = MachineImage::of(staging, record);
    let disk = image.disk.map(|disk| disk.path);
    let mut counted = Counted::default();
    for path in [disk, image.kernel, image.initrd].into_iter().flatten() {
        counted.entries += 1;
        // Holes are not there.
        counted.bytes += path.metadata().at("look at", &path)?.blocks() * 512;
    }
    let disk = record.disk.as_ref().map(|disk| disk.sha256.as_str());
    let written = Written {
        counted,
        ..Written::default()
    };
    Ok((written, files_digest(disk, record)))
}
