//! `keel start`, `stop`, `restart`, `freeze`, `unfreeze`.

use manifests::action::{Action, Power, Verb};
use manifests::id::Mark;
use runtime::runtime::{Context, Runtime as _};

use super::engine;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::session::Session;

/// The instances to switch.
#[derive(Debug, clap::Args)]
pub(super) struct Switch {
    /// The instances.
    #[arg(required = true, value_name = "INSTANCE")]
    instances: Vec<String>,
    /// At once, without asking the instance to end.
    #[arg(long)]
    force: bool,
}

impl Switch {
    pub(super) fn run(&self, invocation: &Invocation, power: Power) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        let lock = opened.folder.lock("keel power", invocation.now())?;
        let power = if self.force && power == Power::Stop {
            Power::Kill
        } else {
            power
        };
        for name in &self.instances {
            let address = invocation.instance(name)?;
            let item = opened.runtime.look(&address)?.ok_or_else(|| {
                CliError::new(Exit::Unexpected, format!("there is no {address}"))
                    .hint("keel get instance lists them")
            })?;
            let uid = item.status["uid"].as_str().and_then(|uid| uid.parse().ok());
            let Some(mark) = item.mark.clone().or_else(|| {
                uid.map(|uid| Mark {
                    source: manifests::id::SourceName::unnamed(),
                    uid,
                })
            }) else {
                return Err(CliError::new(
                    Exit::Refused,
                    format!("{address} is not ours"),
                ));
            };
            let desired = Session::nothing_of(manifests::desired::SourceInfo {
                name: mark.source.clone(),
                root: std::path::PathBuf::new(),
                revision: None,
                partial: None,
            });
            let action = Action {
                verb: Verb::Power { power },
                address,
                uid: mark.uid,
                mark,
            };
            let context = Context {
                cancel: invocation.cancel,
                timeout: invocation.global.timeout,
                now: invocation.now(),
                progress: &|_| {},
            };
            opened.runtime.perform(&action, &desired, &context)?;
        }
        drop(lock);
        Ok(Exit::Done)
    }
}
