//! [`Profile`].

crate::fields! {
    /// Profile.
    pub struct Profile {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Profile {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
