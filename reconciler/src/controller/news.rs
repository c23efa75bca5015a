//! [`Feed`]: what happened lately, for those who listen. It holds so much and no more: who does not listen costs nothing
//! and misses the oldest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use manifests::id::{Address, SourceName};

use super::event::Outcome;
use super::picture::Looked;
use super::standing::{SourceStanding, Standing};
use crate::apply::{ApplyObserver, StepResult};
use crate::clock::Clock;
use crate::journal;
use crate::plan::Step;

/// So much is remembered.
const KEPT: usize = 512;

/// What kind of news it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Topic {
    /// What should run after the start of the host was started.
    Booted,
    /// Another revision is in force.
    Revision,
    /// A newer revision means nothing: the one before stays in force.
    Invalid,
    /// A source cannot be looked at.
    Unreachable,
    /// A source was brought to where it shall be, or not.
    Reconciled,
    /// A step began.
    Begun,
    /// A step was done.
    Done,
    /// A step failed.
    Failed,
    /// An object stands otherwise than before.
    Object,
    /// Somebody suspended something.
    Suspended,
    /// That is over.
    Resumed,
    /// A person wants a revision to stay in force, or no longer.
    Pinned,
    /// Somebody else changes something back each time.
    Fight,
}

impl Topic {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Booted => "booted",
            Self::Revision => "revision",
            Self::Invalid => "invalid",
            Self::Unreachable => "unreachable",
            Self::Reconciled => "reconciled",
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Object => "object",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
            Self::Pinned => "pinned",
            Self::Fight => "fight",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidings {
    /// What kind of news it is.
    pub topic: Topic,
    /// The source, where it is about one.
    pub source: Option<SourceName>,
    /// The object, where it is about one.
    pub object: Option<Address>,
    /// What happened, for people.
    pub message: String,
}

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Its place in the order, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Tidings,
}

/// What there is after some number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    /// The oldest first.
    pub news: Vec<Arc<News>>,
    /// Whether some before these are no longer remembered.
    pub missed: bool,
}

type Bell = Box<dyn Fn(u64) + Send + Sync>;

#[derive(Default)]
struct Ring {
    last: u64,
    news: VecDeque<Arc<News>>,
    bells: Vec<Bell>,
}

/// What happened lately.
#[derive(Default)]
pub struct Feed(Mutex<Ring>);

impl Feed {
    /// Something happened.
    pub fn tell(&self, at: Timestamp, what: Tidings) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        let number = ring.last;
        if ring.news.len() == KEPT {
            ring.news.pop_front();
        }
        ring.news.push_back(Arc::new(News { number, at, what }));
        for bell in &ring.bells {
            bell(number);
        }
    }

    /// At most so many of those after a number, the oldest first.
    pub fn since(&self, number: u64, most: usize) -> Since {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = ring.news.front().map_or(ring.last + 1, |one| one.number);
        let after = ring.news.iter().filter(|one| one.number > number);
        Since {
            news: after.take(most).cloned().collect(),
            missed: number + 1 < oldest,
        }
    }

    /// The number of the newest.
    pub fn last(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Calls this with its number each time that something happens. It must not wait, nor tell anything.
    pub fn ring(&self, bell: impl Fn(u64) + Send + Sync + 'static) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bells.push(Box::new(bell));
    }
}

