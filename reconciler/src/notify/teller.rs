//! What is told to one target now: what was told already is not told again, what goes on is told again after a while, and
//! what comes and goes does not ring all day. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manifests::controller::{Notification, Trigger};
use manifests::id::SourceName;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::concerns::{Concern, Concerns, Drift, Topic};
use super::message::{Message, Stage};

/// What may pass by itself is told after it did not for so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// A topic that was told twice within this rests …
const LATELY: Duration = Duration::from_secs(3600);
/// … for so long, and then for twice as long each time.
const REST: Duration = Duration::from_secs(60);
/// The same drift is told again after this, where nothing else is said.
const DRIFT_AGAIN: Duration = Duration::from_secs(4 * 3600);
/// More drifted fields are not remembered.
const MOST_FIELDS: usize = 2000;

/// What was told of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    /// It is not over.
    open: bool,
    since: jiff::Timestamp,
    /// When something was last told, and before, as far as it is lately.
    at: Vec<jiff::Timestamp>,
    /// What it was about.
    title: String,
    /// Tells what was said from everything else.
    words: String,
}

/// What a target was told, which outlives the controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    told: BTreeMap<String, Told>,
    /// Fields that drifted, and when that was told.
    drifted: BTreeMap<String, jiff::Timestamp>,
    /// Fields that drifted and were not told yet, by their source.
    to_tell: BTreeMap<SourceName, BTreeSet<String>>,
    /// The revision of each source that was told to be done.
    deployed: BTreeMap<SourceName, String>,
}

/// Tells one target.
#[derive(Debug)]
pub struct Teller {
    /// What the target wants.
    pub wanted: Notification,
    /// This host.
    pub host: String,
    /// What it was told.
    pub ledger: Ledger,
}

/// What a message is made of.
struct News<'a> {
    topic: &'a Topic,
    stage: Stage,
    since: jiff::Timestamp,
    title: String,
    lines: Vec<String>,
}

