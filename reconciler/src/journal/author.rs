//! Who brought an instance into the state in which it lives, as far as the journal tells.

use manifests::action::Power;
use runtime::runtime::Effected;
use serde::Serialize;

use super::{ObjectEvent, Outcome, What};

/// Who did something through keel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Author {
    /// The person, where the system knows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// With which command.
    pub command: String,
    /// When it was done.
    pub at: jiff::Timestamp,
}

/// The state into which a deed brings an instance; none for what does not switch it.
fn brings(word: &str) -> Option<&'static str> {
    let states = [
        (Power::Start, "Running"),
        (Power::StartAnew, "Running"),
        (Power::Stop, "Stopped"),
        (Power::Kill, "Stopped"),
        (Power::Save, "Stopped"),
        (Power::HostDown, "Stopped"),
        (Power::Restart, "Running"),
        (Power::Freeze, "Frozen"),
        (Power::Unfreeze, "Running"),
    ];
    states
        .into_iter()
        .find(|(power, _)| power.word() == word)
        .map(|(_, state)| state)
}

/// Deeds that leave an instance running or stopped as it is.
const LEAVES_STATE: [&str; 4] = ["update", "rename", "adopt", "forget"];

/// Whoever brought an instance into this state, by its newest events, the newest first. None where anything else may have
/// come between: a crash after a start is nobody's deed.
pub fn author_of(state: &str, events: &[ObjectEvent]) -> Option<Author> {
    for (index, ended) in events.iter().enumerate() {
        let What::Ended { step, outcome, .. } = &ended.event.what else {
            continue;
        };
        let began = events[index..]
            .iter()
            .find_map(|one| match &one.event.what {
                What::Started { step: of, word, .. }
                    if of == step && one.event.plan == ended.event.plan =>
                {
                    Some(word.as_str())
                }
                _ => None,
            });
        let done = match outcome {
            Outcome::Succeeded {
                effected: Effected::NotNeeded,
            }
            | Outcome::Skipped { .. }
            | Outcome::Interrupted { done: false } => continue,
            Outcome::Succeeded { .. } | Outcome::Interrupted { done: true } => true,
            Outcome::Failed { .. } => false,
        };
        match began {
            Some(word) if LEAVES_STATE.contains(&word) => {}
            Some(word) if done && brings(word) == Some(state) => {
                return Some(Author {
                    by: ended.by.clone(),
                    command: ended.command.clone()?,
                    at: ended.event.at,
                });
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use manifests::id::{Address, Uid};
    use manifests::kind::Kind;
    use runtime::error::Class;
    use uuid::Uuid;

    use super::*;
    use crate::journal::Event;
    use crate::plan::{PlanId, StepId};

    /// The events of deeds, given oldest first: who did what, and how it ended.
    fn story(deeds: &[(&str, &str, Outcome)]) -> Vec<ObjectEvent> {
        let mut all = Vec::new();
        for (number, (by, word, outcome)) in deeds.iter().enumerate() {
            let plan = PlanId(Uuid::from_u128(number as u128));
            let address = Address::new(Kind::Instance, "web");
            let uid = Uid::derive(&Uuid::nil(), &address);
            let started = What::Started {
                step: StepId(1),
                address: address.clone(),
                uid,
                word: (*word).to_owned(),
            };
            let ended = What::Ended {
                step: StepId(1),
                address,
                outcome: outcome.clone(),
                micros: None,
            };
            for what in [started, ended] {
                all.push(ObjectEvent {
                    event: Event {
                        plan,
                        at: jiff::Timestamp::UNIX_EPOCH,
                        what,
                    },
                    command: Some(format!("keel {word}")),
                    by: Some((*by).to_owned()),
                });
            }
        }
        all.reverse();
        all
    }

    #[test]
    fn only_who_certainly_did_it_is_named() {
        let done = || Outcome::Succeeded {
            effected: Effected::Done,
        };
        let not_needed = || Outcome::Succeeded {
            effected: Effected::NotNeeded,
        };
        let failed = || Outcome::Failed {
            class: Class::Retry,
            message: "no".to_owned(),
        };
        let alice = |outcome| ("alice", "stop", outcome);
        for (deeds, state, by) in [
            (vec![alice(done())], "Stopped", Some("alice")),
            (
                vec![("alice", "stop by force", done())],
                "Stopped",
                Some("alice"),
            ),
            (
                vec![alice(done()), ("bob", "stop", not_needed())],
                "Stopped",
                Some("alice"),
            ),
            (
                vec![alice(done()), ("bob", "update", done())],
                "Stopped",
                Some("alice"),
            ),
            (vec![("bob", "freeze", done())], "Frozen", Some("bob")),
            // It ran again, and then crashed.
            (
                vec![alice(done()), ("bob", "start", done())],
                "Stopped",
                None,
            ),
            (
                vec![alice(done()), ("bob", "rebuild", done())],
                "Stopped",
                None,
            ),
            (vec![alice(failed())], "Stopped", None),
            (vec![], "Stopped", None),
        ] {
            let found = author_of(state, &story(&deeds)).and_then(|author| author.by);
            assert_eq!(found.as_deref(), by, "{state} {deeds:?}");
        }
    }
}
