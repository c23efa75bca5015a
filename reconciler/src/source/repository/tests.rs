//! Real repositories, made by the program git.

mod server;
mod signed;
mod team;
mod transports;

use manifests::path_io;
use runtime::sys::command::run;

use super::*;
use crate::source::failure::SourceClass;
use crate::source::watch::Watching;
use team::{Team, last, moved, names};

#[test]
fn a_branch_is_followed_where_it_goes_forward() {
    let team = Team::new();
    let mut source = team.follow(|_| {});
    let missing = source.latest(None).expect_err("no commit yet");
    assert_eq!(missing.class(), SourceClass::Refused, "{missing}");
    team.write("keel.yaml", "kind: Source\n");
    team.write("hosts/edge/web.yaml", "a: 1\n");
    let first = team.push("one");
    let tree = moved(&mut source, None);
    assert_eq!(tree.commit.as_deref(), Some(first.as_str()));
    assert_eq!(names(&tree), ["hosts/edge/web.yaml", "keel.yaml"]);
    assert_eq!(tree.revision.as_deref(), first.get(..7));
    let repository = tree.repository.clone().expect("a repository");
    assert_eq!(repository.first_commit.as_deref(), Some(first.as_str()));
    assert!(tree.about.committed_at.is_some());
    assert!(tree.about.author.is_some() && tree.about.subject.is_some());
    let in_force = last(&tree);
    let unchanged = |commit: &str| Latest::Unchanged {
        commit: Some(commit.to_owned()),
    };
    assert_eq!(
        source.latest(Some(&in_force)).expect("read"),
        unchanged(&first)
    );
    // A commit that changes nothing of it.
    let second = team.push("empty");
    assert_eq!(
        source.latest(Some(&in_force)).expect("read"),
        unchanged(&second)
    );
    // Another process knows nothing but what was in force.
    let mut again = team.follow(|_| {});
    assert_eq!(
        again.latest(Some(&in_force)).expect("read"),
        unchanged(&second)
    );
    team.git(&["checkout", "-q", "-b", "side"]);
    team.write("hosts/edge/web.yaml", "a: 2\n");
    team.push("side");
    team.git(&["checkout", "-q", "main"]);
    team.push("main");
    team.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let merged = team.push("merged");
    team.git(&[
        "--git-dir",
        team.bare().to_str().expect("a path"),
        "pack-refs",
        "--all",
    ]);
    let tree = moved(&mut source, Some(&in_force));
    assert_eq!(tree.commit, Some(merged));
    // Written anew: what is in force is no part of it any more.
    let in_force = last(&tree);
    team.git(&["reset", "-q", "--hard", &second]);
    team.write("hosts/edge/web.yaml", "a: 3\n");
    let rewound = team.push("rewound");
    let error = source.latest(Some(&in_force)).expect_err("rewound");
    assert_eq!(
        (error.class(), error.reason()),
        (SourceClass::Refused, "SourceRewound")
    );
    let approved = Last {
        approved_rewind: Some(rewound.clone()),
        ..in_force
    };
    assert_eq!(moved(&mut source, Some(&approved)).commit, Some(rewound));
    // It vanishes and comes back.
    path_io::rename(team.bare(), team.folder.path().join("away")).expect("moved");
    let error = source
        .latest(Some(&in_force_of(&approved)))
        .expect_err("gone");
    assert_eq!(error.class(), SourceClass::Retry, "{error}");
}

fn in_force_of(last: &Last) -> Last {
    Last {
        commit: last.approved_rewind.clone(),
        ..last.clone()
    }
}

#[test]
fn how_far_a_kept_commit_is_behind_is_counted() {
    let team = Team::new();
    team.write("web.yaml", "a: 1\n");
    let kept = team.push("one");
    let mut source = team.follow(|_| {});
    let mut ahead = |kept: &str| source.ahead(kept).expect("read");
    let of = |commit: &str, commits| {
        Some(Ahead {
            commit: commit.to_owned(),
            commits,
        })
    };
    assert_eq!(ahead(&kept), of(&kept, Some(0)));
    team.push("two");
    let newest = team.push("three");
    assert_eq!(ahead(&kept), of(&newest, Some(2)));
    assert_eq!(ahead(&newest), of(&newest, Some(0)));
    assert_eq!(ahead(&"0".repeat(40)), of(&newest, None), "it is gone");
}

