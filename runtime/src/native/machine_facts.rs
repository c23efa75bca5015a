//! What planning must know where machines are involved, beyond what it must know of any host.

use std::collections::BTreeMap;

use manifests::desired::DesiredSet;
use manifests::feature::{Capabilities, MachineFacts, MachineImageFacts};
use manifests::id::Address;
use manifests::kind::{Kind, Spec};

use super::host::Host;
use super::image_documents::ImagePicks;
use super::probe;

/// Adds it. `desired` is what is to be planned; absent: anything may be.
pub(super) fn add(host: &Host, desired: Option<&DesiredSet>, to: &mut Capabilities) {
    let config = &host.config;
    to.missing.extend(probe::missing_for_machines(
        config.accelerator,
        &config.shared_run,
    ));
    to.machines = Some(MachineFacts {
        huge_pages: probe::huge_pages(),
        images: desired
            .map(|desired| images(host, desired))
            .unwrap_or_default(),
        links: probe::link_facts(),
        usb: Some(super::machine::host_usb::devices()),
        pci: Some(super::machine::host_pci::devices()),
    });
}

/// The images for machines in the store, by alias. One that is to be another one soon is left out.
fn images(host: &Host, desired: &DesiredSet) -> BTreeMap<String, MachineImageFacts> {
    let defined = host.definitions.all::<ImagePicks>(Kind::Image);
    let (defined, _) = defined.unwrap_or_default();
    let changes = |alias: &str| {
        let mut wanted = desired.resources.values().filter(|resource| {
            matches!(&resource.spec, Spec::Image(image)
                if resource.address.name == alias || image.aliases.iter().any(|one| one == alias))
        });
        wanted.any(|wanted| {
            let is_same =
                |address: &Address, spec: &Spec| *address == wanted.address && *spec == wanted.spec;
            !defined
                .iter()
                .any(|one| one.complete && is_same(&one.address, &one.spec))
        })
    };
    let aliases = host.images.list_aliases().unwrap_or_default();
    aliases
        .into_iter()
        .filter(|known| !changes(&known.alias))
        .filter_map(|known| {
            // A container's image has none of it.
            let image = host.images.machine(&known.fingerprint).ok()?;
            let facts = MachineImageFacts {
                disk: image.disk.map(|disk| disk.virtual_size),
                kernel: image.kernel.is_some(),
            };
            Some((known.alias, facts))
        })
        .collect()
}
