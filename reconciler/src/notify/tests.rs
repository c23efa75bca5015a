//! What is told, when, in which form; and that a target which hangs holds nobody up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use manifests::controller::{Notification, Trigger};
use manifests::id::SourceName;
use runtime::error::Class;

use super::concerns::{Concerns, Drift, Topic, concerns, drift};
use super::form::{chat, event, mail};
use super::message::{Message, Stage};
use super::notifier::Notifier;
use super::teller::{Ledger, Teller};
use crate::clock::{Clock as _, HostClock};
use crate::controller::event::{Ended, Event, Failure, Fetched, Now, Outcome, Reconciled};
use crate::controller::in_force::InForces;
use crate::controller::run::Witness as _;
use crate::controller::state::{Followed, Pace, State};
use crate::web::testing::Server;

/// A controller with one source, `edge`, and the time.
struct Life {
    state: State,
    in_force: InForces,
    now: Now,
    teller: Teller,
}

fn edge() -> SourceName {
    SourceName::new("edge")
}

fn settings() -> Notification {
    Notification {
        name: "team".to_owned(),
        ..Notification::default()
    }
}

impl Life {
    fn new(wanted: Notification) -> Self {
        let followed = Followed {
            poll: None,
            depends_on: Vec::new(),
        };
        let now = Now {
            day: "2026-11-27T12:00:00Z".parse().expect("a time"),
            up: Duration::ZERO,
        };
        let sources = BTreeMap::from([(edge(), followed)]);
        let mut life = Self {
            state: State::new(sources, BTreeMap::new(), Pace::default(), 1, now),
            in_force: InForces::in_folder("/nowhere".as_ref()),
            now,
            teller: Teller {
                wanted,
                host: "web-1".to_owned(),
                ledger: Ledger::default(),
            },
        };
        life.state.decide(Event::Woken, now);
        life.state.decide(Event::Ended(Ended::Boot), now);
        life
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        let time = Duration::from_secs(seconds);
        self.now.up += time;
        self.now.day = self.now.day.checked_add(time).expect("a time");
        self
    }

    fn told(&mut self, event: Event) -> Vec<String> {
        let drift = drift(&event);
        self.state.decide(event, self.now);
        let all = concerns(&self.state, &self.in_force, self.now);
        let messages = self.teller.tell(&all, drift.as_ref(), self.now.day);
        messages.iter().map(Message::text).collect()
    }

    fn ended(&mut self, outcome: Outcome, failed: &[(&str, Class)]) -> Vec<String> {
        let failed = failed.iter().map(|(name, class)| Failure {
            address: format!("instance/{name}").parse().expect("an address"),
            verb: "create",
            class: *class,
            why: "no space".to_owned(),
        });
        let reconciled = Reconciled {
            source: edge(),
            revision: Some("r1".to_owned()),
            outcome,
            done: vec!["instance/done".parse().expect("an address")],
            failed: failed.collect(),
            corrected: Vec::new(),
            until: None,
            left_alone: Vec::new(),
        };
        self.told(Event::Ended(Ended::Reconciled(reconciled)))
    }

    fn settled(&mut self) -> Vec<String> {
        let mut told = self.told(Event::Fetched(edge(), Fetched::Moved("r1".to_owned())));
        told.extend(self.ended(Outcome::Settled, &[]));
        told
    }
}

#[test]
fn what_fails_is_told_once_again_after_a_while_and_when_it_is_over() {
    let mut life = Life::new(settings());
    assert!(life.settled().is_empty(), "that all is well is no news");
    let broken = [("a", Class::NeedsOperator)];
    let told = life.after(10).ended(Outcome::Partly, &broken);
    assert_eq!(told, ["web-1: edge: 1 object failed\ninstance/a: no space"]);
    assert!(life.after(60).ended(Outcome::Partly, &broken).is_empty());
    assert!(life.after(4 * 3600 - 120).told(Event::Woken).is_empty());
    let told = life.after(60).told(Event::Woken);
    let [still] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert!(
        still.starts_with("web-1: edge: still: 1 object failed"),
        "{still}"
    );
    let told = life.after(60).settled();
    let over = "web-1: edge: over: 1 object failed\nsince 2026-11-27T12:00:10Z";
    assert_eq!(told, [over]);
    assert!(life.after(9999).settled().is_empty());
}

