//! [`Backup`].

crate::fields! {
    /// Backup.
    pub struct Backup {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Backup {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
