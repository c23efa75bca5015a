//! Plans and reports that the tests of several formats show.

use jiff::Timestamp;
use manifests::action::{Action, Verb};
use manifests::change::{Cause, FieldChange};
use manifests::diagnostic::{Code, Origin};
use manifests::effect::Effect;
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::lifecycle::DriftMode;
use manifests::observed::{Holds, Unseen};
use manifests::pointer::Pointer;
use serde_json::{Value, json};
use uuid::Uuid;

use super::drift::{Compared, DriftReport, DriftedField, StaleRule};
use crate::diff::WhyStale;
use crate::journal::Author;
use crate::plan::{
    Because, Expectation, Held, NotSeen, Note, Plan, PlanId, PlanSource, PlannedChange, Purpose,
    Step, StepId, Unchanged,
};

/// The time in all samples.
pub(super) fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().expect("a time")
}

pub(super) fn change(path: &str, before: Value, after: Value, cause: Cause) -> FieldChange {
    FieldChange {
        path: Pointer::new(path),
        before,
        after,
        cause,
    }
}

pub(super) fn planned(path: &str, before: Value, after: Value, effect: Effect) -> PlannedChange {
    PlannedChange {
        change: change(path, before, after, Cause::Edited),
        effect,
        origin: None,
    }
}

pub(super) fn step(id: u32, address: &str, verb: Verb, origin: Option<(&str, u32)>) -> Step {
    let address: Address = address.parse().expect("an address");
    let uid = Uid::derive(&Uuid::nil(), &address);
    let source = SourceName::new("edge");
    Step {
        id: StepId(id),
        action: Action {
            keep: None,
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
        seen: Value::Null,
    }
}

pub(super) fn update(
    id: u32,
    address: &str,
    changes: Vec<PlannedChange>,
    origin: (&str, u32),
) -> Step {
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

pub(super) fn plan(steps: Vec<Step>) -> Plan {
    Plan {
        id: PlanId(Uuid::nil()),
        seed: PlanId(Uuid::nil()),
        purpose: Purpose::Apply,
        source: PlanSource {
            name: SourceName::new("edge"),
            root: "/srv/edge".into(),
            revision: Some("3f1c9ad".to_owned()),
            repository: None,
            partial: None,
            last_applied: None,
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
        secrets: Vec::new(),
        gone: Vec::new(),
    }
}

pub(super) fn mixed() -> Plan {
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

/// A field changed, one added by hand, an object gone, one left alone by a rule.
pub(super) fn drift() -> DriftReport {
    let origin = |file: &str, line| {
        Some(Origin {
            file: file.into(),
            line,
            column: 5,
            ..Origin::default()
        })
    };
    DriftReport {
        format_version: "1.0",
        source: "edge".to_owned(),
        revision: Some("3f1c9ad".to_owned()),
        host: "edge-1".to_owned(),
        engine: "native".to_owned(),
        at: "2026-11-23T12:00:00Z".parse().expect("a time"),
        objects: 126,
        drift: vec![
            DriftedField {
                id: "instance/db-1".parse().expect("an address"),
                path: Pointer::new("/spec/limits/memory"),
                desired: json!("8GiB"),
                live: json!("12GiB"),
                mode: DriftMode::Correct,
                first_seen: "2026-11-23T11:00:00Z".parse().ok(),
                times: 3,
                cause: "changed outside git".to_owned(),
                author: None,
                source: origin("apps/db.yaml", 9),
            },
            DriftedField {
                id: "instance/db-1".parse().expect("an address"),
                path: Pointer::new("/spec/devices/usb9"),
                desired: Value::Null,
                live: json!({"type": "usb"}),
                mode: DriftMode::Warn,
                first_seen: None,
                times: 1,
                cause: "added by hand".to_owned(),
                author: None,
                source: None,
            },
            DriftedField {
                id: "instance/web-1".parse().expect("an address"),
                path: Pointer::new("/spec/state"),
                desired: json!("Running"),
                live: json!("Stopped"),
                mode: DriftMode::Warn,
                first_seen: "2026-11-23T11:30:00Z".parse().ok(),
                times: 2,
                cause: "stopped by hand until 2026-11-24 12:00:00Z: a new disk".to_owned(),
                author: Some(Author {
                    by: Some("alice".to_owned()),
                    command: "keel stop web-1 --hold 1d --reason 'a new disk'".to_owned(),
                    at: "2026-11-23T11:20:00Z".parse().expect("a time"),
                }),
                source: origin("apps/web.yaml", 6),
            },
            DriftedField {
                id: "network/lan".parse().expect("an address"),
                path: Pointer::root(),
                desired: json!("there"),
                live: Value::Null,
                mode: DriftMode::Correct,
                first_seen: None,
                times: 1,
                cause: "gone".to_owned(),
                author: None,
                source: origin("net/lan.yaml", 1),
            },
        ],
        edited: vec!["instance/cache-1".parse().expect("an address")],
        unseen: Vec::new(),
        stale_rules: vec![
            StaleRule {
                path: Pointer::new("/spec/limits/cpu"),
                why: WhyStale::Expired,
                reason: Some("tuned by hand".to_owned()),
                until: "2026-11-01".parse().ok(),
                objects: vec!["instance/db-1".parse().expect("an address")],
                source: origin("apps/db.yaml", 14),
            },
            StaleRule {
                path: Pointer::new("/spec/user/*"),
                why: WhyStale::NothingDiffers,
                reason: None,
                until: None,
                objects: vec![
                    "instance/db-1".parse().expect("an address"),
                    "instance/web-1".parse().expect("an address"),
                ],
                source: origin("keel.yaml", 5),
            },
        ],
        compared: [
            ("instance/cache-1", "apps/cache.yaml", 1, "/spec/user/note"),
            ("instance/db-1", "apps/db.yaml", 1, ""),
            ("instance/web-1", "apps/web.yaml", 1, ""),
            ("network/lan", "net/lan.yaml", 1, ""),
        ]
        .into_iter()
        .map(|(address, file, line, ignored)| Compared {
            address: address.parse().expect("an address"),
            origin: origin(file, line).expect("a place"),
            ignored: Some(ignored)
                .filter(|path| !path.is_empty())
                .map(Pointer::new)
                .into_iter()
                .collect(),
        })
        .collect(),
    }
}

/// A plan with something held and a guard that stops it.
pub(super) fn stopped() -> Plan {
    let mut plan = mixed();
    let mut delete = step(0, "instance/db-1", Verb::Delete, Some(("apps/db.yaml", 3)));
    delete.reason = "no longer declared".to_owned();
    plan.held = vec![Held {
        step: delete,
        because: vec![Because {
            code: Code("G105"),
            message: "outside its window".to_owned(),
            until: "2026-11-25T16:00:00Z".parse().ok(),
        }],
    }];
    plan.stopping = vec![Because {
        code: Code("G102"),
        message: "19 of 24 objects would be deleted (79 %), the limit is 10 %".to_owned(),
        until: None,
    }];
    plan.settled = vec![Unchanged {
        address: "storage-pool/fast".parse().expect("an address"),
        uid: Uid::derive(
            &Uuid::nil(),
            &"storage-pool/fast".parse().expect("an address"),
        ),
    }];
    plan
}

/// An edit of a profile that reaches many instances: some at once, some at their next start, one is held.
pub(super) fn fan_out() -> Plan {
    let fields = |effect| {
        let field = |path: &str, before: Value, after: Value, line| PlannedChange {
            origin: Some(Origin {
                file: "profiles/web.yaml".into(),
                line,
                ..Origin::default()
            }),
            ..planned(path, before, after, effect)
        };
        vec![
            field("/spec/limits/memory", json!("256MiB"), json!("512MiB"), 12),
            field("/spec/limits/processes", json!(100), json!(200), 13),
        ]
    };
    let mut steps: Vec<Step> = (1..=13)
        .map(|number| {
            let effect = if number % 4 == 0 {
                Effect::NextStart
            } else {
                Effect::Live
            };
            let name = format!("instance/web-{number:02}");
            update(
                number,
                &name,
                fields(effect),
                ("apps/web.yaml", 10 * number),
            )
        })
        .collect();
    let held = update(
        14,
        "instance/web-14",
        fields(Effect::NextStart),
        ("apps/web.yaml", 140),
    );
    steps.extend(mixed().steps);
    let mut plan = plan(steps);
    plan.held = vec![Held {
        step: held,
        because: vec![Because {
            code: Code("G105"),
            message: "outside its window".to_owned(),
            until: "2026-11-25T16:00:00Z".parse().ok(),
        }],
    }];
    plan
}

/// The files of [`fan_out`].
pub(super) fn files() -> Vec<(String, String)> {
    let profile = "# Who serves pages.\n\n\n\n\n\nkind: Profile\nmetadata:\n  name: web\nspec:\n  limits:\n    \
                   memory: 512MiB\n    processes: 200\n";
    vec![("profiles/web.yaml".to_owned(), profile.to_owned())]
}

/// Texts that would be more than themselves somewhere: on a terminal, in Markdown, HTML, XML, a workflow command.
pub(super) const HOSTILE: &[&str] = &[
    "`code` ``` ```diff\n- x",
    "a | b || c\n| --- |",
    "@everyone and @org/team, #1, owner/repo#2, https://evil.example",
    "</code></td><script>alert(1)</script><img src=x onerror=alert(1)>",
    "--> <!-- keel:plan x --> <!--",
    "[click](javascript:alert(1)) ![x](https://evil.example/p.png) **b** _i_ ~~s~~ :tada:",
    "</details></summary>\n\n# Title\n\n> [!CAUTION]",
    "\u{1b}]0;title\u{7}\u{1b}[2J\u{202e}drawkcab\u{200b}",
    "::error::x%0A\r\n::set-output name=x::y",
    "]]><!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>&e;",
    "' onmouseover='alert(1)\" style=\"x",
    "\u{0}\u{fffe}\u{ffff}\u{2028}",
];

/// A plan and a drift report of which every text is a hostile one.
pub(super) fn hostile(text: &str) -> (Plan, DriftReport) {
    let mut pointer = Pointer::new("/spec/user");
    pointer = pointer.field(text);
    let file: &str = text;
    let mut field = planned(pointer.as_str(), json!(text), json!([text]), Effect::Replug);
    field.origin = Some(Origin {
        file: file.into(),
        line: 3,
        column: 1,
        ..Origin::default()
    });
    let mut named = update(1, "instance/web-1", vec![field], (file, 1));
    named.action.address.name = text.to_owned();
    let mut gone = step(2, "instance/cache-2", Verb::Delete, Some((file, 2)));
    gone.reason = text.to_owned();
    let mut made = plan(vec![named.clone(), gone]);
    made.source.revision = Some(text.to_owned());
    made.source.partial = Some(text.to_owned());
    made.host = text.to_owned();
    made.held = vec![Held {
        step: named,
        because: vec![Because {
            code: Code("G105"),
            message: text.to_owned(),
            until: None,
        }],
    }];
    made.stopping = made.held[0].because.clone();
    made.notes = vec![Note {
        address: "instance/web-1".parse().expect("an address"),
        text: text.to_owned(),
    }];
    let mut report = drift();
    report.source = text.to_owned();
    report.host = text.to_owned();
    for rule in &mut report.stale_rules {
        rule.path = pointer.clone();
        rule.reason = Some(text.to_owned());
        rule.objects[0].name = text.to_owned();
        if let Some(origin) = &mut rule.source {
            origin.file = text.into();
        }
    }
    for field in &mut report.drift {
        if let Some(author) = &mut field.author {
            author.by = Some(text.to_owned());
            author.command = text.to_owned();
        }
        field.id.name = text.to_owned();
        field.path = Pointer::new("/spec/user").field(text);
        field.desired = json!(text);
        field.live = json!({text: text});
        field.cause = text.to_owned();
    }
    report.unseen = vec![NotSeen {
        address: "instance/web-1".parse().expect("an address"),
        unseen: vec![Unseen {
            path: pointer,
            why: text.to_owned(),
        }],
    }];
    (made, report)
}

/// A plan of so many objects, each with fields.
pub(super) fn large(count: u32) -> Plan {
    let steps = (1..=count).map(|number| {
        let field = |path: &str| {
            planned(
                path,
                json!("x".repeat(200)),
                json!(format!("{number}")),
                Effect::Live,
            )
        };
        let fields = vec![field("/spec/user/note"), field("/spec/environment/TEXT")];
        let name = format!("instance/a-rather-long-name-of-an-instance-{number:06}");
        update(
            number,
            &name,
            fields,
            ("applications/of/the/shop/front.yaml", number),
        )
    });
    plan(steps.collect())
}
