//! [`Tpm`]: a trusted platform module in software.

use crate::scalar::path::AbsolutePath;

crate::fields! {
    /// A trusted platform module in software. A machine has one at most, of version 2.0; what it keeps is the instance's
    /// own and stays over restarts. It is there from the machine's next start.
    pub struct Tpm {
        /// Where a container sees it; absent: `/dev/tpm0`.
        path: Option<AbsolutePath> = None,
        /// Where a container sees its resource manager; absent: `/dev/tpmrm0`.
        pathrm: Option<AbsolutePath> = None,
    }
}
