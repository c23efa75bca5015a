//! [`NetworkAcl`].

crate::fields! {
    /// NetworkAcl.
    pub struct NetworkAcl {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for NetworkAcl {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
