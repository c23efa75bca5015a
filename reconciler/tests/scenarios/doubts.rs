//! What cannot be read, or only in part: nothing is made twice, and nothing else waits for it.

use manifests::change::Cause;
use manifests::id::{Address, Uid};
use manifests::observed::Unclear;
use reconciler::journal::{Event, What};
use reconciler::plan::{PlanId, Purpose, StepId};
use reconciler::store::{Store as _, Write};

use crate::stage::{Stage, address, document, edge, ground, held, instance, network, now, words};

/// The engine can no longer read what an object is; only its identity is known.
fn make_unreadable(stage: &Stage, name: &str) -> Uid {
    let mut lost = None;
    stage.runtime.by_hand(|world| {
        let item = world.items.remove(&address(name)).unwrap();
        let uid = item.mark.unwrap().uid;
        world.unclear.push(Unclear {
            address: Address::new(item.address.kind, uid.to_string()),
            nameless: Some(uid),
            why: "understand definition.json".to_owned(),
        });
        lost = Some(uid);
    });
    lost.unwrap()
}

#[test]
fn of_what_cannot_be_read_no_second_one_is_made() {
    let stage = Stage::new();
    let with_web = edge(&(ground() + &instance("web", "", "")));
    stage.done(&with_web);
    let uid = make_unreadable(&stage, "instance/web");
    let plan = stage.plan(&with_web);
    assert_eq!(held(&plan), ["G111 create instance/web"]);
    // Others of the kind are not in doubt: which one it is, is remembered.
    let more = edge(&(ground() + &instance("web", "", "") + &instance("more", "", "")));
    assert_eq!(words(&stage.plan(&more).steps), ["create instance/more"]);
    // Nor is it forgotten when its manifest goes, nor is what it stands on taken away.
    assert_eq!(stage.plan(&edge(&ground())).gone, []);
    let without_pool = edge(&document(
        "Image",
        "other",
        "spec: {source: {builtin: busybox}}",
    ));
    assert!(held(&stage.plan(&without_pool)).contains(&"G114 delete image/busybox".to_owned()));
    // Without the database it could be any of its kind.
    stage.forget();
    assert_eq!(
        held(&stage.plan(&more)),
        ["G111 create instance/more", "G111 create instance/web"]
    );
    assert!(
        stage
            .runtime
            .world()
            .unclear
            .iter()
            .any(|one| one.nameless == Some(uid))
    );
}

#[test]
fn an_object_in_doubt_is_in_nobodys_way_after_a_crash() {
    let stage = Stage::new();
    let web = address("instance/web");
    let plan = PlanId(uuid::Uuid::from_u128(7));
    let event = |what| {
        Write::Event(Event {
            plan,
            at: now(),
            what,
        })
    };
    let begun = event(What::Begun {
        source: manifests::id::SourceName::new("edge"),
        revision: None,
        purpose: Purpose::Apply,
        command: "keel apply".to_owned(),
        by: None,
        steps: 1,
        held: 0,
    });
    let started = event(What::Started {
        step: StepId(1),
        address: web.clone(),
        uid: Uid::derive(&plan.0, &web),
        word: "create".to_owned(),
    });
    stage.store().commit(&[begun, started]).unwrap();
    stage.runtime.by_hand(|world| {
        world.unclear.push(Unclear {
            address: web,
            nameless: None,
            why: "permission denied".to_owned(),
        });
    });
    stage.done(&edge(&network("lan")));
    assert_eq!(stage.lives(), ["network/lan"]);
}

#[test]
fn a_part_of_an_object_that_is_gone_is_drift() {
    let stage = Stage::new();
    let kept = document("Network", "lan", "spec: {}\nlifecycle: {prune: orphan}");
    stage.done(&edge(&(kept.clone() + &network("other"))));
    stage.runtime.by_hand(|world| {
        world
            .items
            .get_mut(&address("network/lan"))
            .unwrap()
            .complete = false;
    });
    let plan = stage.plan(&edge(&(kept + &network("other"))));
    let told: Vec<_> = plan
        .steps
        .iter()
        .map(|step| (step.word(), step.cause, step.reason.as_str()))
        .collect();
    assert_eq!(told, [("create", Cause::Drifted, "it is no longer whole")]);
    // What was promised for the end of its manifest counts all the same.
    assert_eq!(
        words(&stage.plan(&edge(&network("other"))).steps),
        ["forget network/lan"]
    );
}
