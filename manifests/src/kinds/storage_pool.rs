//! [`StoragePool`].

crate::fields! {
    /// StoragePool.
    pub struct StoragePool {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for StoragePool {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
