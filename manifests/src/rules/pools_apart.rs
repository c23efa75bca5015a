//! No two pools stand on the same folder, device, dataset or thin pool.

use super::unique_addresses::TAKEN;
use super::{Rule, wrong};
use crate::desired::{DesiredSet, Resource};
use crate::diagnostic::Diagnostics;
use crate::ground::Ground;
use crate::kind::Spec;
use crate::pointer::Pointer;

/// What pools stand on is had by one of them.
pub(super) struct PoolsApart;

impl Rule for PoolsApart {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        let mut claims: Vec<(Ground, &Resource, Pointer)> = Vec::new();
        for resource in desired.resources.values() {
            let Spec::StoragePool(pool) = &resource.spec else {
                continue;
            };
            for ground in Ground::of(pool) {
                let (at, what) = match &ground {
                    Ground::Path(path) => ("/spec/source", path.display().to_string()),
                    Ground::Dataset(name) => {
                        ("/spec/source", format!("the dataset {}", name.display()))
                    }
                    Ground::Group(group) => {
                        ("/spec/lvm/volumeGroup", format!("volume group {group}"))
                    }
                    Ground::ThinPool(group, name) => {
                        ("/spec/lvm/thinPool", format!("thin pool {group}/{name}"))
                    }
                };
                let at = Pointer::new(at);
                let taken = claims.iter().find(|(other, ..)| other.meets(&ground));
                if let Some((other, first, first_at)) = taken {
                    let message = match *other == ground {
                        true => format!("{what} is claimed by {} already", first.address),
                        false => format!(
                            "{what} and what {} stands on lie in each other",
                            first.address
                        ),
                    };
                    found.push(
                        wrong(TAKEN, resource, at, message)
                            .related(first.origin_of(first_at), "first claimed here"),
                    );
                } else {
                    claims.push((ground, resource, at));
                }
            }
        }
    }
}