#[test]
fn a_push_is_heard() {
    let team = Team::new();
    team.write("web.yaml", "a: 1\n");
    team.push("one");
    let mut source = team.follow(|_| {});
    let mut in_force = last(&moved(&mut source, None));
    let (tell, told) = std::sync::mpsc::channel();
    let watched = vec![("edge".to_owned(), source.watched())];
    let _watching = Watching::begin(watched, move |name| {
        tell.send(name.to_owned()).expect("heard");
    })
    .expect("a thread");
    let silent = told.recv_timeout(Duration::from_millis(200));
    assert!(silent.is_err(), "nothing happened");
    let bare = team.bare();
    let bare = bare.to_str().expect("a path");
    for number in 2..5 {
        team.write("web.yaml", &format!("a: {number}\n"));
        team.push("more");
        // A push moves the reference in one step, and what is there then is whole.
        let tree = loop {
            let name = told.recv_timeout(Duration::from_secs(5)).expect("heard");
            assert_eq!(name, "edge");
            if let Latest::Moved(tree) = source.latest(Some(&in_force)).expect("read") {
                break tree;
            }
        };
        assert_eq!(tree.texts.files[0].1, format!("a: {number}\n"));
        in_force = last(&tree);
        team.git(&["--git-dir", bare, "pack-refs", "--all"]);
    }
}

#[test]
fn tags_and_versions_are_followed() {
    let team = Team::new();
    team.write("a.yaml", "a: 1\n");
    team.push("one");
    team.git(&["tag", "v1.0.0"]);
    team.write("a.yaml", "a: 2\n");
    team.push("two");
    team.git(&["tag", "-a", "-m", "x", "v1.1.0"]);
    team.git(&["tag", "v2.0.0"]);
    let two = team.push("three");
    let two = team.git(&["rev-parse", &format!("{two}~1")]);
    let range = |text: &str| text.parse().expect("a range");
    let mut source = team.follow(|git| git.semver = Some(range("^1")));
    let tree = moved(&mut source, None);
    assert_eq!(tree.commit.as_deref(), Some(two.as_str()), "peeled");
    // A later version on another branch of releases.
    team.git(&["checkout", "-q", "--orphan", "other"]);
    team.write("a.yaml", "a: 3\n");
    let other = team.push("other");
    team.git(&["tag", "v1.2.0"]);
    team.push("more");
    let tree = moved(&mut source, Some(&last(&tree)));
    assert_eq!(tree.commit.as_deref(), Some(other.as_str()));
    // A tag that comes to name something else is no later version.
    team.git(&["tag", "-f", "v1.2.0", "main"]);
    team.push("lies");
    let error = source.latest(Some(&last(&tree))).expect_err("it lies");
    assert_eq!(error.reason(), "SourceRewound", "{error}");
    let blob = team.git(&["rev-parse", "HEAD:a.yaml"]);
    team.git(&["tag", "-f", "v1.3.0", &blob]);
    team.push("no commit");
    let error = source.latest(Some(&last(&tree))).expect_err("a file");
    assert_eq!(error.class(), SourceClass::Refused, "{error}");
    let mut tag = team.follow(|git| git.tag = Some("v1.0.0".parse().expect("a name")));
    assert_eq!(moved(&mut tag, None).texts.files[0].1, "a: 1\n");
    let mut commit = team.follow(|git| git.commit = Some(other.parse().expect("a name")));
    assert_eq!(moved(&mut commit, None).commit, Some(other));
}

#[test]
fn what_a_repository_brings_along_does_nothing() {
    let team = Team::new();
    let canary = team.folder.path().join("canary");
    let touch = format!("touch {}", canary.display());
    team.write("edge/web.yaml", "a: 1\n");
    team.write("edge/.gitattributes", "* filter=evil\n");
    team.write("outside.yaml", "b: 1\n");
    std::os::unix::fs::symlink("../outside.yaml", team.work("edge/notes.txt")).expect("a link");
    team.git(&["add", "-A"]);
    let sub = "1".repeat(40);
    team.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{sub},edge/sub"),
    ]);
    team.git(&["commit", "-q", "-m", "one"]);
    team.git(&["push", "-q", "origin", "HEAD"]);
    let settings = team.bare().join("config");
    let honest = path_io::read(&settings).expect("settings");
    let config = format!(
        "[core]\n\tfsmonitor = {touch}\n\thooksPath = /\n[filter \"evil\"]\n\tsmudge = {touch}\n\tclean = {touch}\n[include]\n\tpath = /dev/zero\n"
    );
    path_io::write(&settings, config).expect("written");
    let mut source = team.follow(|git| git.path = "edge".to_owned());
    let tree = moved(&mut source, None);
    assert_eq!(names(&tree), ["web.yaml"]);
    assert_eq!(tree.passed_over, ["sub is a submodule, which is not read"]);
    assert!(!canary.exists());
    path_io::write(&settings, honest).expect("written");
    team.write("target", "/etc");
    let blob = team.git(&["hash-object", "-w", "target"]);
    for (mode, name, refused) in [
        ("120000", "apps", "apps"),
        ("120000", "web.yaml", "web.yaml"),
        ("100644", "deep/er.yaml", ""),
        ("100644", "..", ""),
    ] {
        // By hand: git itself makes no such names.
        let mut entry = format!("{mode} {name}\0").into_bytes();
        entry.extend(hex::decode(&blob).expect("digits"));
        let work = team.work("");
        let work = work.to_str().expect("a path");
        let make = [
            "-C",
            work,
            "hash-object",
            "-t",
            "tree",
            "-w",
            "--literally",
            "--stdin",
        ];
        let made = run("git", make, Some(&entry)).expect("a tree");
        let tree = String::from_utf8_lossy(&made).trim().to_owned();
        let commit = team.git(&["commit-tree", "-m", "x", &tree]);
        team.git(&[
            "push",
            "-q",
            "--force",
            "origin",
            &format!("{commit}:refs/heads/evil"),
        ]);
        let mut source = team.follow(|git| git.branch = Some("evil".parse().expect("a name")));
        let error = source.latest(None).expect_err("refused");
        assert_eq!(error.class(), SourceClass::Refused, "{error}");
        assert!(error.to_string().contains(refused), "{error}");
    }
}

