//! [`Network`].

crate::fields! {
    /// Network.
    pub struct Network {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Network {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
