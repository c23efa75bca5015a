//! [`Secret`]: values that are never shown.

use std::collections::BTreeMap;

use crate::desired::Reference;
use crate::kind::ResourceKind;

crate::fields! {
    /// Where the values of a secret are; one of these. Values themselves are in no manifest, unless encrypted by SOPS.
    pub struct SecretSource {
        /// A SOPS document of the repository, relative to this file.
        sops: Option<String> = None,
        /// Files of the repository that are encrypted by age, relative to this file, by key: `{password: ./db.age}`.
        age: BTreeMap<String, String> = BTreeMap::new(),
        /// Environment variables of keel, by key: `{password: DB_PASSWORD}`.
        environment: BTreeMap<String, String> = BTreeMap::new(),
        /// Files of the host, by key: `{password: /etc/keel/db-password}`.
        files: BTreeMap<String, String> = BTreeMap::new(),
        /// Credentials that systemd gives keel, by key.
        credentials: BTreeMap<String, String> = BTreeMap::new(),
    }
}

crate::fields! {
    /// Values that are never shown.
    pub struct Secret {
        /// Free text.
        description: String = String::new(),
        /// Where they are.
        source: SecretSource = SecretSource::default(),
    }
}

impl ResourceKind for Secret {
    fn references(&self, _out: &mut Vec<Reference>) {}
}
