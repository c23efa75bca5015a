//! Rules across objects. To add one: write `rules/<name>.rs` with an `impl Rule` and add it to [`RULES`].

mod cycle_free;
mod unique_addresses;

use crate::desired::DesiredSet;
use crate::diagnostic::Diagnostics;

/// Something that must hold between objects.
pub trait Rule: Sync {
    /// Finds where it does not.
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics);
}

/// All rules.
pub const RULES: &[&dyn Rule] = &[&cycle_free::CycleFree, &unique_addresses::UniqueAddresses];
