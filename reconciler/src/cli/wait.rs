//! `keel wait`.

use std::time::Duration;

use manifests::id::Address;
use manifests::observed::Item;
use runtime::runtime::Runtime;

use super::engine;
use super::global::address;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};

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
                status("state") == "Running"
                    && matches!(status("health").to_lowercase().as_str(), "" | "healthy")
            }
        }
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
            while !self.condition.holds(look(object)?.as_ref()) {
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
        let sick = item(json!({"state": "Running", "health": "unhealthy"}));
        let stopped = item(json!({"state": "Stopped"}));
        for (condition, seen, holds) in [
            (Condition::Running, Some(&running), true),
            (Condition::Running, Some(&stopped), false),
            (Condition::Running, None, false),
            (Condition::Stopped, Some(&stopped), true),
            (Condition::Healthy, Some(&running), true),
            (Condition::Healthy, Some(&sick), false),
            (Condition::Absent, None, true),
            (Condition::Present, Some(&sick), true),
            (Condition::Frozen, Some(&running), false),
        ] {
            assert_eq!(condition.holds(seen), holds, "{condition:?} {seen:?}");
        }
    }
}
