//! A real controller on a fake world answers over a real socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use manifests::controller::SocketSettings;
use manifests::desired::DesiredSet;
use manifests::id::SourceName;
use manifests::path_io;
use manifests::read::Texts;
use runtime::error::RuntimeError;
use runtime::fake::{FakeRuntime, World};
use runtime::watch::{Bell, Moved};
use serde_json::{Value, json};

use super::client::{ClientError, Controller as Client};
use super::*;
use crate::clock::{Clock as _, HostClock};
use crate::controller::ground::Ground;
use crate::controller::run::{Controller, Settings, Source};
use crate::controller::state::Pace;
use crate::source::directory::Directory;
use crate::source::followed::Followed;
use crate::state_folder::StateFolder;

mod hooks;
mod leaves;
mod metrics;
mod pulls;
mod remote;
mod roles;
mod rollbacks;
mod sockets;

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Host {
    folder: StateFolder,
    runtime: FakeRuntime,
    cancel: AtomicBool,
}

impl Host {
    fn session(&self) -> Session<'_> {
        Session {
            folder: &self.folder,
            runtime: &self.runtime,
            clock: &HostClock,
            cancel: &self.cancel,
        }
    }
}

impl Desk for Host {
    fn session(&self) -> Session<'_> {
        Self::session(self)
    }

    fn console(&self, _: &Address, _: usize) -> Result<Vec<u8>, RuntimeError> {
        Ok(b"\x1b[32mup\x1b[0m\r\n".to_vec())
    }

    fn attach(&self, _: &Address, streams: [BorrowedFd<'_>; 2]) -> Result<(), RuntimeError> {
        sockets::echo(streams[0], streams[1]);
        Ok(())
    }

    fn exec(
        &self,
        _: &Address,
        request: &ExecRequest,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<ExitStatus, RuntimeError> {
        if request.command == ["size"] {
            sockets::tell_size(streams[0], streams[1]);
            return Ok(ExitStatus::Code(0));
        }
        let words = format!("{}\n", request.command.join(" "));
        rustix::io::write(streams[2], words.as_bytes()).expect("written");
        sockets::echo(streams[0], streams[1]);
        Ok(ExitStatus::Code(7))
    }
}

impl Ground for Host {
    fn session(&self) -> Session<'_> {
        Self::session(self)
    }

    fn fit(&self, _: &mut DesiredSet, _: &Texts) -> Result<(), String> {
        Ok(())
    }

    fn boot(&self) -> Result<(), String> {
        Ok(())
    }

    fn due(&self) -> Result<(), String> {
        Ok(())
    }

    fn back_up(&self) -> Result<(), String> {
        Ok(())
    }

    fn watch(&self, bell: &Bell, _: &dyn Fn(Moved)) -> Result<(), RuntimeError> {
        while !bell.ends_within(Duration::from_secs(1)) {}
        Ok(())
    }
}

/// A controller that runs, its world, its manifests and its socket.
struct Bench {
    place: tempfile::TempDir,
    host: Arc<Host>,
    handle: Handle,
    running: Option<JoinHandle<()>>,
    serving: Option<Serving>,
}

impl Bench {
    /// Follows a folder with these files until all of it is done.
    fn new(files: &[(&str, &str)]) -> Self {
        Self::following(files, |path| {
            Box::new(Directory::new("edge", path, Duration::from_secs(300)))
        })
    }