#[test]
fn what_may_pass_by_itself_calls_nobody_at_once() {
    let mut life = Life::new(settings());
    life.settled();
    let away = || Fetched::Failed {
        class: Class::Retry,
        why: "no route".to_owned(),
    };
    assert!(life.told(Event::Fetched(edge(), away())).is_empty());
    let told = life
        .after(30)
        .told(Event::Fetched(edge(), Fetched::Unchanged));
    assert!(told.is_empty(), "{told:?}");
    life.told(Event::Fetched(edge(), away()));
    let told = life.after(120).told(Event::Woken);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("cannot be followed"), "{told:?}");
    // An unsigned commit does not become signed by waiting.
    let refused = Fetched::Failed {
        class: Class::Refused,
        why: "not signed".to_owned(),
    };
    let told = life.after(1).told(Event::Fetched(edge(), refused));
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn what_comes_and_goes_does_not_ring_all_day() {
    let mut life = Life::new(settings());
    let mut count = 0;
    for _ in 0..360 {
        count += life.after(5).settled().len();
        let broken = [("a", Class::NeedsOperator)];
        count += life.after(5).ended(Outcome::Partly, &broken).len();
    }
    // An hour of it.
    assert!((4..=10).contains(&count), "{count} messages");
}

#[test]
fn a_new_controller_does_not_say_that_all_is_well_before_it_looked() {
    let mut life = Life::new(settings());
    life.settled();
    assert_eq!(life.ended(Outcome::Partly, &[("a", Class::Bug)]).len(), 1);
    let stopped = Outcome::Stopped {
        digest: "abc".to_owned(),
        because: vec!["G101: five objects would be deleted".to_owned()],
    };
    let told = life.after(60).ended(stopped.clone(), &[]);
    assert!(
        told.iter().any(|one| one.contains("digest abc")),
        "{told:?}"
    );
    let kept = serde_json::to_string(&life.teller.ledger).expect("JSON");
    let mut next = Life::new(settings());
    next.now = life.now;
    next.teller.ledger = serde_json::from_str(&kept).expect("a ledger");
    assert!(next.told(Event::Woken).is_empty());
    next.told(Event::Fetched(edge(), Fetched::Moved("r1".to_owned())));
    assert!(
        next.after(5).ended(stopped, &[]).is_empty(),
        "it is no news"
    );
    assert!(
        next.after(60)
            .settled()
            .iter()
            .any(|one| one.contains("over"))
    );
}