#[test]
fn nothing_is_waited_for_in_the_place_of_a_file() {
    let team = Team::new();
    team.write("web.yaml", "a: 1\n");
    let commit = team.push("one");
    let bare = team.bare();
    let loose = format!("objects/{}/{}", &commit[..2], &commit[2..]);
    for name in [
        "objects/info/alternates",
        "objects/pack/pack-1.idx",
        &loose,
        "packed-refs",
        "refs/heads/main",
    ] {
        let (path, away) = (bare.join(name), team.folder.path().join("away"));
        let was_there = path_io::rename(&path, &away).is_ok();
        let pipe = path.to_str().expect("a path");
        run("mkfifo", [pipe], None).expect("a pipe");
        let looked = team.follow(|_| {}).latest(None);
        // A list of references that is none counts as absent: its references are files here.
        assert_eq!(looked.is_err(), name != "packed-refs", "{name}: {looked:?}");
        path_io::remove_file(&path).expect("removed");
        if was_there {
            path_io::rename(&away, &path).expect("back");
        }
    }
    // A store that stands on another one, as `git clone --shared` makes it.
    let shared = team.folder.path().join("shared.git");
    let clone = [
        "clone",
        "-q",
        "--bare",
        "--shared",
        bare.to_str().expect("a path"),
        shared.to_str().expect("a path"),
    ];
    run("git", clone, None).expect("a clone");
    let mut source = team.follow(|git| git.url = Some(RepositoryUrl::Local(shared)));
    assert_eq!(moved(&mut source, None).commit, Some(commit));
}

#[test]
fn folders_that_are_missing_empty_or_too_much_are_refused() {
    let team = Team::new();
    team.write("empty/README", "nothing\n");
    team.write(
        "lfs/a.yaml",
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n",
    );
    team.write("big/a.yaml", &"#".repeat(17 << 20));
    std::os::unix::fs::symlink("loop2", team.work("loop1")).expect("a link");
    std::os::unix::fs::symlink("loop1", team.work("loop2")).expect("a link");
    std::os::unix::fs::symlink("many", team.work("current")).expect("a link");
    team.push("one");
    // Ten thousand names of one file, straight into the index.
    let blob = team.git(&["rev-parse", "HEAD:empty/README"]);
    let entry = |number: u32| format!("100644 blob {blob}\t{number}.yaml\n");
    let entries: String = (0..10_000).map(entry).collect();
    let work = team.work("");
    let make = ["-C", work.to_str().expect("a path"), "mktree"];
    let tree = run("git", make, Some(entries.as_bytes())).expect("a tree");
    let tree = String::from_utf8_lossy(&tree).trim().to_owned();
    team.git(&["read-tree", "--prefix=many/", &tree]);
    team.git(&["commit", "-q", "-m", "many"]);
    team.git(&["push", "-q", "origin", "HEAD"]);
    for (path, reason, words) in [
        ("gone", "SourceNotThere", "the folder gone"),
        ("empty", "SourceEmpty", "no manifests in empty"),
        ("empty/README", "SourceNotThere", "empty/README"),
        ("loop1", "SourceNotThere", "loop1"),
        ("lfs", "SourceUnreadable", "lfs/a.yaml"),
        ("big", "SourceUnreadable", "big/a.yaml"),
    ] {
        let error = team
            .follow(|git| git.path = path.to_owned())
            .latest(None)
            .expect_err("refused");
        assert_eq!(
            (error.class(), error.reason()),
            (SourceClass::Refused, reason),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
    for path in ["many", "current"] {
        let tree = moved(&mut team.follow(|git| git.path = path.to_owned()), None);
        assert_eq!(tree.texts.files.len(), 10_000);
    }
}
