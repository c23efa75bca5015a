//! `keel start`, `stop`, `restart`, `freeze`, `unfreeze`.

use std::time::Duration;

use manifests::action::Power;
use manifests::id::Address;

use super::HumanOrJson;
use super::asked::carry_out;
use super::decide::session;
use super::elsewhere::{self, of_instance, only_here};
use super::engine;
use super::global::duration;
use super::invocation::{Invocation, say};
use crate::api::PowerRequest;
use crate::api::documents::Accepted;
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

    /// By the controller elsewhere that is named, one after the other; none: none is.
    fn elsewhere(
        &self,
        invocation: &Invocation,
        verb: &str,
        asked: &PowerRequest,
    ) -> Result<Option<Exit>, CliError> {
        let Some(controller) = elsewhere::controller(invocation)? else {
            return Ok(None);
        };
        only_here("--output json", self.output == HumanOrJson::Json)?;
        let mut done = 0;
        let mut worst = None;
        for address in self.addresses(invocation)? {
            match controller.post::<Accepted>(&of_instance(&address, verb), asked) {
                Ok(accepted) => {
                    done += 1;
                    invocation.note(&format!("{}\n", visible(&accepted.message)));
                }
                Err(error) => {
                    let error = CliError::from(error);
                    say(&error.report());
                    worst = worst.max(Some(error.exit));
                }
            }
        }
        Ok(Some(match worst {
            None => Exit::Done,
            Some(exit) if done == 0 => exit,
            Some(_) => Exit::Partly,
        }))
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
        let request = PowerRequest {
            discard_state: self.discard_state,
            ..PowerRequest::default()
        };
        if let Some(exit) = self.instances.elsewhere(invocation, "start", &request)? {
            return Ok(exit);
        }
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
        let request = PowerRequest {
            force: self.force,
            stateful: self.stateful,
            ..PowerRequest::default()
        };
        let (Some(time), Some(reason)) = (self.hold, &self.reason) else {
            if let Some(exit) = self.instances.elsewhere(invocation, "stop", &request)? {
                return Ok(exit);
            }
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
        let request = PowerRequest {
            hold_until: Some(until.to_string()),
            reason: Some(reason.trim().to_owned()),
            ..request
        };
        if let Some(exit) = self.instances.elsewhere(invocation, "stop", &request)? {
            return Ok(exit);
        }
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
        let request = PowerRequest {
            force: self.force,
            ..PowerRequest::default()
        };
        if let Some(exit) = self.instances.elsewhere(invocation, "restart", &request)? {
            return Ok(exit);
        }
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
        let request = PowerRequest::default();
        if let Some(exit) = self.instances.elsewhere(invocation, "freeze", &request)? {
            return Ok(exit);
        }
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
        let request = PowerRequest::default();
        if let Some(exit) = self.instances.elsewhere(invocation, "unfreeze", &request)? {
            return Ok(exit);
        }
        let asked = Asked::Power(Power::Unfreeze);
        self.instances.switch(invocation, &asked)
    }
}
