//! Pull requests of a repository of this host, answered at a forge of the test's own that is shaped as Gitea: each once, in
//! one comment that is written anew; what is hostile does nothing and learns nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;

use manifests::controller::{
    Forge, GitSource, PullRequestSettings, RepositoryUrl, SourceSettings, Token,
};
use runtime::sys::command::run;

use super::*;
use crate::pull_requests::watch;
use crate::source::repository::{Around, Git};
use crate::web::testing::{Heard, Server};

/// What a forge knows.
#[derive(Default)]
struct Known {
    heads: BTreeMap<u64, String>,
    /// By their numbers: of which pull request, and the text.
    comments: BTreeMap<u64, (u64, String)>,
    /// By commit.
    statuses: BTreeMap<String, Value>,
    rewritten: usize,
}

const CLOSED: u64 = 5;
const OF_A_FORK: u64 = 4;

impl Known {
    fn answer(&mut self, heard: &Heard) -> (u16, Value) {
        if heard.header("authorization") != Some("token s3cret") {
            return (401, json!({"message": "who are you?"}));
        }
        let path = heard.path.split('?').next().unwrap_or_default();
        let Some(path) = path.strip_prefix("/api/v1/repos/team/edge/") else {
            return (404, json!({}));
        };
        let steps: Vec<&str> = path.split('/').collect();
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        match (heard.method.as_str(), steps.as_slice()) {
            ("GET", ["pulls", pull]) => {
                let pull = number(pull);
                let from = if pull == OF_A_FORK {
                    "mallory/edge"
                } else {
                    "team/edge"
                };
                let state = if pull == CLOSED { "closed" } else { "open" };
                let head = json!({"sha": self.heads.get(&pull), "repo": {"full_name": from}});
                (
                    200,
                    json!({"state": state, "head": head, "base": {"repo": {"full_name": "team/edge"}}}),
                )
            }
            ("GET", ["issues", pull, "comments"]) => {
                let of = self
                    .comments
                    .iter()
                    .filter(|(_, (of, _))| *of == number(pull));
                let all: Vec<Value> = of
                    .map(|(id, (_, body))| json!({"id": id, "body": body}))
                    .collect();
                (200, Value::from(all))
            }
            ("POST", ["issues", pull, "comments"]) => {
                let id = 100 + self.comments.len() as u64;
                let body = heard.json()["body"].as_str().expect("a body").to_owned();
                self.comments.insert(id, (number(pull), body));
                (201, json!({"id": id}))
            }
            ("PATCH", ["issues", "comments", id]) => {
                let Some((_, body)) = self.comments.get_mut(&number(id)) else {
                    return (404, json!({}));
                };
                heard.json()["body"]
                    .as_str()
                    .expect("a body")
                    .clone_into(body);
                self.rewritten += 1;
                (200, json!({"id": number(id)}))
            }
            ("POST", ["statuses", commit]) => {
                self.statuses.insert((*commit).to_owned(), heard.json());
                (201, json!({}))
            }
            _ => (404, json!({})),
        }
    }
}

/// A repository with a work tree.
struct Repository(tempfile::TempDir);

