//! What policies say of changes, and what is no policy.

use std::collections::BTreeSet;
use std::time::Duration;

use manifests::desired::Resource;
use manifests::read::Texts;
use manifests::resolve::resolve;
use serde_json::{Value, json};

use super::compile::{FUNCTIONS, VARIABLES, compile};
use super::{CODES, Policies, check};
use crate::clock::{Clock as _, HostClock};
use crate::plan::rules::{Answer, Asked, Case, Rules as _};

/// Policies of these expressions, in their order.
fn policies(expressions: &[&str]) -> Vec<Resource> {
    let documents: Vec<String> = expressions
        .iter()
        .enumerate()
        .map(|(number, expression)| {
            let expression = json!(expression);
            format!(
                "apiVersion: evenkeel/v1\nkind: Policy\nmetadata: {{ name: p{number:03} }}\nspec:\n  message: no\n  expression: {expression}\n"
            )
        })
        .collect();
    let texts = Texts {
        root: "/srv/edge".into(),
        files: vec![("policies.yaml".to_owned(), documents.join("---\n"))],
        ..Texts::default()
    };
    let resolved = resolve(&texts, None);
    let desired = resolved
        .desired
        .unwrap_or_else(|| panic!("{:?}", resolved.found));
    desired.resources.into_values().collect()
}

fn weigh(expression: &str, change: Value, object: Value, plan: Value) -> Answer {
    let policies = Policies::of(&policies(&[expression]));
    let asked = Asked {
        plan,
        changes: vec![(change, object)],
        cases: vec![Case {
            policy: 0,
            change: 0,
        }],
    };
    policies.weigh(asked).remove(0)
}

#[test]
fn expressions_hold_or_not_of_changes() {
    let change = json!({
        "action": "update", "class": "interrupting", "live": { "limits": { "memory": "512MiB" } },
        "fields": [{ "path": "/spec/limits/memory", "before": "512MiB", "after": "1GiB", "effect": "live" }],
    });
    let object = json!({
        "kind": "Instance", "name": "web-1", "labels": { "tier": "front" },
        "spec": { "limits": { "memory": "1GiB", "cpu": 2 }, "security": { "privileged": false } },
    });
    let plan = json!({ "classes": { "destructive": 3 }, "changes": [{ "name": "web-1" }, { "name": "db" }] });
    for (expression, expected) in [
        ("change.action != 'delete'", true),
        ("plan.classes.destructive < 3", false),
        ("!object.spec.security.privileged", true),
        (
            "byteSize(object.spec.limits.memory) <= byteSize('2GiB')",
            true,
        ),
        (
            "byteSize(object.spec.limits.memory) <= byteSize('600MiB')",
            false,
        ),
        (
            "object.labels.tier == 'front' && object.spec.limits.cpu <= 2",
            true,
        ),
        ("object.name.matches('^web-[0-9]+$')", true),
        ("object.name.startsWith('db')", false),
        ("has(object.spec.image) || object.kind != 'Instance'", false),
        (
            "change.fields.all(f, f.path.startsWith('/spec/limits/'))",
            true,
        ),
        ("change.fields.exists(f, f.effect == 'rebuild')", false),
        ("plan.changes.filter(c, c.name == 'db').size() == 1", true),
        (
            "plan.changes.all(c, change.fields.exists(f, f.path != c.name))",
            true,
        ),
        ("type(object.name) == string", true),
    ] {
        let answer = weigh(expression, change.clone(), object.clone(), plan.clone());
        assert_eq!(answer, Ok(expected), "{expression}");
    }
}

#[test]
fn what_cannot_be_said_is_in_doubt() {
    for (expression, why) in [
        ("object.spec.nothing == 1", "nothing"),
        ("object.name", "it gives a string and not true or false"),
        ("byteSize('many') > 1", "`many` is no size"),
        ("1 / 0 == 1", ""),
    ] {
        let answer = weigh(
            expression,
            json!({}),
            json!({ "name": "web", "spec": {} }),
            json!({}),
        );
        let doubt = answer.expect_err(expression);
        assert!(doubt.contains(why), "{expression}: {doubt}");
    }
}

#[test]
fn a_policy_that_runs_away_is_denied_in_time_and_so_is_what_comes_after() {
    let many: Vec<u32> = (0..3000).collect();
    let plan = json!({ "changes": many });
    let policies = Policies::of(&policies(&[
        "true",
        "plan.changes.all(a, plan.changes.all(b, a + b >= 0))",
        "true",
    ]));
    let cases = (0..3).map(|policy| Case { policy, change: 0 }).collect();
    let asked = Asked {
        plan,
        changes: vec![(json!({}), json!({}))],
        cases,
    };
    let began = HostClock.instant();
    let answers = policies.within(Duration::from_millis(300)).weigh(asked);
    assert!(
        HostClock.instant().duration_since(began) < Duration::from_secs(2),
        "{:?}",
        HostClock.instant().duration_since(began)
    );
    let late = Err("not weighed within 0.3 s".to_owned());
    assert_eq!(answers, [Ok(true), late.clone(), late]);
}

