//! A webhook as a forge sends it, to a real listener: what was pushed is begun within a moment, and nothing else can be
//! asked there.

use std::net::{SocketAddr, TcpStream};

use super::*;
use crate::controller::news::Topic;
use crate::source::failure::SourceError;
use crate::source::followed::{Last, Latest};
use crate::webhook::doors::Doors;

/// A folder that is only looked at when somebody says so.
struct Deaf(Directory);

impl Followed for Deaf {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn latest(&mut self, last: Option<&Last>) -> Result<Latest, SourceError> {
        self.0.latest(last)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

fn listen(bench: &Bench) -> Listening {
    let settings = "apiVersion: evenkeel/v1\nkind: Controller\nwebhooks: { listen: '127.0.0.1:9480' }\nsources:\n- name: edge\n  directory: { path: /a }\n  webhook: { forge: github, secret: { environment: KEY } }\n";
    let (settings, found) = manifests::controller::read("c.yaml", settings);
    let settings = settings.unwrap_or_else(|| panic!("{found:?}"));
    let variable = |_: &str| Some("key".to_owned());
    let doors = Doors::of(&settings.sources, &variable, HostClock.instant()).expect("a secret");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    take_webhooks(any, None, doors, bench.host.clone(), bench.handle.clone()).expect("it listens")
}

fn send(to: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // It may be refused before all of it was read.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or_default(), answer)
}

fn push(path: &str, signature: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: keel.example.org\r\nConnection: close\r\nContent-Type: application/json\r\n\
         X-GitHub-Event: push\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn signed(body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"key");
    format!(
        "sha256={}",
        hex::encode(ring::hmac::sign(&key, body.as_bytes()))
    )
}

#[test]
fn what_a_webhook_tells_of_begins_within_a_moment_and_nothing_else_is_asked_there() {
    let bench = Bench::following(&[], |path| {
        Box::new(Deaf(Directory::new(
            "edge",
            path,
            Duration::from_secs(3600),
        )))
    });
    let listening = listen(&bench);
    let to = listening.address;
    let path = "/v1/webhooks/edge";
    for (question, status) in [
        (push(path, "sha256=00", "{}"), 401),
        (push("/v1/webhooks/other", &signed("{}"), "{}"), 404),
        (push("/v1/reconcile", &signed("{}"), "{}"), 404),
        (
            b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            404,
        ),
        (
            b"GET /v1/webhooks/edge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            400,
        ),
        (push(path, &signed("{}"), &"x".repeat(10 << 20)), 413),
        (b"\x16\x03\x01 TLS?\r\n\r\n".to_vec(), 400),
    ] {
        let (found, answer) = send(to, &question);
        let shown = String::from_utf8_lossy(&question[..question.len().min(80)]).into_owned();
        // The end of a connection may overtake what is said of too much.
        let cut = status == 413 && found == 0;
        assert!(found == status || cut, "{shown}: {answer}");
        assert!(!answer.contains("instance"), "{answer}");
    }
    // The best of some: this machine has other work.
    let mut best = Duration::MAX;
    for number in 0..5 {
        let network = format!(
            "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {{ name: net{number} }}\nspec: {{ type: bridge }}\n"
        );
        bench.write(&format!("net{number}.yaml"), &network);
        let body = format!("{{\"after\": {number}}}");
        let began = HostClock.instant();
        let before = bench.handle.feed().last();
        let (status, answer) = send(to, &push(path, &signed(&body), &body));
        assert_eq!(status, 202, "{answer}");
        let begun = || {
            let news = bench.handle.feed().since(before, 100).news;
            news.iter().any(|one| one.what.topic == Topic::Begun)
        };
        while !begun() {
            assert!(began.elapsed() < PATIENCE, "nothing is done");
            std::thread::yield_now();
        }
        best = best.min(began.elapsed());
        bench.until("/v1/status", |status| {
            status["sources"][0]["outcome"] == "settled" && status["atWork"] == false
        });
        let (status, answer) = send(to, &push(path, &signed(&body), &body));
        assert_eq!(status, 202, "{answer}");
        assert!(answer.contains("it came before"), "{answer}");
    }
    println!("webhook to first step: {best:?}");
    assert!(best < Duration::from_millis(500), "{best:?}");
}

#[test]
fn a_flood_of_what_nobody_signed_is_refused_and_is_over_when_it_ends() {
    let bench = Bench::new(&[]);
    let listening = listen(&bench);
    let path = "/v1/webhooks/edge";
    let mut found = std::collections::BTreeMap::new();
    let before = bench.handle.feed().last();
    for number in 0..500 {
        let body = format!("{{\"after\": {number}}}");
        let (status, _) = send(listening.address, &push(path, "sha256=00", &body));
        *found.entry(status).or_insert(0) += 1;
    }
    let (checked, turned_away) = (found.get(&401), found.get(&429));
    // So many at once, and two more each second: it may last a while.
    assert!(
        checked.is_some_and(|count| (60..200).contains(count)),
        "{found:?}"
    );
    assert!(turned_away.is_some_and(|count| *count >= 300), "{found:?}");
    assert_eq!(found.values().sum::<i32>(), 500, "{found:?}");
    let news = bench.handle.feed().since(before, 1000).news;
    let begun = news.iter().any(|one| one.what.topic == Topic::Begun);
    assert!(!begun, "nothing is done for it: {news:?}");
    // One that is signed comes in again soon after.
    let ended = HostClock.instant();
    while send(listening.address, &push(path, &signed("{}"), "{}")).0 != 202 {
        assert!(ended.elapsed() < PATIENCE, "it is kept out");
        std::thread::yield_now();
    }
}
