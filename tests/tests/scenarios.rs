//! Planning scenarios: in each folder of `tests/scenarios/`, the plan of what is wanted (`desired.yaml`), what lives
//! (`observed.yaml`) and what was done before (`history.yaml`) is `plan.txt`.
//!
//! To add one: make a folder with those that say something. `KEEL_RENEW=1` writes the plans; read them as the person
//! would who is about to say yes.
//!
//! - `desired.yaml`: manifests; `keel.yaml` beside it is the source's.
//! - `observed.yaml`: live objects as manifests. `spec` lies over what is wanted of the object (`null` takes away), so only
//!   what differs is written. Beside it: `source` (whose it is; absent: `edge`; `null`: nobody's), `complete`, `holds`,
//!   `status`, `remembered`, `trash` (it lies there; a number: for so many hours; beside it `by`, `number`, where several
//!   have its name, and `known: false`, where nobody can tell what it was), `unseen` (why, by path), `unclear` (why).
//! - `history.yaml`: `now`, `sources`, `applied` by object (what was applied last lies over what is wanted; also of what
//!   lives no more), `drift`, `pending` (for a restart) and `stopped` (by hand) and `resting` (after failures) by object, `suspended` by
//!   scope, and what the person says:
//!   `approve`, `allow`, `noTrash`, `noRestore`, `purpose`, `partial`.

#[path = "support/strict.rs"]
mod strict;
#[path = "support/yaml.rs"]
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::change::FieldChange;
use manifests::desired::{DesiredSet, Resource};
use manifests::diagnostic::Diagnostics;
use manifests::feature::Capabilities;
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::kind::{Kind, Spec};
use manifests::observed::{Item, ObservedSet, Trashed, Unclear, Unseen};
use manifests::path_io;
use manifests::pointer::Pointer;
use manifests::read::Texts;
use manifests::resolve::resolve;
use manifests::support::settle;
use reconciler::diff::diff;
use reconciler::diff::known::{DriftSeen, Known, KnownSource, Owned};
use reconciler::plan::gates::{GATES, Resting};
use reconciler::plan::{Allow, Plan, PlanId, PlanInput, PlanOptions, Purpose, World, plan};
use reconciler::policy::Policies;
use reconciler::view::live_document::LiveDocument;
use reconciler::view::plan::{Around, Detail, Documents, page};
use reconciler::view::plan_document::document;
use reconciler::view::saved_plan::MadeFrom;
use serde_json::{Value, json};
use uuid::Uuid;

use strict::{strict_schema, wrong_with};

/// Whose everything is where nothing else is said.
const SOURCE: &str = "edge";

fn read(folder: &Path, name: &str) -> Option<String> {
    path_io::read_if_exists(folder.join(name)).expect("a readable file")
}

/// The files of the source.
fn files_of(folder: &Path) -> Vec<(String, String)> {
    let source = read(folder, "keel.yaml")
        .unwrap_or_else(|| format!("apiVersion: evenkeel/v1\nkind: Source\nname: {SOURCE}\n"));
    let mut files = vec![("keel.yaml".to_owned(), source)];
    files.extend(read(folder, "desired.yaml").map(|text| ("desired.yaml".to_owned(), text)));
    files
}

/// What is wanted; nothing where there is no `desired.yaml`.
fn desired(folder: &Path, partial: Option<String>) -> DesiredSet {
    let files = files_of(folder);
    let texts = Texts {
        root: "/srv/edge".into(),
        files,
        partial,
        ..Texts::default()
    };
    let resolved = resolve(&texts, Some("3f1c9ad".to_owned()));
    let mut desired = resolved
        .desired
        .unwrap_or_else(|| panic!("{}: {:#?}", folder.display(), resolved.found));
    settle(&mut desired);
    desired
}