#[test]
fn many_changes_are_weighed_quickly_enough() {
    let changes = vec![(json!({ "action": "update" }), json!({ "name": "web" })); 5000];
    let cases = (0..5000).map(|change| Case { policy: 0, change }).collect();
    let asked = Asked {
        plan: json!({}),
        changes,
        cases,
    };
    let answers = Policies::of(&policies(&["change.action != 'delete'"])).weigh(asked);
    assert!(answers.iter().all(|answer| *answer == Ok(true)));
}

#[test]
fn what_is_as_deep_as_it_may_be_is_weighed() {
    let sum = format!("1{} > 0", "+1".repeat(197));
    let all = vec!["object.name == 'web'"; 150].join(" || ");
    let policies = policies(&[&sum, &all]);
    assert!(check(&policies).is_empty());
    let cases = (0..2).map(|policy| Case { policy, change: 0 }).collect();
    let asked = Asked {
        plan: json!({}),
        changes: vec![(json!({}), json!({ "name": "web" }))],
        cases,
    };
    assert_eq!(Policies::of(&policies).weigh(asked), [Ok(true), Ok(true)]);
}

#[test]
fn what_is_no_expression_is_told_at_its_line() {
    let long = format!("object.name == '{}'", "x".repeat(4096));
    let sum = format!("1{} > 0", "+1".repeat(2000));
    let lists = format!("{}1{} == 1", "[".repeat(150), "]".repeat(150));
    let items = format!("[1]{} == 1", "[0]".repeat(1300));
    let expressions = [
        "change.action = 'delete'",
        "chang.action == 'delete'",
        "bytesize('1GiB') > 1",
        "plan.changes.all(a, plan.changes.all(b, plan.changes.all(c, a == b && b == c)))",
        &long,
        "((((",
        &sum,
        &lists,
        &items,
        "change.fields.all(f, g.path == '')",
        "object.name == 'fine'",
    ];
    let found: Vec<String> = check(&policies(&expressions))
        .sorted()
        .iter()
        .map(|d| {
            let hint = d.hint.as_deref().unwrap_or_default();
            format!("{} {} {} | {hint}", d.origin, d.code, d.message)
        })
        .collect();
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn examples_of_codes_are_wrong_and_right() {
    for entry in CODES {
        let expression = |text: &str| text.strip_prefix("expression: ").expect("one").to_owned();
        let (wrong, right) = entry.example;
        assert!(
            check(&policies(&[&expression(right)])).is_empty(),
            "{right}"
        );
        // The costly one is only slow.
        let is_wrong = check(&policies(&[&expression(wrong)])).has_errors();
        assert_eq!(is_wrong, entry.code.0 == "P0401", "{wrong}");
    }
}

/// The words between backticks, without what they are called with.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split('`').skip(1).step_by(2);
    words
        .map(|word| word.split('(').next().unwrap_or(word))
        .collect()
}

#[test]
fn the_description_of_the_field_tells_of_every_variable_and_function() {
    /// Of the language, and none any more when it is compiled.
    const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "filter", "map"];
    let field = manifests::explain::field("policy.spec.expression").expect("a field");
    let told = names(&field.description);
    for name in VARIABLES.iter().chain(FUNCTIONS).chain(&MACROS) {
        assert!(
            told.contains(name),
            "`{name}` is not in {}",
            field.description
        );
    }
    // What it tells of as a function is one.
    let (_, functions) = field
        .description
        .split_once("Functions are")
        .expect("a list");
    let (functions, _) = functions.split_once("Names in it").expect("its end");
    for name in names(functions) {
        let is_one = FUNCTIONS.contains(&name) || MACROS.contains(&name);
        assert!(is_one, "there is no `{name}`");
    }
    for call in [
        "has(change.live)",
        "[1].all(x, x > 0)",
        "[1].exists(x, x > 0)",
        "[1].exists_one(x, x > 0)",
        "size([1].filter(x, x > 0)) > 0",
        "size([1].map(x, x)) > 0",
    ] {
        assert!(compile(call).is_ok(), "{call}");
    }
    // So does what is said of an expression with another one.
    let explained = CODES[0].explanation;
    for name in VARIABLES.iter().chain(["byteSize"].iter()) {
        assert!(names(explained).contains(name), "{name}: {explained}");
    }
}
