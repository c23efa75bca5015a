//! What a person may say about a plan: `--approve`, `--allow`, `--no-trash`, `--no-restore`; and the session that makes it.

use std::collections::BTreeSet;
use std::path::Path;

use manifests::desired::DesiredSet;
use manifests::diagnostic::{Code, Diagnostics};
use manifests::feature::Capabilities;
use manifests::kind::Spec;
use manifests::read::Texts;
use runtime::error::RuntimeError;

use super::engine::Opened;
use super::global::GlobalOptions;
use super::invocation::{Invocation, environment, say};
use super::narrow::narrow;
use super::read::{Source, Wanted};
use crate::error::{CliError, Exit, chain};
use crate::plan::gates::GATES;
use crate::plan::{Allow, Because, Plan, PlanOptions, Purpose};
use crate::secrets;
use crate::secrets::places::Places;
use crate::session::Session;
use crate::view::diagnostics;
use crate::view::text::shell_word;

/// What a person may say about a plan.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Decisions {
    /// Answer for a guard, for this plan only: `G102`.
    #[arg(long, value_name = "CODE", value_delimiter = ',', value_parser = guard)]
    pub(super) approve: Vec<String>,
    /// Do only steps of these classes: create, live, interrupting, destructive.
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub(super) allow: Vec<Allow>,
    /// What is deleted is gone at once.
    #[arg(long)]
    pub(super) no_trash: bool,
    /// What is declared and lies in the trash stays there: a new one is made.
    #[arg(long)]
    pub(super) no_restore: bool,
}

/// Reads the code of a guard.
fn guard(text: &str) -> Result<String, String> {
    let code = text.to_uppercase();
    let digits = code.strip_prefix('G').unwrap_or_default();
    if digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(code)
    } else {
        Err(format!("`{text}` is no guard, such as G102"))
    }
}

impl Decisions {
    pub(super) fn options(&self, purpose: Purpose) -> PlanOptions {
        PlanOptions {
            approve: self.approve.iter().cloned().collect(),
            allow: if self.allow.is_empty() {
                Allow::ALL.into()
            } else {
                self.allow.iter().copied().collect::<BTreeSet<_>>()
            },
            no_trash: self.no_trash,
            no_restore: self.no_restore,
            purpose,
            resting: Vec::new(),
            repeats: None,
        }
    }

    /// The flags again, for the command that goes on.
    pub(super) fn words(&self) -> String {
        let mut words = String::new();
        for code in &self.approve {
            words.push_str(&format!(" --approve {code}"));
        }
        if !self.allow.is_empty() {
            let classes: Vec<&str> = self.allow.iter().map(|class| class.word()).collect();
            words.push_str(&format!(" --allow {}", classes.join(",")));
        }
        if self.no_trash {
            words.push_str(" --no-trash");
        }
        if self.no_restore {
            words.push_str(" --no-restore");
        }
        words
    }
}

/// Reads what a source wants and leaves in it what the flags select.
///
/// # Errors
/// It cannot be read, or something is wrong with it.
pub(super) fn wanted(invocation: &Invocation, path: Option<&Path>) -> Result<Wanted, CliError> {
    let mut wanted = Source::read(path)?.desired(invocation)?;
    narrow(&mut wanted.desired, &invocation.global)?;
    Ok(wanted)
}

/// The session of an open engine.
pub(super) fn session<'a>(invocation: &'a Invocation, opened: &'a Opened) -> Session<'a> {
    Session {
        folder: &opened.folder,
        runtime: opened.runtime.as_ref(),
        clock: invocation.clock(),
        cancel: invocation.cancel,
    }
}

/// Looks up secrets, where the host has them, and refuses a source that this host is not for.
///
/// # Errors
/// It is for another host, or a value cannot be had; it was said.
pub(super) fn on_this_host(
    desired: &mut DesiredSet,
    texts: &Texts,
    opened: &Opened,
) -> Result<(), CliError> {
    right_host(desired, texts, &host_for(desired, opened)?)?;
    with_secrets(desired, texts, opened)
}

/// What the host can do of what is wanted.
///
/// # Errors
/// The host could not be asked.
pub(super) fn host_for(
    desired: &DesiredSet,
    opened: &Opened,
) -> Result<Capabilities, RuntimeError> {
    // Who has no machines does not wait for what is found out about them on this host.
    match machines(desired) || opened.runtime.native().is_none() {
        true => opened.runtime.capabilities_for(Some(desired)),
        false => opened.runtime.capabilities(),
    }
}

fn machines(desired: &DesiredSet) -> bool {
    desired.resources.values().any(
        |resource| matches!(&resource.spec, Spec::Instance(instance) if !instance.is_container()),
    )
}

