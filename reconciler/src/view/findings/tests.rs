//! What each command finds, in each format of CI.

use manifests::diagnostic::{Code, Diagnostic, Diagnostics};
use manifests::pointer::Pointer;
use serde_json::Value;

use super::*;
use crate::view::samples::{HOSTILE, drift, hostile, mixed, stopped};
use crate::view::{github, gitlab, junit, sarif};

fn places() -> Places {
    let (root, top) = ("/srv/all sites/edge", "/srv");
    Places::of(std::path::Path::new(root), Some(std::path::Path::new(top)))
}

fn at(file: &str, line: u32) -> Origin {
    Origin {
        file: file.into(),
        line,
        column: 5,
        ..Origin::default()
    }
}

fn warnings() -> Diagnostics {
    let mut found = Diagnostics::default();
    found.push(
        Diagnostic::error(
            Code("E0104"),
            at("edge/apps/web.yaml", 9),
            "unknown field `memmory`",
        )
        .of("instance/web-1")
        .at(Pointer::new("/spec/limits/memmory"))
        .hint("did you mean `memory`?")
        .related(at("edge/apps/web.yaml", 1), "of this"),
    );
    found.push(Diagnostic::warning(
        Code("R0201"),
        at("edge/b\u{fc}ro/web.yaml", 3),
        "there is no profile `x`",
    ));
    found
}

fn validated(found: &Diagnostics, objects: Vec<Looked>) -> Validated {
    Validated {
        source: "edge".to_owned(),
        found: found.clone(),
        objects,
    }
}

fn of_command(command: &str) -> Findings {
    match command {
        "validate" => {
            let looked = |name: &str| Looked {
                name: name.to_owned(),
                source: None,
                origin: Some(at("edge/apps/web.yaml", 1)),
                left_alone: None,
            };
            let objects = vec![looked("instance/web-1"), looked("instance/web-2")];
            of_manifests(
                vec![validated(&warnings(), objects)],
                "2 documents in 2 files".to_owned(),
            )
        }
        "plan" => of_plan(
            &stopped(),
            &Diagnostics::default(),
            &places(),
            Some(at("keel.yaml", 1)),
        ),
        _ => of_drift(
            &drift(),
            &Diagnostics::default(),
            &places(),
            Some(at("keel.yaml", 1)),
        ),
    }
}

#[test]
fn sarif_has_stable_rules_places_and_fingerprints() {
    for command in ["validate", "plan", "drift"] {
        insta::assert_json_snapshot!(
            format!("sarif_of_{command}"),
            sarif::document(&of_command(command))
        );
    }
}

#[test]
fn fingerprints_stay_where_lines_and_live_values_move() {
    let prints = |report: &crate::view::drift::DriftReport| -> Vec<Value> {
        let found = of_drift(report, &Diagnostics::default(), &places(), None);
        let document = sarif::document(&found);
        let results = document["runs"][0]["results"].as_array().expect("results");
        results
            .iter()
            .map(|result| result["partialFingerprints"].clone())
            .collect()
    };
    let before = drift();
    let mut after = drift();
    for field in &mut after.drift {
        if let Some(origin) = &mut field.source {
            origin.line += 7;
        }
        if !field.live.is_null() {
            field.live = Value::String("another one".to_owned());
        }
        field.times += 1;
    }
    assert_eq!(prints(&before), prints(&after));
    let mut all = prints(&before);
    all.dedup();
    let told = before.drift.len() + before.stale_rules.len();
    assert_eq!(all.len(), told, "each has its own");
}

#[test]
fn sarif_has_no_more_results_than_are_taken_and_none_of_the_worst_is_missing() {
    let mut found = Diagnostics::default();
    for line in 1..25_100 {
        found.push(Diagnostic::warning(
            Code("R0201"),
            at("a.yaml", line),
            "same",
        ));
    }
    found.push(Diagnostic::error(
        Code("E0104"),
        at("z.yaml", 1),
        "the worst",
    ));
    let document = sarif::document(&of_manifests(
        vec![validated(&found, Vec::new())],
        String::new(),
    ));
    let run = &document["runs"][0];
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 25_000);
    assert_eq!(results[0]["ruleId"], "E0104");
    let told = &run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"];
    assert_eq!(told, "100 more results are left off: 25000 is the limit");
}

