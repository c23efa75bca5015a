//! What is wrong at a moment, as the controller's own state says it.

use std::collections::{BTreeMap, BTreeSet};

use manifests::controller::Trigger;
use manifests::id::SourceName;

use crate::controller::backoff::may_pass;
use crate::controller::event::{Ended, Event, Now, Outcome};
use crate::controller::in_force::{InForce, InForces};
use crate::controller::state::{Chore, SourceState, State, Trouble};
use crate::diff::suspension::{Scope, Suspension};

/// What may be wrong: one thing of one source, or of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    /// What.
    pub trigger: Trigger,
    /// Of which source.
    pub source: Option<SourceName>,
}

impl Topic {
    fn of(trigger: Trigger, source: &SourceName) -> Self {
        let source = Some(source.clone());
        Self { trigger, source }
    }

    /// As a key: `failed/edge`.
    pub fn key(&self) -> String {
        match &self.source {
            Some(source) => format!("{}/{source}", self.trigger),
            None => self.trigger.to_string(),
        }
    }
}

/// Something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// What.
    pub topic: Topic,
    /// Since when.
    pub since: jiff::Timestamp,
    /// It may pass by itself: nobody is called at once.
    pub may_pass: bool,
    /// One sentence.
    pub title: String,
    /// More of it.
    pub lines: Vec<String>,
}

/// How all stands at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concerns {
    /// What is wrong.
    pub open: Vec<Concern>,
    /// Of what it is not known yet whether it is wrong: the controller just began.
    pub unknown: BTreeSet<Topic>,
    /// The sources that are followed.
    pub sources: BTreeSet<SourceName>,
    /// What is in force of each source.
    pub revisions: BTreeMap<SourceName, String>,
    /// Sources of which that is done.
    pub settled: BTreeSet<SourceName>,
}

/// Fields of a source that had moved and were put back: `instance/web: spec.limits.memory`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Which source.
    pub source: SourceName,
    /// The objects with their fields.
    pub fields: Vec<String>,
}

/// What an event says of drift.
pub fn drift(event: &Event) -> Option<Drift> {
    let Event::Ended(Ended::Reconciled(ended)) = event else {
        return None;
    };
    let fields = ended.corrected.iter();
    let fields: Vec<String> = fields
        .map(|(address, path)| format!("{address}: {}", path.dotted()))
        .collect();
    let source = ended.source.clone();
    (!fields.is_empty()).then_some(Drift { source, fields })
}

/// How all stands now.
pub fn concerns(state: &State, in_force: &InForces, now: Now) -> Concerns {
    let mut all = Concerns::default();
    for (name, source) in &state.sources {
        all.sources.insert(name.clone());
        let one = in_force.of(name);
        let label = one.as_deref().map(InForce::label);
        all.source(name, source, label.as_deref(), now);
        if source.is_settled() {
            all.settled.insert(name.clone());
        }
        if let Some(label) = label {
            all.revisions.insert(name.clone(), label);
        }
    }
    all.went_back(state);
    let of_host = [
        (
            Trigger::Snapshots,
            &state.due,
            "not all that is due by the clock was done",
        ),
        (
            Trigger::Backups,
            &state.backups,
            "not all backups that are due were made",
        ),
    ];
    for (trigger, result, title) in of_host {
        let topic = Topic {
            trigger,
            source: None,
        };
        match result {
            Chore::Unknown => {
                all.unknown.insert(topic);
            }
            Chore::Well => {}
            Chore::Failing(trouble) => all.open.push(Concern {
                topic,
                since: trouble.since,
                may_pass: false,
                title: title.to_owned(),
                lines: trouble.why.split("; ").map(str::to_owned).collect(),
            }),
        }
    }
    all
}

fn began(trouble: Option<&Trouble>, now: Now) -> (jiff::Timestamp, bool) {
    match trouble {
        Some(trouble) => (trouble.since, may_pass(trouble.class)),
        None => (now.day, false),
    }
}

impl Concerns {
    /// Instances that went back to what they were because they were not well with an image that moved.
    fn went_back(&mut self, state: &State) {
        let back: Vec<(&Scope, &Suspension)> = state
            .suspensions
            .iter()
            .filter(|(_, suspension)| suspension.is_by_controller())
            .collect();
        let Some(since) = back.iter().map(|(_, suspension)| suspension.since).min() else {
            return;
        };
        self.open.push(Concern {
            topic: Topic {
                trigger: Trigger::Failed,
                source: None,
            },
            since,
            may_pass: false,
            title:
                "not well with the image that its alias names now, and left alone as it was before"
                    .to_owned(),
            lines: back
                .iter()
                .map(|(scope, suspension)| format!("{scope}: {}", suspension.reason))
                .collect(),
        });
    }