    /// The same, in another way.
    fn following(files: &[(&str, &str)], how: impl FnOnce(&Path) -> Box<dyn Followed>) -> Self {
        let place = tempfile::tempdir().expect("a folder");
        let host = Arc::new(Host {
            folder: StateFolder::open(place.path().join("state")).expect("a state folder"),
            runtime: FakeRuntime::new(World::default()),
            cancel: AtomicBool::new(false),
        });
        let manifests = place.path().join("manifests");
        path_io::ensure_dir(&manifests).expect("a folder");
        let controller = Controller::default();
        let handle = controller.handle();
        let mut bench = Self {
            serving: Some(
                serve(
                    &place.path().join(SOCKET),
                    door(),
                    None,
                    host.clone(),
                    handle.clone(),
                )
                .expect("it is offered"),
            ),
            place,
            handle,
            running: None,
            host,
        };
        bench.write("keel.yaml", KEEL);
        bench.write("pool.yaml", POOL);
        for (name, text) in files {
            bench.write(name, text);
        }
        let source = Source {
            name: SourceName::new("edge"),
            followed: how(&manifests),
            projects: std::collections::BTreeSet::new(),
            depends_on: Vec::new(),
        };
        let settings = Settings {
            pace: Pace::default(),
            seed: 7,
            once: false,
            parallelism: Some(2),
            suspensions: std::collections::BTreeMap::new(),
            pins: std::collections::BTreeMap::new(),
        };
        let ground = Arc::clone(&bench.host);
        let running = std::thread::spawn(move || {
            let ended = controller.run(
                ground.as_ref(),
                vec![source],
                &settings,
                &mut |_| {},
                &mut (),
            );
            ended.expect("it leaves in good order");
        });
        bench.running = Some(running);
        bench.until("/v1/status", |status| {
            status["sources"][0]["outcome"] != Value::Null
        });
        bench
    }

    fn write(&self, name: &str, text: &str) {
        path_io::write(self.place.path().join("manifests").join(name), text).expect("written");
    }

    fn client(&self) -> Client {
        Client::at(self.place.path()).expect("it listens")
    }

    fn get(&self, path: &str) -> Value {
        self.client()
            .get(path)
            .unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Problem> {
        match self.client().post(path, body) {
            Ok(answer) => Ok(answer),
            Err(ClientError::Refused(problem)) => Err(*problem),
            Err(error) => panic!("{path}: {error:?}"),
        }
    }

    /// Waits until an answer is so.
    #[track_caller]
    fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let began = HostClock.instant();
        loop {
            let answer = self.get(path);
            if holds(&answer) {
                return answer;
            }
            let late = HostClock.instant().saturating_duration_since(began) > PATIENCE;
            assert!(!late, "{path} is still {answer:#}");
            std::thread::yield_now();
        }
    }

    fn raw(&self, question: &str) -> (u16, String) {
        raw(self.place.path().join(SOCKET), question)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.handle.leave();
        if let Some(running) = self.running.take() {
            let ended = running.join();
            if !std::thread::panicking() {
                ended.expect("it left in good order");
            }
        }
        drop(self.serving.take());
    }
}

fn door() -> LocalDoor {
    LocalDoor {
        own: rustix::process::geteuid().as_raw(),
        settings: SocketSettings::default(),
    }
}

/// Sends bytes and reads the answer to its end.
fn raw(socket: PathBuf, question: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // It may be refused before all of it was read.
    let _ = stream.write_all(question.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

const POOL: &str =
    "apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: { name: fast }\nspec: { driver: dir }\n";

const KEEL: &str = "apiVersion: evenkeel/v1\nkind: Source\nname: edge\n";

fn instance(name: &str, memory: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {name}, labels: {{ tier: {name} }} }}\nspec:\n  \
         image: busybox\n  state: Running\n  limits:\n    memory: {memory}\n  devices:\n    root: {{ type: disk, path: /, pool: fast }}\n"
    )
}

