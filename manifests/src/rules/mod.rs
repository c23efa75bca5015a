//! Rules across fields and objects. To add one: write `rules/<name>.rs` with an `impl Rule` and add it to [`RULES`]; a
//! new code goes into [`crate::codes`] as well, with a case in `tests/rejects`.

mod boots;
mod complete;
pub(crate) mod cycle_free;
mod host_ports;
mod in_range;
mod network_plans;
pub(crate) mod one_meaning;
mod pools_apart;
pub(crate) mod quota_fits;
pub(crate) mod requirements;
pub(crate) mod restrictions;
mod root_disk;
pub(crate) mod unique_addresses;
pub(crate) mod volumes_fit;
mod well_named;

use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::kind::Spec;
use crate::kinds::instance::Instance;
use crate::pointer::Pointer;

/// Something that must hold between objects.
pub trait Rule: Sync {
    /// Finds where it does not.
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics);
}

/// All rules.
pub const RULES: &[&dyn Rule] = &[
    &complete::Complete,
    &in_range::InRange,
    &one_meaning::OneMeaning,
    &well_named::WellNamed,
    &root_disk::RootDisk,
    &cycle_free::CycleFree,
    &unique_addresses::UniqueAddresses,
    &host_ports::HostPorts,
    &pools_apart::PoolsApart,
    &network_plans::NetworkPlans,
    &quota_fits::QuotaFits,
    &restrictions::Restrictions,
    &requirements::Requirements,
    &boots::Boots,
    &volumes_fit::VolumesFit,
];

/// A finding about one field of an object.
fn wrong(code: Code, resource: &Resource, at: Pointer, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code, resource.origin_of(&at), message)
        .of(&resource.address)
        .at(at)
}

/// All instances with their objects.
fn instances(desired: &DesiredSet) -> impl Iterator<Item = (&Resource, &Instance)> {
    desired
        .resources
        .values()
        .filter_map(|resource| match &resource.spec {
            Spec::Instance(instance) => Some((resource, instance.as_ref())),
            _ => None,
        })
}

/// The devices of an instance with their places.
fn devices(instance: &Instance) -> impl Iterator<Item = (&str, &Device, Pointer)> {
    let all = Pointer::new("/spec/devices");
    instance
        .devices
        .iter()
        .map(move |(name, device)| (name.as_str(), device, all.field(name)))
}
