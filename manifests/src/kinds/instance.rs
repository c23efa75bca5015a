//! [`Instance`].

crate::fields! {
    /// Instance.
    pub struct Instance {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Instance {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
