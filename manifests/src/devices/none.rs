//! [`NoDevice`].

crate::fields! {
    /// Takes an inherited device of this name away.
    pub struct NoDevice {}
}