/// What happened between two pictures of how the controller stands.
pub fn between(before: &Standing, after: &Standing) -> Vec<Tidings> {
    let mut all = Vec::new();
    let tell = |topic, source: Option<&SourceName>, message: String| Tidings {
        topic,
        source: source.cloned(),
        object: None,
        message,
    };
    if after.booted && !before.booted {
        all.push(tell(Topic::Booted, None, "the controller began".to_owned()));
    }
    for (scope, suspension) in &after.suspensions {
        if before.suspensions.get(scope) != Some(suspension) {
            let message = format!("{scope} is {}", suspension.words());
            all.push(tell(Topic::Suspended, None, message));
        }
    }
    for scope in before.suspensions.keys() {
        if !after.suspensions.contains_key(scope) {
            all.push(tell(Topic::Resumed, None, format!("{scope} is resumed")));
        }
    }
    for source in &after.sources {
        let name = Some(&source.name);
        let was = before.sources.iter().find(|one| one.name == source.name);
        if source.in_force.is_some() && was.map(|was| &was.in_force) != Some(&source.in_force) {
            let message = format!("another revision of {} is in force", source.name);
            all.push(tell(Topic::Revision, name, message));
        }
        if was.is_some_and(|was| was.pinned != source.pinned) {
            let message = match &source.pinned {
                Some(pin) => format!("{} is {}", source.name, pin.words()),
                None => format!("{} is followed again", source.name),
            };
            all.push(tell(Topic::Pinned, name, message));
        }
        if let Some((revision, why)) = &source.invalid
            && was.is_none_or(|was| was.invalid != source.invalid)
        {
            let message = format!("{revision} is invalid, what was in force stays so: {why}");
            all.push(tell(Topic::Invalid, name, message));
        }
        if let Some(trouble) = &source.unreachable
            && was.is_none_or(|was| was.unreachable.is_none())
        {
            all.push(tell(Topic::Unreachable, name, trouble.why.clone()));
        }
        for (object, path) in &source.contended {
            if was.is_none_or(|was| !was.contended.contains(&(object.clone(), path.clone()))) {
                let message = format!(
                    "{} of {object} is changed back by somebody else each time: it is left alone for an hour, or until keel resume {object}",
                    path.dotted()
                );
                all.push(Tidings {
                    object: Some(object.clone()),
                    ..tell(Topic::Fight, name, message)
                });
            }
        }
        let ended = |one: &SourceStanding| (one.reconciled_at, one.outcome.clone());
        let same_revision = was.is_some_and(|was| was.reconciled == source.reconciled);
        if was.is_none_or(|was| ended(was) != ended(source))
            && let Some(outcome) = &source.outcome
            && !(same_revision
                && was.and_then(|was| was.outcome.as_ref()) == Some(outcome)
                && matches!(outcome, Outcome::Settled | Outcome::Busy))
        {
            all.push(tell(Topic::Reconciled, name, outcome.words()));
        }
    }
    all
}

/// What moved between two looks at a source.
pub fn moved(source: &SourceName, before: Option<&Looked>, after: &Looked) -> Vec<Tidings> {
    let Some(before) = before else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let mut tell = |object: &Address, message: String| {
        all.push(Tidings {
            topic: Topic::Object,
            source: Some(source.clone()),
            object: Some(object.clone()),
            message,
        });
    };
    for (address, stands) in &after.objects {
        let was = before.objects.get(address).map(|was| was.accord);
        if was != Some(stands.accord) {
            let fields = stands.fields.iter().map(|field| field.path.dotted());
            let mut message = stands.accord.word().to_owned();
            let fields: Vec<String> = fields.take(3).collect();
            if !fields.is_empty() {
                message.push_str(&format!(": {}", fields.join(", ")));
            }
            tell(address, message);
        }
    }
    for address in before.objects.keys() {
        if !after.objects.contains_key(address) {
            tell(address, "gone".to_owned());
        }
    }
    all
}

/// Tells of the steps of one source.
pub(super) struct Herald<'a> {
    pub(super) feed: &'a Feed,
    pub(super) clock: &'a dyn Clock,
    pub(super) source: &'a SourceName,
}

impl Herald<'_> {
    fn tell(&self, topic: Topic, step: &Step, message: String) {
        let what = Tidings {
            topic,
            source: Some(self.source.clone()),
            object: Some(step.address().clone()),
            message,
        };
        self.feed.tell(self.clock.now(), what);
    }
}

impl ApplyObserver for Herald<'_> {
    fn started(&self, step: &Step) {
        self.tell(
            Topic::Begun,
            step,
            format!("{}: {}", step.deed(), step.reason),
        );
    }

    fn finished(&self, step: &Step, result: &StepResult) {
        match &result.outcome {
            journal::Outcome::Succeeded { .. } => {
                self.tell(Topic::Done, step, step.deed().to_owned());
            }
            journal::Outcome::Failed { message, .. } => {
                self.tell(Topic::Failed, step, format!("{}: {message}", step.deed()));
            }
            journal::Outcome::Skipped { .. } | journal::Outcome::Interrupted { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidings(message: &str) -> Tidings {
        Tidings {
            topic: Topic::Object,
            source: None,
            object: None,
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_feed_keeps_so_much_and_tells_who_missed_something() {
        let feed = Feed::default();
        let now = "2026-11-27T12:00:00Z".parse().expect("a time");
        assert_eq!(feed.since(0, 10), Since::default());
        for number in 1..=KEPT + 3 {
            feed.tell(now, tidings(&number.to_string()));
        }
        let late = feed.since(0, 2);
        assert!(late.missed);
        assert_eq!(late.news[0].what.message, "4");
        assert_eq!(late.news.len(), 2);
        assert!(!feed.since(3, 2).missed, "the fourth is the next");
        let newest = feed.since(feed.last() - 1, 10);
        assert_eq!((newest.news.len(), newest.missed), (1, false));
    }
}
