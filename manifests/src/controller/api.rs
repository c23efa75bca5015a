//! How the controller is asked: by its socket and over the network, and who may ask what.

use crate::scalar::path::AbsolutePath;

crate::words! {
    /// What somebody may ask for; each may all that the ones before may.
    pub enum Role {
        /// Look.
        Viewer "viewer",
        /// Let it look now, suspend, resume, approve plans, switch instances.
        Operator "operator",
        /// All else: commands in instances, their consoles.
        Admin "admin",
    }
}

crate::fields! {
    /// How the controller is asked.
    pub struct ApiSettings {
        /// Its socket, `/run/keel/STATE-ID/api.sock`. Root may always ask for everything.
        socket: SocketSettings = SocketSettings::default(),
        /// How it is asked over the network, by TLS 1.3. Absent: not at all.
        tls: Option<TlsSettings> = None,
    }
}

crate::fields! {
    /// Who may ask by the socket.
    pub struct SocketSettings {
        /// The group that may open the socket; absent: root alone. Its members look, unless `access` says more.
        group: Option<String> = None,
        /// Who may what. The first that fits counts.
        access: Vec<LocalAccess> = Vec::new(),
    }
}

crate::fields! {
    /// What users of this host may, who are in the group of the socket.
    pub struct LocalAccess {
        /// A user, by name or number.
        user: Option<String> = None,
        /// A group, by name or number: of whom it is the own group, and whom it names.
        group: Option<String> = None,
        /// What they may.
        role: Role = Role::Viewer,
        /// The projects that they see and work with. Absent: all, and what belongs to the host.
        projects: Vec<String> = Vec::new(),
    }
}

crate::fields! {
    /// How the controller is asked over the network. Whoever asks shows a certificate, or a token of `keel token create`.
    pub struct TlsSettings {
        /// The address and the port: `192.0.2.7:8443`, `[::]:8443`.
        listen: String = String::new(),
        /// The file with the certificates of the server (PEM), its own first. A new one is taken up by itself.
        certificate: Option<AbsolutePath> = None,
        /// The file with its private key (PEM).
        key: Option<AbsolutePath> = None,
        /// The file with the certificates (PEM) of those who sign the certificates of clients. Absent: only tokens count.
        authority: Option<AbsolutePath> = None,
        /// Who of them may what. The first that fits counts, and who fits none may nothing.
        access: Vec<CertificateAccess> = Vec::new(),
    }
}

crate::fields! {
    /// What somebody may who shows a certificate.
    pub struct CertificateAccess {
        /// Whose certificate: its common name, or one of its DNS names.
        subject: Option<String> = None,
        /// Which certificate: its SHA-256 in hexadecimal digits, with or without colons.
        fingerprint: Option<String> = None,
        /// What they may.
        role: Role = Role::Viewer,
        /// The projects that they see and work with. Absent: all, and what belongs to the host.
        projects: Vec<String> = Vec::new(),
    }
}

impl CertificateAccess {
    /// The digits of the fingerprint.
    pub fn digits(&self) -> Option<String> {
        let text = self.fingerprint.as_ref()?.to_ascii_lowercase();
        let text = text.strip_prefix("sha256:").unwrap_or(&text);
        Some(text.replace(':', ""))
    }
}