/// How long something was; nothing where the clock was set back.
fn between(from: jiff::Timestamp, to: jiff::Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn digest(parts: &[&str]) -> String {
    let mut all = Sha256::new();
    for part in parts {
        all.update(part.as_bytes());
        all.update([0]);
    }
    hex::encode(&all.finalize()[..12])
}

impl Told {
    /// Whether something may be told again without ringing all day.
    fn is_calm(&self, now: jiff::Timestamp) -> bool {
        let lately = |at: &&jiff::Timestamp| **at <= now && between(**at, now) < LATELY;
        let many = self.at.iter().filter(lately).count();
        let Some(last) = self.at.last().filter(|_| many > 0) else {
            return true;
        };
        let doubled = u32::try_from(many.saturating_sub(2)).unwrap_or(u32::MAX);
        let rest = match many {
            0 | 1 => Duration::ZERO,
            _ => REST.saturating_mul(1u32.checked_shl(doubled).unwrap_or(u32::MAX)),
        };
        between(*last, now) >= rest.min(LATELY)
    }

    fn last(&self) -> Option<jiff::Timestamp> {
        self.at.last().copied()
    }
}

impl Teller {
    /// What is told now.
    pub fn tell(
        &mut self,
        all: &Concerns,
        drift: Option<&Drift>,
        now: jiff::Timestamp,
    ) -> Vec<Message> {
        let mut messages = Vec::new();
        for concern in &all.open {
            if self.wants(&concern.topic) {
                messages.extend(self.concern(concern, all, now));
            }
        }
        messages.extend(self.over(all, now));
        messages.extend(self.drift(all, drift, now));
        messages.extend(self.deployed(all, now));
        self.forget(now);
        messages
    }

    /// Whether something has to be looked at again after a while, though nothing happens.
    pub fn waits(&self, all: &Concerns) -> bool {
        !all.open.is_empty()
            || !self.ledger.to_tell.is_empty()
            || self.ledger.told.values().any(|told| told.open)
    }

    fn wants(&self, topic: &Topic) -> bool {
        let sources = &self.wanted.sources;
        let source = |name: &SourceName| {
            sources.is_empty() || sources.iter().any(|one| one == name.as_str())
        };
        self.wanted.wants(topic.trigger) && topic.source.as_ref().is_none_or(source)
    }

    fn concern(
        &mut self,
        concern: &Concern,
        all: &Concerns,
        now: jiff::Timestamp,
    ) -> Option<Message> {
        let key = concern.topic.key();
        let mut words: Vec<&str> = vec![&concern.title];
        words.extend(concern.lines.iter().map(String::as_str));
        let words = digest(&words);
        let ripe = !concern.may_pass || between(concern.since, now) >= PATIENCE;
        let told = self.ledger.told.get_mut(&key);
        let stage = match told {
            Some(told) if told.open => {
                let repeat = self.wanted.repeat.as_std();
                let since = told.last().map_or(Duration::MAX, |last| between(last, now));
                if told.words != words {
                    if !told.is_calm(now) {
                        return None;
                    }
                    Stage::Changed
                } else if !repeat.is_zero() && since >= repeat {
                    Stage::GoesOn
                } else {
                    return None;
                }
            }
            _ if !ripe => return None,
            Some(told) if !told.is_calm(now) => return None,
            _ => Stage::Began,
        };
        let told = self.ledger.told.entry(key).or_insert_with(|| Told {
            open: false,
            since: concern.since,
            at: Vec::new(),
            title: String::new(),
            words: String::new(),
        });
        if !told.open {
            told.since = concern.since;
        }
        told.open = true;
        told.at.push(now);
        told.title.clone_from(&concern.title);
        told.words = words;
        let news = News {
            topic: &concern.topic,
            stage,
            since: told.since,
            title: concern.title.clone(),
            lines: concern.lines.clone(),
        };
        Some(self.message(news, all, now))
    }

    /// What was told and is over.
    fn over(&mut self, all: &Concerns, now: jiff::Timestamp) -> Vec<Message> {
        let topics = all.sources.iter().flat_map(|name| {
            let of = |trigger: &Trigger| Topic {
                trigger: *trigger,
                source: Some(name.clone()),
            };
            Trigger::ALL.iter().map(of)
        });
        let of_host = |trigger: &Trigger| Topic {
            trigger: *trigger,
            source: None,
        };
        let topics: Vec<Topic> = topics.chain(Trigger::ALL.iter().map(of_host)).collect();
        // A source that is followed no more is no news.
        let keys: BTreeSet<String> = topics.iter().map(Topic::key).collect();
        self.ledger.told.retain(|key, _| keys.contains(key));
        let mut messages = Vec::new();
        for topic in topics {
            let still = all.open.iter().any(|one| one.topic == topic);
            if still || all.unknown.contains(&topic) {
                continue;
            }
            let told = self.ledger.told.get_mut(&topic.key());
            let Some(told) = told.filter(|told| told.open) else {
                continue;
            };
            // That a field is tried again after an hour is no peace.
            let is_told = self.wanted.wants(Trigger::Recovered) && topic.trigger != Trigger::Fight;
            if is_told && !told.is_calm(now) {
                continue;
            }
            told.open = false;
            if is_told {
                told.at.push(now);
                let news = News {
                    topic: &topic,
                    stage: Stage::Over,
                    since: told.since,
                    title: told.title.clone(),
                    lines: Vec::new(),
                };
                messages.push(self.message(news, all, now));
            }
        }
        messages
    }

    fn drift(
        &mut self,
        all: &Concerns,
        drift: Option<&Drift>,
        now: jiff::Timestamp,
    ) -> Vec<Message> {
        let topic = |source: &SourceName| Topic {
            trigger: Trigger::Drift,
            source: Some(source.clone()),
        };
        let again = match self.wanted.repeat.as_std() {
            Duration::ZERO => DRIFT_AGAIN,
            repeat => repeat,
        };
        let drifted = &mut self.ledger.drifted;
        drifted.retain(|_, at| *at <= now && between(*at, now) < again);
        if let Some(drift) = drift.filter(|drift| self.wants(&topic(&drift.source))) {
            let drifted = &self.ledger.drifted;
            let new = drift
                .fields
                .iter()
                .filter(|field| !drifted.contains_key(*field));
            let new: Vec<String> = new.take(MOST_FIELDS).cloned().collect();
            if !new.is_empty() {
                let to_tell = &mut self.ledger.to_tell;
                to_tell.entry(drift.source.clone()).or_default().extend(new);
            }
        }
        let sources: Vec<SourceName> = self.ledger.to_tell.keys().cloned().collect();
        let mut messages = Vec::new();
        for source in sources {
            let topic = topic(&source);
            let told = self.ledger.told.entry(topic.key()).or_insert_with(|| Told {
                open: false,
                since: now,
                at: Vec::new(),
                title: String::new(),
                words: String::new(),
            });
            if !told.is_calm(now) {
                continue;
            }
            told.at.push(now);
            let fields = self.ledger.to_tell.remove(&source).unwrap_or_default();
            let room = MOST_FIELDS.saturating_sub(self.ledger.drifted.len());
            let remembered = fields.iter().take(room).map(|field| (field.clone(), now));
            self.ledger.drifted.extend(remembered);
            let title = match fields.len() {
                1 => "1 field was changed by somebody else and was put back".to_owned(),
                count => format!("{count} fields were changed by somebody else and were put back"),
            };
            let news = News {
                topic: &topic,
                stage: Stage::Happened,
                since: now,
                title,
                lines: fields.into_iter().collect(),
            };
            messages.push(self.message(news, all, now));
        }
        messages
    }

    fn deployed(&mut self, all: &Concerns, now: jiff::Timestamp) -> Vec<Message> {
        let mut messages = Vec::new();
        for source in &all.settled {
            let topic = Topic {
                trigger: Trigger::Deployed,
                source: Some(source.clone()),
            };
            let Some(revision) = all.revisions.get(source) else {
                continue;
            };
            if self.ledger.deployed.get(source) == Some(revision) {
                continue;
            }
            let deployed = &mut self.ledger.deployed;
            deployed.insert(source.clone(), revision.clone());
            if self.wants(&topic) {
                let news = News {
                    topic: &topic,
                    stage: Stage::Happened,
                    since: now,
                    title: format!("{revision} is done"),
                    lines: Vec::new(),
                };
                messages.push(self.message(news, all, now));
            }
        }
        messages
    }

    /// What is over and was not told lately.
    fn forget(&mut self, now: jiff::Timestamp) {
        self.ledger.told.retain(|_, told| {
            let last = told.last();
            told.at
                .retain(|at| Some(*at) == last || between(*at, now) < LATELY);
            told.open || last.is_some_and(|last| between(last, now) < LATELY)
        });
    }

    fn message(&self, news: News<'_>, all: &Concerns, now: jiff::Timestamp) -> Message {
        let News {
            topic,
            stage,
            since,
            title,
            lines,
        } = news;
        let at = now.to_string();
        let key = topic.key();
        let id = [
            self.host.as_str(),
            &self.wanted.name,
            &key,
            stage.word(),
            &at,
        ];
        let source = topic.source.as_ref();
        Message {
            id: digest(&id),
            at: now,
            since,
            host: self.host.clone(),
            trigger: topic.trigger,
            stage,
            source: source.map(ToString::to_string),
            revision: source.and_then(|source| all.revisions.get(source).cloned()),
            title,
            lines,
        }
    }
}
