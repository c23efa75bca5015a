//! The committed schemas are those of this version, and they agree with the parser on the manifests of the tests.

#[path = "support/strict.rs"]
mod strict;
#[path = "support/yaml.rs"]
mod yaml;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use manifests::diagnostic::Origin;
use manifests::lifecycle::DriftMode;
use manifests::observed::Unseen;
use manifests::pointer::Pointer;
use manifests::{controller, path_io, schema};
use reconciler::diff::WhyStale;
use reconciler::journal::Author;
use reconciler::plan::NotSeen;
use reconciler::view::accept::{AcceptReport, Also, Change, OtherSource, Refused};
use reconciler::view::drift::{DriftReport, DriftedField, StaleRule};
use serde_json::{Value, json};

use strict::{strict_schema, wrong_with};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "one variable asks for the file to be written anew"
)]
fn the_committed_description_of_the_api_is_current() {
    let path = root().join("schemas/openapi.json");
    let content = format!("{:#}\n", reconciler::api::openapi());
    if std::env::var_os("KEEL_RENEW").is_some() {
        path_io::write(&path, &content).expect("written");
    }
    let committed = path_io::read_if_exists(&path).expect("a readable file");
    assert!(
        committed.as_deref() == Some(&content),
        "schemas/openapi.json is not current; renew it: KEEL_RENEW=1 cargo nextest run --test schemas"
    );
}

