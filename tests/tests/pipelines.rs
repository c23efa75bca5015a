//! The pipelines of `examples/ci`: the files are what the forges take, careful in what they are allowed, and their scripts
//! do on a forge what they say. What they do with `keel` on a host is tried by the host tests.

#[path = "support/forge.rs"]
mod forge;
#[path = "support/workflow.rs"]
mod workflow;
#[path = "support/yaml.rs"]
mod yaml;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use forge::Forge;
use manifests::path_io;
use serde_json::{Value, json};
use workflow::{depth, document, steps};

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    here.canonicalize().expect("the project")
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the programs under test")]
    Command::new(program)
}

/// The workflows in the words of GitHub, which Forgejo and Gitea speak too.
fn workflows() -> Vec<PathBuf> {
    let folders = ["github", "forgejo"].map(|name| root().join("examples/ci").join(name));
    let files = folders
        .iter()
        .flat_map(|folder| path_io::list(folder).expect("workflows"));
    let files: Vec<PathBuf> = files.collect();
    assert_eq!(files.len(), 5, "{files:?}");
    files
}

fn jobs(workflow: &Value) -> impl Iterator<Item = (&String, &Value)> {
    workflow["jobs"].as_object().expect("jobs").iter()
}

#[track_caller]
fn checked(schema: &str, files: &[PathBuf]) {
    let checker = root().join(".cache/editors/python/bin/check-jsonschema");
    assert!(
        checker.exists(),
        "{} is not there; in {}: bash -c '. tests/needs.sh && needs_editors' (it needs the network once)",
        checker.display(),
        root().display()
    );
    let output = command(checker)
        .args(["--builtin-schema", schema])
        .args(files)
        .output();
    let output = output.expect("it starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn the_forges_take_the_files() {
    checked("vendor.github-workflows", &workflows());
    // A job that hangs ends.
    checked("custom.github-workflows-require-timeout", &workflows());
    checked(
        "vendor.gitlab-ci",
        &[root().join("examples/ci/gitlab/.gitlab-ci.yml")],
    );
}

/// All texts of a document.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The scripts that need credentials.
const SPEAKERS: [&str; 3] = ["ci/comment.sh", "ci/drift-issue.sh", "ci/reviewed-plan.sh"];

/// What a job may write.
fn written(job: &Value) -> Vec<&str> {
    let allowed = job["permissions"].as_object().into_iter().flatten();
    allowed
        .filter(|(_, value)| *value != "read")
        .map(|(key, _)| key.as_str())
        .collect()
}

#[test]
fn workflows_are_careful() {
    let mut pins = BTreeSet::new();
    let mut installs = BTreeSet::new();
    for file in workflows() {
        let name = file.display();
        let workflow = document(&file);
        let triggers = workflow["on"].as_object().expect("triggers");
        assert!(!triggers.contains_key("pull_request_target"), "{name}");
        // What nobody mentions is not allowed; a job says what it needs beyond reading.
        let allowed = workflow["permissions"].as_object().expect("permissions");
        assert!(
            allowed
                .iter()
                .all(|(key, value)| key == "contents" && value == "read"),
            "{name}"
        );
        let one_at_a_time = workflow["concurrency"]["group"].is_string();
        for (job, content) in jobs(&workflow) {
            let on_host = content["runs-on"].to_string().contains("keel");
            assert!(
                one_at_a_time || !on_host || content["concurrency"]["group"].is_string(),
                "{name} {job}"
            );
            let condition = content["if"].as_str().unwrap_or_default();
            let no_fork = "github.event.pull_request.head.repo.full_name == github.repository";
            let for_pull_requests = triggers.contains_key("pull_request")
                && !condition.contains("== 'push'")
                && !condition.contains("== 'schedule'");
            assert!(
                !(on_host && for_pull_requests) || condition.contains(no_fork),
                "{name} {job}: a fork would get to the host"
            );
            for step in content["steps"].as_array().expect("steps") {
                if let Some(uses) = step["uses"].as_str() {
                    let (action, commit) = uses.split_once('@').expect("a version");
                    let is_commit =
                        commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
                    assert!(is_commit, "{name}: {uses}");
                    let action = action.trim_start_matches("https://data.forgejo.org/");
                    pins.insert((action.to_owned(), commit.to_owned()));
                    if action == "actions/checkout" {
                        assert_eq!(step["with"]["persist-credentials"], false, "{name} {job}");
                    }
                }
            }
            let shell = steps(&workflow, job);
            let talks = |run: &str| SPEAKERS.iter().any(|script| run.contains(script));
            let writes = written(content);
            let speaks = shell.iter().any(|step| talks(&step.run));
            assert!(
                writes.is_empty()
                    || speaks && (writes == ["pull-requests"] || writes == ["issues"]),
                "{name} {job}: {writes:?}"
            );
            let needs_all = shell
                .iter()
                .any(|step| step.run.contains("keel apply") || step.run.contains("ci/plan.sh"));
            assert!(
                !needs_all || depth(&workflow, job) == Some(0),
                "{name} {job}: by what would the repository be known?"
            );
            for step in shell {
                // What others choose (names of branches, titles) would be shell there.
                assert!(!step.run.contains("${{"), "{name}: {}", step.name);
                let has_credentials = step.env.iter().any(|(key, _)| key == "FORGE_TOKEN");
                assert_eq!(has_credentials, talks(&step.run), "{name}: {}", step.name);
                // What is only told may fail, and what stops somebody is never passed over.
                let is_report = step.run.starts_with("keel diff");
                assert_eq!(step.may_fail, is_report, "{name}: {}", step.name);
                let goes_on = step.condition.is_some_and(|on| on.contains("cancelled()"));
                assert_eq!(goes_on, step.name == "Comment", "{name}: {}", step.name);
                if step.name == "Install keel" {
                    installs.insert(step.run.replace("sudo ", ""));
                }
            }
        }
        let mut all = Vec::new();
        texts(&workflow, &mut all);
        assert!(
            !all.iter().any(|text| text.contains("secrets.")),
            "{name}: no secret is needed"
        );
    }
    let actions: BTreeSet<&String> = pins.iter().map(|(action, _)| action).collect();
    assert_eq!(actions.len(), pins.len(), "one version each: {pins:?}");
    assert_eq!(installs.len(), 1, "one way to get keel: {installs:?}");
}

#[test]
fn gitlab_keeps_plans_to_itself() {
    let pipeline = document(&root().join("examples/ci/gitlab/.gitlab-ci.yml"));
    for job in ["observe", "plan"] {
        assert_eq!(pipeline[job]["artifacts"]["public"], false, "{job}");
        let rules = pipeline[job]["rules"].to_string();
        assert!(
            rules.contains("$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID"),
            "{rules}"
        );
    }
    assert_eq!(
        pipeline["plan"]["artifacts"]["reports"]["terraform"],
        "plan.gitlab.json"
    );
    assert_eq!(pipeline["apply"]["resource_group"], "keel");
    assert_eq!(pipeline["apply"]["rules"][0]["when"], "manual");
}

/// A script of `examples/ci`, asked to talk to a forge.
fn script(forge: &Forge, name: &str, arguments: &[&Path]) -> Command {
    let mut script = command(root().join("examples/ci").join(name));
    script
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("FORGE_TOKEN", "right");
    match forge.state()["me"].as_str() {
        Some("github-actions[bot]") => script
            .env("GITHUB_API_URL", &forge.api)
            .env("GITHUB_REPOSITORY", "o/r")
            .env("FORGE_USER", "github-actions[bot]"),
        _ => script
            .env("GITLAB_CI", "true")
            .env("CI_API_V4_URL", &forge.api)
            .env("CI_PROJECT_ID", "42"),
    };
    script
}

#[track_caller]
fn told(script: &mut Command) -> String {
    let output = script.output().expect("it starts");
    assert!(output.status.success(), "{}", errors(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Each forge, as the credentials of its jobs see it.
fn forges() -> [Forge; 2] {
    ["github-actions[bot]", "project_42_bot"]
        .map(|me| Forge::of(me, &root().join("tests/ci/forge.py")))
}

const MARK: &str = "<!-- keel:plan edge edge-1 -->";

runtime::host_test! {
    fn a_comment_is_made_once_and_renewed() {
        for forge in forges() {
            let me = forge.state()["me"].clone();
            // Others have said much already, one of them with the mark of ours.
            let others: Vec<Value> = (0..5)
                .map(|id| {
                    let author = json!({"login": "mallory", "username": "mallory"});
                    json!({"id": id, "on": 7, "user": author, "author": author, "body": MARK})
                })
                .collect();
            forge.set("comments", json!(others));
            let folder = tempfile::tempdir().expect("a folder");
            let report = folder.path().join("plan.md");
            let comment = |text: &str| {
                path_io::write(&report, text).expect("a report");
                script(&forge, "comment.sh", &[&report, Path::new("7")])
            };
            let long = "é\"\\\n".repeat(12_000);
            let first = format!("{MARK}\nfirst {long}");
            assert_eq!(told(&mut comment(&first)), "made the comment 105\n");
            assert_eq!(
                told(&mut comment(&format!("{MARK}\nsecond"))),
                "renewed the comment 105\n"
            );
            let state = forge.state();
            let comments = state["comments"].as_array().expect("comments");
            assert_eq!(comments.len(), 6, "{me}: {comments:#?}");
            assert_eq!(comments[5]["body"], format!("{MARK}\nsecond"));
            assert!(
                comments[..5].iter().all(|one| one["body"] == MARK),
                "theirs are left alone"
            );
            // Of another host: one more.
            told(&mut comment("<!-- keel:plan edge edge-2 -->\nother"));
            assert_eq!(forge.state()["comments"].as_array().map(Vec::len), Some(7));

            // What is no report is not said, and nothing is said of none.
            let wrong = comment("hello").output().expect("it starts");
            assert!(
                !wrong.status.success() && errors(&wrong).contains("is no report of keel"),
                "{wrong:?}"
            );
            let none = told(&mut script(
                &forge,
                "comment.sh",
                &[&folder.path().join("none.md"), Path::new("7")],
            ));
            assert_eq!(none, "no report, no comment\n");
            assert_eq!(forge.state()["comments"].as_array().map(Vec::len), Some(7));

            // Refused, and nobody reads the credentials of it.
            let refused = comment(&first)
                .env("FORGE_TOKEN", "wrong-one")
                .output()
                .expect("it starts");
            let said = errors(&refused);
            assert!(
                !refused.status.success()
                    && said.contains("was refused")
                    && !said.contains("wrong-one"),
                "{said}"
            );

            // An answer that sends on to somebody else is not followed.
            forge.set("elsewhere", json!("http://127.0.0.2:9"));
            let sent_on = comment(&first).output().expect("it starts");
            assert!(
                !sent_on.status.success() && errors(&sent_on).contains("the next page is elsewhere"),
                "{sent_on:?}"
            );
        }
    }
}

runtime::host_test! {
    fn an_issue_about_drift_is_opened_once_and_closed() {
        for forge in forges() {
            let open = if forge.state()["me"] == "project_42_bot" {
                "opened"
            } else {
                "open"
            };
            let text = if open == "open" {
                "body"
            } else {
                "description"
            };
            let mark = "<!-- keel:drift edge edge-1 -->";
            let mallory = json!({"login": "mallory", "username": "mallory"});
            let theirs: Vec<Value> = (1..4)
                .map(|number| {
                    json!({
                        "number": number, "iid": number, "state": open, "title": "mine",
                        "user": mallory, "author": mallory, text: mark,
                    })
                })
                .collect();
            forge.set("issues", json!(theirs));
            let folder = tempfile::tempdir().expect("a folder");
            let report = folder.path().join("drift.md");
            let night = |code: &str, text: &str| {
                path_io::write(&report, format!("{mark}\n{text}")).expect("a report");
                script(&forge, "drift-issue.sh", &[&report, Path::new(code)])
            };
            assert_eq!(told(&mut night("0", "none")), "no drift\n");
            assert_eq!(told(&mut night("2", "first")), "opened the issue 4\n");
            assert_eq!(told(&mut night("2", "second")), "renewed the issue 4\n");
            let issue = forge.state()["issues"][3].clone();
            assert_eq!(issue["title"], "Drift of edge on edge-1");
            assert_eq!(
                (&issue[text], &issue["state"]),
                (&json!(format!("{mark}\nsecond")), &json!(open))
            );

            // Whether there is any could not be told: that is no reason to close it.
            let unknown = night("1", "keel fell").output().expect("it starts");
            assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
            assert!(
                errors(&unknown).contains("could not be told"),
                "{unknown:?}"
            );
            assert_eq!(forge.state()["issues"][3]["state"], open);

            assert_eq!(
                told(&mut night("0", "gone")),
                "no drift any more: closed the issue 4\n"
            );
            let issue = forge.state()["issues"][3].clone();
            assert_eq!(
                (&issue[text], &issue["state"]),
                (&json!(format!("{mark}\ngone")), &json!("closed"))
            );
            assert_eq!(told(&mut night("0", "none")), "no drift\n");
            // The next time it is another one.
            assert_eq!(told(&mut night("2", "again")), "opened the issue 5\n");
            let issues = forge.state()["issues"].clone();
            let issues = issues.as_array().expect("issues");
            assert_eq!(issues.len(), 5);
            assert!(
                issues[..3]
                    .iter()
                    .all(|one| one[text] == mark && one["state"] == open),
                "{issues:#?}"
            );
        }
    }
}
