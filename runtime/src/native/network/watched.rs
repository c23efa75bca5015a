//! The files that a network's dnsmasq watches: who has which address and name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use manifests::path_io::{self, PathError};

use super::addresses::eui64;
use super::dnsmasq::{self, Folders};
use super::plan::{DnsMode, NetworkPlan};
use crate::native::at_once;
use crate::native::known_files::KnownFiles;

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

/// Writes the files and takes away those that are not wished for. Answers whether dnsmasq must read all again.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(
    plan: &NetworkPlan,
    folders: &Folders,
    known: &KnownFiles,
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
