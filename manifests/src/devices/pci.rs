//! [`Pci`]: a PCI device of a machine.

crate::fields! {
    /// A PCI device of the host, given to a machine.
    pub struct Pci {
        /// Its address: `0000:01:00.0`.
        address: Option<String> = None,
    }
}
