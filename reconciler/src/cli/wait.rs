//! `keel wait`.

use std::time::Duration;

use manifests::id::Address;
use manifests::kind::{Kind, Spec};
use manifests::observed::Item;
use runtime::native::cloud_init::result;

use super::engine;
use super::global::address;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::plan::health_of;
use crate::view::text::visible;

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(100);

/// Wait until an object is so; at most for --timeout.
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    /// The objects.
    #[arg(required = true, value_name = "KIND/NAME", value_parser = address)]
    objects: Vec<Address>,
    /// What is waited for.
    #[arg(long = "for", value_name = "CONDITION", default_value = "running")]
    condition: Condition,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Condition {
    /// It is there.
    Present,
    /// It is not there.
    Absent,
    /// It runs.
    Running,
    /// It is stopped.
    Stopped,
    /// It is frozen.
    Frozen,
    /// Its health checks pass; it runs, where it has none.
    Healthy,
    /// The agent in the guest of a machine is there: commands can be run in it.
    Agent,
    /// It has an address.
    Addresses,
    /// cloud-init in it has done its work. Where it failed at some of that, this ends with an error.
    CloudInit,
}

impl Condition {
    fn holds(self, item: Option<&Item>) -> bool {
        let status = |key: &str| {
            item.and_then(|item| item.status.get(key)?.as_str())
                .unwrap_or_default()
        };
        match self {
            Self::Present => item.is_some(),
            Self::Absent => item.is_none(),
            Self::Running => status("state") == "Running",
            Self::Stopped => status("state") == "Stopped",
            Self::Frozen => status("state") == "Frozen",
            Self::Healthy => {
                let health = item.and_then(health_of);
                status("state") == "Running" && health.is_none_or(|health| health == "healthy")
            }
            // Whether cloud-init is through stands inside: that is asked for once somebody can be asked.
            Self::Agent | Self::CloudInit => {
                let machine = item.and_then(|item| item.status.get("machine"));
                status("state") == "Running"
                    && machine.is_none_or(|machine| machine["agent"] == true)
            }
            Self::Addresses => item
                .and_then(|item| item.status.get("addresses")?.as_array())
                .is_some_and(|addresses| !addresses.is_empty()),
        }
    }

    /// What will never be so of an object, however long one waits.
    fn impossible(self, object: &Address, item: Option<&Item>) -> Option<&'static str> {
        let inside = matches!(self, Self::Agent | Self::Addresses | Self::CloudInit);
        if inside && object.kind != Kind::Instance {
            return Some("is no instance");
        }
        let container = item.is_some_and(
            |item| matches!(&item.spec, Spec::Instance(instance) if instance.is_container()),
        );
        (self == Self::Agent && container).then_some("is a container: it needs no agent")
    }
}

impl Wait {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        // What others make or remove meanwhile is seen by an engine that has not read it before.
        let look =
            |object| -> Result<_, CliError> { Ok(engine::open(invocation)?.runtime.look(object)?) };
        let clock = invocation.clock();
        let deadline = crate::clock::deadline(clock.instant(), invocation.global.timeout);
        for object in &self.objects {
            loop {
                let item = look(object)?;
                if let Some(why) = self.condition.impossible(object, item.as_ref()) {
                    return Err(CliError::usage(format!("{object} {why}")));
                }
                let held = self.condition.holds(item.as_ref());
                if held && (self.condition != Condition::CloudInit || through(invocation, object)?)
                {
                    break;
                }
                if clock.instant() >= deadline {
                    let seconds = invocation.global.timeout.as_secs();
                    let message = format!("{object} is not so after {seconds} s");
                    return Err(CliError::new(Exit::Unexpected, message)
                        .hint(format!("how it is: keel describe {object}")));
                }
                invocation.pause(PERIOD);
            }
        }
        Ok(Exit::Done)
    }
}

/// Whether cloud-init in an instance is through.
fn through(invocation: &Invocation, object: &Address) -> Result<bool, CliError> {
    // It is not there before the end; and whoever boots may not answer at once.
    let file = engine::open(invocation)?
        .runtime
        .read_file(object, result::FILE);
    match file.ok().and_then(|file| result::of(&file.content)) {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(error)) => {
            let message = format!("cloud-init in {object} failed: {}", visible(&error));
            Err(CliError::new(Exit::Unexpected, message).hint(format!(
                "what it did: keel exec {} -- cat /var/log/cloud-init-output.log",
                object.name
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use manifests::kind::{Kind, Spec};
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_read_from_the_status() {
        let item = |status| Item {
            address: Address::new(Kind::Instance, "a"),
            mark: None,
            complete: true,
            spec: Spec::default_of(Kind::Instance),
            unseen: Vec::new(),
            last_told: None,
            remembered: None,
            holds: manifests::observed::Holds::default(),
            status,
        };
        let running = item(json!({"state": "Running"}));
        let sick = item(json!({"state": "Running", "health": {"status": "unhealthy"}}));
        let well = item(json!({"state": "Running", "health": {"status": "healthy"}}));
        let stopped = item(json!({"state": "Stopped"}));
        for (condition, seen, holds) in [
            (Condition::Running, Some(&running), true),
            (Condition::Running, Some(&stopped), false),
            (Condition::Running, None, false),
            (Condition::Stopped, Some(&stopped), true),
            (Condition::Healthy, Some(&running), true),
            (Condition::Healthy, Some(&sick), false),
            (Condition::Healthy, Some(&well), true),
            (Condition::Absent, None, true),
            (Condition::Present, Some(&sick), true),
            (Condition::Frozen, Some(&running), false),
            (Condition::Addresses, Some(&running), false),
            (
                Condition::Addresses,
                Some(&item(json!({"addresses": ["10.0.0.2"]}))),
                true,
            ),
            (
                Condition::Agent,
                Some(&item(
                    json!({"state": "Running", "machine": {"agent": false}}),
                )),
                false,
            ),
            (
                Condition::Agent,
                Some(&item(
                    json!({"state": "Running", "machine": {"agent": true}}),
                )),
                true,
            ),
        ] {
            assert_eq!(condition.holds(seen), holds, "{condition:?} {seen:?}");
        }
    }

    #[test]
    fn what_can_never_be_is_not_waited_for() {
        let pool = Address::new(Kind::StoragePool, "fast");
        assert!(Condition::Agent.impossible(&pool, None).is_some());
        assert!(Condition::Present.impossible(&pool, None).is_none());
        let one = Address::new(Kind::Instance, "one");
        assert!(Condition::Agent.impossible(&one, None).is_none());
    }
}
