//! An older revision is in force again, until that is over.

use super::*;

#[test]
fn an_older_revision_is_in_force_again_until_it_is_unpinned_and_the_story_is_told() {
    let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
    let memory = |wanted: &str| {
        bench.until("/v1/objects/instance/one", |one| {
            one["live"]["spec"]["limits"]["memory"] == wanted && one["sync"] == "synced"
        });
    };
    let revisions = bench.get("/v1/revisions");
    assert_eq!(revisions[0]["fate"], "inForce", "{revisions:#}");
    let first = revisions[0]["revision"]
        .as_str()
        .expect("a name")
        .to_owned();
    bench.write("one.yaml", &instance("one", "32MiB"));
    memory("32MiB");
    bench.write("broken.yaml", "kind: [\n");
    bench.until("/v1/revisions", |all| all[0]["fate"] == "invalid");

    for (body, status, says) in [
        (json!({"revision": first, "reason": " "}), 400, "reason"),
        (json!({"revision": "zzzz", "reason": "x"}), 404, "zzzz"),
        (
            json!({"revision": first, "reason": "x", "source": "other"}),
            404,
            "other",
        ),
    ] {
        let problem = bench.post("/v1/rollback", &body).expect_err("refused");
        assert_eq!(problem.status, status, "{problem:?}");
        assert!(problem.detail.contains(says), "{problem:?}");
    }
    let unpinned = bench.post("/v1/unpin", &json!({}));
    assert_eq!(unpinned.expect_err("nothing is pinned").status, 404);
    let asked = json!({"revision": first, "reason": "32MiB are too few", "by": "alice"});
    bench.post("/v1/rollback", &asked).expect("pinned");
    memory("64MiB");
    bench.write("broken.yaml", "");
    bench.write("one.yaml", &instance("one", "48MiB"));
    bench.post("/v1/reconcile", &json!({})).expect("it looks");
    let status = bench.until("/v1/status", |status| {
        status["sources"][0]["settled"] == true && status["atWork"] == false
    });
    let source = &status["sources"][0];
    assert_eq!(source["revision"], json!(first));
    assert_eq!(source["pinned"]["by"], "alice", "{source:#}");
    assert_eq!(source["pinned"]["reason"], "32MiB are too few");
    memory("64MiB");
    // It counts for the next controller too.
    let session = bench.host.session();
    let store = SqliteStore::open(&session.folder.database()).expect("the database");
    let known = crate::store::Store::load(&store).expect("read");
    assert_eq!(known.pins[&SourceName::new("edge")].revision, first);

    bench
        .post("/v1/unpin", &json!({"source": "edge"}))
        .expect("unpinned");
    memory("48MiB");
    let known = crate::store::Store::load(&store).expect("read");
    assert!(known.pins.is_empty());
    let revisions = bench.get("/v1/revisions");
    let fates: Vec<&str> = revisions
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["fate"].as_str())
        .collect();
    assert_eq!(
        fates,
        [
            "inForce", "unpinned", "pinned", "invalid", "inForce", "inForce"
        ],
        "{revisions:#}"
    );
    let events = bench.get("/v1/events");
    let pinned = events.as_array().expect("a list").iter();
    let told: Vec<&str> = pinned
        .filter(|event| event["topic"] == "pinned")
        .filter_map(|event| event["message"].as_str())
        .collect();
    assert_eq!(
        told,
        [
            format!("edge is pinned at {first} by alice: 32MiB are too few").as_str(),
            "edge is followed again"
        ]
    );
}
