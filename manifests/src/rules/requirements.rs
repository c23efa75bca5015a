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

/// `requirements`, `type` (or what tells it) and `architecture` of an Image against the instances that start from it.
pub(super) struct Requirements;

impl Rule for Requirements {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        for (resource, instance) in instances(desired) {
            let alias = match &instance.image {
                Some(ImageRef::Alias {
                    remote: None,
                    alias,
                }) => alias,
                Some(ImageRef::Source(source)) => {
                    if let Some(wanted) = source.made_for()
                        && wanted != instance.r#type
                    {
                        let at = Pointer::new("/spec/type");
                        let message = format!("its image is for instances of type {wanted}");
                        let asked = resource.origin_of(&Pointer::new("/spec/image"));
                        found.push(
                            wrong(NOT_FOR_IT, resource, at, message)
                                .related(asked, "it comes from here"),
                        );
                    }
                    continue;
                }
                _ => continue,
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
            let made_for = written.made_for();
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
                    made_for.map_or("type", |(_, field)| field),
                    made_for
                        .filter(|(wanted, _)| *wanted != instance.r#type)
                        .map(|(wanted, _)| format!("of type {wanted}")),
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
