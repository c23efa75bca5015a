//! Names inside objects: environment variables, kernel settings, interfaces, files.

use super::{Rule, devices, wrong};
use crate::decode::BAD_VALUE;
use crate::desired::{DesiredSet, Resource};
use crate::devices::Device;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kind::Spec;
use crate::pointer::Pointer;
use crate::resolve::BAD_NAME;
use crate::scalar::path::AbsolutePath;

/// Names that become part of files, environments and commands hold nothing that would mean something there.
pub(super) struct WellNamed;

impl Rule for WellNamed {
    fn check(&self, desired: &DesiredSet, found: &mut Diagnostics) {
        let spec = Pointer::new("/spec");
        for resource in desired.resources.values() {
            match &resource.spec {
                Spec::Instance(instance) => {
                    let groups: [(&str, Vec<&String>, Check, &str); 5] = [
                        (
                            "environment",
                            instance.environment.keys().collect(),
                            is_variable,
                            "a name of an environment variable has no `=` and no control characters",
                        ),
                        (
                            "user",
                            instance.user.keys().collect(),
                            is_key,
                            "a key has letters, digits, `.`, `_` and `-`",
                        ),
                        (
                            "sysctl",
                            instance.sysctl.keys().collect(),
                            is_setting,
                            "a kernel setting is written with dots: `net.ipv4.ip_forward`",
                        ),
                        (
                            "credentials",
                            instance.credentials.keys().collect(),
                            is_key,
                            "the name of a credential has letters, digits, `.`, `_` and `-`",
                        ),
                        (
                            "kernelModules",
                            instance.kernel_modules.iter().collect(),
                            is_key,
                            "the name of a module has letters, digits, `_` and `-`",
                        ),
                    ];
                    for (group, names, good, rule) in groups {
                        for name in names.into_iter().filter(|name| !good(name)) {
                            found.push(bad(resource, spec.field(group).field(name), name, rule));
                        }
                    }
                    if let Some(files) = &instance.files.0 {
                        for path in files.keys() {
                            path_is_good(resource, &spec.field("files").field(path), path, found);
                        }
                    }
                    for (name, device, at) in devices(instance) {
                        one_device(resource, name, device, &at, found);
                    }
                }
                Spec::Volume(volume) => {
                    let file = volume
                        .source
                        .as_ref()
                        .and_then(|source| source.file.as_ref());
                    if let Some(file) = file {
                        path_is_good(resource, &spec.field("source").field("file"), file, found);
                    }
                }
                Spec::Network(network) => {
                    if let Some(name) = network
                        .interface
                        .as_deref()
                        .filter(|name| !is_interface(name))
                    {
                        found.push(bad(resource, spec.field("interface"), name, INTERFACE));
                    }
                    for name in network.dns.hosts.keys().filter(|name| !is_host(name)) {
                        found.push(bad(
                            resource,
                            spec.field("dns").field("hosts").field(name),
                            name,
                            HOST,
                        ));
                    }
                    let domains = std::iter::once(&network.dns.domain).chain(&network.dns.search);
                    for name in domains.filter(|name| !is_host(name)) {
                        found.push(bad(resource, spec.field("dns").field("domain"), name, HOST));
                    }
                }
                _ => {}
            }
        }
    }
}

type Check = fn(&str) -> bool;

const INTERFACE: &str = "the name of an interface has 1 to 15 letters, digits, `.`, `_` and `-`";
const HOST: &str = "a name in DNS has letters, digits, `-` and `.`";

fn bad(resource: &Resource, at: Pointer, name: &str, rule: &str) -> Diagnostic {
    let short: String = name.chars().take(40).collect();
    let message = format!(
        "`{}` is no name in {}",
        short.escape_debug(),
        at.parent().unwrap_or_default().dotted()
    );
    wrong(BAD_NAME, resource, at, message).hint(rule)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !name.contains(char::is_control)
}

fn is_key(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !matches!(name, "." | "..")
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_setting(name: &str) -> bool {
    !name.is_empty()
        && name.split(['.', '/']).all(|part| !part.is_empty())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
}

/// dev_valid_name of the kernel, and nothing that a shell or nft would read otherwise.
fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_host(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn path_is_good(resource: &Resource, at: &Pointer, path: &str, found: &mut Diagnostics) {
    if let Err(error) = path.parse::<AbsolutePath>() {
        found.push(wrong(BAD_VALUE, resource, at.clone(), error.to_string()));
    }
}

fn one_device(
    resource: &Resource,
    name: &str,
    device: &Device,
    at: &Pointer,
    found: &mut Diagnostics,
) {
    match device {
        Device::Nic(nic) => {
            let interface = nic.interface(name);
            if !is_interface(interface) {
                let hint = if nic.name.is_some() {
                    INTERFACE
                } else {
                    "write `name`, at most 15 characters: the name of the device is no name of an interface"
                };
                found.push(bad(resource, at.field("name"), interface, hint));
            }
            if let Some(parent) = nic.parent.as_deref().filter(|parent| !is_interface(parent)) {
                found.push(bad(resource, at.field("parent"), parent, INTERFACE));
            }
        }
        Device::Disk(disk) => {
            use crate::devices::disk::DiskSource as Source;
            match disk.made_of() {
                Source::Host(path) => path_is_good(resource, &at.field("source"), path, found),
                Source::Other(word) if !word.contains(':') => {
                    let message =
                        format!("`{word}` is neither a path of the host nor a volume of a pool");
                    found.push(
                        wrong(BAD_VALUE, resource, at.field("source"), message)
                            .hint("write `pool` for a volume; a path begins with `/`"),
                    );
                }
                _ => {}
            }
        }
        _ => {}
    }
}
