//! Single deeds on a fake world.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use manifests::desired::Resource;
use manifests::diagnostic::Origin;
use manifests::kind::{Kind, Spec};
use manifests::lifecycle::Lifecycle;
use runtime::fake::{FakeRuntime, World};
use serde_json::{Value, json};

use super::*;
use crate::apply::Silent;
use crate::clock::FixedClock;
use crate::plan::PlanOptions;
use crate::state_folder::StateFolder;

fn at(text: &str) -> jiff::Timestamp {
    text.parse().expect("a time")
}

/// A state folder and the engine's world, looked at in several sessions.
struct Host {
    _place: tempfile::TempDir,
    folder: StateFolder,
    runtime: FakeRuntime,
}

impl Host {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a folder");
        Self {
            folder: StateFolder::open(place.path().join("state")).expect("a state folder"),
            _place: place,
            runtime: FakeRuntime::new(World::default()),
        }
    }

    fn at<T>(&self, now: &str, test: impl FnOnce(&Session<'_>) -> T) -> T {
        test(&Session {
            folder: &self.folder,
            runtime: &self.runtime,
            clock: &FixedClock(at(now)),
            cancel: &AtomicBool::new(false),
        })
    }

    fn state(&self, name: &str) -> Value {
        let world = self.runtime.world();
        let item = world.items.get(&address(name)).expect("it is there");
        item.spec.to_value()["state"].clone()
    }
}

fn address(name: &str) -> Address {
    Address::new(Kind::Instance, name)
}

/// A source with instances of these specs.
fn source(instances: &[(&str, Value)]) -> DesiredSet {
    let mut set = Session::nothing_of(SourceInfo {
        name: SourceName::new("edge"),
        root: "/srv/edge".into(),
        revision: None,
        repository: None,
        partial: None,
    });
    for (name, spec) in instances {
        let address = address(name);
        set.resources.insert(
            address.clone(),
            Resource {
                spec: Spec::deserialize(Kind::Instance, spec).expect("a spec"),
                address,
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                lifecycle: Lifecycle::default_of(Kind::Instance),
                previous: Vec::new(),
                needs: Vec::new(),
                origin: Origin::default(),
                provenance: Default::default(),
            },
        );
    }
    set
}

fn apply(session: &Session<'_>, set: &DesiredSet) -> Plan {
    let options = ApplyOptions::default();
    let applied = session.apply(set, &PlanOptions::default(), &options, &Silent, &mut |_| {
        true
    });
    applied.expect("applied").0
}

/// Does it to each; the answer are the objects to which it could not be done.
fn ask(session: &Session<'_>, names: &[&str], asked: &Asked) -> Vec<(String, String)> {
    ask_as(session, None, names, asked)
}

/// As [`ask`], by a person.
fn ask_as(
    session: &Session<'_>,
    by: Option<&str>,
    names: &[&str],
    asked: &Asked,
) -> Vec<(String, String)> {
    let how = ApplyOptions {
        command: "keel by hand".to_owned(),
        by: by.map(str::to_owned),
        ..ApplyOptions::default()
    };
    let objects: Vec<Address> = names.iter().map(|name| address(name)).collect();
    let plan = session.asked(&objects, asked).expect("planned");
    let report = session
        .carry_out_asked(&plan, &how, &Silent)
        .expect("carried out");
    assert!(report.is_complete(), "{report:?}");
    let refused = plan.refused.into_iter();
    refused
        .map(|(address, error)| (address.name, error.to_string()))
        .collect()
}

fn hold(until: &str) -> Asked {
    Asked::Hold {
        power: Power::Stop,
        hold: Hold {
            until: at(until),
            reason: "a new disk".to_owned(),
            since: at("2026-01-01T10:00:00Z"),
        },
    }
}

fn held(plan: &Plan) -> Vec<&'static str> {
    plan.held
        .iter()
        .flat_map(|held| held.because.iter().map(|because| because.code.0))
        .collect()
}

