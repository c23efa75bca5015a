//! [`InstancePicks`]: what was picked once for an instance and is kept through restart, rename and rebuild.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use manifests::devices::Nic;
use manifests::id::{Mark, Uid};
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::Instance;
use manifests::observed::TrashedBy;
use manifests::scalar::address::NicAddress4;
use manifests::scalar::mac::Mac;
use serde::{Deserialize, Serialize};

use super::machine::{Given, PutFiles};
use crate::native::network::addresses;
use crate::sys::netlink::HardwareAddress;

/// What was picked once for an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::native) struct InstancePicks {
    /// The fingerprint of the image that its root was made from.
    pub image: String,
    /// The name of the pool that holds its root.
    pub pool: String,
    /// The first of its ids on the host; none for a privileged one.
    pub id_base: Option<u32>,
    /// Its network interfaces, by device.
    pub nics: BTreeMap<String, NicPicks>,
    /// How often it was started.
    pub generation: u64,
    /// The spec with which it was last started: what differs from it waits for a restart.
    pub started_with: Option<serde_json::Value>,
    /// What cloud-init in a machine was given; none before its first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<Given>,
    /// What was put into a machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<PutFiles>,
    /// What it was before it is made anew, on its way into the trash; of one that lies there, how it came there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<Aside>,
    /// Whether it is meant to run: what `autostart: lastState` goes by.
    pub running: bool,
}

/// What an instance was before it is made anew, with the identity that it gets in the trash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::native) struct Aside {
    /// Whose it is, by its identity in the trash.
    pub mark: Mark,
    /// When that was asked for.
    pub at: jiff::Timestamp,
    /// When it goes for good.
    pub expires_at: jiff::Timestamp,
    /// What makes the instance anew.
    pub by: TrashedBy,
}

/// What was picked for a network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::native) struct NicPicks {
    /// Its hardware address.
    pub hwaddr: String,
    /// Its reserved address.
    pub ipv4: Option<Ipv4Addr>,
    /// The name of the link on the host's side.
    pub host_interface: String,
}

impl InstancePicks {
    /// The spec with which it was last started.
    pub(super) fn started_with(&self) -> Option<Instance> {
        match Spec::deserialize(Kind::Instance, self.started_with.as_ref()?) {
            Ok(Spec::Instance(instance)) => Some(*instance),
            _ => None,
        }
    }
}

impl NicPicks {
    /// Its hardware address.
    pub(in crate::native) fn hardware_address(&self) -> Option<HardwareAddress> {
        self.hwaddr
            .parse::<Mac>()
            .ok()
            .map(|mac| HardwareAddress(mac.0))
    }
}

/// The network that a NIC joins, as far as picking needs it.
#[derive(Debug, Clone)]
pub(super) struct Around {
    /// The bridge's address.
    pub subnet: Option<Ipv4Net>,
    /// What DHCP gives out.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Addresses that others have.
    pub taken: BTreeSet<Ipv4Addr>,
    /// Addresses that others had and get back when they come out of the trash: given away only where no other is left.
    pub promised: BTreeSet<Ipv4Addr>,
}

/// Picks what a NIC needs; what was picked before is kept where the manifest does not say otherwise.
pub(super) fn nic(
    uid: &Uid,
    device: &str,
    nic: &Nic,
    before: Option<&NicPicks>,
    around: Option<&Around>,
    macs: &BTreeSet<HardwareAddress>,
) -> NicPicks {
    let uid = uid.to_string();
    // Another one may have it by now: what it was before it was made anew came out of the trash beside it.
    let kept = before.and_then(NicPicks::hardware_address);
    let kept = kept.filter(|kept| !macs.contains(kept));
    let hwaddr = match (nic.hwaddr, kept) {
        (Some(mac), _) => HardwareAddress(mac.0),
        (None, Some(kept)) => kept,
        (None, None) => addresses::guest_hwaddr(&uid, device, macs),
    };
    let ipv4 = match (nic.ipv4.address, around) {
        (NicAddress4::Static(address), _) => Some(address),
        (NicAddress4::None, _) | (NicAddress4::Dynamic, None) => None,
        (NicAddress4::Dynamic, Some(around)) => {
            let usable = |address: &Ipv4Addr| {
                around.subnet.is_some_and(|subnet| subnet.contains(address))
                    && !around.taken.contains(address)
            };
            before
                .and_then(|before| before.ipv4)
                .filter(usable)
                .or_else(|| {
                    let seed = format!("{uid}/{device}");
                    let pick = |not: &_| addresses::pick_reservation(&seed, &around.ranges, not);
                    pick(&(&around.taken | &around.promised)).or_else(|| pick(&around.taken))
                })
        }
    };
    NicPicks {
        hwaddr: Mac(hwaddr.0).to_string(),
        ipv4,
        host_interface: addresses::host_interface(&uid, device),
    }
}
