//! The files that a network's dnsmasq watches: who has which address and name.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use manifests::path_io::{self, PathError};

use super::addresses::eui64;
use super::dnsmasq::{self, Folders};
use super::plan::{DnsMode, NetworkPlan};
use crate::native::at_once;

/// The files that it watches, by their path below the run folder, with their content.
pub(super) fn files(plan: &NetworkPlan) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let named = plan.dns.mode != DnsMode::None;
    for port in &plan.ports {
        let (file, name) = (&port.host_interface, &port.instance);
        let mut reservation = port.hwaddr.to_string();
        if let Some(address) = port.ipv4 {
            reservation += &format!(",{address}");
        }
        if let Some(address) = port.ipv6 {
            reservation += &format!(",[{address}]");
        }
        files.insert(
            format!("reservations/{file}"),
            format!("{reservation},{name}\n"),
        );
        let mut names = String::new();
        if let Some(address) = port.ipv4 {
            names += &format!("{address} {name}\n");
        }
        let own = plan.ipv6.as_ref().and_then(|ip| {
            let dhcp = ip.dhcp.as_ref()?;
            (!dhcp.stateful && !port.without_ipv6 && ip.address.prefix_len() == 64)
                .then(|| eui64(ip.address.network(), port.hwaddr))
        });
        if let Some(address) = port.ipv6.or(own) {
            names += &format!("{address} {name}\n");
        }
        if named && !names.is_empty() {
            files.insert(format!("names/{file}"), names);
        }
    }
    for reservation in &plan.reservations {
        let file = hex::encode(reservation.hwaddr.0);
        let mut line = reservation.hwaddr.to_string();
        if let Some(address) = reservation.ipv4 {
            line += &format!(",{address}");
        }
        if let Some(address) = reservation.ipv6 {
            line += &format!(",[{address}]");
        }
        if let Some(name) = &reservation.name {
            line += &format!(",{name}");
            if named {
                let four = reservation.ipv4.map(IpAddr::V4);
                let all = four.into_iter().chain(reservation.ipv6.map(IpAddr::V6));
                let lines = all.map(|address| format!("{address} {name}\n"));
                files.insert(format!("names/{file}"), lines.collect());
            }
        }
        files.insert(format!("reservations/{file}"), line + "\n");
    }
    let mut hosts = String::new();
    for (name, addresses) in &plan.dns.hosts {
        for address in addresses {
            hosts += &format!("{address} {name}\n");
        }
    }
    if !hosts.is_empty() {
        files.insert("names/hosts".to_owned(), hosts);
    }
    files
}

/// The files below the run folder that are missing, different or not wished for.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn stale(plan: &NetworkPlan, folders: &Folders) -> Result<Vec<String>, PathError> {
    let wanted = files(plan);
    let mut stale: Vec<String> = existing(folders)?
        .into_iter()
        .filter(|file| !wanted.contains_key(file))
        .collect();
    let wanted: Vec<_> = wanted.into_iter().collect();
    let read = at_once::each(&wanted, |(file, content)| {
        let there = path_io::read_if_exists(folders.run.join(file))?;
        Ok::<_, PathError>((there.as_ref() != Some(content)).then(|| file.clone()))
    });
    for file in read {
        stale.extend(file?);
    }
    Ok(stale)
}

/// The files that are there, as [`files`] names them.
pub(super) fn existing(folders: &Folders) -> Result<Vec<String>, PathError> {
    let mut found = Vec::new();
    for folder in [folders.reservations(), folders.names()] {
        let entries = match path_io::list(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        found.extend(
            entries
                .iter()
                .filter_map(|path| path.strip_prefix(&folders.run).ok())
                .map(|path| path.display().to_string()),
        );
    }
    Ok(found)
}

/// A file is changed twice within this at the most without its time telling: the kernel's clock for files goes by ticks
/// (`current_time` in `fs/inode.c`, at least 100 a second).
const TICK: Duration = Duration::from_millis(20);

/// Which file it is that was read, and when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether whoever changes it from now on changes this as well.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is compared with the kernel's own time of a file, and is not the time of a deed"
    )]
    fn is_past(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (seconds, nanoseconds) = self.changed;
        let changed = u64::try_from(seconds)
            .ok()
            .zip(u32::try_from(nanoseconds).ok());
        now.ok()
            .zip(changed)
            .is_some_and(|(now, (seconds, rest))| now > Duration::new(seconds, rest) + TICK)
    }
}

