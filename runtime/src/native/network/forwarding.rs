//! Passing packets on between interfaces: what must be switched on for a network, and what we switched.
//!
//! IPv4: the kernel asks the interface at which a packet arrives (`ip_route_input_slow`, `IN_DEV_FORWARD`), so the
//! bridge and the interfaces that lead outside are switched on, and `ip_forward` itself is left alone: it would switch
//! all others too. IPv6: the kernel asks the switch for all (`ip6_forward`), which then also stops interfaces from
//! listening to routers, unless their `accept_ra` is 2 (`Documentation/networking/ip-sysctl.rst`).
//!
//! What was changed is written down in the shared run folder with its value before, and put back when the last network
//! that needs it is gone; a value that somebody changed meanwhile is left as it is. The values and the record live
//! until the host restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};
use serde::{Deserialize, Serialize};

use super::plan::NetworkPlan;
use crate::sys::netlink::{Link, NetlinkError, Route};

/// A switch could not be read or turned.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// A file of procfs or of ours.
    #[error("switch forwarding")]
    Path(#[from] PathError),
    /// The kernel did not list links.
    #[error("find the interfaces that lead outside")]
    Netlink(#[from] NetlinkError),
    /// The record is not ours or broken.
    #[error("read the record of forwarding {}", path.display())]
    Record {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// One switch and the value that a network needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Switch {
    /// Below `/proc/sys/net`.
    pub path: String,
    /// What it shall hold.
    pub value: &'static str,
}

fn switch(path: String, value: &'static str) -> Switch {
    Switch { path, value }
}

/// The switches of the bridge itself, which vanish with it.
pub fn own_switches(plan: &NetworkPlan) -> Vec<Switch> {
    let interface = &plan.interface;
    let bit = |on: bool| if on { "1" } else { "0" };
    let four = plan.ipv4.as_ref().is_some_and(|ip| ip.routing);
    let six = plan.ipv6.as_ref().is_some_and(|ip| ip.routing);
    let mut switches = vec![
        switch(format!("ipv4/conf/{interface}/forwarding"), bit(four)),
        // Guests must not reach the host by a link-local address of a network that has no IPv6.
        switch(
            format!("ipv6/conf/{interface}/disable_ipv6"),
            bit(plan.ipv6.is_none()),
        ),
        switch(format!("ipv6/conf/{interface}/accept_ra"), "0"),
    ];
    if plan.ipv6.is_some() {
        switches.push(switch(
            format!("ipv6/conf/{interface}/forwarding"),
            bit(six),
        ));
    }
    switches
}

/// The switches of the host that a network needs: pure.
///
/// `outside` are the names of interfaces that lead outside and that listen to routers (`accept_ra` 1).
pub fn host_switches(plan: &NetworkPlan, outside: &[String], listening: &[String]) -> Vec<Switch> {
    let mut switches = Vec::new();
    if plan.ipv4.as_ref().is_some_and(|ip| ip.routing) {
        for interface in outside {
            switches.push(switch(format!("ipv4/conf/{interface}/forwarding"), "1"));
        }
    }
    if plan.ipv6.as_ref().is_some_and(|ip| ip.routing) {
        // Before the switch for all: an interface that stops listening to routers forgets its routes.
        for interface in listening {
            switches.push(switch(format!("ipv6/conf/{interface}/accept_ra"), "2"));
        }
        switches.push(switch("ipv6/conf/all/forwarding".to_owned(), "1"));
    }
    switches
}

/// Names of interfaces that routes lead through, besides bridges of ours and the loopback: pure.
///
/// A bridge of somebody else counts only where a route that somebody set leads through it (a bridge with an uplink):
/// one that merely has a subnet is the network of other guests, and is left as it is.
pub fn leading_outside(
    routes: &[Route],
    links: &[Link],
    own: &dyn Fn(&Link) -> bool,
) -> Vec<String> {
    let leads = |link: &Link| {
        routes.iter().any(|route| {
            route.destination.addr().is_ipv4()
                && route.links.contains(&link.index)
                && (!route.by_kernel || link.kind.as_deref() != Some("bridge"))
        })
    };
    links
        .iter()
        .filter(|link| link.name != "lo" && !own(link) && leads(link))
        .map(|link| link.name.clone())
        .collect()
}

fn file(switch: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(switch)
}

fn value(switch: &str) -> Result<Option<String>, PathError> {
    Ok(path_io::read_if_exists(file(switch))?.map(|text| text.trim().to_owned()))
}

/// What is needed of the host, as it is now.
fn needed(
    plan: &NetworkPlan,
    links: &[Link],
    routes: &[Route],
) -> Result<Vec<Switch>, ForwardingError> {
    let own = |link: &Link| {
        link.alias
            .as_deref()
            .is_some_and(|a| a.starts_with("keel:"))
    };
    let outside = leading_outside(routes, links, &own);
    let mut listening = Vec::new();
    // Where the host forwards already, who listens to routers is its own choice.
    if value("ipv6/conf/all/forwarding")?.as_deref() == Some("0") {
        for link in links.iter().filter(|link| link.name != "lo" && !own(link)) {
            if value(&format!("ipv6/conf/{}/accept_ra", link.name))?.as_deref() == Some("1") {
                listening.push(link.name.clone());
            }
        }
    }
    Ok(host_switches(plan, &outside, &listening))
}

/// The switches, of the bridge and of the host, that do not hold what the network needs.
///
/// # Errors
/// procfs cannot be read, the kernel lists no links.
pub fn seen(
    plan: &NetworkPlan,
    links: &[Link],
    routes: &[Route],
) -> Result<Vec<Switch>, ForwardingError> {
    let mut wrong = Vec::new();
    for switch in own_switches(plan)
        .into_iter()
        .chain(needed(plan, links, routes)?)
    {
        // Without the file the kernel has no IPv6, or the bridge is not there: said elsewhere.
        if value(&switch.path)?.is_some_and(|value| value != switch.value) {
            wrong.push(switch);
        }
    }
    Ok(wrong)
}

/// Who needs forwarding, and what we turned for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    format_version: u32,
    /// `STATE/INTERFACE`.
    users: BTreeSet<String>,
    /// Path of the switch; value before and value that we gave.
    changed: BTreeMap<String, (String, String)>,
}

/// The record, locked against other processes until it is dropped.
struct Locked {
    path: PathBuf,
    record: Record,
    _lock: File,
}

fn open(shared: &Path) -> Result<Locked, ForwardingError> {
    path_io::create_dir_all(shared)?;
    let path = shared.join("forwarding.json");
    // The folder itself is the lock, so that no file of it is left over.
    let lock = File::open(shared).at("open", shared)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).at("lock", shared)?;
    let record = match path_io::read_if_exists(&path)? {
        None => Record {
            format_version: 1,
            ..Record::default()
        },
        Some(text) => serde_json::from_str(&text).map_err(|source| ForwardingError::Record {
            path: path.clone(),
            source,
        })?,
    };
    Ok(Locked {
        path,
        record,
        _lock: lock,
    })
}

