//! `keel drift`.

use std::path::PathBuf;

use manifests::desired::DesiredSet;
use manifests::feature::Capabilities;
use manifests::kind::Kind;
use manifests::pointer::Pointer;

use super::accept::Accept;
use super::decide::{Decisions, command, seen_on_this_host, session};
use super::engine;
use super::format::{Format, print_github, print_junit, print_sarif, wanted_in};
use super::invocation::Invocation;
use super::progress::patiently;
use crate::diff::is_entry;
use crate::error::{CliError, Exit};
use crate::plan::Purpose;
use crate::session::{Drift as Drifted, DriftedField as Field};
use crate::view::drift::{Compared, DriftReport, DriftedField, StaleRule};
use crate::view::findings::{anchor, of_drift};
use crate::view::history::when;
use crate::view::{gitlab, html, markdown};

/// Tell what the world changed behind git's back, field by field, with the line that declares it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Drift {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    look: Look,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Accept(Accept),
}

impl Drift {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        match &self.command {
            Some(Command::Accept(accept)) => accept.run(invocation),
            None => self.look.run(invocation),
        }
    }
}

/// How it is looked and told.
#[derive(Debug, clap::Args)]
struct Look {
    /// The source; absent: this folder.
    path: Option<PathBuf>,
    /// End with the exit code 2 where something drifted.
    #[arg(long)]
    detailed_exitcode: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human", value_parser = Format::parser(Format::ALL))]
    output: Format,
}

impl Look {
    fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let began = invocation.now();
        let (wanted, drift, host) = patiently(invocation, "looking at what runs", || {
            let mut wanted = wanted_in(invocation, self.path.as_deref(), self.output)?;
            let opened = engine::open(invocation)?;
            seen_on_this_host(&mut wanted.desired, &wanted.texts, &opened)?;
            let drift = session(invocation, &opened).drift(&wanted.desired)?;
            Ok::<_, CliError>((wanted, drift, opened.runtime.capabilities()?))
        })?;
        let report = report(drift, &wanted.desired, host, began);
        invocation.json_into(|| report.json())?;
        let places = &wanted.places;
        let findings = || of_drift(&report, &wanted.found, places, anchor(&wanted.texts.files));
        let comment = |limit| markdown::of_drift(&report, places, limit);
        let again = command(
            &invocation.global,
            Purpose::Apply,
            self.path.as_deref(),
            &Decisions::default(),
        );
        match self.output {
            Format::Json => invocation.print_plain(&report.json())?,
            Format::Markdown => invocation.print_plain(&comment(markdown::COMMENT))?,
            Format::Sarif => print_sarif(invocation, &findings())?,
            Format::Junit => print_junit(invocation, &findings())?,
            Format::Github => print_github(invocation, &findings(), comment)?,
            Format::GitlabPlan => {
                invocation.print_plain(&format!("{:#}\n", gitlab::of_drift(&report)))?;
            }
            Format::Html => invocation.print_plain(&html::of_drift(&report, places, &again))?,
            Format::Human => {
                let took = invocation.milliseconds_since(began);
                invocation.print(&report.page(took, invocation.columns(), &again))?;
            }
        }
        Ok(if self.detailed_exitcode && !report.drift.is_empty() {
            Exit::Differences
        } else {
            Exit::Done
        })
    }
}

fn report(
    drift: Drifted,
    desired: &DesiredSet,
    host: Capabilities,
    at: jiff::Timestamp,
) -> DriftReport {
    let fields = drift.fields.into_iter().map(|field| DriftedField {
        cause: cause(&field),
        // A first look knows no age.
        first_seen: (field.times > 1).then_some(field.first_seen),
        id: field.address,
        path: field.path,
        desired: field.desired,
        live: field.live,
        mode: field.mode,
        times: field.times,
        author: field.author,
        source: Some(field.origin),
    });
    let stale_rules = drift.stale_rules.into_iter().map(|stale| StaleRule {
        path: stale.rule.path,
        why: stale.why,
        reason: stale.rule.reason,
        until: stale.rule.until,
        objects: stale.objects,
        source: stale.rule.origin,
    });
    let mut ignored = drift.ignored;
    let compared = desired.resources.values().map(|resource| Compared {
        address: resource.address.clone(),
        origin: resource.origin.clone(),
        ignored: ignored.remove(&resource.address).unwrap_or_default(),
    });
    let compared = compared.collect();
    let source = &desired.source;
    DriftReport {
        format_version: "1.0",
        source: source.name.to_string(),
        revision: source.revision.clone(),
        host: host.host,
        engine: host.engine.to_owned(),
        at,
        objects: drift.objects,
        drift: fields.collect(),
        edited: drift.edited,
        unseen: drift.unseen,
        stale_rules: stale_rules.collect(),
        compared,
    }
}

/// What is known of how a field came to differ.
fn cause(field: &Field) -> String {
    if let Some(hold) = &field.hold {
        let until = when(hold.until);
        return format!("stopped by hand until {until}: {}", hold.reason);
    }
    if let Some(why) = &field.why {
        return why.clone();
    }
    let words = if field.gone {
        "gone"
    } else if Pointer::new("/status").covers(&field.path) {
        match field.address.kind {
            Kind::Backup => "missed its time: keel backup run-due makes it good",
            _ => "missed its time: keel snapshot run-due makes it good",
        }
    } else if field.desired.is_null() && is_entry(&field.path) {
        "added by hand"
    } else if field.live.is_null() {
        "taken away outside git"
    } else {
        "changed outside git"
    };
    words.to_owned()
}
