//! Plans and live states as files, without a host: what is made of them, and how each bad one is refused.

use serde_json::{Value, json};

use super::environment::{Ended, TestEnv};

const SOURCE: &str = "apiVersion: evenkeel/v1\nkind: Source\nname: edge\n";

const MANIFESTS: &str = "\
apiVersion: evenkeel/v1
kind: Network
metadata: { name: lan }
spec: { description: new }
";

/// A host of one network, which was applied with an older description.
fn live(state: &str, description: &str) -> Value {
    let uid = "018f0000-0000-7000-8000-000000000001";
    json!({
        "formatVersion": "1.0",
        "tool": {"name": "keel", "version": "0.1.0"},
        "takenAt": "2026-11-23T11:00:00Z",
        "host": {
            "engine": "native", "host": "edge-1", "machineId": null, "stateId": state,
            "architecture": "x86_64", "memory": 1 << 30, "processors": 2, "ceilings": {}, "missing": [],
        },
        "generation": 3,
        "sources": [{
            "name": "edge", "root": "/srv/edge", "revision": null, "repository": null,
            "appliedAt": "2026-11-22T11:00:00Z",
        }],
        "owned": [{
            "uid": uid, "source": "edge", "address": "network/lan",
            "spec": "{\"description\":\"old\"}", "origin": null, "needs": [], "remembered": null,
            "restartPending": [], "drift": [],
        }],
        "holds": [],
        "items": [{
            "status": {}, "spec": {"description": description}, "complete": true,
            "address": "network/lan", "mark": {"source": "edge", "uid": uid},
        }],
        "unclear": [],
        "trash": [],
    })
}

/// A folder with manifests, `live.json`, and `plan.json` that was made of both.
fn planned() -> TestEnv {
    let env = TestEnv::new();
    env.write("source/keel.yaml", SOURCE);
    env.write("source/lan.yaml", MANIFESTS);
    env.write("live.json", &live("aaaaaaaa", "old").to_string());
    let made = env.keel(&[
        "plan",
        "source",
        "--against",
        "live.json",
        "--save",
        "plan.json",
        "--approve",
        "G107",
    ]);
    assert_eq!(made.code, 0, "{}{}", made.stdout, made.stderr);
    assert!(made.stdout.contains("old → new"), "{}", made.stdout);
    assert!(
        made.stdout.contains("keel apply plan.json"),
        "{}",
        made.stdout
    );
    assert!(
        !env.path().join("state").exists(),
        "no state folder is needed"
    );
    env
}

fn read(env: &TestEnv, name: &str) -> String {
    manifests::path_io::read_to_string(env.path().join(name)).expect("a file")
}

#[track_caller]
fn ends(ended: &Ended, code: i32, words: &str) {
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
    assert!(
        ended.stderr.contains(words),
        "no {words:?} in {}",
        ended.stderr
    );
    let errors = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error"));
    assert_eq!(errors.count(), usize::from(code != 0), "{}", ended.stderr);
}

#[test]
fn a_bad_plan_is_one_clear_error() {
    let env = planned();
    let plan = read(&env, "plan.json");
    let newer = plan.replacen(
        "\"formatVersion\": \"1.0\"",
        "\"formatVersion\": \"2.0\"",
        1,
    );
    let bare = {
        let shown = env.keel(&[
            "plan",
            "source",
            "--against",
            "live.json",
            "-o",
            "json",
            "--approve",
            "G107",
        ]);
        shown.stdout.replace("\"desired\"", "\"other\"")
    };
    let cases: &[(&str, &str, i32, &str)] = &[
        (
            "cut short",
            &plan[..plan.len() / 2],
            3,
            "cut short: it ends in line",
        ),
        ("empty", "", 3, "not what keel saves"),
        ("of a newer format", &newer, 3, "its format 2.0 is newer"),
        (
            "edited by hand",
            &plan.replace("description: new", "description: mine"),
            4,
            "edited",
        ),
        ("edited in another way", &bare, 4, "edited"),
        (
            "something else",
            "{\"kind\": \"Network\"}",
            3,
            "formatVersion",
        ),
        ("a live state", &read(&env, "live.json"), 3, "digest"),
    ];
    for (what, text, code, words) in cases {
        env.write("bad.json", text);
        for command in [&["apply", "bad.json"][..], &["plan", "check", "bad.json"]] {
            println!("{what}: {command:?}");
            let ended = env.keel(command);
            ends(&ended, *code, words);
            assert!(ended.stderr.contains("bad.json"), "{}", ended.stderr);
        }
    }
    ends(&env.keel(&["apply", "nowhere.json"]), 1, "nowhere.json");
    ends(
        &env.keel(&["apply", "plan.json", "--no-trash"]),
        64,
        "as it is",
    );
    ends(
        &env.keel(&["apply", "plan.json", "--only", "network/lan"]),
        64,
        "as it is",
    );
}