#[test]
fn what_git_wants_running_is_stopped_for_a_while_only() {
    let host = Host::new();
    let set = source(&[("free", json!({})), ("web", json!({"state": "Running"}))]);
    host.at("2026-01-01T09:00:00Z", |session| apply(session, &set));

    // One that cannot be stopped hides none of the others.
    host.at("2026-01-01T10:00:00Z", |session| {
        let refused = ask(
            session,
            &["web", "free", "nobody"],
            &Asked::Power(Power::Stop),
        );
        let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["nobody", "web"]);
        assert!(refused[0].1.contains("there is no instance/nobody"));
        assert!(refused[1].1.contains("the next apply would start it again"));
    });
    assert_eq!(
        (host.state("web"), host.state("free")),
        (json!("Running"), json!("Stopped"))
    );

    host.at("2026-01-01T10:00:00Z", |session| {
        assert_eq!(ask(session, &["web"], &hold("2026-01-01T12:00:00Z")), []);
    });
    assert_eq!(host.state("web"), json!("Stopped"));
    host.at("2026-01-01T11:59:59Z", |session| {
        let plan = apply(session, &set);
        assert_eq!((plan.steps.len(), held(&plan)), (0, vec!["G113"]));
        let because = &plan.held[0].because[0];
        assert_eq!(because.message, "stopped by hand: a new disk");
        assert_eq!(because.until, Some(at("2026-01-01T12:00:00Z")));
        let drift = session.drift(&set).expect("looked");
        assert_eq!(drift.fields.len(), 1);
        assert!(drift.fields[0].hold.is_some());
    });
    assert_eq!(host.state("web"), json!("Stopped"));
    // It is over by itself.
    host.at("2026-01-01T12:00:00Z", |session| {
        assert_eq!(held(&apply(session, &set)), Vec::<&str>::new());
    });
    assert_eq!(host.state("web"), json!("Running"));
}

#[test]
fn starting_ends_a_hold_and_approving_passes_it() {
    let host = Host::new();
    let set = source(&[("web", json!({"state": "Running"}))]);
    let now = "2026-01-01T10:00:00Z";
    host.at(now, |session| {
        apply(session, &set);
        ask(session, &["web"], &hold("2026-01-02T00:00:00Z"));
        // While it is held it may be stopped again without a word.
        assert_eq!(ask(session, &["web"], &Asked::Power(Power::Stop)), []);
        let approved = PlanOptions {
            approve: ["G113".to_owned()].into(),
            ..PlanOptions::default()
        };
        let plan = session.plan(&set, &approved).expect("planned");
        assert_eq!((plan.steps.len(), plan.held.len()), (1, 0));
        assert_eq!(ask(session, &["web"], &Asked::Power(Power::Start)), []);
        assert!(apply(session, &set).is_empty());
        assert!(!ask(session, &["web"], &Asked::Power(Power::Stop)).is_empty());
    });
}

#[test]
fn deeds_are_in_the_journal() {
    let host = Host::new();
    let set = source(&[("web", json!({}))]);
    host.at("2026-01-01T10:00:00Z", |session| {
        apply(session, &set);
        ask(session, &["web"], &Asked::Power(Power::Freeze));
        let history = session.history_of(&address("web"), 10).expect("read");
        assert!(matches!(
            &history[0].event.what,
            What::Ended {
                outcome: Outcome::Succeeded { .. },
                ..
            }
        ));
        assert!(matches!(&history[1].event.what, What::Started { word, .. } if word == "freeze"));
        let failed: Result<(), _> =
            session.deed(&address("web"), "fetch", &ApplyOptions::default(), || {
                Err(RuntimeError::new(
                    "fetch",
                    runtime::error::Class::Retry,
                    "no",
                ))
            });
        assert!(failed.is_err());
        let newest = &session.history(1).expect("read")[0];
        assert_eq!(newest.steps.len(), 1);
        assert!(newest.finished.is_some());
    });
}

#[test]
fn what_is_let_go_of_is_taken_over_and_what_is_deleted_comes_back() {
    let host = Host::new();
    let set = source(&[("web", json!({}))]);
    let nothing = Session::nothing_of(set.source.clone());
    host.at("2026-01-01T10:00:00Z", |session| {
        apply(session, &set);
        let adopt = Asked::Adopt {
            source: SourceName::new("other"),
        };
        assert!(
            ask(session, &["web"], &adopt)[0]
                .1
                .contains("belongs to source edge")
        );
        assert_eq!(ask(session, &["web"], &Asked::Forget), []);
        assert!(
            ask(session, &["web"], &Asked::Forget)[0]
                .1
                .contains("nobody's")
        );
        assert_eq!(ask(session, &["web"], &adopt), []);
        let owner = |host: &Host| host.runtime.world().items[&address("web")].mark.clone();
        assert_eq!(owner(&host).expect("owned").source.as_str(), "other");
        assert_eq!(ask(session, &["web"], &Asked::Forget), []);
        let adopt = Asked::Adopt {
            source: SourceName::new("edge"),
        };
        assert_eq!(ask(session, &["web"], &adopt), []);

        apply(session, &nothing);
        assert!(
            host.runtime.world().items.contains_key(&address("web")),
            "an empty source deletes nothing"
        );
        let options = PlanOptions {
            purpose: Purpose::Destroy,
            ..PlanOptions::default()
        };
        session
            .apply(
                &nothing,
                &options,
                &ApplyOptions::default(),
                &Silent,
                &mut |_| true,
            )
            .expect("destroyed");
        assert!(host.runtime.world().items.is_empty());
        assert_eq!(ask(session, &["web"], &back(WhoseName::Free)), []);
        assert!(
            ask(session, &["web"], &back(WhoseName::Free))[0]
                .1
                .contains("is there already")
        );
        // Nothing is kept: what lies in the trash already goes as well.
        apply(session, &set);
        let destroy = |no_trash| {
            let options = PlanOptions {
                no_trash,
                ..options.clone()
            };
            let how = ApplyOptions::default();
            let (plan, report) = session
                .apply(&nothing, &options, &how, &Silent, &mut |_| true)
                .expect("planned");
            assert!(report.expect("destroyed").is_complete());
            plan.steps.len()
        };
        assert_eq!(destroy(false), 1);
        assert_eq!(host.runtime.world().trash.len(), 1);
        assert_eq!(destroy(true), 1);
        assert_eq!(host.runtime.world().trash.len(), 0);
        assert!(
            ask(session, &["web"], &Asked::Purge { uid: None })[0]
                .1
                .contains("not in the trash")
        );
    });
}

