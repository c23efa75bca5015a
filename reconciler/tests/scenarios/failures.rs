//! Steps that fail, locks that are taken away, plans that are made too early.

use manifests::id::{SourceName, Uid};
use reconciler::journal::{Event, Journal as _, Outcome, What};
use reconciler::plan::{PlanId, Purpose, StepId};
use reconciler::store::{Store as _, Write};
use runtime::fake::{FakeRuntime, Fault};
use runtime::runtime::Effected;

use crate::stage::{Stage, address, document, edge, ground, held, instance, network, now, words};

#[test]
fn a_change_that_is_refused_does_not_block_its_siblings() {
    let mut stage = Stage::new();
    let web = |more: &str| {
        let text = instance("web", "", "").replace("  image:", &format!("{more}  image:"));
        edge(&(ground() + &text))
    };
    stage.done(&web(""));
    let changed = web("  description: shop\n  environment: {LANG: C}\n");
    assert_eq!(
        words(&stage.plan(&changed).steps),
        ["update instance/web", "update instance/web"]
    );
    stage.runtime = FakeRuntime::new(stage.runtime.world()).with_fault(0, Fault::FailsBefore);
    let (_, report) = stage.apply(&changed);
    let report = report.unwrap();
    assert_eq!(
        (report.failed(), report.applied(), report.skipped()),
        (1, 1, 0)
    );
}

#[test]
fn what_an_unlocked_apply_still_says_does_not_spoil_the_history() {
    let stage = Stage::new();
    let plan = PlanId(uuid::Uuid::from_u128(7));
    let lan = address("network/lan");
    let event = |what| {
        Write::Event(Event {
            plan,
            at: now(),
            what,
        })
    };
    let begun = event(What::Begun {
        source: SourceName::new("edge"),
        revision: None,
        purpose: Purpose::Apply,
        command: "keel apply".to_owned(),
        by: None,
        steps: 1,
        held: 0,
    });
    let started = event(What::Started {
        step: StepId(1),
        address: lan.clone(),
        uid: Uid::derive(&plan.0, &lan),
        word: "create".to_owned(),
    });
    stage.store().commit(&[begun, started]).unwrap();
    // `keel unlock`, and the next apply tells the end of the first.
    stage.done(&edge(&network("other")));
    let ended = event(What::Ended {
        step: StepId(1),
        address: lan,
        outcome: Outcome::Succeeded {
            effected: Effected::Done,
        },
        micros: Some(1),
    });
    stage.store().commit(&[ended]).unwrap();
    let applies = stage.session().history(9).unwrap();
    let told: Vec<_> = applies.iter().map(|apply| apply.interrupted).collect();
    assert_eq!(told, [false, true]);
    // A journal that was spoilt before tells all that is possible.
    let database = rusqlite::Connection::open(stage.database()).unwrap();
    database
        .execute(
            "INSERT INTO journal (plan, at, step, address, what)
             SELECT plan, at, step, address, what FROM journal WHERE step IS NOT NULL",
            [],
        )
        .unwrap();
    assert_eq!(stage.store().applies(9).unwrap(), applies);
}

#[test]
fn what_lies_in_the_trash_is_neither_wiped_for_another_image_nor_passed_over() {
    let stage = Stage::new();
    let other = document("Image", "other", "spec: {source: {rootfs: /srv/other}}");
    let with = |image: &str| {
        let text = instance("web", "", "").replace("image: busybox", &format!("image: {image}"));
        edge(&(ground() + &other + &text))
    };
    stage.done(&with("busybox"));
    stage.done(&edge(&(ground() + &other)));
    let plan = stage.plan(&with("other"));
    assert_eq!(words(&plan.steps), [""; 0]);
    assert_eq!(held(&plan), ["G115 create instance/web"]);
    // What it was like comes back, with what was edited since.
    let text = instance("web", "", "").replace("  image:", "  description: shop\n  image:");
    let again = edge(&(ground() + &other + &text));
    assert_eq!(words(&stage.plan(&again).steps), ["restore instance/web"]);
    stage.done(&again);
    assert_eq!(words(&stage.plan(&again).steps), [""; 0]);
    assert_eq!(stage.runtime.world().trash.len(), 0);
}
