//! [`Proxy`]: a listening socket that leads from the host in or from the instance out.

use crate::scalar::file_mode::FileMode;
use crate::scalar::proxy_address::ProxyAddress;

crate::words! {
    /// On which side the listening socket is.
    pub enum ProxyBind {
        /// On the host.
        Host "host",
        /// In the instance.
        Instance "instance",
    }
}

crate::fields! {
    /// A listening socket that leads from the host in or from the instance out.
    pub struct Proxy {
        /// Where it listens: `tcp:0.0.0.0:80`, `unix:/run/app.sock`.
        listen: Option<ProxyAddress> = None,
        /// Where it leads: `tcp:127.0.0.1:80`.
        connect: Option<ProxyAddress> = None,
        /// On which side it listens.
        bind: ProxyBind = ProxyBind::Host,
        /// Whether packets are translated by the firewall instead of carried by a process.
        nat: bool = false,
        /// Whether the PROXY protocol tells the far end who calls.
        proxy_protocol: bool = false,
        /// The user that owns a listening unix socket.
        uid: u32 = 0,
        /// The group that owns a listening unix socket.
        gid: u32 = 0,
        /// The mode of a listening unix socket.
        mode: FileMode = FileMode(0o644),
    }
}
