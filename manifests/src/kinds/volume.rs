//! [`Volume`].

crate::fields! {
    /// Volume.
    pub struct Volume {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Volume {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
