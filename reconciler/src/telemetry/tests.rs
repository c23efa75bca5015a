//! What lines look like, and which spans a collector is sent.

use std::cell::RefCell;
use std::time::Duration;

use manifests::controller::TracesSettings;
use serde_json::Value;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt as _;

use super::export::Exporter;
use super::fields::Fields;
use super::line::{Line, journald, json};
use super::lines::Lines;
use super::traces::Traces;
use crate::clock::{Clock as _, HostClock};
use crate::web::testing::Server;

fn said(message: &str, named: &[(&'static str, Value)]) -> Fields {
    Fields {
        message: Some(message.to_owned()),
        named: named.to_vec(),
    }
}

#[test]
fn what_others_wrote_makes_no_second_line_and_no_priority() {
    let told = said(
        "bad\n<0>worse\u{1b}[2J",
        &[
            ("why", "no space: a=\"b\"\n".into()),
            ("done", 3.into()),
            ("source", "inner".into()),
        ],
    );
    let within = [(
        "reconcile",
        said(
            "",
            &[("source", "edge".into()), ("revision", "abc1234".into())],
        ),
    )];
    let line = Line {
        at: "2026-11-27T12:00:00Z".parse().expect("a time"),
        level: Level::ERROR,
        told: &told,
        within: &within,
    };
    insta::assert_snapshot!(journald(&line).trim_end(), @r#"<3>bad␊<0>worse␛[2J source=inner revision=abc1234 why="no space: a=\"b\"\n" done=3"#);
    let text = json(&line);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        value,
        serde_json::json!({
            "time": "2026-11-27T12:00:00Z",
            "level": "error",
            "message": "bad\n<0>worse\u{1b}[2J",
            "source": "inner",
            "revision": "abc1234",
            "why": "no space: a=\"b\"\n",
            "done": 3,
            "within": ["reconcile"],
        })
    );
}

thread_local! {
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn keep(line: &str) {
    TOLD.with_borrow_mut(|told| told.push(line.to_owned()));
}

#[test]
fn what_is_told_within_a_span_has_what_the_span_says() {
    let lines = tracing_subscriber::registry().with(Lines::new(json, keep));
    tracing::subscriber::with_default(lines, || {
        let outer = tracing::info_span!("reconcile", source = "edge", done = tracing::field::Empty);
        let inner = tracing::info_span!(parent: &outer, "step", id = 4);
        let _within = inner.enter();
        outer.record("done", 7);
        tracing::warn!(object = %"instance/a", "not yet");
    });
    let told = TOLD.take();
    let [line] = told.as_slice() else {
        panic!("{told:?}")
    };
    let value: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(value["message"], "not yet");
    assert_eq!(value["within"], serde_json::json!(["reconcile", "step"]));
    for (name, wanted) in [
        ("source", Value::from("edge")),
        ("id", 4.into()),
        ("done", 7.into()),
    ] {
        assert_eq!(value[name], wanted, "{line}");
    }
}

fn settings(url: &str) -> TracesSettings {
    TracesSettings {
        endpoint: Some(url.parse().expect("an address")),
        token: Some(manifests::controller::Token {
            environment: Some("TOKEN".to_owned()),
            ..Default::default()
        }),
        ..TracesSettings::default()
    }
}

/// A revision with one step that fails.
fn roll_out() {
    let revision = tracing::info_span!("revision", source = "edge", revision = "abc1234");
    let reconcile = tracing::info_span!(parent: &revision, "reconcile", why = "a new revision");
    let step = tracing::info_span!(
        parent: &reconcile,
        "step",
        object = "instance/a",
        error = tracing::field::Empty,
    );
    step.record("error", "no space");
    reconcile.in_scope(|| tracing::error!(why = "one step failed", "failed"));
}

#[test]
fn a_revision_is_the_root_of_its_trace_and_what_failed_is_marked() {
    let tries = std::sync::atomic::AtomicU32::new(0);
    // It is overloaded at first.
    let collector = Server::begin(move |_| {
        let first = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        Some((if first { 503 } else { 200 }, "{}".to_owned()))
    });
    let variable = |name: &str| (name == "TOKEN").then(|| "secret".to_owned());
    let exporter =
        Exporter::begin(&settings(&collector.url), "web-1", &variable).expect("a thread");
    let traces = tracing_subscriber::registry().with(Traces::new(exporter.queue()));
    tracing::subscriber::with_default(traces, roll_out);
    // Nothing is lost by the first answer.
    collector.next();
    exporter.end(Duration::from_secs(20));
    let heard = collector.next();
    assert_eq!(
        (heard.method.as_str(), heard.path.as_str()),
        ("POST", "/v1/traces")
    );
    assert_eq!(heard.header("authorization"), Some("Bearer secret"));
    let body = heard.json();
    let resource = &body["resourceSpans"][0];
    let host = &resource["resource"]["attributes"][2];
    assert_eq!(host["value"]["stringValue"], "web-1");
    let spans = resource["scopeSpans"][0]["spans"]
        .as_array()
        .expect("spans");
    // The inner ones end first.
    let names: Vec<&Value> = spans.iter().map(|span| &span["name"]).collect();
    assert_eq!(names, ["step", "reconcile", "revision"]);
    for (span, above) in spans.iter().zip(&spans[1..]) {
        assert_eq!(span["parentSpanId"], above["spanId"], "{body:#}");
        assert_eq!(span["traceId"], above["traceId"]);
    }
    assert!(spans[2].get("parentSpanId").is_none(), "{body:#}");
    assert_eq!(spans[2]["traceId"].as_str().map(str::len), Some(32));
    assert_eq!(spans[0]["status"]["message"], "no space");
    assert_eq!(spans[1]["status"]["message"], "one step failed");
    assert_eq!(spans[1]["events"][0]["name"], "failed");
    let source = &spans[2]["attributes"][0];
    assert_eq!(
        (&source["key"], &source["value"]["stringValue"]),
        (&"keel.source".into(), &"edge".into())
    );
}

#[test]
fn a_collector_that_hangs_holds_nobody_up() {
    let deaf = Server::begin(|_| None);
    let exporter = Exporter::begin(&settings(&deaf.url), "web-1", &|_| Some(String::from("x")));
    let exporter = exporter.expect("a thread");
    let traces = tracing_subscriber::registry().with(Traces::new(exporter.queue()));
    let began = HostClock.instant();
    tracing::subscriber::with_default(traces, || {
        for _ in 0..4000 {
            roll_out();
        }
    });
    exporter.end(Duration::from_millis(300));
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}
