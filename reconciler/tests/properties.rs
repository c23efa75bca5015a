//! Properties of planning and applying, over fake worlds.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy only knows the tests themselves"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use manifests::action::Verb;
use manifests::desired::{Budget, DesiredSet, Readiness, Resource, SourceInfo, Windows};
use manifests::diagnostic::Origin;
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::kind::{Kind, Spec};
use manifests::lifecycle::{Lifecycle, Prune};
use manifests::observed::{Holds, Item};
use proptest::prelude::*;
use reconciler::apply::{ApplyOptions, ApplyReport, Silent, Tools, apply, recover};
use reconciler::clock::FixedClock;
use reconciler::diff::diff;
use reconciler::diff::known::Known;
use reconciler::journal::{Journal as _, Outcome};
use reconciler::plan::{Allow, Plan, PlanId, PlanInput, PlanOptions, Purpose, plan};
use reconciler::session::{Session, SessionError, Stale};
use reconciler::state_folder::{StateFolder, StateFolderError};
use reconciler::store::{MemoryStore, SqliteStore, Store, StoreError, Write, rebuild};
use runtime::fake::{FakeRuntime, Fault, World};
use runtime::runtime::Runtime;
use serde_json::{Value, json};

fn now() -> jiff::Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// One instance as a test draws it.
#[derive(Debug, Clone)]
struct Draw {
    running: bool,
    description: u8,
    processes: u8,
    language: u8,
    on_network: Option<u8>,
}

/// A whole set as a test draws it: networks 0 to 2 with a description, instances 0 to 3.
#[derive(Debug, Clone)]
struct Drawn {
    networks: BTreeMap<u8, u8>,
    instances: BTreeMap<u8, Draw>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let instance = (
        any::<bool>(),
        0..3u8,
        1..4u8,
        0..3u8,
        proptest::option::of(0..3u8),
    )
        .prop_map(
            |(running, description, processes, language, on_network)| Draw {
                running,
                description,
                processes,
                language,
                on_network,
            },
        );
    (
        proptest::collection::btree_map(0..3u8, 0..3u8, 0..4),
        proptest::collection::btree_map(0..4u8, instance, 0..5),
    )
        .prop_map(|(networks, instances)| Drawn {
            networks,
            instances,
        })
}

fn resource(address: Address, spec: Value, needs: Vec<Address>) -> Resource {
    let mut lifecycle = Lifecycle::default_of(address.kind);
    lifecycle.prune = Prune::default_of(address.kind);
    Resource {
        spec: Spec::deserialize(address.kind, spec).unwrap(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        lifecycle,
        previous: Vec::new(),
        needs: needs
            .into_iter()
            .map(|need| (need, Readiness::Running))
            .collect(),
        origin: Origin::default(),
        provenance: manifests::desired::Provenance::default(),
        address,
    }
}

fn network(number: u8) -> Address {
    Address::new(Kind::Network, format!("n{number}"))
}

fn desired(drawn: &Drawn) -> DesiredSet {
    let mut all = vec![resource(
        Address::new(Kind::StoragePool, "main"),
        json!({}),
        Vec::new(),
    )];
    for (number, description) in &drawn.networks {
        all.push(resource(
            network(*number),
            json!({"description": format!("d{description}")}),
            Vec::new(),
        ));
    }
    for (number, draw) in &drawn.instances {
        let mut needs = vec![Address::new(Kind::StoragePool, "main")];
        let mut devices = json!({"root": {"type": "disk", "path": "/", "pool": "main"}});
        if let Some(on) = draw.on_network.filter(|on| drawn.networks.contains_key(on)) {
            devices["eth0"] = json!({"type": "nic", "network": format!("n{on}")});
            needs.push(network(on));
        }
        all.push(resource(
            Address::new(Kind::Instance, format!("i{number}")),
            json!({
                "state": if draw.running { "Running" } else { "Stopped" },
                "description": format!("d{}", draw.description),
                "limits": {"processes": draw.processes},
                "environment": {"LANG": format!("l{}", draw.language)},
                "devices": devices,
            }),
            needs,
        ));
    }
    DesiredSet {
        source: SourceInfo {
            name: SourceName::new("edge"),
            root: "/edge".into(),
            revision: None,
            repository: None,
            partial: None,
        },
        resources: all
            .into_iter()
            .map(|resource| (resource.address.clone(), resource))
            .collect(),
        others: BTreeMap::new(),
        external: Vec::new(),
        policies: Vec::new(),
        projects: Vec::new(),
        secrets: BTreeMap::new(),
        budget: Budget {
            data: u32::MAX,
            percent: 100,
        },
        windows: Windows::default(),
        trash: manifests::desired::TrashRule::default(),
        host: None,
    }
}

/// Dies with its engine: what was not on disk by then never is.
struct Mortal<'a> {
    store: &'a MemoryStore,
    runtime: &'a FakeRuntime,
}