#[test]
fn junit_has_a_case_for_each_object() {
    for command in ["validate", "plan", "drift"] {
        insta::assert_snapshot!(
            format!("junit_of_{command}"),
            junit::document(&of_command(command))
        );
    }
}

#[test]
fn annotations_stand_at_their_lines() {
    for command in ["validate", "plan", "drift"] {
        insta::assert_snapshot!(
            format!("github_of_{command}"),
            github::annotations(&of_command(command), true)
        );
    }
}

#[test]
fn of_many_annotations_ten_a_level_are_shown_and_the_rest_is_counted() {
    let mut found = Diagnostics::default();
    for line in 1..=25 {
        found.push(Diagnostic::error(
            Code("E0104"),
            at("a.yaml", line),
            "wrong",
        ));
        found.push(Diagnostic::warning(
            Code("R0201"),
            at("a.yaml", line),
            "odd",
        ));
    }
    let findings = of_manifests(vec![validated(&found, Vec::new())], "1 document".to_owned());
    let text = github::annotations(&findings, true);
    let count = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(
        (count("::error "), count("::warning "), count("::notice ")),
        (10, 10, 1)
    );
    assert!(
        text.ends_with("1 document · and 30 more in the summary\n"),
        "{text}"
    );
    assert!(!github::annotations(&findings, false).contains("in the summary"));
}

#[test]
fn a_replace_counts_twice_for_gitlab() {
    let count = |value: &Value, key: &str| value[key].as_u64().expect("a number");
    let counts = |value: &Value| ["create", "update", "delete"].map(|key| count(value, key));
    let mut plan = mixed();
    assert_eq!(counts(&gitlab::of_plan(&plan)), [3, 2, 1]);
    plan.steps[0].action.verb = manifests::action::Verb::Replace;
    assert_eq!(counts(&gitlab::of_plan(&plan)), [4, 1, 2]);
    assert_eq!(counts(&gitlab::of_drift(&drift())), [1, 2, 0]);
}

#[test]
fn hostile_texts_say_nothing_but_themselves() {
    for text in HOSTILE {
        let (plan, report) = hostile(text);
        let places = places();
        let warnings = Diagnostics::default();
        for findings in [
            of_plan(&plan, &warnings, &places, None),
            of_drift(&report, &warnings, &places, None),
        ] {
            let xml = junit::document(&findings);
            assert!(xml.chars().all(|c| c == '\n' || !c.is_control()), "{xml:?}");
            assert!(
                !xml.contains("<script") && !xml.contains("<!DOCTYPE"),
                "{xml}"
            );
            assert!(!xml.contains("\u{ffff}"), "{xml:?}");
            let tags = [
                "<?xml",
                "<testsuite",
                "</testsuite",
                "<testcase",
                "</testcase",
                "<failure",
                "</failure",
                "<skipped",
                "</skipped",
                "<system-out",
                "</system-out",
            ];
            for (at, _) in xml.match_indices('<') {
                assert!(
                    tags.iter().any(|tag| xml[at..].starts_with(tag)),
                    "{}",
                    &xml[at..]
                );
            }
            let lines = github::annotations(&findings, true);
            for line in lines.lines() {
                let known = ["::error ", "::warning ", "::notice "];
                assert!(known.iter().any(|word| line.starts_with(word)), "{line}");
            }
            assert!(
                !lines.contains('\r') && !lines.contains('\u{1b}'),
                "{lines:?}"
            );
            let json = sarif::document(&findings).to_string();
            assert!(
                !json.contains("\\u001b") && !json.contains("\\u0007"),
                "{json}"
            );
        }
    }
}

#[test]
fn every_rule_has_its_words() {
    for command in ["validate", "plan", "drift"] {
        for finding in of_command(command).found {
            assert!(rule(finding.rule).is_some(), "{}", finding.rule);
        }
    }
    for rule in super::rules::DRIFT {
        assert_eq!(super::rule(rule.id), Some(*rule));
    }
}
