//! [`Tpm`]: a trusted platform module in software.

use crate::scalar::path::AbsolutePath;

crate::fields! {
    /// A trusted platform module in software.
    pub struct Tpm {
        /// Where a container sees it; absent: `/dev/tpm0`.
        path: Option<AbsolutePath> = None,
        /// Where a container sees its resource manager; absent: `/dev/tpmrm0`.
        pathrm: Option<AbsolutePath> = None,
    }
}