impl Repository {
    fn git(&self, arguments: &[&str]) -> String {
        let work = self.0.path().join("work").display().to_string();
        let before = [
            "GIT_CONFIG_GLOBAL=/dev/null",
            "GIT_CONFIG_NOSYSTEM=1",
            "git",
            "-C",
            work.as_str(),
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
        ];
        let all = before.iter().chain(arguments);
        let said = run("env", all, None).unwrap_or_else(|error| panic!("{error}"));
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    fn new() -> Self {
        let this = Self(tempfile::tempdir().expect("a folder"));
        path_io::create_dir_all(this.0.path().join("work")).expect("a folder");
        this.git(&["init", "-q", "-b", "main"]);
        let bare = this.bare().display().to_string();
        run("git", ["init", "-q", "--bare", bare.as_str()], None).expect("a repository");
        this
    }

    fn bare(&self) -> PathBuf {
        self.0.path().join("edge.git")
    }

    /// Proposes these files.
    fn propose(&self, pull: u64, files: &[(&str, &str)]) -> String {
        self.push(&format!("refs/pull/{pull}/head"), files)
    }

    /// Pushes these files and those that are always there.
    fn push(&self, reference: &str, files: &[(&str, &str)]) -> String {
        for (name, text) in [("keel.yaml", KEEL), ("pool.yaml", POOL)]
            .iter()
            .chain(files)
        {
            path_io::write(self.0.path().join("work").join(name), *text).expect("written");
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a change"]);
        let bare = self.bare().display().to_string();
        self.git(&["push", "-q", "--force", &bare, &format!("HEAD:{reference}")]);
        let commit = self.git(&["rev-parse", "HEAD"]);
        self.git(&["rm", "-q", "-r", "--cached", "."]);
        for (name, _) in files {
            path_io::remove_file(self.0.path().join("work").join(name)).expect("removed");
        }
        commit
    }
}

const NETWORK: &str = "apiVersion: evenkeel/v1\nkind: Network\nmetadata: { name: proposed }\nspec: { type: bridge }\n";
const HOSTILE: &str = "\
apiVersion: evenkeel/v1
kind: Secret
metadata: { name: loot }
spec: { file: /etc/passwd }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: evil }
spec: { type: bridge, description: '<!-- --> @everyone ![x](http://evil.example.org) </details>' }
";

fn settings(url: &str, bare: &Path) -> SourceSettings {
    SourceSettings {
        name: "edge".to_owned(),
        git: Some(GitSource {
            url: Some(RepositoryUrl::Local(bare.to_path_buf())),
            interval: manifests::scalar::duration::Duration::from_seconds(1),
            ..GitSource::default()
        }),
        pull_requests: Some(PullRequestSettings {
            forge: Forge::Gitea,
            api: Some(format!("{url}/api/v1").parse().expect("an address")),
            repository: "team/edge".to_owned(),
            token: Some(Token {
                environment: Some("TOKEN".to_owned()),
                ..Token::default()
            }),
            ..PullRequestSettings::default()
        }),
        ..SourceSettings::default()
    }
}

#[test]
fn what_a_pull_request_would_do_is_said_where_it_is_read_and_none_does_anything() {
    let repository = Repository::new();
    repository.push("refs/heads/main", &[]);
    let stores = repository.0.path().join("sources");
    let around = Around {
        sources: &stores,
        variable: &|name| (name == "TOKEN").then(|| "s3cret".to_owned()),
        ssh: "false",
    };
    let main = GitSource {
        url: Some(RepositoryUrl::Local(repository.bare())),
        branch: Some("main".parse().expect("a name")),
        ..GitSource::default()
    };
    let bench = Bench::following(&[], |_| {
        Box::new(Git::new("edge", &main, &around).expect("settings"))
    });
    let known = Arc::new(Mutex::new(Known::default()));
    let all = || known.lock().expect("no panic");
    let answers = Arc::clone(&known);
    let forge = Server::begin(move |heard| {
        let (status, body) = answers.lock().expect("no panic").answer(heard);
        Some((status, body.to_string()))
    });
    for (pull, files) in [
        (1, vec![("network.yaml", NETWORK)]),
        (2, vec![("hostile.yaml", HOSTILE)]),
        (3, vec![("broken.yaml", "kind: [\n")]),
        (OF_A_FORK, vec![]),
        (CLOSED, vec![]),
        (
            6,
            vec![(
                "keel.yaml",
                "apiVersion: evenkeel/v1\nkind: Source\nname: other\n",
            )],
        ),
    ] {
        let commit = repository.propose(pull, &files);
        all().heads.insert(pull, commit);
    }
    let before = bench.get("/v1/objects");
    let settings = settings(&forge.url, &repository.bare());
    let begin = || {
        let state = bench.host.folder.path();
        let watching = watch(&settings, &around, state, "web-1", bench.handle.clone());
        watching.expect("a thread").expect("it watches")
    };
    let until = |holds: &dyn Fn(&Known) -> bool| {
        let began = HostClock.instant();
        while !holds(&all()) {
            let statuses = all().statuses.clone();
            assert!(began.elapsed() < PATIENCE, "{statuses:#?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    };
    let watching = begin();
    until(&|known| known.statuses.len() == 4);
    let of = |pull: u64| {
        let known = all();
        let commit = &known.heads[&pull];
        let comments = known.comments.values().filter(|(of, _)| *of == pull);
        let comments: Vec<String> = comments.map(|(_, body)| body.clone()).collect();
        assert!(comments.len() < 2, "{comments:?}");
        (
            known.statuses.get(commit).cloned(),
            comments.first().cloned(),
        )
    };
    let state = |pull: u64| of(pull).0.map(|status| status["state"].clone());
    let said = |pull: u64| of(pull).1.unwrap_or_default();
    assert_eq!(state(1), Some("success".into()), "{}", said(1));
    assert_eq!(of(1).0.expect("a status")["context"], "keel/edge (web-1)");
    assert!(said(1).contains("network/proposed"), "{}", said(1));
    assert!(
        said(1).starts_with("<!-- keel:pull edge web-1 -->"),
        "{}",
        said(1)
    );
    // Nothing of the host is in what is said of one that asks for it, and what it says is nobody's Markdown.
    assert!(!said(2).contains("root:"), "{}", said(2));
    assert!(!said(2).contains("\n![x]"), "{}", said(2));
    assert_eq!(state(3), Some("failure".into()));
    assert!(said(3).contains("broken.yaml"), "{}", said(3));
    assert_eq!(
        of(OF_A_FORK),
        (None, None),
        "who may not push learns nothing"
    );
    assert_eq!(of(CLOSED), (None, None));
    assert_eq!(state(6), Some("failure".into()));
    assert!(
        said(6).contains("all of it would be deleted"),
        "{}",
        said(6)
    );

    // A new commit: the same comment says something else.
    let commit = repository.propose(
        1,
        &[("pool2.yaml", &POOL.replace("name: ", "name: second-"))],
    );
    all().heads.insert(1, commit.clone());
    until(&|known| known.statuses.contains_key(&commit));
    assert!(said(1).contains("second-"), "{}", said(1));
    let counted = || {
        let known = all();
        (known.rewritten, known.comments.len(), known.statuses.len())
    };
    assert_eq!(counted(), (1, 4, 5));
    // The next controller knows what was said, once that is kept.
    let kept = bench.host.folder.path().join("controller/pulls/edge.json");
    until(&|_| path_io::read_to_string(&kept).is_ok_and(|text| text.contains(&commit)));
    drop(watching);
    let _watching = begin();
    std::thread::park_timeout(Duration::from_millis(1500));
    assert_eq!(counted(), (1, 4, 5));
    assert_eq!(bench.get("/v1/objects"), before, "nothing of it was done");
}
