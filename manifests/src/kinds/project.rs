//! [`Project`].

crate::fields! {
    /// Project.
    pub struct Project {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Project {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
