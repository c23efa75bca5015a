//! [`Health`]: what must hold before an instance counts as healthy.

use crate::scalar::duration::Duration;

crate::fields! {
    /// A GET that must be answered with a status from 200 to 399.
    pub struct HttpCheck {
        /// The port.
        port: u16 = 80,
        /// The path.
        path: String = "/".to_owned(),
    }
}

crate::fields! {
    /// What must hold before an instance counts as healthy: all that is written.
    pub struct Health {
        /// It runs.
        running: bool = true,
        /// Each of its interfaces has an address.
        addresses: bool = false,
        /// The agent in a machine answers.
        agent: bool = false,
        /// cloud-init is done, without errors.
        cloud_init: bool = false,
        /// Something listens on this port.
        tcp: Option<u16> = None,
        /// A web server answers.
        http: Option<HttpCheck> = None,
        /// A command in the instance ends with 0.
        exec: Option<Vec<String>> = None,
        /// The pause between checks.
        interval: Duration = Duration::from_seconds(10),
        /// So many checks in a row must fail.
        retries: u32 = 3,
        /// Failures in so long after the start do not count.
        start_period: Duration = Duration::from_seconds(0),
        /// How long `keel apply` waits for it.
        timeout: Duration = Duration::from_seconds(120),
    }
}