#[test]
fn what_is_managed_is_told_with_what_is_wanted_beside_what_is_there() {
    let one = instance("one", "64MiB");
    let bench = Bench::new(&[("one.yaml", &one), ("two.yaml", &instance("two", "64MiB"))]);
    let status = bench.get("/v1/status");
    assert_eq!(
        status["sources"][0]["objects"],
        json!({"synced": 3}),
        "{status:#}"
    );
    assert_eq!(status["you"]["role"], "admin");
    assert_eq!(
        bench
            .raw("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .0,
        200
    );

    // Suspended it is looked at, and its drift is told.
    let refused = bench.post(
        "/v1/suspend",
        &json!({"what": "source/nowhere", "reason": "x"}),
    );
    assert_eq!(refused.expect_err("there is no such source").status, 404);
    bench
        .post(
            "/v1/suspend",
            &json!({"what": "source/edge", "reason": "we look at it"}),
        )
        .expect("suspended");
    bench.host.runtime.by_hand(|world| {
        for item in world
            .items
            .values_mut()
            .filter(|item| item.address.name == "one")
        {
            let mut spec = item.spec.to_value();
            spec["limits"]["memory"] = json!("32MiB");
            item.spec =
                manifests::kind::Spec::deserialize(item.address.kind, spec).expect("a spec");
        }
    });
    bench.post("/v1/reconcile", &json!({})).expect("it looks");
    bench.until("/v1/objects?sync=drifted", |all| {
        all.as_array().is_some_and(|all| all.len() == 1)
    });
    let object = bench.get("/v1/objects/instance/one");
    assert_eq!(object["sync"], "drifted");
    assert_eq!(object["suspended"], true);
    let field = &object["fields"][0];
    assert_eq!(
        (
            &field["path"],
            &field["desired"],
            &field["live"],
            &field["cause"]
        ),
        (
            &json!("/spec/limits/memory"),
            &json!("64MiB"),
            &json!("32MiB"),
            &json!("drifted")
        )
    );
    assert_eq!(
        field["declared"],
        json!({"path": "one.yaml", "line": 8, "column": 13})
    );
    assert_eq!(object["desired"]["spec"]["limits"]["memory"], "64MiB");
    assert_eq!(object["lines"]["/spec/limits/memory"], field["declared"]);
    assert_eq!(object["lines"]["/spec/boot/priority"], Value::Null);
    assert_eq!(object["live"]["spec"]["limits"]["memory"], "32MiB");
    let plan = bench.get("/v1/plan");
    assert_eq!(plan[0]["plan"]["changes"][0]["id"], "instance/one");
    assert_eq!(plan[0]["stopped"], false);

    for (query, count) in [
        ("kind=instance", 2),
        ("kind=network", 0),
        ("selector=tier%3Dtwo", 1),
        ("selector=tier!%3Dtwo", 2),
        ("search=tw", 1),
        ("project=default", 2),
        ("project=shop", 0),
        ("health=healthy", 3),
        ("source=edge&sync=synced", 2),
    ] {
        let all = bench.get(&format!("/v1/objects?{query}"));
        assert_eq!(
            all.as_array().map(Vec::len),
            Some(count),
            "{query}: {all:#}"
        );
    }

    bench
        .post("/v1/resume", &json!({"what": "source/edge"}))
        .expect("resumed");
    bench.until("/v1/objects?sync=synced", |all| {
        all.as_array().is_some_and(|all| all.len() == 3)
    });
    let history = bench.get("/v1/history");
    let id = history[0]["plan"].as_str().expect("a plan");
    assert_eq!(bench.get(&format!("/v1/history/{id}"))["source"], "edge");
    let of_one = bench.get("/v1/history?object=instance/one");
    assert!(
        of_one.as_array().is_some_and(|all| all.len() >= 4),
        "{of_one:#}"
    );
    let events = bench.get("/v1/events");
    let topics: Vec<&str> = events
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|event| event["topic"].as_str())
        .collect();
    for topic in [
        "booted",
        "revision",
        "begun",
        "done",
        "reconciled",
        "suspended",
        "object",
        "resumed",
    ] {
        assert!(topics.contains(&topic), "{topic} is not among {topics:?}");
    }
}