/// As [`on_this_host`], for who only looks: what the host lost since is no reason not to tell how it is.
///
/// # Errors
/// As [`on_this_host`].
pub(super) fn seen_on_this_host(
    desired: &mut DesiredSet,
    texts: &Texts,
    opened: &Opened,
) -> Result<(), CliError> {
    right_host(desired, texts, &opened.runtime.capabilities()?)?;
    with_secrets(desired, texts, opened)
}

fn with_secrets(desired: &mut DesiredSet, texts: &Texts, opened: &Opened) -> Result<(), CliError> {
    let found = look_up_secrets(desired, texts, opened);
    if found.is_empty() {
        return Ok(());
    }
    say(&diagnostics::page(&found, &texts.files));
    let summary = diagnostics::summary(&found).unwrap_or_default();
    say(&format!("{summary}: nothing is done\n"));
    Err(CliError::said(Exit::Invalid))
}

/// Puts sealed texts in the place of what comes from secrets, and answers what cannot be had.
pub(super) fn look_up_secrets(
    desired: &mut DesiredSet,
    texts: &Texts,
    opened: &Opened,
) -> Diagnostics {
    let places = Places {
        variable: &environment,
    };
    let mut seal = |value| {
        let sealed = opened.runtime.secrets().seal(value);
        sealed.map_err(|error| format!("seal a secret: {}", chain(&error)))
    };
    secrets::seal(desired, &texts.attached, &places, &mut seal)
}

/// Refuses a source that says that it is for another host, and warns of what this one does not grant.
///
/// # Errors
/// It is for another host.
pub(super) fn right_host(
    desired: &DesiredSet,
    texts: &Texts,
    host: &Capabilities,
) -> Result<(), CliError> {
    let found = manifests::support::beyond(desired, host);
    say(&diagnostics::page(&found, &texts.files));
    if found.has_errors() {
        let summary = diagnostics::summary(&found).unwrap_or_default();
        say(&format!("{summary}: nothing is done\n"));
        return Err(CliError::said(Exit::Invalid));
    }
    match other_host(desired, host) {
        None => Ok(()),
        Some(message) => Err(CliError::new(Exit::Refused, message)),
    }
}

/// Why a source is not for this host; none: it is.
pub(super) fn other_host(desired: &DesiredSet, host: &Capabilities) -> Option<String> {
    let (name, machine_id) = desired.host.as_ref()?;
    let refuse = |what: &str, wanted: &str, is: &str| {
        let source = &desired.source.name;
        Some(format!(
            "source {source} is for the host with {what} {wanted}, this one has {is}"
        ))
    };
    match (name, machine_id) {
        (Some(name), _) if *name != host.host => refuse("the name", name, &host.host),
        (_, Some(id)) if host.machine_id.as_deref() != Some(id.as_str()) => refuse(
            "the machine id",
            id,
            host.machine_id.as_deref().unwrap_or("none"),
        ),
        _ => None,
    }
}

/// The command that applies what was planned; where only held steps are left, the one that does these. None where no
/// word of a person changes anything.
pub(super) fn apply_command(
    global: &GlobalOptions,
    plan: &Plan,
    path: Option<&Path>,
    decisions: &Decisions,
) -> Option<String> {
    let approvable = |because: &&Because| {
        GATES
            .iter()
            .any(|gate| gate.code == because.code && gate.approvable)
    };
    let mut codes: BTreeSet<Code> = BTreeSet::new();
    if !plan.stopping.iter().all(|because| approvable(&because)) {
        return None;
    }
    codes.extend(plan.stopping.iter().map(|because| because.code));
    if plan.steps.is_empty() {
        // Each of these would go on if all that holds it is answered for.
        let answered = plan
            .held
            .iter()
            .filter(|held| held.because.iter().all(|because| approvable(&because)));
        codes.extend(answered.flat_map(|held| held.because.iter().map(|because| because.code)));
        if codes.is_empty() {
            return None;
        }
    }
    let mut words = command(global, plan.purpose, path, decisions);
    for code in codes {
        words.push_str(&format!(" --approve {code}"));
    }
    Some(words)
}

/// The command that does this again, with the same words.
pub(super) fn command(
    global: &GlobalOptions,
    purpose: Purpose,
    path: Option<&Path>,
    decisions: &Decisions,
) -> String {
    let mut words = global.keel();
    words.push_str(match purpose {
        Purpose::Destroy => " destroy",
        Purpose::Apply | Purpose::Asked | Purpose::Compare => " apply",
    });
    if let Some(path) = path {
        words.push_str(&format!(" {}", shell_word(path)));
    }
    words.push_str(&global.selection());
    words.push_str(&decisions.words());
    words
}
