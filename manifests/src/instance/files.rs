//! [`File`]: a file that is put into an instance.

use crate::scalar::file_mode::FileMode;
use crate::scalar::text::Text;

crate::fields! {
    /// A file that is put into an instance.
    pub struct File {
        /// What is in it.
        content: Text = Text::default(),
        /// Its mode.
        mode: FileMode = FileMode(0o644),
        /// The user that owns it.
        uid: u32 = 0,
        /// The group that owns it.
        gid: u32 = 0,
        /// Whether folders above it are made where they are missing.
        create_dirs: bool = false,
        /// Whether it is put back when the guest changes it; otherwise it is put when the manifest changes.
        enforce: bool = false,
    }
}
