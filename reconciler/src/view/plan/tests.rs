//! Pages as people see them.

use manifests::action::Action;
use manifests::diagnostic::{Code, Diagnostics, Origin};
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::observed::{Holds, Unseen};
use manifests::pointer::Pointer;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::plan::{Expectation, NotSeen, Note, PlanId, PlanSource, StepId, Told, Waiting};

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().expect("a time")
}

fn change(path: &str, before: Value, after: Value, cause: Cause) -> FieldChange {
    FieldChange {
        path: Pointer::new(path),
        before,
        after,
        cause,
    }
}

fn planned(path: &str, before: Value, after: Value, effect: Effect) -> PlannedChange {
    PlannedChange {
        change: change(path, before, after, Cause::Edited),
        effect,
        origin: None,
    }
}

fn step(id: u32, address: &str, verb: Verb, origin: Option<(&str, u32)>) -> Step {
    let address: Address = address.parse().expect("an address");
    let uid = Uid::derive(&Uuid::nil(), &address);
    let source = SourceName::new("edge");
    Step {
        id: StepId(id),
        action: Action {
            verb,
            address,
            uid,
            mark: Mark { source, uid },
        },
        after: Vec::new(),
        waits: Vec::new(),
        changes: Vec::new(),
        effect: None,
        reason: String::new(),
        origin: origin.map(|(file, line)| Origin {
            file: file.into(),
            line,
            ..Origin::default()
        }),
        cause: Cause::Edited,
        loss: None,
        expects: Expectation::Anything,
        kept: Vec::new(),
    }
}

fn update(id: u32, address: &str, changes: Vec<PlannedChange>, origin: (&str, u32)) -> Step {
    let verb = Verb::Update {
        changes: changes.iter().map(|p| p.change.clone()).collect(),
    };
    let mut step = step(id, address, verb, Some(origin));
    step.effect = changes.iter().map(|planned| planned.effect).max();
    if changes.iter().all(|p| p.change.cause == Cause::Drifted) {
        step.cause = Cause::Drifted;
    }
    step.changes = changes;
    step
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan {
        secrets: Vec::new(),
        id: PlanId(Uuid::nil()),
        purpose: Purpose::Apply,
        source: PlanSource {
            name: SourceName::new("edge"),
            root: "/srv/edge".into(),
            revision: Some("3f1c9ad".to_owned()),
            partial: None,
        },
        engine: "native".to_owned(),
        host: "edge-1".to_owned(),
        state_id: "0".to_owned(),
        generation: 1,
        made_at: now(),
        steps,
        held: Vec::new(),
        waiting: Vec::new(),
        stopping: Vec::new(),
        told: Vec::new(),
        notes: Vec::new(),
        unseen: Vec::new(),
        unchanged: 118,
        settled: Vec::new(),
        gone: Vec::new(),
    }
}

fn plain(plan: &Plan, next: Option<&str>) -> String {
    let around = Around {
        milliseconds: 15,
        columns: 100,
        next,
        all_fields: false,
    };
    anstream::adapter::strip_str(&page(plan, &around)).to_string()
}

fn mixed() -> Plan {
    let trash = Verb::Trash {
        at: now(),
        expires_at: "2026-11-30T12:00:00Z".parse().expect("a time"),
    };
    let mut gone = step(7, "instance/cache-2", trash, None);
    gone.reason = "no longer in apps/cache.yaml".to_owned();
    gone.cause = Cause::Orphaned;
    gone.loss = Some(Holds {
        bytes: 21_474_836_480,
        snapshots: 2,
    });
    let mut drifted = planned("/spec/ipv4/nat", json!(false), json!(true), Effect::Live);
    drifted.change.cause = Cause::Drifted;
    plan(vec![
        update(1, "network/lan", vec![drifted], ("net/lan.yaml", 7)),
        step(2, "image/debian", Verb::Create, Some(("images.yaml", 1))),
        step(
            3,
            "instance/web-1",
            Verb::Create,
            Some(("apps/web.yaml", 1)),
        ),
        step(
            4,
            "instance/web-2",
            Verb::Create,
            Some(("apps/web.yaml", 1)),
        ),
        update(
            5,
            "instance/api-1",
            vec![
                planned(
                    "/spec/devices/eth0/parent",
                    json!("br0"),
                    json!("br20"),
                    Effect::Replug,
                ),
                planned(
                    "/spec/limits/memory",
                    json!("512MiB"),
                    json!("1GiB"),
                    Effect::Live,
                ),
            ],
            ("apps/api.yaml", 12),
        ),
        gone,
    ])
}

#[test]
fn the_worst_comes_first_and_the_summary_twice() {
    insta::assert_snapshot!(plain(&mixed(), Some("keel apply plan.json")));
}

