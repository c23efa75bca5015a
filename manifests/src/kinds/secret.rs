//! [`Secret`].

crate::fields! {
    /// Secret.
    pub struct Secret {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Secret {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
