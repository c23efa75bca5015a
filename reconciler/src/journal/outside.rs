//! Who did outside keel what differs now, as far as a server told it.

use jiff::{SignedDuration, Timestamp};

use super::{Author, ObjectEvent, What};

/// What is heard of a deed of ours is heard so long after it at most.
const LATE: SignedDuration = SignedDuration::from_millis(1500);

/// What a server told that was done to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When it was told.
    pub at: Timestamp,
    /// What, in the words of the server: `instance-updated`.
    pub what: String,
    /// Who asked for it.
    pub by: String,
}

/// What of an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differs {
    /// It is gone.
    Gone,
    /// Whether it runs.
    State,
    /// Another field.
    Field,
}

impl Differs {
    /// Whether a deed may have made it so.
    fn by(self, what: &str) -> bool {
        let ends = |ends: &[&str]| ends.iter().any(|end| what.ends_with(end));
        match self {
            Self::Gone => ends(&["-deleted", "-renamed"]),
            Self::State => ends(&[
                "-started",
                "-stopped",
                "-shutdown",
                "-restarted",
                "-paused",
                "-resumed",
            ]),
            Self::Field => ends(&["-updated", "-renamed", "-restored", "-created"]),
        }
    }
}

/// Who made an object differ since keel last did something to it, by the newest events and what was heard, the newest
/// first in both. Where it may have been one of several, all are named.
pub fn author_outside(differs: Differs, events: &[ObjectEvent], heard: &[Heard]) -> Option<Author> {
    let after = match last_deed(events) {
        // It is at work just now: what is heard may be its own.
        LastDeed::UnderWay => return None,
        LastDeed::Ended(at) => at.checked_add(LATE).unwrap_or(at),
        LastDeed::None => Timestamp::MIN,
    };
    let since = heard.iter().filter(|one| one.at > after);
    let mut names: Vec<&str> = Vec::new();
    let mut newest = None;
    for one in since.filter(|one| differs.by(&one.what)) {
        newest.get_or_insert(one);
        if !names.contains(&one.by.as_str()) {
            names.push(&one.by);
        }
    }
    newest.map(|newest| Author {
        by: Some(names.join(" or ")),
        command: newest.what.clone(),
        at: newest.at,
    })
}

enum LastDeed {
    None,
    UnderWay,
    Ended(Timestamp),
}

fn last_deed(events: &[ObjectEvent]) -> LastDeed {
    for one in events {
        match one.event.what {
            What::Started { .. } => return LastDeed::UnderWay,
            What::Ended { .. } => return LastDeed::Ended(one.event.at),
            _ => {}
        }
    }
    LastDeed::None
}

#[cfg(test)]
mod tests {
    use manifests::id::{Address, Uid};
    use manifests::kind::Kind;
    use runtime::runtime::Effected;
    use uuid::Uuid;

    use super::*;
    use crate::journal::{Event, Outcome};
    use crate::plan::{PlanId, StepId};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn heard(second: i64, what: &str, by: &str) -> Heard {
        Heard {
            at: at(second),
            what: what.to_owned(),
            by: by.to_owned(),
        }
    }

    /// A step of ours that began at 100 and ended at 110, or did not end.
    fn step(ended: bool) -> Vec<ObjectEvent> {
        let address = Address::new(Kind::Instance, "web");
        let event = |second, what| ObjectEvent {
            event: Event {
                plan: PlanId(Uuid::nil()),
                at: at(second),
                what,
            },
            command: None,
            by: None,
        };
        let began = What::Started {
            step: StepId(1),
            address: address.clone(),
            uid: Uid::derive(&Uuid::nil(), &address),
            word: "update".to_owned(),
        };
        let outcome = Outcome::Succeeded {
            effected: Effected::Done,
        };
        let end = What::Ended {
            step: StepId(1),
            address,
            outcome,
            micros: None,
        };
        let mut events = vec![event(100, began)];
        if ended {
            events.insert(0, event(110, end));
        }
        events
    }

    #[test]
    fn only_what_was_done_since_and_may_have_made_it_so_counts() {
        let ours = heard(109, "instance-updated", "root");
        let late = heard(111, "instance-updated", "root");
        let alice = heard(120, "instance-updated", "alice");
        let stopped = heard(125, "instance-stopped", "bob");
        let carol = heard(130, "instance-updated", "carol");
        let all = [&carol, &stopped, &alice, &late, &ours].map(Clone::clone);
        let name = |differs, heard: &[Heard]| {
            let author = author_outside(differs, &step(true), heard)?;
            Some((author.by?, author.command))
        };
        let named = |by: &str, what: &str| Some((by.to_owned(), what.to_owned()));
        assert_eq!(
            name(Differs::Field, &all),
            named("carol or alice", "instance-updated")
        );
        assert_eq!(
            name(Differs::Field, &all[1..]),
            named("alice", "instance-updated")
        );
        assert_eq!(name(Differs::State, &all), named("bob", "instance-stopped"));
        assert_eq!(name(Differs::Gone, &all), None);
        assert_eq!(name(Differs::Field, &all[3..]), None, "that was our own");
        assert_eq!(author_outside(Differs::Field, &step(false), &all), None);
        let all = [ours];
        let foreign = author_outside(Differs::Field, &[], &all).and_then(|author| author.by);
        assert_eq!(
            foreign.as_deref(),
            Some("root"),
            "we never did anything to it"
        );
    }
}