fn back(whose_name: WhoseName) -> Asked {
    let uid = None;
    Asked::Restore { uid, whose_name }
}

#[test]
fn what_was_made_anew_can_be_had_back_beside_what_is_there_or_in_its_place() {
    let host = Host::new();
    host.at("2026-11-27T12:00:00Z", |session| {
        let of = |image: &str| source(&[("web", json!({"image": image, "state": "Running"}))]);
        apply(session, &of("old"));
        let options = PlanOptions {
            approve: ["G108".to_owned(), "G102".to_owned()].into(),
            ..PlanOptions::default()
        };
        let how = ApplyOptions::default();
        let (plan, report) = session
            .apply(&of("new"), &options, &how, &Silent, &mut |_| true)
            .expect("planned");
        assert!(report.expect("rebuilt").is_complete());
        assert!(plan.steps[0].action.keep.is_some(), "{:#?}", plan.steps);
        let images = || {
            let world = host.runtime.world();
            let image = |item: &Item| item.spec.to_value()["image"].clone();
            let items = world.items.values().map(image).collect::<Vec<_>>();
            let trash = world.trash.iter().map(|(_, item)| image(item));
            (items, trash.collect::<Vec<_>>())
        };
        assert_eq!(images(), (vec![json!("new")], vec![json!("old")]));
        let refused = ask(session, &["web"], &back(WhoseName::Free));
        assert!(refused[0].1.contains("is there already"), "{refused:?}");
        let refused = ask(session, &["web"], &back(WhoseName::Other("a/b".to_owned())));
        assert!(refused[0].1.contains("cannot be called a/b"), "{refused:?}");
        assert_eq!(ask(session, &["web"], &back(WhoseName::Taken)), []);
        assert_eq!(images(), (vec![json!("old")], vec![json!("new")]));
        assert_eq!(
            ask(
                session,
                &["web"],
                &back(WhoseName::Other("a-copy".to_owned()))
            ),
            []
        );
        assert_eq!(images(), (vec![json!("new"), json!("old")], vec![]));
    });
}

#[test]
fn who_switched_it_through_keel_is_told_and_who_did_it_otherwise_is_not() {
    let host = Host::new();
    let set = source(&[("web", json!({"state": "Running"}))]);
    host.at("2026-01-01T10:00:00Z", |session| {
        apply(session, &set);
        ask_as(
            session,
            Some("alice"),
            &["web"],
            &hold("2026-01-01T12:00:00Z"),
        );
    });
    let author = |now: &str| {
        host.at(now, |session| {
            let drift = session.drift(&set).expect("looked");
            assert_eq!(drift.fields.len(), 1, "{drift:?}");
            drift.fields[0].author.clone()
        })
    };
    let told = author("2026-01-01T10:05:00Z").expect("it is known");
    assert_eq!(told.by.as_deref(), Some("alice"));
    assert_eq!(told.command, "keel by hand");
    assert_eq!(told.at, at("2026-01-01T10:00:00Z"));
    host.at("2026-01-01T10:10:00Z", |session| {
        ask_as(
            session,
            Some("alice"),
            &["web"],
            &Asked::Power(Power::Start),
        );
        let history = session.history(1).expect("read");
        assert_eq!(history[0].by.as_deref(), Some("alice"));
        let events = session.history_of(&address("web"), 1).expect("read");
        assert_eq!(events[0].by.as_deref(), Some("alice"));
        assert_eq!(events[0].command.as_deref(), Some("keel by hand"));
    });
    // It crashes.
    host.runtime.by_hand(|world| {
        let item = world.items.get_mut(&address("web")).expect("it is there");
        let mut spec = item.spec.to_value();
        spec["state"] = json!("Stopped");
        item.spec = Spec::deserialize(Kind::Instance, spec).expect("a spec");
    });
    assert_eq!(author("2026-01-01T10:20:00Z"), None);
}
