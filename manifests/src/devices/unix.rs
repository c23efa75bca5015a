//! [`UnixDevice`]: a character or block device of the host.

use crate::scalar::file_mode::FileMode;
use crate::scalar::path::AbsolutePath;

crate::fields! {
    /// A character or block device of the host, as a device node in the instance.
    pub struct UnixDevice {
        /// The device node of the host; absent: `path`, or `major` and `minor`.
        source: Option<AbsolutePath> = None,
        /// Where it is in the instance; absent: `source`.
        path: Option<AbsolutePath> = None,
        /// The major number; absent: that of `source`.
        major: Option<u32> = None,
        /// The minor number; absent: that of `source`.
        minor: Option<u32> = None,
        /// The user that owns it in the instance.
        uid: u32 = 0,
        /// The group that owns it in the instance.
        gid: u32 = 0,
        /// Its mode.
        mode: FileMode = FileMode(0o660),
        /// Whether the instance does not start while `source` is missing.
        required: bool = true,
    }
}

impl UnixDevice {
    /// The device node of the host, where one is named.
    pub fn on_host(&self) -> Option<&AbsolutePath> {
        self.source.as_ref().or(self.path.as_ref())
    }

    /// Where it is in the instance.
    pub fn in_instance(&self) -> Option<&AbsolutePath> {
        self.path.as_ref().or(self.source.as_ref())
    }
}