#[test]
fn a_plan_is_checked_against_a_live_state() {
    let env = planned();
    let check = &["plan", "check", "plan.json", "--against", "now.json"][..];
    for (live, code, words) in [
        (live("aaaaaaaa", "old"), 0, ""),
        (
            live("aaaaaaaa", "mine"),
            5,
            "network/lan: description was old and is mine",
        ),
        (
            live("aaaaaaaa", "new"),
            5,
            "network/lan: description was old and is new",
        ),
        (
            live("bbbbbbbb", "old"),
            4,
            "made for host edge-1 (state folder aaaaaaaa)",
        ),
    ] {
        env.write("now.json", &live.to_string());
        ends(&env.keel(check), code, words);
    }
    let mut gone = live("aaaaaaaa", "old");
    gone["items"] = json!([]);
    env.write("now.json", &gone.to_string());
    ends(&env.keel(check), 5, "network/lan: it was there and is gone");
    env.write(
        "source/lan.yaml",
        &MANIFESTS.replace("description: new", "description: newer"),
    );
    env.write("now.json", &live("aaaaaaaa", "old").to_string());
    let moved = env.keel(&[
        "plan",
        "check",
        "plan.json",
        "source",
        "--against",
        "now.json",
    ]);
    ends(&moved, 5, "network/lan: description was new and is newer");
}

#[test]
fn a_bad_live_state_is_one_clear_error() {
    let env = planned();
    let good = live("aaaaaaaa", "old").to_string();
    let mut wrong = live("aaaaaaaa", "old");
    wrong["items"][0]["spec"] = json!({"description": 7});
    let cases: &[(&str, &str, i32, &str)] = &[
        ("cut short", &good[..good.len() / 2], 3, "cut short"),
        (
            "of a newer format",
            &good.replace("\"1.0\"", "\"7.0\""),
            3,
            "its format 7.0 is newer",
        ),
        ("a plan", &read(&env, "plan.json"), 3, "not what keel saves"),
        (
            "not what it should be",
            &wrong.to_string(),
            3,
            "invalid type",
        ),
    ];
    for (what, text, code, words) in cases {
        println!("{what}");
        env.write("bad.json", text);
        ends(
            &env.keel(&["plan", "source", "--against", "bad.json"]),
            *code,
            words,
        );
    }
    ends(
        &env.keel(&["plan", "source", "--against", "nowhere.json"]),
        1,
        "nowhere.json",
    );
    // What a newer keel of this format adds is passed over.
    let mut more = live("aaaaaaaa", "old");
    more["formatVersion"] = json!("1.4");
    more["items"][0]["mood"] = json!({"of": ["the", "author"]});
    more["mood"] = json!(1);
    env.write("more.json", &more.to_string());
    let plan = env.keel(&[
        "plan",
        "source",
        "--against",
        "more.json",
        "--approve",
        "G107",
    ]);
    ends(&plan, 0, "");
    // The source says for which host it is.
    env.write(
        "source/keel.yaml",
        &format!("{SOURCE}host: {{ name: edge-2 }}\n"),
    );
    ends(
        &env.keel(&["plan", "source", "--against", "live.json"]),
        4,
        "edge-2",
    );
}

#[test]
fn the_next_command_is_for_the_same_folder_and_objects() {
    let env = planned();
    let made = env.keel(&[
        "-C",
        "source",
        "plan",
        "--against",
        "../live.json",
        "--only",
        "network/lan",
        "--approve",
        "G107",
    ]);
    assert_eq!(made.code, 0, "{}{}", made.stdout, made.stderr);
    let next = "keel -C source apply --only network/lan --approve G107\n";
    assert!(made.stdout.ends_with(next), "{}", made.stdout);
}