#[test]
fn a_plan_that_guards_stop_waits_until_somebody_answers_for_it_and_nonsense_changes_nothing() {
    let bench = Bench::new(&[
        ("one.yaml", &instance("one", "64MiB")),
        ("two.yaml", &instance("two", "64MiB")),
        ("three.yaml", &instance("three", "64MiB")),
    ]);
    bench.write("two.yaml", "");
    bench.write("three.yaml", "");
    let status = bench.until("/v1/status", |status| {
        status["sources"][0]["waits"] != Value::Null
    });
    let waits = &status["sources"][0]["waits"];
    assert_eq!(waits["stopping"][0]["code"], "G102", "{status:#}");
    let digest = waits["digest"].as_str().expect("a digest").to_owned();
    let plans = bench.get("/v1/plan?source=edge");
    assert_eq!(
        (&plans[0]["digest"], &plans[0]["stopped"]),
        (&json!(digest), &json!(true))
    );
    let refused = bench.post("/v1/approve", &json!({"digest": "0123456789abcdef"}));
    let problem = refused.expect_err("no such plan waits");
    assert_eq!(problem.status, 409);
    assert!(problem.hints[0].contains(&digest), "{problem:?}");
    assert_eq!(bench.get("/v1/objects").as_array().map(Vec::len), Some(4));
    bench
        .post("/v1/approve", &json!({"digest": digest}))
        .expect("approved");
    bench.until("/v1/objects", |all| {
        all.as_array().is_some_and(|all| all.len() == 2)
    });
    let revisions = bench.get("/v1/revisions");
    for (fate, word) in [("waits", "G102"), ("approved", "is approved by")] {
        let told = revisions.as_array().expect("a list").iter().any(|one| {
            let why = one["why"].as_str().unwrap_or_default();
            one["fate"] == fate && why.contains(&digest) && why.contains(word)
        });
        assert!(told, "{fate}: {revisions:#}");
    }

    bench.write("one.yaml", "kind: [\n");
    let status = bench.until("/v1/status", |status| {
        status["sources"][0]["invalid"] != Value::Null
    });
    let why = status["sources"][0]["invalid"]["why"]
        .as_str()
        .expect("why");
    assert!(why.contains("one.yaml:"), "{why}");
    assert_eq!(
        status["sources"][0]["objects"],
        json!({"synced": 2}),
        "the last good one is in force"
    );
}

#[test]
fn instances_are_switched_by_the_rules_of_the_command_line() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let stop = "/v1/instances/one/stop";
    let problem = bench
        .post(stop, &json!({}))
        .expect_err("git wants it running");
    assert_eq!(
        (problem.status, problem.r#type.as_str()),
        (409, "keel:refused"),
        "{problem:?}"
    );
    let hold = json!({"holdUntil": "2999-01-01T00:00:00Z", "reason": "its disk is looked at"});
    bench.post(stop, &hold).expect("it is held");
    bench.post("/v1/reconcile", &json!({})).expect("it looks");
    bench.until("/v1/objects/instance/one", |one| {
        one["state"] == "Stopped" && one["health"] == "degraded"
    });
    bench
        .post("/v1/instances/one/start", &json!({}))
        .expect("started");
    bench.post("/v1/reconcile", &json!({})).expect("it looks");
    bench.until("/v1/objects/instance/one", |one| one["state"] == "Running");
    for (path, body, status) in [
        ("/v1/instances/none/start", json!({}), 404),
        ("/v1/instances/one/explode", json!({}), 404),
        ("/v1/instances/one/start", json!({"force": true}), 400),
        (stop, json!({"holdUntil": "2999-01-01T00:00:00Z"}), 400),
        (
            stop,
            json!({"holdUntil": "1999-01-01T00:00:00Z", "reason": "x"}),
            400,
        ),
        (stop, json!({"forse": true}), 422),
    ] {
        let problem = bench.post(path, &body).expect_err("it is refused");
        assert_eq!(problem.status, status, "{path} {body}: {problem:?}");
    }
}

#[test]
fn a_browser_gets_the_page_with_its_policy_and_the_end_of_a_console() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let get = |path: &str| {
        bench.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:8080\r\nConnection: close\r\n\r\n"
        ))
    };
    for (path, kind) in [
        ("/", "text/html"),
        ("/page/page.css", "text/css"),
        ("/page/page.js", "text/javascript"),
        ("/page/page.svg", "image/svg+xml"),
    ] {
        let (status, answer) = get(path);
        assert_eq!(status, 200, "{path}");
        assert!(
            answer.contains(&format!("content-type: {kind}")),
            "{path}: {answer}"
        );
        assert!(
            answer.contains("content-security-policy: default-src 'none'; script-src 'self'"),
            "{path}"
        );
    }
    assert_eq!(get("/page/none.js").0, 404);
    let (status, log) = get("/v1/instances/one/logs");
    assert!(status == 200 && log.ends_with("\r\n\r\nup\n"), "{log:?}");
    assert_eq!(get("/v1/instances/none/logs").0, 404);
}