impl Store for Mortal<'_> {
    fn load(&self) -> Result<Known, StoreError> {
        self.store.load()
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        if self.runtime.is_dead() {
            return Err(StoreError::Damaged {
                what: "process",
                value: "dead".to_owned(),
            });
        }
        self.store.commit(writes)
    }
}

fn planned(runtime: &FakeRuntime, store: &MemoryStore, desired: &DesiredSet) -> Plan {
    let observed = runtime.observe().unwrap();
    let known = store.load().unwrap();
    let cost = |_: &_, resource: &Resource, _: &Item, change: &manifests::change::FieldChange| {
        manifests::effect_table::effect(resource.address.kind, &change.path)
    };
    plan(&PlanInput {
        id: PlanId(uuid::Uuid::now_v7()),
        purpose: Purpose::Apply,
        diff: &diff(desired, &observed, &known, now()),
        desired,
        observed: &observed,
        known: &known,
        host: &runtime.capabilities().unwrap(),
        effects: &cost,
        rules: &reconciler::plan::rules::NoRules,
        approve: &BTreeSet::new(),
        allow: &Allow::ALL.into_iter().collect(),
        no_trash: false,
        no_restore: false,
        resting: &[],
        now: now(),
    })
}

fn applied(
    runtime: &FakeRuntime,
    store: &MemoryStore,
    desired: &DesiredSet,
    parallelism: usize,
) -> (Plan, Result<ApplyReport, StoreError>) {
    let ended = recover(&store.unfinished().unwrap(), runtime, now());
    store.commit(&ended).unwrap();
    let plan = planned(runtime, store, desired);
    let tools = Tools {
        runtime,
        store: &Mortal { store, runtime },
        clock: &FixedClock(now()),
        cancel: &AtomicBool::new(false),
        still_held: &|| true,
        when_full: &|| {},
    };
    let options = ApplyOptions {
        parallelism: Some(parallelism),
        timeout: Duration::from_millis(20),
        readiness_timeout: Duration::from_millis(20),
        ..ApplyOptions::default()
    };
    let known = store.load().unwrap();
    let report = apply(&plan, desired, &known, tools, &options, &Silent);
    (plan, report)
}

/// Applies and says what must be true afterwards.
fn converges(
    runtime: &FakeRuntime,
    store: &MemoryStore,
    desired: &DesiredSet,
    parallelism: usize,
) -> Result<(), TestCaseError> {
    let (plan, report) = applied(runtime, store, desired, parallelism);
    let report = report.unwrap();
    prop_assert!(plan.held.is_empty(), "held: {:?}", plan.held);
    prop_assert!(report.is_complete(), "{:#?}\n{:#?}", plan.steps, report);
    let again = planned(runtime, store, desired);
    // What comes out of the trash is brought up to date within its step, but for what waits for a restart.
    prop_assert!(again.is_empty(), "second plan: {:#?}", again.steps);
    prop_assert!(store.unfinished().unwrap().is_empty());
    Ok(())
}

