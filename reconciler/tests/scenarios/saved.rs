//! Saved plans: what moved since, and what is left alone.

use std::collections::BTreeSet;

use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use manifests::id::{Mark, Uid};
use manifests::kind::Spec;
use manifests::observed::Item;
use reconciler::plan::{PlanId, PlanOptions};
use reconciler::store::{Store as _, Write};
use reconciler::view::plan_check::{PlanCheck, check};
use reconciler::view::plan_document::document;
use reconciler::view::saved_plan::{MadeFrom, SavedPlan};
use runtime::fake::FakeRuntime;
use serde_json::{Value, json};

use crate::stage::{Stage, address, edge, ground, instance, network, words};

/// Two instances, of which the plan changes one; a network that it makes and one that it deletes.
fn before() -> DesiredSet {
    edge(&(ground() + &web("100") + &instance("idle", "", "") + &network("old")))
}

fn after() -> DesiredSet {
    edge(&(ground() + &web("200") + &instance("idle", "", "") + &network("new")))
}

fn web(processes: &str) -> String {
    let limits = format!("  limits: {{memory: 64MiB, processes: {processes}}}\n  image:");
    instance("web", "", "").replace("  image:", &limits)
}

fn saved(stage: &Stage, desired: &DesiredSet) -> SavedPlan {
    let plan = stage.plan(desired);
    SavedPlan {
        document: document(&plan, &Diagnostics::default(), None),
        id: plan.id,
        from: MadeFrom::default(),
    }
}

fn now(stage: &Stage, saved: &SavedPlan, desired: &DesiredSet) -> Value {
    let options = PlanOptions {
        repeats: Some(saved.id),
        ..PlanOptions::default()
    };
    let plan = stage.session().plan(desired, &options).unwrap();
    assert_ne!(
        PlanId(saved.id.0),
        plan.id,
        "each apply has a name of its own"
    );
    document(&plan, &Diagnostics::default(), None)
}

fn checked(stage: &Stage, saved: &SavedPlan, desired: &DesiredSet) -> PlanCheck {
    check(saved, &now(stage, saved, desired), &BTreeSet::new())
}

/// Changes a field of an object behind everybody's back.
fn set(stage: &mut Stage, object: &str, at: &str, value: Value) {
    with_item(stage, object, |item| {
        let mut spec = item.spec.to_value();
        *spec.pointer_mut(at).unwrap() = value;
        item.spec = Spec::deserialize(item.address.kind, spec).unwrap();
    });
}

fn with_item(stage: &mut Stage, object: &str, change: impl FnOnce(&mut Item)) {
    let mut world = stage.runtime.world();
    change(world.items.get_mut(&address(object)).unwrap());
    stage.runtime = FakeRuntime::new(world);
}

fn remove(stage: &mut Stage, object: &str) {
    let mut world = stage.runtime.world();
    world.items.remove(&address(object)).unwrap();
    stage.runtime = FakeRuntime::new(world);
}

#[test]
fn a_plan_says_which_object_moved_and_how() {
    type Move = fn(&mut Stage);
    let cases: &[(&str, Move, &[&str])] = &[
        ("nothing", |_| {}, &[]),
        (
            "another field of the object that it changes",
            |stage| {
                set(stage, "instance/web", "/limits/memory", json!("128MiB"));
            },
            &["instance/web: limits.memory was 64MiB and is 128MiB"],
        ),
        (
            "the field that it changes",
            |stage| {
                set(stage, "instance/web", "/limits/processes", json!(7));
            },
            &["instance/web: limits.processes was 100 and is 7"],
        ),
        (
            "somebody did it already",
            |stage| {
                set(stage, "instance/web", "/limits/processes", json!(200));
            },
            &["instance/web: limits.processes was 100 and is 200"],
        ),
        (
            "the object is gone",
            |stage| remove(stage, "instance/web"),
            &["instance/web: it was there and is gone"],
        ),
        (
            "it is another one of that name",
            |stage| {
                with_item(stage, "instance/web", |item| {
                    let uid = Uid::derive(&uuid::Uuid::max(), &item.address);
                    let source = item.mark.take().unwrap().source;
                    item.mark = Some(Mark { source, uid });
                });
            },
            &["instance/web: it is no longer the object that was seen"],
        ),
        (
            "what it is to make is there",
            |stage| {
                let mut world = stage.runtime.world();
                let mut item = world.items[&address("network/old")].clone();
                item.address = address("network/new");
                item.mark = None;
                world.items.insert(item.address.clone(), item);
                stage.runtime = FakeRuntime::new(world);
            },
            &["network/new: it was not there and is there now"],
        ),
        (
            "what it is to delete was changed",
            |stage| {
                set(stage, "network/old", "/description", json!("mine"));
            },
            &["network/old: description was \"\" and is mine"],
        ),
        (
            "what it is to delete is gone",
            |stage| remove(stage, "network/old"),
            &["network/old: it was there and is gone"],
        ),
        (
            "what it needs is gone",
            |stage| remove(stage, "storage-pool/main"),
            &["storage-pool/main: it was there and is gone"],
        ),
        (
            "another commit was applied",
            |stage| {
                let mut source = stage
                    .store()
                    .load()
                    .unwrap()
                    .sources
                    .into_values()
                    .next()
                    .unwrap();
                source.revision = Some("9b02e11".to_owned());
                stage.store().commit(&[Write::Source(source)]).unwrap();
            },
            &["source edge: nothing was last applied and 9b02e11 is by now"],
        ),
    ];
    for (what, change, expected) in cases {
        let mut stage = Stage::new();
        stage.done(&before());
        let plan = saved(&stage, &after());
        change(&mut stage);
        let found = checked(&stage, &plan, &after());
        let told: Vec<String> = found.moved.iter().map(ToString::to_string).collect();
        assert_eq!(told, *expected, "{what}");
    }
}

#[test]
fn what_a_plan_does_not_touch_is_left_alone() {
    let mut stage = Stage::new();
    stage.done(&before());
    let plan = saved(&stage, &after());
    set(&mut stage, "instance/idle", "/description", json!("mine"));
    let found = checked(&stage, &plan, &after());
    assert_eq!(found.moved, []);
    assert_eq!(found.beyond, BTreeSet::from([address("instance/idle")]));
    let options = PlanOptions {
        repeats: Some(plan.id),
        ..PlanOptions::default()
    };
    let mut now = stage.session().plan(&after(), &options).unwrap();
    now.leave_out(&found.beyond);
    assert_eq!(
        words(&now.steps),
        [
            "create network/new",
            "update instance/web",
            "delete network/old"
        ]
    );
}

#[test]
fn how_much_would_be_lost_does_not_make_a_plan_stale() {
    let mut stage = Stage::new();
    stage.done(&before());
    let less = edge(&(ground() + &web("100") + &network("old")));
    let plan = saved(&stage, &less);
    with_item(&mut stage, "instance/idle", |item| item.holds.bytes += 4096);
    assert_eq!(checked(&stage, &plan, &less), PlanCheck::default());
}
