//! [`NetworkForward`].

crate::fields! {
    /// NetworkForward.
    pub struct NetworkForward {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for NetworkForward {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
