//! Comments as reviewers see them, and as nobody should.

use std::path::Path;

use super::*;
use crate::view::findings::{Validated, of_manifests as findings};
use crate::view::places::Places;
use crate::view::plan::Documents;
use crate::view::samples;

fn places() -> Places {
    Places::of(Path::new("/srv/edge"), Some(Path::new("/srv")))
}

fn plan(plan: &crate::plan::Plan, limit: usize) -> String {
    of_plan(plan, &places(), &Documents::of(&samples::files()), limit)
}

#[test]
fn a_plan_is_a_table_and_a_fold() {
    insta::assert_snapshot!(plan(&samples::stopped(), COMMENT));
}

#[test]
fn an_edit_of_a_profile_is_one_row() {
    insta::assert_snapshot!(plan(&samples::fan_out(), COMMENT));
}

#[test]
fn nothing_to_do_is_a_line() {
    let mut nothing = samples::mixed();
    nothing.steps.clear();
    let text = plan(&nothing, COMMENT);
    assert!(text.contains("Nothing to do — 118 unchanged"), "{text}");
    assert!(!text.contains("| object |"), "{text}");
}

#[test]
fn drift_is_a_table() {
    insta::assert_snapshot!(of_drift(&samples::drift(), &places(), COMMENT));
}

#[test]
fn what_does_not_fit_is_left_off_and_says_so() {
    let whole = plan(&samples::large(50), COMMENT);
    assert!(whole.contains("<details>") && !whole.contains("may not be approved"));
    let large = plan(&samples::large(2000), COMMENT);
    assert!(
        large.chars().count() <= COMMENT && large.len() <= COMMENT,
        "{}",
        large.len()
    );
    assert!(large.contains("**it may not be approved**"), "{large}");
    assert!(
        large.contains("1900 rows, 2000 details left out"),
        "{large}"
    );
    assert_eq!(large.matches("\n| <code>").count(), 100);
    assert!(!large.contains("<details>"));
    let rows_only = plan(&samples::large(200), 64_000);
    assert!(rows_only.contains("200 details left out"), "{rows_only}");
    assert_eq!(
        rows_only.matches("\n| <code>").count(),
        200,
        "rows stay where they fit"
    );
    let tiny = plan(&samples::large(2000), 3000);
    assert!(tiny.len() <= 3000, "{}", tiny.len());
    let summary = plan(&samples::large(2000), SUMMARY);
    assert!(summary.len() <= SUMMARY, "{}", summary.len());
}

#[test]
fn a_value_that_is_cut_is_told_and_what_differs_of_it_shows() {
    let text = |length: usize, end: &str| serde_json::json!(format!("{}{end}", "x".repeat(length)));
    let of = |length: usize| {
        let change = samples::planned(
            "/spec/environment/LIST",
            text(length, "old"),
            text(length, "new"),
            manifests::effect::Effect::NextStart,
        );
        let step = samples::update(1, "instance/web-1", vec![change], ("a.yaml", 3));
        plan(&samples::plan(vec![step]), COMMENT)
    };
    let whole = of(1500);
    assert!(!whole.contains("may not be approved"), "{whole}");
    assert!(whole.contains(&"x".repeat(1500)), "{whole}");
    let cut = of(5000);
    assert!(cut.contains("Shortened: 1 value shown in part."), "{cut}");
    assert!(cut.contains("**it may not be approved**"), "{cut}");
    assert!(cut.contains("xold\n") && cut.contains("xnew"), "{cut}");
}

#[test]
fn many_held_and_noted_fit_too() {
    let mut large = samples::large(2000);
    large.held = large
        .steps
        .drain(..)
        .map(|step| crate::plan::Held {
            step,
            because: vec![crate::plan::Because {
                code: manifests::diagnostic::Code("G105"),
                message: "outside its window ".repeat(100),
                until: None,
            }],
        })
        .collect();
    let text = plan(&large, COMMENT);
    assert!(text.len() <= COMMENT, "{}", text.len());
    assert!(text.contains("may not be approved"));
}

/// What is left of a comment when all code, fences and the marks of the report itself are taken away.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut fence: Option<String> = None;
    for line in text.lines() {
        match &fence {
            Some(end) if line == end => fence = None,
            Some(_) => {}
            None if line.starts_with("```") => {
                fence = Some(line.trim_end_matches("diff").to_owned());
            }
            None => {
                let mut rest = line;
                while let Some((before, code)) = rest.split_once("<code>") {
                    out.push_str(before);
                    rest = code.split_once("</code>").expect("it ends").1;
                }
                out.push_str(rest);
                out.push('\n');
            }
        }
    }
    assert_eq!(fence, None, "{text}");
    out
}

#[test]
fn hostile_texts_say_nothing_but_themselves() {
    for text in samples::HOSTILE {
        let (made, report) = samples::hostile(text);
        let mut found = manifests::diagnostic::Diagnostics::default();
        let origin = manifests::diagnostic::Origin {
            file: (*text).into(),
            line: 1,
            ..Default::default()
        };
        let code = manifests::diagnostic::Code("E0104");
        let one = manifests::diagnostic::Diagnostic::error(code, origin, *text);
        found.push(one.hint(*text).of(text));
        let all = [
            plan(&made, COMMENT),
            of_drift(&report, &places(), COMMENT),
            of_manifests(
                &findings(
                    vec![Validated {
                        source: (*text).to_owned(),
                        found: found.clone(),
                        objects: Vec::new(),
                    }],
                    (*text).to_owned(),
                ),
                Some("1 error"),
                COMMENT,
            ),
        ];
        for comment in all {
            assert!(
                comment.chars().all(|c| c == '\n' || !c.is_control()),
                "{comment:?}"
            );
            let bare = bare(&comment);
            for bad in [
                "`", "<script", "<img", "@every", "](", "**b**", "https:", "</td",
            ] {
                assert!(!bare.contains(bad), "{bad} of {text:?}\n{bare}");
            }
            assert_eq!(bare.matches("<!--").count(), 1, "{bare}");
            assert_eq!(bare.matches("-->").count(), 1, "{bare}");
            let marks = bare.matches("<details>").count();
            assert_eq!(marks, bare.matches("</details>").count(), "{bare}");
            let rows = comment.lines().filter(|line| line.starts_with("| "));
            let columns: Vec<usize> = rows.map(|row| row.matches(" | ").count()).collect();
            assert!(columns.windows(2).all(|two| two[0] == two[1]), "{comment}");
        }
    }
}
