//! `keel doctor`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use manifests::feature::Capabilities;
use manifests::observed::{Trashed, Unclear};
use runtime::native::probe::{Check, Facts, Verdict, checks};
use serde_json::json;

use super::HumanOrJson;
use super::engine;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::session::Session;
use crate::snapshots::stand::Missed;
use crate::store::Store as _;
use crate::view::style::{BAD, CAREFUL, GOOD, STRONG, paint};
use crate::view::{missed, text, trash};

/// Tell what this host can do, what it cannot, and what would mend that.
///
/// The exit code is 1 where something is missing that every instance needs.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Doctor {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        let host = opened.runtime.capabilities_for(None)?;
        let checks = checks(&Facts::read(&invocation.state_dir()?));
        let known = engine::store(&opened.folder)?
            .load()
            .map_err(|error| CliError::new(Exit::Unexpected, error))?;
        let seen = opened.runtime.observe()?;
        let stands = Session::stands_in(&known, &seen, invocation.now());
        let missed = missed::all(&stands);
        let mut trash = seen.trash;
        super::trash::measure(opened.runtime.as_ref(), &mut trash)?;
        let json = || {
            let trash = trash::document(&trash);
            format!(
                "{:#}\n",
                json!({"host": host, "checks": checks, "trash": trash, "unclear": seen.unclear, "missed": missed})
            )
        };
        invocation.json_into(json)?;
        match self.output {
            HumanOrJson::Human => {
                let mut page = page(&host, &checks);
                page.push_str(&kept(&trash, &seen.unclear, invocation.now()));
                page.push_str(&overdue(&missed));
                invocation.print(&page)?;
            }
            HumanOrJson::Json => invocation.print_plain(&json())?,
        }
        let missing = checks.iter().any(|check| check.verdict == Verdict::Missing);
        Ok(if missing {
            Exit::Unexpected
        } else {
            Exit::Done
        })
    }
}

fn page(host: &Capabilities, checks: &[Check]) -> String {
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
    let parts = [
        (Verdict::Ok, "In order"),
        (Verdict::Warning, "Works, but know this"),
        (Verdict::Missing, "Missing"),
    ];
    for (verdict, heading) in parts {
        let mut of_this = checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .peekable();
        if of_this.peek().is_some() {
            let _ = writeln!(out, "\n{}", paint(STRONG, heading));
        }
        for check in of_this {
            answer(&mut out, check);
        }
    }
    if !host.missing.is_empty() {
        let _ = writeln!(
            out,
            "\n{}",
            paint(STRONG, "What manifests cannot ask of this host")
        );
        for missing in &host.missing {
            let feature = text::visible(&missing.feature);
            let _ = writeln!(out, "  {}", paint(CAREFUL, &feature));
            let _ = writeln!(out, "    {}", text::visible(&missing.why));
        }
    }
    out
}

/// What the trash of each pool holds, and of what it could not be told how it is.
fn kept(trash: &[Trashed], unclear: &[Unclear], now: jiff::Timestamp) -> String {
    let mut out = String::new();
    let mut pools: BTreeMap<&str, Vec<&Trashed>> = BTreeMap::new();
    for one in trash {
        let pool = one.pool.as_deref().unwrap_or_default();
        pools.entry(pool).or_default().push(one);
    }
    if !pools.is_empty() {
        let _ = writeln!(out, "\n{}", paint(STRONG, "In the trash (keel trash list)"));
    }
    for (pool, all) in pools {
        let pool = text::pad(&text::visible(pool), 30);
        let _ = writeln!(out, "  {pool}{}", trash::in_a_line(&all, now));
    }
    if !unclear.is_empty() {
        let _ = writeln!(out, "\n{}", paint(STRONG, "Cannot be told"));
    }
    for one in unclear {
        let name = text::visible(&one.address.to_string());
        let _ = writeln!(out, "  {}", paint(CAREFUL, &name));
        let _ = writeln!(out, "    {}", text::visible(&one.why));
    }
    out
}

/// What schedules should have done.
fn overdue(missed: &[&Missed]) -> String {
    let mut out = String::new();
    if !missed.is_empty() {
        let heading = "Missed (keel snapshot run-due makes it good)";
        let _ = writeln!(out, "\n{}", paint(STRONG, heading));
    }
    for one in missed {
        let _ = writeln!(out, "  {}", missed::line(one));
    }
    out
}

/// One check: what was found, and where it is not in order also why that matters and what mends it.
fn answer(out: &mut String, check: &Check) {
    let style = match check.verdict {
        Verdict::Ok => GOOD,
        Verdict::Warning => CAREFUL,
        Verdict::Missing => BAD,
    };
    let name = text::pad(check.name, 30);
    let _ = writeln!(
        out,
        "  {}{}",
        paint(style, &name),
        text::visible(&check.found)
    );
    if check.verdict != Verdict::Ok {
        let _ = writeln!(out, "    {}", check.why);
        if let Some(mend) = &check.mend {
            let _ = writeln!(out, "    mend: {}", text::visible(mend));
        }
    }
}

#[cfg(test)]
mod tests {
    use manifests::feature::Missing;

    use super::*;

    #[test]
    fn what_is_missing_comes_with_what_mends_it() {
        let host = Capabilities {
            engine: "native".to_owned(),
            host: "edge-1".to_owned(),
            machine_id: None,
            state_id: "0badcafe".to_owned(),
            architecture: "x86_64".to_owned(),
            memory: 25_769_803_776,
            processors: 2,
            ceilings: std::collections::BTreeMap::new(),
            missing: vec![Missing {
                feature: "limits.kernel.nofile".to_owned(),
                why: "CAP_SYS_RESOURCE is missing: at most 20000".to_owned(),
            }],
            machines: None,
            config_keys: BTreeMap::new(),
        };
        let check = |name, verdict, found: &str, mend: Option<&str>| Check {
            name,
            verdict,
            found: found.to_owned(),
            why: "the reason why it matters",
            mend: mend.map(str::to_owned),
        };
        let checks = [
            check("kernel", Verdict::Ok, "6.1.0-18-amd64", None),
            check(
                "dnsmasq",
                Verdict::Missing,
                "not installed",
                Some("apt-get install dnsmasq-base"),
            ),
            check(
                "inotify instances",
                Verdict::Warning,
                "128",
                Some("sysctl -w fs.inotify.max_user_instances=1024"),
            ),
        ];
        let page = page(&host, &checks);
        insta::assert_snapshot!(anstream::adapter::strip_str(&page).to_string());
    }
}