    fn source(&mut self, name: &SourceName, source: &SourceState, label: Option<&str>, now: Now) {
        self.refused(name, source, label, now);
        let of_work = [Trigger::Failed, Trigger::Waiting, Trigger::Fight];
        let Some(outcome) = &source.outcome else {
            let topics = of_work.map(|trigger| Topic::of(trigger, name));
            self.unknown.extend(topics);
            return;
        };
        if source.in_force != source.reconciled {
            // A new revision is not done yet: what was wrong before may be so again.
            let topics = of_work.map(|trigger| Topic::of(trigger, name));
            self.unknown.extend(topics);
        }
        match outcome {
            Outcome::Failed { why, .. } => {
                let (since, may_pass) = began(source.failed.as_ref(), now);
                self.open.push(Concern {
                    topic: Topic::of(Trigger::Failed, name),
                    since,
                    may_pass,
                    title: "nothing could be done".to_owned(),
                    lines: vec![why.clone()],
                });
            }
            Outcome::Stopped { digest, because } => {
                let mut lines = because.clone();
                lines.push(format!("the plan has the digest {digest}"));
                self.open.push(Concern {
                    topic: Topic::of(Trigger::Waiting, name),
                    since: source.reconciled_at.unwrap_or(now.day),
                    may_pass: false,
                    title: "a plan waits until somebody answers for it".to_owned(),
                    lines,
                });
                // Nothing was tried: what failed before may fail again.
                self.unknown.insert(Topic::of(Trigger::Failed, name));
            }
            // Nothing was tried: it stays as it was told.
            Outcome::Busy | Outcome::Looked => {
                let topics = of_work.map(|trigger| Topic::of(trigger, name));
                self.unknown.extend(topics);
            }
            Outcome::Settled | Outcome::Partly => {}
        }
        self.objects(name, source, now);
        let contended = source.fights.contended(now.up);
        if !contended.is_empty() {
            let fields = contended.iter();
            self.open.push(Concern {
                topic: Topic::of(Trigger::Fight, name),
                since: now.day,
                may_pass: false,
                title:
                    "somebody else changes back what was put right; it is left alone for an hour"
                        .to_owned(),
                lines: fields
                    .map(|(address, path)| format!("{address}: {}", path.dotted()))
                    .collect(),
            });
        }
    }

    /// Objects that failed, where the source as a whole did not.
    fn objects(&mut self, name: &SourceName, source: &SourceState, now: Now) {
        let failing = source.failing();
        let whole = matches!(source.outcome, Some(Outcome::Failed { .. }));
        if whole || failing.is_empty() {
            return;
        }
        let title = match failing.len() {
            1 => "1 object failed".to_owned(),
            count => format!("{count} objects failed"),
        };
        let since = failing.values().map(|one| one.since).min();
        self.open.push(Concern {
            topic: Topic::of(Trigger::Failed, name),
            since: since.unwrap_or(now.day),
            may_pass: failing.values().all(|one| may_pass(one.class)),
            title,
            lines: failing
                .iter()
                .map(|(address, trouble)| format!("{address}: {}", trouble.why))
                .collect(),
        });
    }

    /// A source that cannot be followed, or whose newest revision is not taken over.
    fn refused(&mut self, name: &SourceName, source: &SourceState, label: Option<&str>, now: Now) {
        let topic = Topic::of(Trigger::Source, name);
        if source.fetched_at.is_none() && source.fetching_failed.is_none() {
            self.unknown.insert(topic);
            return;
        }
        let stays = match label {
            Some(label) => format!("{label} stays in force"),
            None => "nothing is in force".to_owned(),
        };
        if let Some(trouble) = &source.fetching_failed {
            let (since, may_pass) = began(Some(trouble), now);
            self.open.push(Concern {
                topic,
                since,
                may_pass,
                title: format!("the source cannot be followed: {stays}"),
                lines: vec![trouble.why.clone()],
            });
        } else if let Some((revision, why)) = &source.invalid {
            self.open.push(Concern {
                topic,
                since: now.day,
                may_pass: false,
                title: format!("{revision} is not taken over: {stays}"),
                lines: why.split("; ").map(str::to_owned).collect(),
            });
        }
    }
}
