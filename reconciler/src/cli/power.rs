//! `keel start`, `stop`, `restart`, `freeze`, `unfreeze`.

use std::time::Duration;

use manifests::action::Power;
use manifests::id::Address;

use super::HumanOrJson;
use super::asked::carry_out;
use super::decide::session;
use super::engine;
use super::global::duration;
use super::invocation::Invocation;
use crate::diff::known::Hold;
use crate::error::{CliError, Exit};
use crate::session::Asked;
use crate::view::history::when;
use crate::view::text::visible;

/// The instances to switch.
#[derive(Debug, clap::Args)]
struct Instances {
    /// The instances.
    #[arg(required = true, value_name = "INSTANCE")]
    instances: Vec<String>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Instances {
    fn addresses(&self, invocation: &Invocation) -> Result<Vec<Address>, CliError> {
        let all = self.instances.iter();
        all.map(|name| invocation.instance(name)).collect()
    }

    fn switch(&self, invocation: &Invocation, asked: &Asked) -> Result<Exit, CliError> {
        let addresses = self.addresses(invocation)?;
        let opened = engine::open(invocation)?;
        let plan = session(invocation, &opened).asked(&addresses, asked)?;
        carry_out(invocation, &opened, plan, self.output)
    }
}

/// Start instances; ends a hold of `keel stop --hold`. A machine whose state was saved goes on from there.
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    #[command(flatten)]
    instances: Instances,
    /// Give up the saved state of a machine, also one that cannot be loaded: it boots anew.
    #[arg(long)]
    discard_state: bool,
}

impl Start {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let power = match self.discard_state {
            true => Power::StartAnew,
            false => Power::Start,
        };
        let asked = Asked::Power(power);
        self.instances.switch(invocation, &asked)
    }
}

/// Stop instances in an orderly way, then by force.
///
/// One that its manifest wants running is stopped for a while: say for how long and why.
#[derive(Debug, clap::Args)]
pub(super) struct Stop {
    #[command(flatten)]
    instances: Instances,
    /// At once, without asking the instance to end.
    #[arg(long)]
    force: bool,
    /// Save the state of a machine with its memory: its next start goes on from there.
    #[arg(long, conflicts_with = "force")]
    stateful: bool,
    /// For how long nothing starts it again, but `keel start`.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "reason")]
    hold: Option<Duration>,
    /// Why it is stopped.
    #[arg(long, value_name = "TEXT", requires = "hold")]
    reason: Option<String>,
}

impl Stop {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let power = match (self.force, self.stateful) {
            (true, _) => Power::Kill,
            (false, true) => Power::Save,
            (false, false) => Power::Stop,
        };
        let (Some(time), Some(reason)) = (self.hold, &self.reason) else {
            return self.instances.switch(invocation, &Asked::Power(power));
        };
        if reason.trim().is_empty() || time.is_zero() {
            return Err(CliError::usage(
                "a hold needs a time and a reason that others understand",
            ));
        }
        let since = invocation.now();
        let until = jiff::SignedDuration::try_from(time)
            .ok()
            .and_then(|time| since.checked_add(time).ok())
            .ok_or_else(|| CliError::usage("the hold would never be over"))?;
        let hold = Hold {
            until,
            reason: reason.trim().to_owned(),
            since,
        };
        let exit = self
            .instances
            .switch(invocation, &Asked::Hold { power, hold })?;
        if exit == Exit::Done {
            invocation.note(&format!(
                "held until {}: {}; `keel start` ends it\n",
                when(until),
                visible(reason.trim())
            ));
        }
        Ok(exit)
    }
}

/// Stop and start instances.
#[derive(Debug, clap::Args)]
pub(super) struct Restart {
    #[command(flatten)]
    instances: Instances,
    /// At once, without asking the instance to end.
    #[arg(long)]
    force: bool,
}

impl Restart {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let asked = Asked::Power(match self.force {
            true => Power::Reset,
            false => Power::Restart,
        });
        self.instances.switch(invocation, &asked)
    }
}

/// Freeze the processes of instances.
#[derive(Debug, clap::Args)]
pub(super) struct Freeze {
    #[command(flatten)]
    instances: Instances,
}

impl Freeze {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let asked = Asked::Power(Power::Freeze);
        self.instances.switch(invocation, &asked)
    }
}

/// Let frozen processes go on.
#[derive(Debug, clap::Args)]
pub(super) struct Unfreeze {
    #[command(flatten)]
    instances: Instances,
}

impl Unfreeze {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let asked = Asked::Power(Power::Unfreeze);
        self.instances.switch(invocation, &asked)
    }
}
