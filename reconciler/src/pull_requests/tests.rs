//! The words of forges.

use manifests::controller::Forge;
use reqwest::Method;
use serde_json::json;

use super::forge::{Place, Pull};
use super::judge::Verdict;

fn place(forge: Forge) -> Place {
    Place {
        forge,
        repository: "team/edge".to_owned(),
    }
}

#[test]
fn each_forge_is_asked_in_its_own_words() {
    for (forge, pull, status, comment, method) in [
        (
            Forge::Gitea,
            "/repos/team/edge/pulls/7",
            "/repos/team/edge/statuses/abc",
            "/repos/team/edge/issues/comments/9",
            Method::PATCH,
        ),
        (
            Forge::Github,
            "/repos/team/edge/pulls/7",
            "/repos/team/edge/statuses/abc",
            "/repos/team/edge/issues/comments/9",
            Method::PATCH,
        ),
        (
            Forge::Gitlab,
            "/projects/team%2Fedge/merge_requests/7",
            "/projects/team%2Fedge/statuses/abc",
            "/projects/team%2Fedge/merge_requests/7/notes/9",
            Method::PUT,
        ),
    ] {
        let place = place(forge);
        assert_eq!(place.pull(7).path, pull);
        let long = "ä".repeat(200);
        let asked = place.status("abc", Verdict::Bad, &long, "keel/edge (web-1)");
        assert_eq!(asked.path, status);
        let body = asked.body.expect("a body");
        let said = body["description"].as_str().expect("a text");
        assert_eq!(said.chars().count(), 140);
        let asked = place.rewrite(7, 9, "text");
        assert_eq!((asked.path.as_str(), asked.method), (comment, method));
        let token = place.identity("x");
        assert!(token.iter().any(|(_, value)| value.contains('x')));
    }
}

#[test]
fn who_may_not_push_is_known_by_the_repository_that_it_came_from() {
    let gitea = place(Forge::Gitea);
    let of = |head: serde_json::Value| json!({"state": "open", "head": {"sha": "abc", "repo": head}, "base": {"repo": {"full_name": "team/edge"}}});
    let read = |answer| {
        gitea
            .read_pull(&answer)
            .map(|pull: Pull| (pull.is_open, pull.is_from_fork))
    };
    assert_eq!(
        read(of(json!({"full_name": "team/edge"}))),
        Some((true, false))
    );
    assert_eq!(
        read(of(json!({"full_name": "mallory/edge"}))),
        Some((true, true))
    );
    assert_eq!(read(of(json!(null))), Some((true, true)), "it is gone");
    assert_eq!(read(json!({"message": "no"})), None);
    let gitlab = place(Forge::Gitlab);
    let answer =
        json!({"state": "merged", "sha": "abc", "source_project_id": 1, "target_project_id": 2});
    let pull = gitlab.read_pull(&answer).expect("one");
    assert_eq!((pull.is_open, pull.is_from_fork), (false, true));
}

#[test]
fn our_comment_is_the_one_that_begins_with_our_mark() {
    let mark = "<!-- keel:pull edge web-1 -->";
    let answer = json!([
        {"id": 1, "body": format!("see {mark}")},
        {"id": 2, "body": format!("{mark}\nplan")},
        {"id": 3, "body": null},
    ]);
    assert_eq!(Place::find(&answer, mark), (Some(2), false));
    assert_eq!(Place::find(&json!({"message": "no"}), mark), (None, false));
}
