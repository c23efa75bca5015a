//! What who may be told and may do.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use manifests::controller::Role;

use super::*;

#[test]
fn roles_and_projects_bound_what_is_told_and_done() {
    let shop = instance("web", "64MiB").replace("name: web,", "name: web, project: shop,");
    let project = "apiVersion: evenkeel/v1\nkind: Project\nmetadata: { name: shop }\nspec: {}\n";
    let bench = Bench::new(&[
        ("one.yaml", &instance("one", "64MiB")),
        ("shop.yaml", &shop),
        ("project.yaml", project),
    ]);
    let api = Api::new(bench.host.clone(), bench.handle.clone());
    let router = routes::router(api);
    let caller = |role, projects: &[&str]| {
        Some(Caller {
            name: "bob".to_owned(),
            role,
            projects: projects.iter().map(|one| (*one).to_owned()).collect(),
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ask = |caller: Option<Caller>, question: &str| {
        let (near, far) = UnixStream::pair().expect("a pair");
        far.set_nonblocking(true).expect("set");
        let router = routes::for_caller(&router, caller);
        let question = question.to_owned();
        let asking = std::thread::spawn(move || {
            let mut near = near;
            near.write_all(question.as_bytes()).expect("asked");
            let mut answer = String::new();
            near.read_to_string(&mut answer).expect("answered");
            answer
        });
        runtime.block_on(async {
            let far = tokio::net::UnixStream::from_std(far).expect("a socket");
            server::answer(far, router).await.expect("answered");
        });
        let answer = asking.join().expect("answered");
        let status: u16 = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        (status, body.unwrap_or_default())
    };
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let viewer = || caller(Role::Viewer, &[]);
    let of_shop = || caller(Role::Operator, &["shop"]);
    for (who, question, status) in [
        (None, get("/healthz"), 200),
        (None, get("/v1/status"), 401),
        (viewer(), get("/v1/status"), 200),
        (viewer(), get("/v1/objects/instance/one"), 200),
        (viewer(), post("/v1/reconcile", "{}"), 403),
        (viewer(), post("/v1/instances/one/stop", "{}"), 403),
        (of_shop(), get("/v1/objects/instance/shop/web"), 200),
        (of_shop(), get("/v1/objects/instance/one"), 404),
        (of_shop(), get("/v1/plan"), 403),
        (of_shop(), get("/v1/history?object=instance/one"), 404),
        (
            of_shop(),
            post("/v1/suspend", r#"{"what":"everything","reason":"x"}"#),
            403,
        ),
        (
            of_shop(),
            post("/v1/suspend", r#"{"what":"instance/one","reason":"x"}"#),
            404,
        ),
        (
            of_shop(),
            post(
                "/v1/suspend",
                r#"{"what":"instance/shop/web","reason":"x"}"#,
            ),
            202,
        ),
        (of_shop(), post("/v1/instances/one/stop", "{}"), 404),
        (of_shop(), post("/v1/approve", r#"{"digest":"x"}"#), 403),
    ] {
        let name = who.as_ref().map(|who| (who.role, who.projects.clone()));
        let (found, body) = ask(who, &question);
        assert_eq!(found, status, "{name:?} {question}: {body}");
    }
    for path in [
        "/v1/objects",
        "/v1/events",
        "/v1/history",
        "/v1/status",
        "/v1/snapshots",
        "/v1/pools",
    ] {
        let (status, body) = ask(of_shop(), &get(path));
        assert_eq!(status, 200, "{path}: {body}");
        assert!(!body.contains("instance/one"), "{path}: {body}");
    }
    assert!(
        ask(of_shop(), &get("/v1/objects"))
            .1
            .contains("instance/shop/web")
    );
}
