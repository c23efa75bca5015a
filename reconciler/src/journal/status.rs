//! What is true of an apply, computed from its events.

use std::collections::BTreeMap;

use manifests::id::{Address, SourceName, Uid};
use serde::{Deserialize, Serialize};

use super::{Event, JournalError, Outcome, What};
use crate::plan::{PlanId, Purpose, StepId};

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The object.
    pub address: Address,
    /// Its identity; none for a step that was never begun.
    pub uid: Option<Uid>,
    /// What is done; none for a step that was never begun.
    pub word: Option<String>,
    /// When it may have begun.
    pub started: Option<jiff::Timestamp>,
    /// How it ended; none while it runs or after a crash.
    pub outcome: Option<Outcome>,
    /// How long the deed itself took, in microseconds.
    pub micros: Option<u64>,
}

/// How far an apply is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyStatus {
    /// The plan.
    pub plan: PlanId,
    /// Of which source.
    pub source: SourceName,
    /// At which commit.
    pub revision: Option<String>,
    /// What for.
    pub purpose: Purpose,
    /// By which command.
    pub command: String,
    /// By whom, where the system knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it began.
    pub begun: jiff::Timestamp,
    /// How many steps it was to have.
    pub planned: u32,
    /// How many were held.
    pub held: u32,
    /// When it finished; none while it runs or after a crash.
    pub finished: Option<jiff::Timestamp>,
    /// Whether a person stopped it.
    pub cancelled: bool,
    /// Whether the process died.
    pub interrupted: bool,
    /// How long it took, in microseconds.
    pub micros: Option<u64>,
    /// Its steps so far.
    pub steps: BTreeMap<StepId, StepStatus>,
}

impl ApplyStatus {
    /// Computes it from all events of one plan, oldest first.
    ///
    /// # Errors
    /// The first event that cannot follow the ones before it.
    pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Self, JournalError> {
        let mut status: Option<Self> = None;
        let mut plan = None;
        for event in events {
            plan = Some(event.plan);
            status = Some(Self::follow(status, event)?);
        }
        status.ok_or_else(|| JournalError::Illegal {
            plan: plan.unwrap_or(PlanId(uuid::Uuid::nil())),
            event: "the end".to_owned(),
            before: "nothing".to_owned(),
        })
    }

    /// The same of a story that is not possible as a whole: what cannot follow is passed over. None without a beginning.
    pub fn replay_the_possible<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Self> {
        events
            .into_iter()
            .fold(None, |status: Option<Self>, event| {
                Self::follow(status.clone(), event).ok().or(status)
            })
    }

    fn follow(before: Option<Self>, event: &Event) -> Result<Self, JournalError> {
        let illegal = |before: &str| JournalError::Illegal {
            plan: event.plan,
            event: format!("{:?}", event.what),
            before: before.to_owned(),
        };
        let mut status = match (before, &event.what) {
            (
                None,
                What::Begun {
                    source,
                    revision,
                    purpose,
                    command,
                    by,
                    steps,
                    held,
                },
            ) => {
                return Ok(Self {
                    plan: event.plan,
                    source: source.clone(),
                    revision: revision.clone(),
                    purpose: *purpose,
                    command: command.clone(),
                    by: by.clone(),
                    begun: event.at,
                    planned: *steps,
                    held: *held,
                    finished: None,
                    cancelled: false,
                    interrupted: false,
                    micros: None,
                    steps: BTreeMap::new(),
                });
            }
            (None, _) => return Err(illegal("nothing")),
            (Some(status), _) if status.plan != event.plan => return Err(illegal("another plan")),
            (Some(status), _) if status.finished.is_some() => return Err(illegal("its end")),
            (Some(status), _) => status,
        };
        match &event.what {
            What::Begun { .. } => return Err(illegal("its beginning")),
            What::Started {
                step,
                address,
                uid,
                word,
            } => {
                let new = StepStatus {
                    address: address.clone(),
                    uid: Some(*uid),
                    word: Some(word.clone()),
                    started: Some(event.at),
                    outcome: None,
                    micros: None,
                };
                if status.steps.insert(*step, new).is_some() {
                    return Err(illegal("an earlier event of the same step"));
                }
            }
            What::Ended {
                step,
                address,
                outcome,
                micros,
            } => match (status.steps.get_mut(step), outcome) {
                (Some(open), _) if open.outcome.is_none() && open.address == *address => {
                    open.outcome = Some(outcome.clone());
                    open.micros = *micros;
                }
                (Some(_), _) => return Err(illegal("the step's end")),
                (None, Outcome::Skipped { .. }) => {
                    status.steps.insert(
                        *step,
                        StepStatus {
                            address: address.clone(),
                            uid: None,
                            word: None,
                            started: None,
                            outcome: Some(outcome.clone()),
                            micros: None,
                        },
                    );
                }
                (None, _) => return Err(illegal("a step that was never begun")),
            },
            What::Finished {
                cancelled,
                interrupted,
                micros,
            } => {
                if status.steps.values().any(|step| step.outcome.is_none()) {
                    return Err(illegal("a step without an end"));
                }
                status.finished = Some(event.at);
                status.cancelled = *cancelled;
                status.interrupted = *interrupted;
                status.micros = Some(*micros);
            }
        }
        Ok(status)
    }