impl Locked {
    fn save(&self) -> Result<(), ForwardingError> {
        let text = serde_json::to_vec(&self.record).map_err(|source| ForwardingError::Record {
            path: self.path.clone(),
            source,
        })?;
        Ok(path_io::write_durably(&self.path, text)?)
    }
}

/// Turns the switches that a network needs. `user` names it among all of the host (`STATE/INTERFACE`).
///
/// # Errors
/// A switch cannot be turned; the record cannot be kept.
pub fn ensure(
    plan: &NetworkPlan,
    (links, routes): (&[Link], &[Route]),
    user: &str,
    shared: &Path,
) -> Result<bool, ForwardingError> {
    let mut turned = false;
    for switch in own_switches(plan) {
        if value(&switch.path)?.is_some_and(|value| value != switch.value) {
            path_io::write_kernel_file(file(&switch.path), switch.value)?;
            turned = true;
        }
    }
    let needed = needed(plan, links, routes)?;
    if needed.is_empty() {
        release(user, shared)?;
        return Ok(turned);
    }
    let mut locked = open(shared)?;
    let known = locked.record.users.contains(user);
    let mut wrong = Vec::new();
    for switch in needed {
        if let Some(before) = value(&switch.path)?
            && before != switch.value
        {
            wrong.push((switch, before));
        }
    }
    if known && wrong.is_empty() {
        return Ok(turned);
    }
    locked.record.users.insert(user.to_owned());
    // Written down before it is turned: whoever dies in between leaves a record that tells too much, not too little.
    for (switch, before) in &wrong {
        locked
            .record
            .changed
            .entry(switch.path.clone())
            .or_insert_with(|| (before.clone(), switch.value.to_owned()));
    }
    locked.save()?;
    // Turning the switch for all turns every interface of the family; one of ours that shall not forward is turned back.
    for (switch, _) in &wrong {
        path_io::write_kernel_file(file(&switch.path), switch.value)?;
        turned = true;
    }
    for switch in own_switches(plan) {
        if value(&switch.path)?.is_some_and(|value| value != switch.value) {
            path_io::write_kernel_file(file(&switch.path), switch.value)?;
        }
    }
    Ok(turned)
}

/// Says that a network needs forwarding no longer; after the last one everything is put back.
///
/// # Errors
/// A switch cannot be turned back; the record cannot be kept.
pub fn release(user: &str, shared: &Path) -> Result<(), ForwardingError> {
    if path_io::read_if_exists(shared.join("forwarding.json"))?.is_none() {
        return Ok(());
    }
    let mut locked = open(shared)?;
    locked.record.users.remove(user);
    let mut gone = Vec::new();
    for other in &locked.record.users {
        // A bridge that vanished with its state folder needs nothing any more.
        let interface = other.rsplit('/').next().unwrap_or_default();
        if value(&format!("ipv4/conf/{interface}/forwarding"))?.is_none() {
            gone.push(other.clone());
        }
    }
    for other in gone {
        locked.record.users.remove(&other);
    }
    if !locked.record.users.is_empty() {
        return locked.save();
    }
    // Somebody who switched forwarding on for all since then counts on it.
    let all = value("ipv4/ip_forward")?;
    let mut order: Vec<_> = locked.record.changed.iter().collect();
    // The switch for all before accept_ra, so that no interface stops listening in between.
    order.sort_by_key(|(path, _)| path.ends_with("/accept_ra"));
    for (path, (before, given)) in order {
        let theirs = path.starts_with("ipv4/") && all.as_deref() == Some("1");
        if !theirs && value(path)?.as_ref() == Some(given) {
            path_io::write_kernel_file(file(path), before)?;
        }
    }
    Ok(path_io::remove_file(&locked.path)?)
}