#[test]
fn drift_is_told_by_its_fields_and_only_who_wants_to_know_is_told() {
    let all = Concerns::default();
    let one = |fields: &[&str]| Drift {
        source: edge(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    let mut life = Life::new(settings());
    let now = life.now.day;
    let told = life.teller.tell(&all, Some(&one(&["instance/a: x"])), now);
    assert_eq!(told[0].lines, ["instance/a: x"]);
    assert!(
        life.teller
            .tell(&all, Some(&one(&["instance/a: x"])), now)
            .is_empty()
    );
    let deaf = Notification {
        sources: vec!["other".to_owned()],
        ..settings()
    };
    for wanted in [
        deaf,
        Notification {
            events: vec![Trigger::Failed],
            ..settings()
        },
    ] {
        let mut life = Life::new(wanted);
        let told = life.teller.tell(&all, Some(&one(&["instance/a: x"])), now);
        assert!(told.is_empty(), "{told:?}");
    }
    let host = Topic {
        trigger: Trigger::Backups,
        source: None,
    };
    assert_eq!(host.key(), "backups");
    let told = life.told(Event::BackedUp(Some("a: no; b: no".to_owned())));
    assert_eq!(
        told,
        ["web-1: not all backups that are due were made\na: no\nb: no"]
    );
}

#[test]
fn what_went_back_to_what_it_was_is_told_until_a_person_takes_it_up() {
    use crate::controller::event::Request;
    use crate::diff::suspension::{CONTROLLER, Scope, Suspension};

    let mut life = Life::new(settings());
    life.settled();
    let scope = Scope::Object("instance/a".parse().expect("an address"));
    let suspension = Suspension {
        reason: "it is unhealthy".to_owned(),
        by: Some(CONTROLLER.to_owned()),
        since: life.now.day,
        until: None,
    };
    let told = life.told(Event::Asked(Request::Suspend(scope.clone(), suspension)));
    assert!(
        told.len() == 1 && told[0].contains("instance/a: it is unhealthy"),
        "{told:?}"
    );
    let told = life.after(60).told(Event::Asked(Request::Resume(scope)));
    assert!(told.len() == 1 && told[0].contains("over"), "{told:?}");
}

fn hostile() -> Message {
    Message {
        id: "0123".to_owned(),
        at: "2026-11-27T12:00:00Z".parse().expect("a time"),
        since: "2026-11-27T11:00:00Z".parse().expect("a time"),
        host: "web-1".to_owned(),
        trigger: Trigger::Failed,
        stage: Stage::Began,
        source: Some("edge".to_owned()),
        revision: Some("abc1234".to_owned()),
        title: "bad\r\nBcc: all@example.org".to_owned(),
        lines: vec!["<!channel> \u{1b}[2J & \u{202e}@room".to_owned()],
    }
}

#[test]
fn what_others_wrote_is_text_in_every_form() {
    let letter = mail::letter(
        &hostile(),
        Some("keel@example.org"),
        &["ops@example.org".to_owned()],
    );
    insta::assert_snapshot!("letter", letter);
    assert!(letter.is_ascii());
    insta::assert_snapshot!("slack", format!("{:#}", chat::slack(&hostile())));
    insta::assert_snapshot!("matrix", format!("{:#}", chat::matrix(&hostile())));
    insta::assert_snapshot!("event", format!("{:#}", event::event(&hostile())));
    assert_eq!(
        chat::matrix_path("!a/b:example.org", "01"),
        "/_matrix/client/v3/rooms/%21a%2Fb%3Aexample.org/send/m.room.message/01"
    );
    // As `openssl dgst -sha256 -hmac key` has it.
    assert_eq!(
        event::signature(b"key", b"The quick brown fox jumps over the lazy dog"),
        "sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    );
}

fn read(yaml: &str) -> Vec<Notification> {
    let text = format!("apiVersion: evenkeel/v1\nkind: Controller\nnotifications:\n{yaml}");
    let (settings, found) = manifests::controller::read("c.yaml", &text);
    settings
        .unwrap_or_else(|| panic!("{found:?}"))
        .notifications
}

#[test]
fn targets_get_what_they_want_and_one_that_hangs_holds_nobody_up() {
    let state = tempfile::tempdir().expect("a folder");
    let deaf = Server::begin(|_| None);
    let tries = std::sync::atomic::AtomicU32::new(0);
    // The first answer is that it is overloaded.
    let team = Server::begin(move |_| {
        let first = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        Some((if first { 503 } else { 200 }, String::new()))
    });
    let room = Server::begin(|_| Some((200, "{}".to_owned())));
    let out = state.path().join("out.json");
    let script = state.path().join("tell.sh");
    let text = format!("#!/bin/sh\ncat > {0}.new; mv {0}.new {0}\n", out.display());
    manifests::path_io::write(&script, text).expect("a script");
    let settings = read(&format!(
        "  - name: deaf
    webhook: {{ url: {}/x }}
  - name: team
    webhook: {{ url: {}/hook?a=b, token: {{ environment: TOKEN }}, secret: {{ environment: KEY }} }}
  - name: room
    matrix: {{ server: {}, room: '!r:example.org', token: {{ environment: TOKEN }} }}
  - name: program
    exec: {{ command: [/bin/sh, {}] }}
",
        deaf.url,
        team.url,
        room.url,
        script.display()
    ));
    let variable = |name: &str| Some(format!("the-{}", name.to_lowercase()));
    let mut notifier =
        Notifier::begin(&settings, "web-1", state.path(), &variable).expect("threads");
    let mut life = Life::new(Notification::default());
    life.settled();
    let began: Instant = HostClock.instant();
    let wrong = Event::BackedUp(Some("the disk is full".to_owned()));
    notifier.heard(&wrong);
    life.state.decide(wrong, life.now);
    notifier.stood(&life.state, &life.in_force, life.now);
    assert!(began.elapsed() < Duration::from_millis(500), "it waited");
    deaf.next();
    for _ in 0..2 {
        let heard = team.next();
        assert_eq!(
            (heard.method.as_str(), heard.path.as_str()),
            ("POST", "/hook?a=b")
        );
        assert_eq!(heard.header("authorization"), Some("Bearer the-token"));
        let signature = event::signature(b"the-key", &heard.body);
        assert_eq!(heard.header("x-signature"), Some(signature.as_str()));
        assert_eq!(heard.json()["reason"], "BackupsBegan");
    }
    let heard = room.next();
    assert_eq!(heard.method, "PUT");
    assert!(
        heard.path.starts_with("/_matrix/client/v3/rooms/%21r%3A"),
        "{heard:?}"
    );
    assert!(team.is_quiet(), "it was told already");
    // Who leaves waits for the deaf one, but not long.
    notifier.end(Duration::from_secs(1));
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    let told = manifests::path_io::read_to_string(&out).expect("it was told");
    assert!(told.contains("the disk is full"), "{told}");
    let kept = state.path().join("controller/told/team.json");
    assert!(
        manifests::path_io::read_to_string(kept)
            .expect("kept")
            .contains("backups")
    );
    let tokenless = read("  - { name: a, slack: { urlFrom: { environment: X } } }\n");
    assert!(Notifier::begin(&tokenless, "h", state.path(), &|_| None).is_err());
}
