//! A machine finds something to boot in its image, in the way that it is told to.

use super::one_meaning::CONTRADICTION;
use super::requirements::NOT_FOR_IT;
use super::{Rule, instances, wrong};
use crate::desired::{DesiredSet, Resource};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::id::Address;
use crate::instance::boot::{BootMode, ShutdownAction};
use crate::instance::savable::unsavable;
use crate::kind::{Kind, Spec};
use crate::kinds::image::Image;
use crate::kinds::instance::Instance;
use crate::pointer::Pointer;
use crate::scalar::image_ref::ImageRef;

/// `boot.mode` against the Image, and what keeps the state of a machine against its disks.
pub(super) struct Boots;

impl Rule for Boots {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        for (resource, instance) in instances(desired) {
            if instance.is_container() {
                continue;
            }
            if let Some(problem) = mode(resource, instance, desired) {
                found.push(problem);
            }
            stateful(resource, instance, found);
        }
    }
}

/// The Image that an instance starts from, where it is declared.
fn image<'a>(
    resource: &Resource,
    instance: &Instance,
    desired: &'a DesiredSet,
) -> Option<(&'a Resource, &'a Image)> {
    let Some(ImageRef::Alias {
        remote: None,
        alias,
    }) = &instance.image
    else {
        return None;
    };
    let own = Address::in_project(Kind::Image, resource.address.project_name(), alias);
    let declared = desired.resources.get(&own);
    let declared = declared.or_else(|| desired.resources.get(&Address::new(Kind::Image, alias)))?;
    match &declared.spec {
        Spec::Image(image) => Some((declared, image)),
        _ => None,
    }
}

fn mode(resource: &Resource, instance: &Instance, desired: &DesiredSet) -> Option<Diagnostic> {
    let at = Pointer::new("/spec/boot/mode");
    let written = instance.boot.mode;
    let in_place = matches!(instance.image, None | Some(ImageRef::Source(_)));
    if written == Some(BootMode::Direct) && in_place {
        let message = "`direct` boots the kernel of an Image, and this machine starts from none";
        let one = wrong(NOT_FOR_IT, resource, at, message);
        return Some(one.hint("name an Image with `kernel`, or boot by `uefi` or `bios`"));
    }
    let (declared, image) = image(resource, instance, desired)?;
    let name = &declared.address.name;
    let here = |field: &str, words: &str| {
        let at = Pointer::new(&format!("/spec/{field}"));
        (declared.origin_of(&at), words.to_owned())
    };
    let mode = written.unwrap_or(match image.kernel {
        Some(_) => BootMode::Direct,
        None => BootMode::UefiSecureboot,
    });
    let (message, hint, (place, words)) = match (mode, &image.kernel, &image.source) {
        (BootMode::Direct, None, _) => (
            format!("image {name} has no kernel, which is what `direct` boots"),
            "boot by `uefi` or `bios`, or give the Image a `kernel`".to_owned(),
            (declared.origin.clone(), "this Image".to_owned()),
        ),
        (BootMode::UefiSecureboot, Some(_), None) => (
            format!(
                "image {name} is a kernel alone: it is booted directly, and nobody checks a signature of it"
            ),
            "did you mean `mode: direct`?".to_owned(),
            here("kernel", "its kernel"),
        ),
        (BootMode::Uefi | BootMode::Bios, Some(_), None) => (
            format!("image {name} is a kernel alone: firmware finds nothing to boot on its disk"),
            "did you mean `mode: direct`?".to_owned(),
            here("kernel", "its kernel"),
        ),
        (BootMode::UefiSecureboot, ..) if image.requirements.secureboot == Some(false) => (
            format!("image {name} is for instances that boot without secure boot"),
            "did you mean `boot: { mode: uefi }`?".to_owned(),
            here("requirements/secureboot", "it is said here"),
        ),
        _ => return None,
    };
    let one = wrong(NOT_FOR_IT, resource, at, message);
    Some(one.hint(hint).related(place, words))
}

/// QEMU saves the state of some devices not: with one there is no snapshot with memory, and no going on after a stop.
fn stateful(resource: &Resource, instance: &Instance, found: &mut Diagnostics) {
    let asked = [
        ("snapshots/stateful", instance.snapshots.stateful),
        (
            "boot/hostShutdownAction",
            instance.boot.host_shutdown_action == ShutdownAction::StatefulStop,
        ),
    ];
    for one in unsavable(instance) {
        for (field, _) in asked.iter().filter(|(_, asked)| *asked) {
            let at = Pointer::new(&format!("/spec/{field}"));
            let message = format!("the state of a machine with {} cannot be saved", one.what);
            let device = Pointer::new(&format!("/spec/devices/{}", one.device));
            let place = match one.field {
                Some(field) => device.field(field),
                None => device,
            };
            let place = resource.origin_of(&place);
            let problem = wrong(CONTRADICTION, resource, at, message);
            found.push(problem.hint(one.hint).related(place, "this device"));
        }
    }
}
