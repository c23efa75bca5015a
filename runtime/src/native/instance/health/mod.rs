//! Whether instances are healthy: their checks are made when somebody looks, at most once in their interval.
//!
//! ```text
//! RUN/health.json   what the checks said last, and how many in a row failed
//! ```
//! Nobody watches in between: what is told is never older than the interval, and no check is made for nobody. `record` is
//! pure, `probes` ask.

mod probes;
mod record;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use manifests::id::Uid;
use manifests::instance::health::Health;
use manifests::kinds::instance::{Instance, PowerState};
use manifests::path_io;
use serde_json::{Value, json};

use self::probes::Subject;
use self::record::Record;
use super::picks::InstancePicks;
use super::{Machines, Ports, machine, nics, spec};
use crate::native::at_once;
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::shim::{Found, Running, ShimError};

/// What is kept between two looks, in the run folder: a tmpfs.
const FILE: &str = "health.json";

/// How healthy the running instances are that have checks, as their status tells it.
pub(in crate::native) type Healths = BTreeMap<Uid, Value>;

type Sighting = (Arc<Definition<InstancePicks>>, Result<Found, ShimError>);

/// Looks after all of them at once: each answers in its own time.
pub(in crate::native) fn healths(
    host: &Host,
    instances: &[Sighting],
    ports: &Ports,
    machines: &Machines,
) -> Healths {
    let asked: Vec<_> = instances
        .iter()
        .filter_map(|(one, found)| {
            let (Ok(Found::Running(running)), Ok(instance)) = (found, spec(one)) else {
                return None;
            };
            let health = instance.health.as_ref()?;
            Some((one.as_ref(), running.as_ref(), instance, health))
        })
        .collect();
    let told = at_once::waiting(&asked, |(one, running, instance, health)| {
        let look = machines.get(&one.uid);
        let stands_still = match look.map(|look| &look.seen) {
            Some(Ok(seen)) => machine::power(seen) != PowerState::Running,
            // It is not known how it is: neither is its health.
            Some(Err(_)) => true,
            None => running.frozen().unwrap_or(true),
        };
        if stands_still {
            return None;
        }
        let subject = Subject {
            host,
            instance,
            running,
            addresses: addresses(one, instance, ports, look),
            lacking: without_address(one, instance, ports, look),
        };
        Some((one.uid, checked(health, &subject)?))
    });
    told.into_iter().flatten().collect()
}

/// The addresses at which an instance can be reached.
fn addresses(
    one: &Definition<InstancePicks>,
    instance: &Instance,
    ports: &Ports,
    look: Option<&machine::Look>,
) -> Vec<IpAddr> {
    let told = look.and_then(|look| look.addresses.as_ref());
    let told: Vec<IpAddr> = told
        .into_iter()
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect();
    if !told.is_empty() {
        return told;
    }
    let mut all = Vec::new();
    for (device, _) in nics::nics(instance) {
        match ports.get(&(one.uid, device.to_owned())) {
            Some(port) if instance.is_container() => {
                let guest = port.guest.iter().flat_map(|guest| &guest.addresses);
                all.extend(guest.map(|net| net.addr()).filter(is_of_more_than_a_link));
            }
            // Nobody tells what the guest has: it has what is reserved for it, if it asked.
            _ => all.extend(
                one.picks
                    .nics
                    .get(device)
                    .and_then(|nic| nic.ipv4)
                    .map(IpAddr::V4),
            ),
        }
    }
    all
}

const fn is_of_more_than_a_link(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => !four.is_loopback() && !four.is_link_local(),
        IpAddr::V6(six) => !six.is_loopback() && !six.is_unicast_link_local(),
    }
}

/// The first network interface that has no address, as far as that can be seen.
fn without_address(
    one: &Definition<InstancePicks>,
    instance: &Instance,
    ports: &Ports,
    look: Option<&machine::Look>,
) -> Option<String> {
    let has = |device: &str| {
        if instance.is_container() {
            let port = ports.get(&(one.uid, device.to_owned()));
            let guest = port.and_then(|port| port.guest.as_ref());
            return guest.is_some_and(|guest| {
                let mut addresses = guest.addresses.iter().map(|net| net.addr());
                addresses.any(|address| is_of_more_than_a_link(&address))
            });
        }
        let Some(told) = look.and_then(|look| look.addresses.as_ref()) else {
            return false;
        };
        match one.picks.nics.get(device).and_then(|nic| nic.ipv4) {
            Some(reserved) => told.contains(&reserved.to_string()),
            None => !told.is_empty(),
        }
    };
    let mut devices = nics::nics(instance).map(|(device, _)| device);
    devices.find(|device| !has(device)).map(str::to_owned)
}

/// How healthy one is; none: the clock of the host cannot be read.
fn checked(health: &Health, subject: &Subject<'_>) -> Option<Value> {
    let path = subject.running.run_dir().join(FILE);
    let started = subject.running.state().start_time;
    let now = since_boot()?;
    let before = path_io::read_if_exists(&path).ok().flatten();
    let before: Option<Record> = before
        .and_then(|text| serde_json::from_str(&text).ok())
        .filter(|record: &Record| record.is_of(started));
    let record = match before {
        Some(before) if !before.is_due(health, now) => before,
        before => {
            let checks = probes::checks(health, subject);
            let running_for = now.saturating_sub(began(subject.running));
            let record = Record::next(before, health, started, (now, running_for), checks);
            if let Ok(text) = serde_json::to_vec(&record) {
                // Without it they are made again.
                let _ = path_io::write_atomically(&path, text);
            }
            record
        }
    };
    let mut told = json!({ "status": record.word(health) });
    let failed: Vec<Value> = record
        .failed()
        .map(|check| json!({ "check": check.name, "why": check.why }))
        .collect();
    if !failed.is_empty() {
        told["failing"] = json!(failed);
        told["failures"] = json!(record.failures);
    }
    Some(told)
}

/// How long this host has been up.
fn since_boot() -> Option<Duration> {
    let text = path_io::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// When the first process was started, from the start of the host: the kernel counts in ticks (proc(5)).
fn began(running: &Running) -> Duration {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(running.state().start_time.saturating_mul(1000) / ticks)
}