fn foreign(address: Address, mark: Option<Mark>) -> Item {
    Item {
        spec: Spec::default_of(address.kind),
        address,
        mark,
        complete: true,
        unseen: Vec::new(),
        last_told: None,
        remembered: None,
        holds: Holds::default(),
        status: json!({}),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_applied_is_as_wanted_and_nothing_is_left_to_do(
        first in drawn(),
        then in drawn(),
        parallelism in 1..5usize,
    ) {
        let runtime = FakeRuntime::new(World::default());
        let store = MemoryStore::default();
        converges(&runtime, &store, &desired(&first), parallelism)?;
        converges(&runtime, &store, &desired(&then), parallelism)?;
        let set = desired(&then);
        let live: BTreeSet<Address> = runtime.world().items.into_keys().collect();
        let wanted: BTreeSet<Address> = set.resources.into_keys().collect();
        prop_assert_eq!(live, wanted);
    }

    #[test]
    fn a_crash_at_any_deed_is_made_good_by_the_next_apply(
        first in drawn(),
        then in drawn(),
        at in 0..12usize,
        fault in prop_oneof![
            Just(Fault::DiesBefore), Just(Fault::DiesWithin), Just(Fault::DiesAfter),
            Just(Fault::FailsBefore), Just(Fault::FailsAfter),
        ],
        parallelism in 1..4usize,
    ) {
        let runtime = FakeRuntime::new(World::default());
        let store = MemoryStore::default();
        converges(&runtime, &store, &desired(&first), 1)?;
        let broken = FakeRuntime::new(runtime.world()).with_fault(at, fault);
        let (_, report) = applied(&broken, &store, &desired(&then), parallelism);
        if broken.is_dead() {
            prop_assert!(report.is_err(), "{report:?}");
        }
        converges(&broken.revive(), &store, &desired(&then), parallelism)?;
    }

    #[test]
    fn a_deed_is_in_the_journal_before_it_begins(set in drawn(), at in 0..8usize) {
        let runtime = FakeRuntime::new(World::default()).with_fault(at, Fault::DiesAfter);
        let store = MemoryStore::default();
        let _died = applied(&runtime, &store, &desired(&set), 3);
        let told = store.applies(1).unwrap();
        for deed in runtime.deeds() {
            prop_assert!(
                told.iter().any(|apply| apply
                    .steps
                    .values()
                    .any(|step| step.uid == Some(deed.uid) && step.started.is_some())),
                "{deed:?} is not in {told:?}"
            );
        }
    }

    #[test]
    fn what_others_own_is_never_touched(set in drawn(), marked in any::<bool>(), number in 0..4u8) {
        let address = Address::new(Kind::Instance, format!("i{number}"));
        let mark = marked.then(|| Mark {
            source: SourceName::new("other"),
            uid: Uid::derive(&uuid::Uuid::nil(), &address),
        });
        let item = foreign(address.clone(), mark);
        let runtime = FakeRuntime::new(World {
            items: BTreeMap::from([(address.clone(), item.clone())]),
            ..World::default()
        });
        let store = MemoryStore::default();
        let (plan, report) = applied(&runtime, &store, &desired(&set), 2);
        prop_assert_eq!(runtime.world().items.remove(&address), Some(item));
        let claimed = desired(&set).resources.contains_key(&address);
        prop_assert_eq!(plan.held.iter().any(|held| *held.step.address() == address), claimed);
        prop_assert_eq!(report.unwrap().failed(), 0);
    }

    #[test]
    fn a_part_of_a_source_deletes_nothing(first in drawn(), then in drawn()) {
        let runtime = FakeRuntime::new(World::default());
        let store = MemoryStore::default();
        converges(&runtime, &store, &desired(&first), 2)?;
        let before: BTreeSet<Address> = runtime.world().items.into_keys().collect();
        let mut part = desired(&then);
        part.source.partial = Some("--only".to_owned());
        let (_, report) = applied(&runtime, &store, &part, 2);
        report.unwrap();
        let after: BTreeSet<Address> = runtime.world().items.into_keys().collect();
        prop_assert!(after.is_superset(&before), "{before:?} became {after:?}");
    }

    #[test]
    fn steps_come_after_what_they_need(first in drawn(), then in drawn()) {
        let runtime = FakeRuntime::new(World::default());
        let store = MemoryStore::default();
        converges(&runtime, &store, &desired(&first), 2)?;
        let set = desired(&then);
        let plan = planned(&runtime, &store, &set);
        for (place, step) in plan.steps.iter().enumerate() {
            prop_assert!(step.after.iter().all(|before| *before < step.id));
            let Some(resource) = set.resources.get(step.address()) else { continue };
            if step.removes() { continue }
            for (need, _) in &resource.needs {
                let made = plan.steps.iter().position(|other| {
                    other.address() == need && matches!(other.action.verb, Verb::Create)
                });
                prop_assert!(made.is_none_or(|made| made < place), "{need} after {step:?}");
            }
        }
    }

    #[test]
    fn a_lost_database_is_made_again_from_the_marks(first in drawn(), then in drawn()) {
        let runtime = FakeRuntime::new(World::default());
        let store = MemoryStore::default();
        converges(&runtime, &store, &desired(&first), 2)?;
        let store = MemoryStore::default();
        store.commit(&rebuild(&runtime.observe().unwrap())).unwrap();
        prop_assert!(planned(&runtime, &store, &desired(&first)).steps.is_empty());
        let uids = |runtime: &FakeRuntime| -> BTreeMap<Address, Option<Uid>> {
            runtime
                .world()
                .items
                .into_iter()
                .map(|(address, item)| (address, item.mark.map(|mark| mark.uid)))
                .collect()
        };
        let before = uids(&runtime);
        let (plan, report) = applied(&runtime, &store, &desired(&then), 2);
        let after = uids(&runtime);
        for address in desired(&then).resources.keys() {
            prop_assert!(after.contains_key(address), "{address} is missing");
            let known = before.get(address);
            prop_assert!(known.is_none_or(|uid| after.get(address) == Some(uid)), "{address} is another one");
        }
        for result in report.unwrap().results {
            let step = plan.steps.iter().find(|step| step.id == result.id).unwrap();
            let done = matches!(result.outcome, Outcome::Succeeded { .. });
            prop_assert!(done, "{step:?}: {:?}", result.outcome);
        }
    }
}

/// A state folder with a session of an empty fake world.
fn with_session(test: impl FnOnce(&StateFolder, &Session<'_>)) {
    let place = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(place.path().join("state")).unwrap();
    let session = Session {
        folder: &folder,
        runtime: &FakeRuntime::new(World::default()),
        clock: &FixedClock(now()),
        cancel: &AtomicBool::new(false),
    };
    test(&folder, &session);
}

fn one_network() -> DesiredSet {
    desired(&Drawn {
        networks: BTreeMap::from([(0, 0)]),
        instances: BTreeMap::new(),
    })
}

fn everything() -> PlanOptions {
    PlanOptions {
        allow: Allow::ALL.into_iter().collect(),
        ..PlanOptions::default()
    }
}

#[test]
fn of_two_applies_at_once_the_second_is_told_who_is_at_it() {
    with_session(|folder, session| {
        let lock = folder.lock("keel apply", now()).unwrap();
        let how = ApplyOptions::default();
        let result = session.apply(&one_network(), &everything(), &how, &Silent, &mut |_| true);
        match result {
            Err(SessionError::Folder(StateFolderError::Busy { owner: Some(owner) })) => {
                assert_eq!(&owner, lock.owner());
            }
            other => panic!("{other:?}"),
        }
        drop(lock);
        let (_, report) = session
            .apply(&one_network(), &everything(), &how, &Silent, &mut |_| true)
            .unwrap();
        assert!(report.unwrap().is_complete());
        assert!(
            session
                .plan(&one_network(), &everything())
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn an_apply_between_plan_and_consent_makes_the_plan_stale() {
    with_session(|folder, session| {
        let how = ApplyOptions::default();
        let result = session.apply(&one_network(), &everything(), &how, &Silent, &mut |_| {
            let other = SqliteStore::open(&folder.database()).unwrap();
            other.commit(&[Write::NextGeneration]).unwrap();
            true
        });
        assert!(
            matches!(
                result,
                Err(SessionError::Stale(Stale { planned: 0, now: 1 }))
            ),
            "{result:?}"
        );
        assert!(session.runtime.observe().unwrap().items.is_empty());
    });
}

#[test]
fn what_the_file_remembers_outlives_the_process() {
    with_session(|folder, session| {
        let how = ApplyOptions::default();
        session
            .apply(&one_network(), &everything(), &how, &Silent, &mut |_| true)
            .unwrap();
        let known = SqliteStore::open(&folder.database())
            .unwrap()
            .load()
            .unwrap();
        let owned: Vec<String> = known
            .owned
            .values()
            .map(|one| one.address.to_string())
            .collect();
        assert_eq!(owned.len(), 2, "{owned:?}");
        assert!(known.owned.values().all(|one| one.spec.is_some()));
        // One at the beginning of the apply, one at its end.
        assert_eq!(known.generation, 2);
        let applies = SqliteStore::open(&folder.database())
            .unwrap()
            .applies(9)
            .unwrap();
        assert_eq!(applies.len(), 1);
        assert!(applies[0].finished.is_some() && applies[0].steps.len() == 2);
    });
}