#[test]
fn bad_questions_get_a_clear_answer_and_harm_nobody() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let big = "x".repeat(100_000);
    let head = "Host: localhost\r\nConnection: close\r\n";
    let sized = |body: &str| {
        format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (question, status, says) in [
        (
            format!("GET /nowhere HTTP/1.1\r\n{head}\r\n"),
            404,
            "openapi",
        ),
        (
            format!("DELETE /v1/status HTTP/1.1\r\n{head}\r\n"),
            400,
            "not asked that way",
        ),
        (
            format!("GET /v1/objects?kind=instanse HTTP/1.1\r\n{head}\r\n"),
            400,
            "did you mean `instance`?",
        ),
        (
            format!("GET /v1/objects?kynd=x HTTP/1.1\r\n{head}\r\n"),
            400,
            "kynd",
        ),
        (
            format!("GET /v1/objects?selector=%3Dx HTTP/1.1\r\n{head}\r\n"),
            400,
            "selects no labels",
        ),
        (
            format!("GET /v1/objects/instance/a/b/c/d HTTP/1.1\r\n{head}\r\n"),
            400,
            "names no object",
        ),
        (
            format!("GET /v1/objects/instance/nobody HTTP/1.1\r\n{head}\r\n"),
            404,
            "instance/nobody",
        ),
        (
            format!("GET /v1/history/x HTTP/1.1\r\n{head}\r\n"),
            400,
            "no name of a plan",
        ),
        (
            format!("POST /v1/suspend HTTP/1.1\r\n{head}{}", sized("{")),
            400,
            "JSON",
        ),
        (
            format!("POST /v1/suspend HTTP/1.1\r\n{head}{}", sized(&big)),
            413,
            "limit",
        ),
        // A page of somebody else cannot set this without asking first, and is not let.
        (
            format!(
                "POST /v1/reconcile HTTP/1.1\r\n{head}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"
            ),
            415,
            "application/json",
        ),
        (
            "GET /v1/status HTTP/1.1\r\nHost: evil.example.org\r\nConnection: close\r\n\r\n"
                .to_owned(),
            421,
            "localhost",
        ),
        (
            format!(
                "GET /v1/instances/one/exec HTTP/1.1\r\n{head}Origin: http://evil.example.org\r\n\r\n"
            ),
            403,
            "another server",
        ),
        (
            format!("GET /v1/status HTTP/1.1\r\n{head}X-Long: {big}\r\n\r\n"),
            431,
            "",
        ),
        ("\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), 400, ""),
    ] {
        let (found, answer) = bench.raw(&question);
        let begins: String = question.chars().take(60).collect();
        assert_eq!(found, status, "{begins}: {answer}");
        assert!(answer.contains(says), "{begins}: {answer}");
        if !says.is_empty() {
            assert!(
                answer.contains("application/problem+json"),
                "{begins}: {answer}"
            );
            assert!(
                answer.contains("cache-control: no-store"),
                "{begins}: {answer}"
            );
        }
    }
    assert_eq!(bench.get("/v1/status")["sources"][0]["settled"], true);
}

#[test]
fn a_hundred_listeners_that_never_read_cost_nothing_and_one_that_reads_hears_everything() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let socket = bench.place.path().join(SOCKET);
    let deaf: Vec<UnixStream> = (0..100)
        .map(|_| {
            let mut stream = UnixStream::connect(&socket).expect("it listens");
            stream
                .write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .expect("asked");
            stream
        })
        .collect();
    let client = bench.client();
    let last = bench.handle.feed().last();
    let listener = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let followed = client.follow(Some(last), &mut |event| {
            heard.push(event.number);
            heard.len() < 300
        });
        followed.expect("it is told");
        heard
    });
    let now = HostClock.now();
    for number in 0..300 {
        let what = crate::controller::news::Tidings {
            topic: crate::controller::news::Topic::Object,
            source: None,
            object: None,
            message: "x".repeat(2000),
        };
        bench.handle.feed().tell(now, what);
        if number % 50 == 0 {
            assert_eq!(bench.get("/v1/status")["booted"], true);
        }
    }
    let heard = listener.join().expect("it heard");
    let expected: Vec<u64> = (last + 1..=last + 300).collect();
    assert_eq!(heard, expected);
    drop(deaf);
}
