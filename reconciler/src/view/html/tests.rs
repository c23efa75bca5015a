//! Pages that say what reports say, and nothing else.

use std::path::Path;

use crate::view::places::Places;
use crate::view::plan::Documents;
use crate::view::samples;

fn places() -> Places {
    Places::of(Path::new("/srv/edge"), Some(Path::new("/srv")))
}

fn plan(plan: &crate::plan::Plan) -> String {
    let files = samples::files();
    super::of_plan(plan, &places(), &Documents::of(&files), Some("keel apply"))
}

fn drift(report: &crate::view::drift::DriftReport) -> String {
    super::of_drift(report, &places(), "keel apply")
}

/// The page without its style, which is the same for all.
fn body(page: &str) -> &str {
    page.split_once("<body>").expect("a body").1
}

#[test]
fn drift_is_told_worst_first_with_its_lines() {
    insta::assert_snapshot!(body(&drift(&samples::drift())));
}

#[test]
fn a_plan_is_told_worst_first_with_its_lines() {
    let mut plan_of_all = samples::fan_out();
    plan_of_all.stopping = samples::stopped().stopping;
    insta::assert_snapshot!(body(&plan(&plan_of_all)));
}

#[test]
fn nothing_is_a_page_too() {
    let mut report = samples::drift();
    report.drift.clear();
    assert!(drift(&report).contains("<b>No drift</b>126 objects compared"));
    let mut nothing = samples::mixed();
    nothing.steps.clear();
    assert!(plan(&nothing).contains("<b>Nothing to do</b>"));
}

#[test]
fn nothing_comes_from_elsewhere_and_nothing_runs() {
    for page in [plan(&samples::stopped()), drift(&samples::drift())] {
        for bad in [
            "http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link",
        ] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}

#[test]
fn hostile_texts_say_nothing_but_themselves() {
    // The tags and attributes of a harmless page are all that any page has.
    let shape = |page: &str| -> Vec<String> {
        let mut tags: Vec<String> = body(page)
            .split('<')
            .skip(1)
            .map(|rest| rest.split_once('>').expect("a tag ends").0.to_owned())
            .collect();
        tags.sort();
        tags
    };
    let (harmless_plan, harmless_drift) = samples::hostile("harmless");
    let expected = (shape(&plan(&harmless_plan)), shape(&drift(&harmless_drift)));
    for text in samples::HOSTILE {
        let (made, report) = samples::hostile(text);
        let (made, report) = (plan(&made), drift(&report));
        assert_eq!(shape(&made), expected.0, "{text:?}");
        assert_eq!(shape(&report), expected.1, "{text:?}");
        for page in [made, report] {
            assert!(
                page.chars().all(|c| c == '\n' || !c.is_control()),
                "{page:?}"
            );
            assert!(!page.contains('\u{202e}'));
        }
    }
}
