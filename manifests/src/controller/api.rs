//! How the controller is asked: by its socket, and who may ask what.

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