#[test]
fn the_committed_schemas_are_current() {
    let folder = root().join("schemas");
    let mut stale: Vec<String> = Vec::new();
    let mut known = Vec::new();
    for (name, content) in schema::files() {
        let path = folder.join(&name);
        let committed = path_io::read_if_exists(&path).expect("a readable file");
        if committed.as_deref() != Some(&content) {
            stale.push(name);
        }
        known.push(path);
    }
    for path in path_io::list(folder.join("v1")).expect("a folder of schemas") {
        if !known.contains(&path) {
            stale.push(format!("{} is no schema of this version", path.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "not current: {stale:?}\nrenew them: cargo run -p reconciler --bin keel -- schema write schemas"
    );
}

#[test]
fn the_settings_of_a_controller_are_right_by_parser_and_schema() {
    let path = root().join("examples/controller/controller.yaml");
    let text = path_io::read_to_string(path).expect("settings");
    let validator = jsonschema::draft7::new(&schema::of_controller()).expect("a schema");
    let is_right = |text: &str| {
        let (controller, found) = controller::read("controller.yaml", text);
        let documents = yaml::documents(text);
        let wrong: Vec<String> = documents
            .iter()
            .flat_map(|document| wrong_with(&validator, document))
            .collect();
        assert_eq!(
            controller.is_some(),
            wrong.is_empty(),
            "{found:?} {wrong:?}"
        );
        wrong.is_empty()
    };
    assert!(
        is_right(&text),
        "{:?}",
        controller::read("controller.yaml", &text).1
    );
    for (right, wrong) in [
        ("kind: Controller", "kind: Source"),
        ("interval: 10m", "interval: soon"),
        ("branch: main", "brnch: main"),
        ("mode: range", "mode: all"),
        ("proxy: http", "proxies: http"),
    ] {
        let changed = text.replace(right, wrong);
        assert!(changed != text && !is_right(&changed), "{wrong}");
    }
}

#[test]
fn the_schemas_are_valid_schemas() {
    for (name, content) in schema::files() {
        let schema: serde_json::Value = serde_json::from_str(&content).expect("JSON");
        assert!(jsonschema::draft7::meta::is_valid(&schema), "{name}");
        jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// A report that has all that a report can have.
fn drift_report() -> DriftReport {
    let web = || "instance/web".parse().expect("an address");
    let now = || "2026-11-23T12:00:00Z".parse().expect("a time");
    let origin = Origin {
        file: "web.yaml".into(),
        line: 9,
        column: 5,
        ..Origin::default()
    };
    let field = |mode| DriftedField {
        id: web(),
        path: Pointer::new("/spec/state"),
        desired: json!("Running"),
        live: json!({"any": ["value", null]}),
        mode,
        first_seen: Some(now()),
        times: 2,
        cause: "changed outside git".to_owned(),
        author: Some(Author {
            by: Some("alice".to_owned()),
            command: "keel stop web".to_owned(),
            at: now(),
        }),
        source: Some(origin.clone()),
    };
    let bare = DriftedField {
        path: Pointer::root(),
        live: Value::Null,
        first_seen: None,
        author: None,
        source: None,
        ..field(DriftMode::Correct)
    };
    let stale = |why, origin: Option<&Origin>| StaleRule {
        path: Pointer::new("/spec/user/*"),
        why,
        reason: origin.map(|_| "tuned by hand".to_owned()),
        until: origin.and("2026-11-01".parse().ok()),
        objects: vec![web()],
        source: origin.cloned(),
    };
    DriftReport {
        format_version: "1.0",
        source: "edge".to_owned(),
        revision: None,
        host: "edge-1".to_owned(),
        engine: "native".to_owned(),
        at: now(),
        objects: 1,
        drift: vec![field(DriftMode::Warn), field(DriftMode::Ignore), bare],
        edited: vec![web()],
        unseen: vec![NotSeen {
            address: web(),
            unseen: vec![Unseen {
                path: Pointer::new("/spec/limits/cpu"),
                why: "permission denied".to_owned(),
            }],
        }],
        stale_rules: vec![
            stale(WhyStale::Expired, Some(&origin)),
            stale(WhyStale::NoField, None),
            stale(WhyStale::NothingDiffers, None),
        ],
        compared: Vec::new(),
    }
}

/// All names of fields in a value.
fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, below) in fields {
                found.insert(name.clone());
                names(below, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|below| names(below, found)),
        _ => {}
    }
}

/// All names of fields that a schema tells of.
fn told(schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(fields) = schema["properties"].as_object() {
        found.extend(fields.keys().cloned());
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|below| told(below, found)),
        Value::Array(items) => items.iter().for_each(|below| told(below, found)),
        _ => {}
    }
}

/// An acceptance that has all that one can have.
fn accept_report() -> AcceptReport {
    let web = || "instance/web".parse().expect("an address");
    let source = Origin {
        file: "web.yaml".into(),
        line: 9,
        column: 5,
        ..Origin::default()
    };
    let also = || Also {
        id: web(),
        fields: vec!["limits.memory".to_owned()],
    };
    let other = |problem: Option<&str>| OtherSource {
        path: "../staging".to_owned(),
        base: problem.is_some(),
        changes: vec![also()],
        problem: problem.map(str::to_owned),
    };
    AcceptReport {
        format_version: "1.0",
        object: web(),
        written: false,
        changes: vec![Change {
            path: Pointer::new("/spec/limits/memory"),
            was: Value::Null,
            is: json!("128MiB"),
            source: source.clone(),
        }],
        refused: vec![Refused {
            path: Pointer::root(),
            why: "it is gone".to_owned(),
            source,
        }],
        also_changes: vec![also()],
        sources: vec![other(None), other(Some("its manifests are wrong already"))],
    }
}

/// Demands that a document is as its schema says, has nothing else, and has all that the schema tells of. Returns what
/// is wrong with it once a change is made.
#[track_caller]
fn has_what_its_schema_says(
    name: &str,
    document: &str,
    change: impl FnOnce(&mut Value),
) -> Vec<String> {
    let strict = strict_schema(name);
    let schema = jsonschema::draft202012::new(&strict).expect("a schema");
    let mut document: Value = serde_json::from_str(document).expect("JSON");
    let wrong = wrong_with(&schema, &document);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (mut has, mut says) = (BTreeSet::new(), BTreeSet::new());
    names(&document, &mut has);
    told(&strict, &mut says);
    let never: Vec<&String> = says.difference(&has).collect();
    assert!(never.is_empty(), "no document has {never:?}");
    change(&mut document);
    wrong_with(&schema, &document)
}

#[test]
fn drift_reports_have_what_their_schema_says_and_nothing_else() {
    let document = drift_report().json();
    let wrong = has_what_its_schema_says("drift-report/v1.json", &document, |other| {
        other["drift"][0]["mode"] = json!("sometimes");
        other["staleRules"][0]["more"] = json!(1);
    });
    assert_eq!(wrong.len(), 2, "{wrong:#?}");
}

#[test]
fn acceptances_have_what_their_schema_says_and_nothing_else() {
    let document = accept_report().json();
    let wrong = has_what_its_schema_says("accept-report/v1.json", &document, |other| {
        other["changes"][0]["source"]["line"] = json!("nine");
        other["sources"][0]["more"] = json!(1);
    });
    assert_eq!(wrong.len(), 2, "{wrong:#?}");
}