#[test]
fn nothing_to_do_is_one_line() {
    assert_eq!(
        plain(&plan(Vec::new()), Some("keel apply")),
        "Nothing to do: 118 objects are as source edge at 3f1c9ad says · 0.02 s\n"
    );
    let mut gone = plan(Vec::new());
    gone.purpose = Purpose::Destroy;
    gone.unchanged = 0;
    assert_eq!(
        plain(&gone, None),
        "Nothing to do: source edge at 3f1c9ad owns nothing on host edge-1 · 0.02 s\n"
    );
}

#[test]
fn what_is_held_stops_or_waits_is_told_with_its_guard() {
    let mut plan = mixed();
    let delete = step(0, "instance/db-1", Verb::Delete, None);
    plan.steps.truncate(1);
    plan.held = vec![Held {
        step: delete,
        because: vec![
            Because {
                code: Code("G103"),
                message: "protected: apply `lifecycle.protect: false` first".to_owned(),
                until: None,
            },
            Because {
                code: Code("G105"),
                message: "outside its window".to_owned(),
                until: Some("2026-11-25T16:00:00Z".parse().expect("a time")),
            },
        ],
    }];
    plan.stopping = vec![Because {
        code: Code("G102"),
        message: "19 of 24 objects would be deleted (79 %), the limit is 10 %".to_owned(),
        until: None,
    }];
    plan.source.partial = Some("only apps/ of source edge".to_owned());
    plan.waiting = vec![Waiting {
        address: "instance/vm".parse().expect("an address"),
        changes: vec![planned(
            "/spec/limits/hugepages",
            json!({}),
            json!({"2MiB": "64MiB"}),
            Effect::NextStart,
        )],
        since: Some("2026-11-23T09:00:00Z".parse().expect("a time")),
    }];
    plan.told = vec![Told {
        address: "instance/web-1".parse().expect("an address"),
        origin: None,
        changes: vec![change(
            "/spec/devices/usb9",
            json!({"type": "usb"}),
            Value::Null,
            Cause::Drifted,
        )],
    }];
    plan.notes = vec![Note {
        address: "storage-pool/fast".parse().expect("an address"),
        text: "its folder is 95 % full".to_owned(),
    }];
    plan.unseen = vec![NotSeen {
        address: "instance/web-1".parse().expect("an address"),
        unseen: vec![Unseen {
            path: Pointer::new("/spec/limits/cpu"),
            why: "permission denied".to_owned(),
        }],
    }];
    insta::assert_snapshot!(plain(&plan, Some("keel apply --approve G102")));
}

#[test]
fn values_cannot_drive_the_terminal_and_are_cut() {
    let evil = planned(
        "/spec/user/note\u{1b}[2J",
        json!("a\u{1b}]0;x\u{7}"),
        json!("b\r\u{202e}"),
        Effect::Live,
    );
    let long = planned(
        "/spec/user/long",
        json!("x".repeat(300)),
        json!("y"),
        Effect::Live,
    );
    let plan = plan(vec![update(
        1,
        "instance/web-1",
        vec![evil, long],
        ("a\u{1b}.yaml", 3),
    )]);
    let text = plain(&plan, None);
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
    assert!(text.lines().all(|line| text::width(line) <= 100), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn every_deed_has_a_mark_and_a_word() {
    let power = |power| Verb::Power { power };
    let deeds = [
        Verb::Create,
        Verb::Update {
            changes: Vec::new(),
        },
        Verb::Rename {
            from: "instance/old".parse().expect("an address"),
        },
        Verb::Rebuild,
        Verb::Replace,
        power(Power::Start),
        power(Power::Stop),
        power(Power::Kill),
        power(Power::Restart),
        power(Power::Freeze),
        power(Power::Unfreeze),
        Verb::Adopt,
        Verb::Forget,
        Verb::Restore,
        Verb::Delete,
    ];
    let steps = deeds
        .into_iter()
        .zip(1..)
        .map(|(verb, id)| step(id, "instance/a", verb, Some(("a.yaml", 1))))
        .collect();
    insta::assert_snapshot!(plain(&plan(steps), None));
}

#[test]
fn a_saved_plan_is_still_true_while_what_would_be_lost_grows() {
    let document = |bytes| {
        let mut step = step(1, "instance/web", Verb::Delete, None);
        step.loss = Some(Holds {
            bytes,
            snapshots: 0,
        });
        let plan = plan(vec![step]);
        crate::view::plan_document::document(&plan, &Diagnostics::default(), None)
    };
    let essence = crate::view::plan_document::essence;
    assert_eq!(essence(&document(1)), essence(&document(2)));
    let other = crate::view::plan_document::document(
        &plan(vec![step(1, "instance/web2", Verb::Delete, None)]),
        &Diagnostics::default(),
        None,
    );
    assert_ne!(essence(&document(1)), essence(&other));
}
