//! `dependsOn`: who waits for what to be ready, for how long, and what is told when it never is.

use std::sync::Mutex;
use std::time::Duration;

use manifests::desired::DesiredSet;
use reconciler::apply::{ApplyObserver, ApplyOptions, ApplyReport, StepResult};
use reconciler::journal::Outcome;
use reconciler::plan::PlanOptions;
use reconciler::plan::Step;
use runtime::fake::FakeRuntime;
use serde_json::json;

use crate::stage::{Stage, address, edge, ground, instance};

/// A database that is slow to get healthy, as soon as it is made.
struct Slow<'a> {
    runtime: &'a FakeRuntime,
    /// When it gets healthy after it was made; none: never.
    after: Option<Duration>,
    /// How healthy it was when the others began.
    seen: Mutex<Vec<(String, String)>>,
}

impl Slow<'_> {
    fn says(&self, word: &str) {
        self.runtime.by_hand(|world| {
            let database = world.items.get_mut(&address("instance/db")).unwrap();
            database.status["health"] = json!({ "status": word });
        });
    }
}

impl ApplyObserver for Slow<'_> {
    fn started(&self, step: &Step) {
        let name = step.address().to_string();
        if !["instance/web", "instance/log"].contains(&name.as_str()) {
            return;
        }
        let world = self.runtime.world();
        let database = world.items.get(&address("instance/db"));
        let health = database.map_or_else(String::new, |item| {
            let word = item.status["health"]["status"].as_str();
            word.unwrap_or("missing").to_owned()
        });
        self.seen.lock().unwrap().push((name, health));
    }

    fn finished(&self, step: &Step, _: &StepResult) {
        if *step.address() == address("instance/db") {
            self.says("starting");
        }
    }
}

/// A database, one that needs it healthy, one that needs it started, and one that needs nothing.
fn desired() -> DesiredSet {
    let web = instance("web", "", "dependsOn: [Instance/db]\n");
    let log = instance("log", "", "dependsOn: [{Instance/db: started}]\n");
    let lone = instance("lone", "", "");
    edge(&(ground() + &instance("db", "", "") + &web + &log + &lone))
}

fn apply(stage: &Stage, slow: &Slow<'_>, patience: Duration) -> ApplyReport {
    let how = ApplyOptions {
        readiness_timeout: patience,
        ..ApplyOptions::default()
    };
    std::thread::scope(|scope| {
        if let Some(after) = slow.after {
            scope.spawn(move || {
                let is_there = || {
                    let world = stage.runtime.world();
                    let database = world.items.get(&address("instance/db")).cloned();
                    database.is_some_and(|item| item.status["health"]["status"] == "starting")
                };
                while !is_there() {
                    pause(Duration::from_millis(1));
                }
                pause(after);
                slow.says("healthy");
            });
        }
        let session = stage.session();
        let (_, report) = session
            .apply(&desired(), &PlanOptions::default(), &how, slow, &mut |_| {
                true
            })
            .unwrap();
        report.unwrap()
    })
}

#[expect(clippy::disallowed_methods, reason = "something comes late")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn one_that_is_ready_late_is_waited_for() {
    let stage = Stage::new();
    let slow = Slow {
        runtime: &stage.runtime,
        after: Some(Duration::from_millis(200)),
        seen: Mutex::default(),
    };
    let report = apply(&stage, &slow, Duration::from_secs(60));
    assert!(report.is_complete(), "{report:#?}");
    let mut seen = slow.seen.into_inner().unwrap();
    seen.sort();
    assert_eq!(
        seen,
        [
            // Started is less than healthy: it did not wait.
            ("instance/log".to_owned(), "starting".to_owned()),
            ("instance/web".to_owned(), "healthy".to_owned()),
        ]
    );
}

#[test]
fn one_that_is_never_ready_is_told_and_holds_up_nobody_else() {
    let stage = Stage::new();
    let slow = Slow {
        runtime: &stage.runtime,
        after: None,
        seen: Mutex::default(),
    };
    let report = apply(&stage, &slow, Duration::from_millis(50));
    assert_eq!((report.failed(), report.skipped()), (0, 1), "{report:#?}");
    let told = report
        .results
        .iter()
        .find_map(|result| match &result.outcome {
            Outcome::Skipped { code, message } => Some((code.as_deref(), message.as_str())),
            _ => None,
        });
    let words = "instance/db is not ready after 50ms: it is starting";
    assert_eq!(told, Some((Some("G109"), words)));
    assert_eq!(
        stage
            .lives()
            .iter()
            .filter(|name| name.starts_with("instance/"))
            .count(),
        3,
        "all but web: {:?}",
        stage.lives()
    );
    // Nothing is forgotten: the next apply makes it.
    slow.says("healthy");
    stage.done(&desired());
    assert!(stage.lives().contains(&"instance/web".to_owned()));
}
