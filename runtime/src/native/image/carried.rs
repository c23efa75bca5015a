//! Images that come along with something else: a backup has what lies below the root of its instance.

use std::path::Path;

use super::GoOn;
use super::copy::copy_folder;
use super::error::ImageError;
use super::import::{About, Imported, Staging};
use super::machine::{BootParts, MachineImage};
use super::record::{Form, ImageRecord};
use super::store::{ImageStore, ROOTFS};
use super::tree_writer::{TreeWriter, Written};

/// Where the parts of a carried image are put: below one folder.
pub(in crate::native) const DISK: &str = "disk";
pub(in crate::native) const KERNEL: &str = "kernel";
pub(in crate::native) const INITRD: &str = "initrd";

impl ImageStore {
    /// The image of the store that a record tells of, as long as it is the same in all that counts.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub(in crate::native) fn alike(
        &self,
        record: &ImageRecord,
    ) -> Result<Option<ImageRecord>, ImageError> {
        let found = self.get(&record.fingerprint)?;
        Ok(found.filter(|found| found.tree_digest == record.tree_digest))
    }

    /// Brings in a folder as an image, with what is known of another one of which it was made.
    ///
    /// # Errors
    /// It cannot be read or holds what no image may; a full disk. Then nothing is left.
    pub(in crate::native) fn carry_folder(
        &self,
        made_of: &ImageRecord,
        source: &str,
        folder: &Path,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        self.sweep()?;
        let staging = Staging::new(self.folder())?;
        let rootfs = staging.rootfs()?;
        let mut writer = TreeWriter::new(&rootfs, self.limits)?;
        copy_folder(folder, &mut writer, go_on)?;
        let written = writer.finish()?;
        let about = About {
            fingerprint: None,
            source: source.to_owned(),
            form: Form::Folder,
            packed_bytes: 0,
            properties: made_of.properties.clone(),
            machine: None,
        };
        self.finish(staging, about, written, None)
    }

    /// Brings in an image that somebody else unpacks: `fill` writes its tree into `rootfs` of a folder, or its parts beside
    /// that. Whatever the record says: the fingerprint is of what was brought, so that nobody's image is taken for another.
    ///
    /// # Errors
    /// What `fill` says; what was unpacked is no image; a full disk. Then nothing is left.
    pub(in crate::native) fn carry<E: From<ImageError>>(
        &self,
        record: &ImageRecord,
        source: &str,
        fill: impl FnOnce(&Path) -> Result<Written, E>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, E> {
        self.sweep()?;
        let staging = Staging::new(self.folder())?;
        let Some(machine) = &record.machine else {
            staging.rootfs()?;
            let written = fill(&staging.path)?;
            debug_assert!(staging.path.join(ROOTFS).is_dir());
            let about = About {
                fingerprint: None,
                source: source.to_owned(),
                form: Form::Folder,
                packed_bytes: 0,
                properties: record.properties.clone(),
                machine: None,
            };
            return Ok(self.finish(staging, about, written, None)?);
        };
        fill(&staging.path)?;
        let part = |name: &str| Some(staging.path.join(name)).filter(|path| path.exists());
        let parts = BootParts {
            kernel: part(KERNEL),
            initrd: part(INITRD),
            cmdline: machine.cmdline.clone(),
        };
        let imported = match part(DISK) {
            Some(disk) => self.import_disk(&disk, source, &parts, go_on),
            None => self.import_for_machines(None, &parts, None, go_on),
        };
        Ok(imported?)
    }

    /// Brings in a disk that `fill` writes, with what machines of another image boot from.
    ///
    /// # Errors
    /// What `fill` says; it is no disk; a full disk. Then nothing is left.
    pub(in crate::native) fn carry_disk(
        &self,
        made_of: &MachineImage,
        source: &str,
        fill: impl FnOnce(&Path) -> Result<(), ImageError>,
        go_on: GoOn<'_>,
    ) -> Result<Imported, ImageError> {
        self.sweep()?;
        let staging = Staging::new(self.folder())?;
        let disk = staging.path.join(DISK);
        fill(&disk)?;
        let parts = BootParts {
            kernel: made_of.kernel.clone(),
            initrd: made_of.initrd.clone(),
            cmdline: made_of.cmdline.clone(),
        };
        self.import_disk(&disk, source, &parts, go_on)
    }
}
