//! [`Policy`].

crate::fields! {
    /// Policy.
    pub struct Policy {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Policy {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