/// What was read of files, so that those which nobody touched since are not read again: with each instance that joins a
/// network the files of all are looked at.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<PathBuf, (Stamp, String)>>);

impl Known {
    /// The content of a file; none where there is none.
    fn read(&self, path: &Path) -> Result<Option<String>, PathError> {
        let Ok(now) = std::fs::symlink_metadata(path) else {
            return path_io::read_if_exists(path);
        };
        let stamp = Stamp::of(&now);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, content)) = known.get(path)
            && *before == stamp
        {
            return Ok(Some(content.clone()));
        }
        // What is changed after this is seen in its time, but for the tick that it was changed in.
        let is_past = stamp.is_past();
        let content = path_io::read_if_exists(path)?;
        match &content {
            Some(content) if is_past => {
                known.insert(path.to_path_buf(), (stamp, content.clone()));
            }
            _ => {
                known.remove(path);
            }
        }
        Ok(content)
    }

    fn forget(&self, path: &Path) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(path);
    }
}

/// Writes the files and takes away those that are not wished for. Answers whether dnsmasq must read all again.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(
    plan: &NetworkPlan,
    folders: &Folders,
    known: &Known,
) -> Result<bool, PathError> {
    let wanted = files(plan);
    let mut again = false;
    for file in existing(folders)? {
        if !wanted.contains_key(&file) {
            let path = folders.run.join(file);
            known.forget(&path);
            path_io::remove_file(path)?;
            again = true;
        }
    }
    for (file, content) in &wanted {
        let path = folders.run.join(file);
        match known.read(&path)? {
            Some(old) if old == *content => continue,
            // What it has read of the old file stays until it is told to forget.
            Some(_) => again = true,
            None => {}
        }
        // dnsmasq passes over names that begin with a dot.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}"));
        path_io::write(&temporary, content)?;
        dnsmasq::set_mode(&temporary, 0o644)?;
        path_io::rename(&temporary, &path)?;
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_touches_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("veth0");
        let known = Known::default();
        assert_eq!(known.read(&path).expect("read"), None);
        path_io::write(&path, "one").expect("written");
        let long_ago = || {
            let mut known = known.0.lock().expect("known");
            known.contains_key(&path).then(|| known.clear())
        };
        // Just written: whoever writes in the same tick leaves the same time.
        assert_eq!(known.read(&path).expect("read").as_deref(), Some("one"));
        assert_eq!(long_ago(), None);
        path_io::write(&path, "two").expect("written");
        assert_eq!(known.read(&path).expect("read").as_deref(), Some("two"));
        let stamp = Stamp::of(&std::fs::symlink_metadata(&path).expect("there"));
        let of = |content: &str| (stamp, content.to_owned());
        known
            .0
            .lock()
            .expect("known")
            .insert(path.clone(), of("what was read"));
        assert_eq!(
            known.read(&path).expect("read").as_deref(),
            Some("what was read")
        );
        // Another file of the same name, size and, it may be, time.
        let other = folder.path().join("other");
        path_io::write(&other, "six").expect("written");
        path_io::rename(&other, &path).expect("renamed");
        assert_eq!(known.read(&path).expect("read").as_deref(), Some("six"));
        known
            .0
            .lock()
            .expect("known")
            .insert(path.clone(), of("gone"));
        path_io::remove_file(&path).expect("removed");
        assert_eq!(known.read(&path).expect("read"), None);
        let past = Stamp {
            changed: (1_700_000_000, 5),
            ..stamp
        };
        assert!(past.is_past());
        assert!(
            !Stamp {
                changed: (i64::from(u32::MAX), 0),
                ..stamp
            }
            .is_past()
        );
    }
}
