//! `keel doctor`.

use std::fmt::Write as _;
use std::path::Path;

use manifests::feature::Capabilities;
use runtime::runtime::Runtime;
use serde_json::json;

use super::HumanOrJson;
use super::engine;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::view::style::{BAD, CAREFUL, GOOD, STRONG, paint};
use crate::view::text;

/// Tell what this host can do, what it cannot, and what would mend that.
///
/// The exit code is 1 where something is missing that every instance needs.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

/// A program of the host that keel runs.
struct Program {
    name: &'static str,
    package: &'static str,
    needed_for: &'static str,
}

const PROGRAMS: &[Program] = &[
    program("nft", "nftables", "networks: filters and NAT"),
    program("dnsmasq", "dnsmasq-base", "networks: DHCP and DNS"),
    program("busybox", "busybox-static", "the image `builtin: busybox`"),
    program(
        "mke2fs",
        "e2fsprogs",
        "root file systems and volumes with a size",
    ),
    program(
        "resize2fs",
        "e2fsprogs",
        "root file systems and volumes with a size",
    ),
    program("unsquashfs", "squashfs-tools", "images as squashfs"),
    program("git", "git", "the revision of manifests"),
];

const fn program(name: &'static str, package: &'static str, needed_for: &'static str) -> Program {
    Program {
        name,
        package,
        needed_for,
    }
}

/// Where programs are looked for, as they are run.
const FOLDERS: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

impl Doctor {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let host = engine::open(invocation)?.runtime.capabilities()?;
        let there = |program: &Program| {
            FOLDERS
                .iter()
                .any(|folder| Path::new(folder).join(program.name).exists())
        };
        let programs: Vec<(&Program, bool)> = PROGRAMS
            .iter()
            .map(|program| (program, there(program)))
            .collect();
        let json = || {
            let programs: Vec<_> = programs
                .iter()
                .map(|(program, found)| {
                    json!({"name": program.name, "package": program.package,
                           "neededFor": program.needed_for, "found": found})
                })
                .collect();
            format!("{:#}\n", json!({"host": host, "programs": programs}))
        };
        invocation.json_into(json)?;
        invocation.print(&match self.output {
            HumanOrJson::Human => page(&host, &programs),
            HumanOrJson::Json => json(),
        })?;
        Ok(Exit::Done)
    }
}

fn page(host: &Capabilities, programs: &[(&Program, bool)]) -> String {
    let mut out = String::new();
    let heading = format!("Host {} ({})", text::visible(&host.host), host.engine);
    let _ = writeln!(out, "{}", paint(STRONG, &heading));
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(out, "  {}{}", text::pad(key, 16), text::visible(value));
    };
    line("architecture", &host.architecture);
    line("processors", &host.processors.to_string());
    line("memory", &text::bytes(host.memory));
    line("state folder", &host.state_id);
    line("machine id", host.machine_id.as_deref().unwrap_or("none"));
    let _ = writeln!(out, "\n{}", paint(STRONG, "Programs"));
    for (program, found) in programs {
        let word = if *found {
            paint(GOOD, "ok      ")
        } else {
            paint(BAD, "missing ")
        };
        let name = text::pad(program.name, 14);
        let mend = if *found {
            String::new()
        } else {
            format!("; apt-get install {}", program.package)
        };
        let _ = writeln!(out, "  {word}{name}{}{mend}", program.needed_for);
    }
    if host.missing.is_empty() {
        let _ = writeln!(out, "\nNothing else is missing.");
    } else {
        let _ = writeln!(out, "\n{}", paint(STRONG, "What this host cannot do"));
        for missing in &host.missing {
            let feature = text::visible(&missing.feature);
            let _ = writeln!(out, "  {}", paint(CAREFUL, &feature));
            let _ = writeln!(out, "    {}", text::visible(&missing.why));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use manifests::feature::Missing;

    use super::*;

    #[test]
    fn what_is_missing_comes_with_what_mends_it() {
        let host = Capabilities {
            engine: "native",
            host: "edge-1".to_owned(),
            machine_id: None,
            state_id: "0badcafe".to_owned(),
            architecture: "x86_64".to_owned(),
            memory: 25_769_803_776,
            processors: 2,
            missing: vec![Missing {
                feature: "limits.kernel.nofile".to_owned(),
                why: "CAP_SYS_RESOURCE is missing: at most 20000".to_owned(),
            }],
        };
        let programs = [(&PROGRAMS[0], true), (&PROGRAMS[1], false)];
        let page = page(&host, &programs);
        insta::assert_snapshot!(anstream::adapter::strip_str(&page).to_string());
    }
}
