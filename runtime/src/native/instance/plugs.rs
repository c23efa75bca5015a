//! The NICs of an instance as they are plugged: ports of the host, and what is set at the guest's ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use manifests::devices::Nic;
use manifests::kind::Spec;

use super::picks::InstancePicks;
use super::{networks_of, nics, own_mark, ports, spec};
use crate::error::{Class, RuntimeError};
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::network::port;
use crate::native::network::{GuestPlan, NetworkPlan, PortPlan};
use crate::native::networks;
use crate::sys::netlink::{Connection, Namespace};

/// The plan of a network with all its ports.
pub(in crate::native) fn network_plan(
    host: &Host,
    network: &Definition<networks::NetworkPicks>,
) -> Result<NetworkPlan, RuntimeError> {
    let Spec::Network(written) = &network.spec else {
        return Err(crate::native::wrong_kind(&network.address));
    };
    let ports = ports(host, network)?
        .into_iter()
        .map(|(_, _, port)| port)
        .collect();
    let mark = crate::native::network_mark(host, &network.uid);
    Ok(networks::plan(written, &network.picks, mark, ports))
}

/// One NIC as it is plugged.
pub(super) struct Plug {
    /// The name of the device.
    pub device: String,
    /// The network's plan; none for one that joins no network.
    pub network: Option<NetworkPlan>,
    /// The port.
    pub port: PortPlan,
    /// What is set at the guest's end.
    pub guest: GuestPlan,
}

/// The NICs of an instance as they are plugged.
pub(super) fn plugs(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<Vec<Plug>, RuntimeError> {
    let instance = spec(definition)?;
    let networks = networks_of(host, definition, instance)?;
    let mark = own_mark(host, definition);
    let mut plans: BTreeMap<&String, NetworkPlan> = BTreeMap::new();
    for (name, network) in &networks {
        plans.insert(name, network_plan(host, network)?);
    }
    let mut plugs = Vec::new();
    for (device, nic) in nics::nics(instance) {
        let name = &definition.address.name;
        let Some(port) = nics::port(name, &mark, device, nic, &definition.picks) else {
            continue;
        };
        let (ipv4, ipv6) = bridge_addresses(&networks, nic);
        plugs.push(Plug {
            device: device.to_owned(),
            network: nic
                .network
                .as_ref()
                .and_then(|name| plans.get(name).cloned()),
            port,
            guest: nics::guest(nic, ipv4, ipv6),
        });
    }
    Ok(plugs)
}

/// What is set at the guests' ends of an instance's NICs, by the links of the host that lead there.
pub(super) fn guest_plans(
    host: &Host,
    definition: &Definition<InstancePicks>,
) -> Result<BTreeMap<String, GuestPlan>, RuntimeError> {
    let instance = spec(definition)?;
    let networks = networks_of(host, definition, instance)?;
    let plans = nics::nics(instance).filter_map(|(device, nic)| {
        let picked = definition.picks.nics.get(device)?;
        let (ipv4, ipv6) = bridge_addresses(&networks, nic);
        let plan = nics::guest(nic, ipv4, ipv6);
        Some((picked.host_interface.clone(), plan))
    });
    Ok(plans.collect())
}

/// The addresses of the bridge that a NIC joins.
fn bridge_addresses(
    networks: &BTreeMap<String, Arc<Definition<networks::NetworkPicks>>>,
    nic: &Nic,
) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
    let network = nic.network.as_ref().and_then(|name| networks.get(name));
    match network.map(|network| (&network.spec, &network.picks)) {
        Some((Spec::Network(written), picks)) => (picks.ipv4(written), picks.ipv6(written)),
        _ => (None, None),
    }
}

/// Puts one NIC into a running guest.
pub(super) fn plug(host: &Host, plug: &Plug, guest: &Namespace) -> Result<(), RuntimeError> {
    let failed = |error| RuntimeError::new("plug the network interface of", Class::Retry, error);
    match &plug.network {
        Some(network) => {
            host.network
                .attach(network, &plug.port, guest)
                .map_err(failed)?;
        }
        None => {
            let mut connection = Connection::open().map_err(|error| {
                RuntimeError::new("reach the kernel's links", Class::Retry, error)
            })?;
            port::attach(&mut connection, &plug.port, None, None, guest).map_err(failed)?;
        }
    }
    port::configure_guest(guest, &plug.port.guest_interface, &plug.guest).map_err(failed)
}
