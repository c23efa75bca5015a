//! An instance is what its image asks for.

use super::{Rule, instances, wrong};
use crate::desired::DesiredSet;
use crate::diagnostic::{Code, Diagnostics};
use crate::id::Address;
use crate::kind::{Kind, Spec};
use crate::pointer::Pointer;
use crate::scalar::image_ref::ImageRef;

/// An instance that its image does not fit.
pub(crate) const NOT_FOR_IT: Code = Code("R0208");

/// `requirements`, `type` and `architecture` of an Image against the instances that start from it.
pub(super) struct Requirements;

impl Rule for Requirements {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        for (resource, instance) in instances(desired) {
            let Some(ImageRef::Alias {
                remote: None,
                alias,
            }) = &instance.image
            else {
                continue;
            };
            let own = Address::in_project(Kind::Image, resource.address.project_name(), alias);
            let declared = desired.resources.get(&own);
            let Some(image) =
                declared.or_else(|| desired.resources.get(&Address::new(Kind::Image, alias)))
            else {
                continue;
            };
            let Spec::Image(written) = &image.spec else {
                continue;
            };
            let wants = &written.requirements;
            let security = &instance.security;
            let nesting = security.nesting.unwrap_or(!instance.is_container());
            let architectures = (&instance.architecture, &written.architecture);
            let misfits = [
                (
                    "security/privileged",
                    "requirements/privileged",
                    wants
                        .privileged
                        .filter(|wanted| *wanted != security.privileged)
                        .map(|wanted| {
                            format!(
                                "{} privileged",
                                if wanted { "that are" } else { "that are not" }
                            )
                        }),
                ),
                (
                    "security/nesting",
                    "requirements/nesting",
                    wants
                        .nesting
                        .filter(|wanted| *wanted && !nesting)
                        .map(|_| "that may nest".to_owned()),
                ),
                (
                    "type",
                    "type",
                    written
                        .r#type
                        .filter(|wanted| *wanted != instance.r#type)
                        .map(|wanted| format!("of type {wanted}")),
                ),
                (
                    "architecture",
                    "architecture",
                    match architectures {
                        (Some(one), Some(other)) if one != other => Some(format!("on {other}")),
                        _ => None,
                    },
                ),
            ];
            for (field, of_image, wanted) in misfits {
                let Some(wanted) = wanted else { continue };
                let at = Pointer::new(&format!("/spec/{field}"));
                let message = format!("image {alias} is for instances {wanted}");
                let asked = image.origin_of(&Pointer::new(&format!("/spec/{of_image}")));
                found.push(
                    wrong(NOT_FOR_IT, resource, at, message).related(asked, "it is said here"),
                );
            }
        }
    }
}
