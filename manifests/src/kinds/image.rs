//! [`Image`].

crate::fields! {
    /// Image.
    pub struct Image {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for Image {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