    /// Steps that may have begun and have no end.
    pub fn open_steps(&self) -> impl Iterator<Item = (StepId, &StepStatus)> {
        self.steps
            .iter()
            .filter(|(_, step)| step.outcome.is_none())
            .map(|(id, step)| (*id, step))
    }

    /// How many steps ended so that `which` holds.
    pub fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.steps
            .values()
            .filter_map(|step| step.outcome.as_ref())
            .filter(|outcome| which(outcome))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use manifests::kind::Kind;
    use runtime::runtime::Effected;

    use super::*;

    fn event(what: What) -> Event {
        Event {
            plan: PlanId(uuid::Uuid::nil()),
            at: jiff::Timestamp::UNIX_EPOCH,
            what,
        }
    }

    fn begun() -> Event {
        event(What::Begun {
            source: SourceName::unnamed(),
            revision: None,
            purpose: Purpose::Apply,
            command: "keel apply".to_owned(),
            by: Some("alice".to_owned()),
            steps: 1,
            held: 0,
        })
    }

    fn address() -> Address {
        Address::new(Kind::Instance, "a")
    }

    fn started() -> Event {
        event(What::Started {
            step: StepId(1),
            address: address(),
            uid: Uid::derive(&uuid::Uuid::nil(), &address()),
            word: "create".to_owned(),
        })
    }

    fn ended(outcome: Outcome) -> Event {
        event(What::Ended {
            step: StepId(1),
            address: address(),
            outcome,
            micros: Some(3),
        })
    }

    fn done() -> Outcome {
        Outcome::Succeeded {
            effected: Effected::Done,
        }
    }

    fn finished() -> Event {
        event(What::Finished {
            cancelled: false,
            interrupted: false,
            micros: 9,
        })
    }

    #[test]
    fn only_possible_stories_are_told() {
        let skipped = || {
            ended(Outcome::Skipped {
                code: None,
                message: "cancelled".to_owned(),
            })
        };
        for (story, possible) in [
            (vec![], false),
            (vec![begun()], true),
            (vec![started()], false),
            (vec![begun(), begun()], false),
            (vec![begun(), started(), ended(done()), finished()], true),
            (vec![begun(), skipped(), finished()], true),
            (vec![begun(), started(), skipped(), finished()], true),
            (vec![begun(), ended(done())], false),
            (vec![begun(), started(), started()], false),
            (
                vec![begun(), started(), ended(done()), ended(done())],
                false,
            ),
            (vec![begun(), started(), finished()], false),
            (vec![begun(), finished(), started()], false),
        ] {
            let told = ApplyStatus::replay(&story);
            assert_eq!(told.is_ok(), possible, "{story:?}: {told:?}");
        }
    }

    #[test]
    fn of_an_impossible_story_the_possible_is_told() {
        let story = [
            started(),
            begun(),
            started(),
            ended(done()),
            finished(),
            ended(done()),
        ];
        let told = ApplyStatus::replay_the_possible(&story).expect("it has a beginning");
        assert_eq!(told.finished, Some(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(told.steps.len(), 1);
        assert!(ApplyStatus::replay_the_possible(&[started()]).is_none());
    }

    #[test]
    fn events_are_read_as_they_are_written() {
        for event in [begun(), started(), ended(done()), finished()] {
            let text = serde_json::to_string(&event).expect("it can be written");
            assert_eq!(
                serde_json::from_str::<Event>(&text).expect("it can be read"),
                event
            );
        }
    }
}
