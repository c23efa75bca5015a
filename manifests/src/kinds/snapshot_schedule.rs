//! [`SnapshotSchedule`].

crate::fields! {
    /// SnapshotSchedule.
    pub struct SnapshotSchedule {
        /// Free text.
        description: String = String::new(),
    }
}

impl crate::kind::ResourceKind for SnapshotSchedule {
    fn references(&self, _out: &mut Vec<crate::desired::Reference>) {}
}
