//! [`Oci`]: how the first process of an application container runs; [`TimeNamespace`].

use crate::scalar::duration::Duration;
use crate::scalar::path::AbsolutePath;

crate::fields! {
    /// How the first process of an application container runs; absent: as the image says.
    pub struct Oci {
        /// Its working folder.
        working_dir: Option<AbsolutePath> = None,
        /// Its user.
        uid: Option<u32> = None,
        /// Its group.
        gid: Option<u32> = None,
    }
}

crate::fields! {
    /// Clocks of its own (time_namespaces(7)).
    pub struct TimeNamespace {
        /// Added to the time since boot.
        boot_offset: Duration = Duration::from_seconds(0),
    }
}