/// Lies one value over another: maps by key, `null` takes away.
fn over(base: &mut Value, written: &Value) {
    match (base, written) {
        // Nothing is written of it.
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(written)) => {
            for (key, value) in written {
                if value.is_null() {
                    base.remove(key);
                } else {
                    over(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, written) => *base = written.clone(),
    }
}

/// A spec in full, from what is written of it over what is wanted.
fn spec_of(kind: Kind, wanted: Option<&Resource>, written: &Value) -> Spec {
    let mut value = wanted.map_or_else(|| json!({}), |resource| resource.spec.to_value());
    over(&mut value, written);
    Spec::deserialize(kind, value.clone()).unwrap_or_else(|error| panic!("{error}: {value:#}"))
}

fn mark(source: &str, address: &Address) -> Mark {
    Mark {
        source: SourceName::new(source),
        uid: Uid::derive(&Uuid::nil(), address),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(value: &Value) -> Option<T> {
    (!value.is_null()).then(|| serde_json::from_value(value.clone()).expect("as the comment says"))
}

fn address_of(document: &Value, desired: &DesiredSet) -> Address {
    let kind = Kind::from_word(document["kind"].as_str().expect("kind")).expect("a kind");
    let name = document["metadata"]["name"].as_str().expect("a name");
    let project = document["metadata"]["project"]
        .as_str()
        .unwrap_or("default");
    let mut address = Address::in_project(kind, project, name);
    if kind == Kind::Volume {
        let pool = document["spec"]["pool"].as_str().map(str::to_owned);
        let same = desired
            .resources
            .keys()
            .find(|known| known.kind == kind && known.name == name);
        address.pool = pool.or_else(|| same.and_then(|known| known.pool.clone()));
    }
    address
}

/// What lives.
fn observed(folder: &Path, desired: &DesiredSet, now: Timestamp) -> ObservedSet {
    let mut observed = ObservedSet::default();
    for document in yaml::documents(&read(folder, "observed.yaml").unwrap_or_default()) {
        let address = address_of(&document, desired);
        if let Some(why) = document["unclear"].as_str() {
            observed.unclear.push(Unclear {
                address,
                nameless: None,
                why: why.to_owned(),
            });
            continue;
        }
        // `null` is written for nobody; absent is the source of the scenario.
        let owner = match document.get("source") {
            None => Some(SOURCE),
            Some(source) => source.as_str(),
        };
        let holds = parsed(&document["holds"]).unwrap_or_default();
        let wanted = desired
            .resources
            .values()
            .find(|resource| resource.address == address || resource.previous.contains(&address));
        let unseen = document["unseen"].as_object().into_iter().flatten();
        let unseen = unseen.map(|(path, why)| Unseen {
            path: Pointer::new(path.as_str()),
            why: why.as_str().expect("why").to_owned(),
        });
        let item = Item {
            mark: owner.map(|owner| mark(owner, &address)),
            complete: document["complete"] != json!(false),
            spec: spec_of(address.kind, wanted, &document["spec"]),
            last_told: None,
            unseen: unseen.collect(),
            remembered: parsed(&document["remembered"]),
            holds,
            status: parsed(&document["status"]).unwrap_or_else(|| json!({})),
            address,
        };
        let hours = match &document["trash"] {
            Value::Null => {
                observed.items.push(item);
                continue;
            }
            hours => hours.as_i64().unwrap_or(0),
        };
        // One of several of its name.
        let uid = match document["number"].as_u64() {
            Some(number) => Uid::derive(&Uuid::from_u128(number.into()), &item.address),
            None => mark(SOURCE, &item.address).uid,
        };
        let source = SourceName::new(owner.unwrap_or(SOURCE));
        observed.trash.push(Trashed {
            mark: Mark { source, uid },
            deleted_at: now - jiff::SignedDuration::from_hours(hours),
            expires_at: now,
            holds,
            by: parsed(&document["by"]).unwrap_or_default(),
            pool: None,
            address: item.address.clone(),
            was: (document["known"] != json!(false)).then(|| Box::new(item)),
        });
    }
    observed
}

/// What was done before: everything that lives and is ours was applied as it is wanted, but for what is written.
fn known(history: &Value, desired: &DesiredSet, observed: &ObservedSet, now: Timestamp) -> Known {
    let mut known = Known {
        generation: 7,
        ..Known::default()
    };
    let sources = history["sources"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![json!({"name": SOURCE})]);
    for source in sources {
        let name = SourceName::new(source["name"].as_str().expect("a name"));
        known.sources.insert(
            name.clone(),
            KnownSource {
                name,
                root: source["root"].as_str().unwrap_or("/srv/edge").into(),
                revision: Some("9b02e11".to_owned()),
                repository: parsed(&source["repository"]),
                applied_at: now,
            },
        );
    }
    // What lives, and what was applied and lives no more.
    let mut marked: BTreeMap<Address, (Mark, Option<&Item>)> = history["applied"]
        .as_object()
        .into_iter()
        .flat_map(|applied| applied.keys())
        .map(|name| name.parse().expect("an object"))
        .map(|address: Address| {
            let mark = mark(SOURCE, &address);
            (address, (mark, None))
        })
        .collect();
    for item in &observed.items {
        if let Some(mark) = &item.mark {
            marked.insert(item.address.clone(), (mark.clone(), Some(item)));
        }
    }
    for (address, (mark, item)) in marked {
        let name = address.to_string();
        let wanted = desired
            .resources
            .values()
            .find(|resource| resource.address == address || resource.previous.contains(&address));
        let mut value = wanted
            .map(|resource| &resource.spec)
            .or(item.map(|item| &item.spec))
            .map_or_else(|| json!({}), Spec::to_value);
        over(
            &mut value,
            history["applied"].get(&name).unwrap_or(&json!({})),
        );
        let drift = history["drift"][&name].as_array().into_iter().flatten();
        known.owned.insert(
            mark.uid,
            Owned {
                uid: mark.uid,
                source: mark.source.clone(),
                address: address.clone(),
                spec: Some(value.to_string()),
                origin: wanted.map(|resource| resource.origin.clone()),
                needs: Vec::new(),
                labels: None,
                remembered: item.and_then(|item| item.remembered),
                restart_pending: parsed(&history["pending"][&name]).unwrap_or_default(),
                drift: drift
                    .map(|seen| DriftSeen {
                        path: Pointer::new(seen["path"].as_str().expect("a path")),
                        first: parsed(&seen["first"]).expect("a time"),
                        last: now,
                        times: 3,
                    })
                    .collect(),
            },
        );
        if let Some(hold) = parsed(&history["stopped"][&name]) {
            known.holds.insert(mark.uid, hold);
        }
    }
    for (scope, value) in history["suspended"].as_object().into_iter().flatten() {
        let suspension = parsed(value).expect("a suspension");
        let scope = scope.parse().expect("a scope");
        known.suspensions.insert(scope, suspension);
    }
    known
}

/// The objects that are left alone after failures.
fn resting(of: &Value) -> Vec<Resting> {
    let objects = of.as_object().into_iter().flatten();
    objects
        .map(|(name, value)| Resting {
            address: name.parse().expect("an address"),
            times: parsed(&value["times"]).expect("a number"),
            why: parsed(&value["why"]).expect("a text"),
            tried: match value["tried"].as_str() {
                Some("update") => ["update"].into(),
                _ => ["start"].into(),
            },
            until: parsed(&value["until"]).expect("a time"),
        })
        .collect()
}

fn cost(
    _: &Capabilities,
    resource: &Resource,
    _: &Item,
    change: &FieldChange,
) -> manifests::effect::Effect {
    manifests::effect_table::effect(resource.address.kind, &change.path)
}

/// A scenario, decided.
struct Played {
    plan: Plan,
    desired: DesiredSet,
    /// What it was decided from.
    world: World,
    detail: Detail,
}

fn played(folder: &Path) -> Played {
    let history = yaml::documents(&read(folder, "history.yaml").unwrap_or_default());
    let history = history.first().cloned().unwrap_or_else(|| json!({}));
    let now: Timestamp =
        parsed(&history["now"]).unwrap_or_else(|| "2026-07-05T12:00:00Z".parse().expect("a time"));
    let desired = desired(folder, parsed(&history["partial"]));
    let observed = observed(folder, &desired, now);
    let known = known(&history, &desired, &observed, now);
    let host = Capabilities {
        engine: "native".to_owned(),
        host: "edge-1".to_owned(),
        machine_id: None,
        state_id: "scenario".to_owned(),
        architecture: "x86_64".to_owned(),
        memory: 16 << 30,
        processors: 8,
        ceilings: BTreeMap::new(),
        missing: Vec::new(),
        machines: None,
        config_keys: BTreeMap::new(),
    };
    let words = |key: &str| -> Vec<String> { parsed(&history[key]).unwrap_or_default() };
    let allow = match words("allow") {
        none if none.is_empty() => Allow::ALL.into(),
        some => some
            .iter()
            .map(|word| word.parse().expect("a class"))
            .collect(),
    };
    let resting = resting(&history["resting"]);
    let diff = diff(&desired, &observed, &known, now);
    let plan = plan(&PlanInput {
        id: PlanId(Uuid::nil()),
        purpose: parsed(&history["purpose"]).unwrap_or(Purpose::Apply),
        diff: &diff,
        desired: &desired,
        observed: &observed,
        known: &known,
        host: &host,
        effects: &cost,
        rules: &Policies::of(&desired.policies),
        approve: &words("approve").into_iter().collect(),
        allow: &allow,
        no_trash: history["noTrash"] == json!(true),
        no_restore: history["noRestore"] == json!(true),
        resting: &resting,
        now,
    });
    Played {
        plan,
        world: World {
            known,
            observed,
            host,
        },
        desired,
        detail: if history["allFields"] == json!(true) {
            Detail::Full
        } else {
            Detail::Changes
        },
    }
}

fn planned(folder: &Path) -> String {
    let Played {
        plan,
        desired,
        detail,
        ..
    } = played(folder);
    let page = page(
        &plan,
        &Around {
            milliseconds: 20,
            columns: 100,
            next: Some(match plan.purpose {
                Purpose::Destroy => "keel destroy",
                Purpose::Apply | Purpose::Asked | Purpose::Compare => "keel apply",
            }),
            detail,
            documents: &Documents::of(&files_of(folder)),
            desired: Some(&desired),
        },
    );
    anstream::adapter::strip_str(&page).to_string()
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut folders = path_io::list(&root).expect("a folder");
    folders.retain(|path| path.is_dir());
    assert!(folders.len() > 12, "{} scenarios", folders.len());
    folders
}

#[test]
fn a_live_state_as_a_document_leads_to_the_same_plan() {
    let schema = jsonschema::draft202012::new(&strict_schema("live/v1.json")).expect("a schema");
    for folder in folders() {
        let Played {
            plan,
            desired,
            world,
            ..
        } = played(&folder);
        let text = LiveDocument::new(world.clone(), plan.made_at).text();
        let text = text.expect("written");
        let document = serde_json::from_str(&text).expect("JSON");
        let wrong = wrong_with(&schema, &document);
        assert!(wrong.is_empty(), "{}: {wrong:#?}", folder.display());
        let read = LiveDocument::read(&text).expect("read").into_world();
        let planned = |world: &World| {
            let rules = Policies::of(&desired.policies);
            world.plan(
                plan.id,
                &desired,
                &PlanOptions::default(),
                &rules,
                plan.made_at,
            )
        };
        assert_eq!(planned(&read), planned(&world), "{}", folder.display());
    }
}

#[test]
fn plans_as_documents_are_as_their_schema_says() {
    let schema = jsonschema::draft202012::new(&strict_schema("plan/v1.json")).expect("a schema");
    for folder in folders() {
        let from = MadeFrom {
            files: vec![("a.yaml".to_owned(), "kind: Network\n".to_owned())],
            ..MadeFrom::default()
        };
        for from in [None, Some(&from)] {
            let document = document(&played(&folder).plan, &Diagnostics::default(), from);
            let wrong = wrong_with(&schema, &document);
            assert!(wrong.is_empty(), "{}: {wrong:#?}", folder.display());
        }
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "whoever renews says so by the environment"
)]
fn plans_are_as_they_were_read() {
    let renew = std::env::var_os("KEEL_RENEW").is_some();
    let mut differ: BTreeMap<String, String> = BTreeMap::new();
    for folder in folders() {
        let text = planned(&folder);
        assert_eq!(
            text,
            planned(&folder),
            "the same question has the same answer"
        );
        if renew {
            path_io::write(folder.join("plan.txt"), &text).expect("written");
        }
        if read(&folder, "plan.txt").as_deref() != Some(&text) {
            differ.insert(folder.display().to_string(), text);
        }
    }
    let all: Vec<String> = differ
        .iter()
        .map(|(name, text)| format!("{name}\n{text}"))
        .collect();
    assert!(
        all.is_empty(),
        "{}\nif these are right: KEEL_RENEW=1 cargo nextest run -p keel-tests --test scenarios",
        all.join("\n")
    );
}

#[test]
fn every_guard_and_every_deed_has_a_scenario() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let pages: String = path_io::list(&root)
        .expect("a folder")
        .into_iter()
        .filter_map(|folder| read(&folder, "plan.txt"))
        .collect();
    let deeds = [
        "FETCH",
        "CREATE",
        "LIVE",
        "REPLUG",
        "NEXT START",
        "REBUILD",
        "REPLACE",
        "RENAME",
        "START",
        "STOP",
        "RESTART",
        "FREEZE",
        "UNFREEZE",
        "ADOPT",
        "FORGET",
        "DELETE",
        "RESTORE",
    ];
    let missing: Vec<&str> = GATES
        .iter()
        .map(|gate| gate.code.0)
        .chain(deeds)
        .filter(|word| {
            !pages.contains(&format!(" {word} ")) && !pages.contains(&format!(" {word}\n"))
        })
        .collect();
    assert!(missing.is_empty(), "no scenario shows {missing:?}");
}
