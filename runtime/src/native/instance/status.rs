//! What `status` of an instance says beyond its spec: read from the kernel, never from what was meant.

use std::sync::OnceLock;

use manifests::devices::Device;
use manifests::path_io;
use serde_json::{Map, Value, json};

use crate::native::network::PortSeen;
use crate::native::shim::Running;

/// When this host was started, in seconds. Read once: for /proc/stat the kernel counts the interrupts of all processors.
fn boot_time() -> Option<u64> {
    static KNOWN: OnceLock<Option<u64>> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let text = path_io::read_to_string("/proc/stat").ok()?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse().ok()
    })
}

/// When init was started, by the host's clock: the kernel counts in ticks since the boot (proc(5)).
pub(super) fn started_at(running: &Running) -> Option<jiff::Timestamp> {
    let boot = boot_time()?;
    let ticks = running.state().start_time;
    let milliseconds = boot * 1000 + ticks * 1000 / rustix::param::clock_ticks_per_second().max(1);
    jiff::Timestamp::from_millisecond(i64::try_from(milliseconds).ok()?).ok()
}

/// The cgroup in which a process's memory is counted, as `/proc/PID/cgroup` names it.
pub(super) fn memory_cgroup(pid: i32) -> Option<String> {
    let text = path_io::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let names = parts.next()?;
            let path = parts.next()?;
            names
                .split(',')
                .any(|name| name == wanted)
                .then(|| path.to_owned())
        })
    };
    of("memory").or_else(|| of(""))
}

/// A network interface as it is.
pub(super) fn nic(host_interface: &str, port: &PortSeen) -> Value {
    let mut fields = Map::new();
    fields.insert("type".to_owned(), json!("nic"));
    fields.insert("hostInterface".to_owned(), json!(host_interface));
    fields.insert("up".to_owned(), json!(port.up));
    if let Some(guest) = &port.guest {
        fields.insert("interface".to_owned(), json!(guest.interface));
        let hwaddr = guest
            .hwaddr
            .map(|mac| manifests::scalar::mac::Mac(mac.0).to_string());
        fields.insert("hwaddr".to_owned(), json!(hwaddr));
        fields.insert("mtu".to_owned(), json!(guest.mtu));
        let addresses: Vec<String> = guest.addresses.iter().map(ToString::to_string).collect();
        fields.insert("addresses".to_owned(), json!(addresses));
    }
    Value::Object(fields)
}

/// Any other device, by what it is and whether it is there.
pub(super) fn device(device: &Device, present: bool) -> Value {
    json!({ "type": device.word(), "present": present })
}
