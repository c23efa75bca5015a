//! A source out of a commit is the same as its checkout: layers, what is passed over, what is refused.

use std::path::Path;

use manifests::path_io;
use manifests::read;
use reconciler::source::revision;

use super::diff::{commit, ends, git};
use super::environment::TestEnv;
use super::layers::environments;

/// Commits the tree as it is and compares what is read of each path: the texts, or what is refused.
#[track_caller]
fn compare(env: &TestEnv, paths: &[&str]) {
    commit(env, "shop");
    let top = env.path().join("shop").canonicalize().expect("there");
    for path in paths {
        let disk = read::read(&top.join(path));
        let commit = revision::read(&top.join(path), "HEAD", None);
        match (disk, commit) {
            (Ok(disk), Ok(commit)) => assert_eq!(commit.texts, disk, "{path}"),
            (Err(disk), Err(commit)) => {
                let file = disk.path.strip_prefix(&top).expect("in the tree");
                let said = commit.to_string();
                let why = std::error::Error::source(&commit).map(ToString::to_string);
                assert!(
                    said.starts_with(&format!("read {} of ", file.display())),
                    "{said}"
                );
                assert_eq!(why, Some(disk.source.to_string()), "{path}");
            }
            (disk, commit) => panic!("{path}:\ndisk: {disk:?}\ncommit: {commit:?}"),
        }
    }
}

const SOURCES: [&str; 3] = ["base", "overlays/production", "overlays/staging"];

#[test]
fn layers_out_of_a_commit_are_those_of_the_checkout() {
    let env = environments();
    git(&env, "shop", &["init", "-q"]);
    compare(&env, &SOURCES);
    let production = "shop/overlays/production/keel.yaml";
    let written = path_io::read_to_string(env.path().join(production)).expect("a text");
    // The bases of the source, and what the base stands on.
    for (bases, below) in [
        ("[../../base]", "[../common]"),
        ("[../../base, ../staging]", "[../common, ../common/]"),
        (
            "[../../base, parts]",
            "[../../outside, ../nowhere, ../common/a.yaml]",
        ),
        ("[../../base]", "[../overlays/production]"),
        ("[../../linked]", "[]"),
        ("[/etc, 7]", "[]"),
        ("[..]", "[]"),
    ] {
        env.write(production, &written.replace("[../../base]", bases));
        let base = "apiVersion: evenkeel/v1\nkind: Source\nname: shop\nbases: ";
        env.write("shop/base/keel.yaml", &format!("{base}{below}\n"));
        env.write("shop/common/a.yaml", "content: { file: ./motd }\n");
        env.write(
            "shop/common/b.yaml",
            "content: { file: ../base/host.yaml }\n",
        );
        env.write("shop/common/motd", "hello\n");
        env.write("shop/common/.keelignore", "drafts/\n");
        env.write("shop/common/drafts/c.yaml", "no: manifest\n");
        env.write("shop/overlays/production/parts/d.yaml", "d: 1\n");
        env.write("outside/e.yaml", "e: 1\n");
        let link = env.path().join("shop/linked");
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("base", link).expect("a link");
        }
        compare(&env, &SOURCES);
    }
}

#[test]
fn what_is_passed_over_and_refused_is_the_same() {
    let env = TestEnv::new();
    for name in [
        "all.yaml",
        "hosts/edge/apps/web.yaml",
        "hosts/edge/apps/web.draft.yaml",
        "hosts/edge/kept.draft.yaml",
        "hosts/edge/keel.yaml",
        "hosts/edge/.hidden/x.yaml",
        "hosts/edge/.x.yaml",
        "hosts/edge/skipped/deep/x.yaml",
        "hosts/edge/notes.txt",
        "hosts/edge/büro 東京.yaml",
        "hosts/old/x.yml",
        "hosts/other/x.yml",
    ] {
        env.write(&format!("shop/{name}"), "a: 1\r\n");
    }
    // What lies above the repository is not in it.
    env.write(".keelignore", "*\n");
    env.write("shop/.keelignore", "\u{feff}*.draft.yaml\r\n/hosts/old\r\n");
    env.write(
        "shop/hosts/edge/.keelignore",
        "skipped/\n!kept.draft.yaml\n",
    );
    git(&env, "shop", &["init", "-q"]);
    let paths = [
        "",
        "hosts",
        "hosts/edge",
        "hosts/edge/apps",
        "hosts/edge/apps/web.yaml",
        "hosts/edge/notes.txt",
        "hosts/edge/skipped/deep/x.yaml",
        "hosts/other",
    ];
    compare(&env, &paths);
    for (link, to) in [
        ("gone.yml", "nowhere"),
        ("notes", "hosts/edge/notes.txt"),
        ("twice", "elsewhere"),
        ("elsewhere", "hosts"),
        ("hosts/other/keel.yaml", "/etc/passwd"),
        ("hosts/other/.keelignore", "x.yml"),
        ("hosts/edge/apps/drafts.draft.yaml", "/etc/passwd"),
        ("app.yaml", "all.yaml"),
        ("app.yaml", "hosts/edge/apps"),
        // Out of the repository: to a folder, and to a file.
        ("etc", "/etc"),
        ("above", "../home"),
        ("passwd", "/etc/passwd"),
        ("round", "round"),
    ] {
        let link = env.path().join("shop").join(link);
        std::os::unix::fs::symlink(to, &link).expect("a link");
        compare(&env, &paths);
        path_io::remove_file(&link).expect("removed");
    }
    let bytes = Path::new("shop/hosts/other/bytes.yaml");
    path_io::write(env.path().join(bytes), [0xff]).expect("written");
    compare(&env, &paths);
}

#[test]
fn a_path_that_leads_over_links_is_followed_as_the_commit_has_them() {
    let env = TestEnv::new();
    let link = |name: &str, to: &str| {
        let link = env.path().join("shop").join(name);
        if link.symlink_metadata().is_ok() {
            path_io::remove_file(&link).expect("removed");
        }
        std::os::unix::fs::symlink(to, &link).expect("a link");
    };
    for host in ["old", "new"] {
        let image = format!(
            "apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{ name: {host} }}\nspec: {{ source: {{ builtin: busybox }} }}\n"
        );
        env.write(&format!("shop/hosts/{host}/apps/image.yaml"), &image);
    }
    git(&env, "shop", &["init", "-q"]);
    link("current", "hosts/old");
    link("again", "current/../old/./apps");
    link("image.yaml", "again/image.yaml");
    // A file behind a link belongs to the folder in which it is.
    let paths = [
        "current",
        "current/apps",
        "again",
        "image.yaml",
        "again/image.yaml",
    ];
    compare(&env, &paths);
    let top = env.path().join("shop").canonicalize().expect("there");
    let before: Vec<_> = paths
        .iter()
        .map(|path| read::read(&top.join(path)).expect("read"))
        .collect();
    // What the work tree has by now is nothing to the commit.
    let again = |what: &str| {
        for (path, before) in paths.iter().zip(&before) {
            let commit = revision::read(&top.join(path), "HEAD", None);
            let commit = commit.unwrap_or_else(|error| panic!("{what}: {path}: {error}"));
            assert_eq!(commit.texts, *before, "{what}: {path}");
        }
    };
    link("current", "hosts/new");
    again("it leads elsewhere");
    path_io::remove_file(top.join("current")).expect("removed");
    again("it is gone");
    let shown = env.keel(&["-C", "shop", "diff", "HEAD", "HEAD", "--path", "current"]);
    ends(&shown, 0);
    // Nothing is followed out of the repository, nor for ever.
    link("current", "hosts/old");
    link("etc", "/etc");
    link("round", "round");
    commit(&env, "shop");
    for (path, why) in [
        ("etc", "is in no git repository"),
        ("etc/hosts", "is in no git repository"),
        ("round", "round is not in "),
        ("current/nothing", "current/nothing is not in "),
    ] {
        let error = revision::read(&top.join(path), "HEAD", None).expect_err(path);
        assert!(error.to_string().contains(why), "{path}: {error}");
    }
}

#[test]
fn a_commit_with_a_link_among_its_manifests_is_refused_as_its_checkout_is() {
    let env = TestEnv::new();
    env.write(
        "shop/keel.yaml",
        "apiVersion: evenkeel/v1\nkind: Source\nname: shop\n",
    );
    git(&env, "shop", &["init", "-q"]);
    commit(&env, "shop");
    let image = "apiVersion: evenkeel/v1\nkind: Image\nmetadata: { name: a }\nspec: { source: { builtin: busybox } }\n";
    env.write("elsewhere/a.yaml", image);
    std::os::unix::fs::symlink("../elsewhere/a.yaml", env.path().join("shop/a.yaml"))
        .expect("a link");
    commit(&env, "shop");
    let disk = env.keel(&["validate", "shop"]);
    ends(&disk, 3);
    let why = "it is a symbolic link, which keel does not follow: name it in .keelignore";
    assert!(disk.stderr.contains(why), "{}", disk.stderr);
    for revisions in [["HEAD~1", "HEAD"], ["HEAD", "HEAD~1"]] {
        let shown = env.keel(&["-C", "shop", "diff", revisions[0], revisions[1]]);
        ends(&shown, 3);
        assert!(shown.stderr.contains("read a.yaml of "), "{}", shown.stderr);
        assert!(shown.stderr.contains(why), "{}", shown.stderr);
    }
}

#[test]
fn one_line_of_a_base_is_told_of_all_that_stand_on_it() {
    let env = environments();
    git(&env, "shop", &["init", "-q"]);
    commit(&env, "shop");
    let containers = "shop/base/containers.yaml";
    let before = path_io::read_to_string(env.path().join(containers)).expect("a text");
    env.write(
        containers,
        &before.replace("processes: 100", "processes: 90"),
    );
    commit(&env, "shop");
    let source = "shop/overlays/production";
    let words = ["-C", source, "diff", "HEAD~1", "HEAD"];
    let shown = env.keel(&words);
    ends(&shown, 0);
    for words in [
        "web-0",
        "web-1",
        "web-2",
        "100 → 90",
        "base/containers.yaml:13",
    ] {
        assert!(
            shown.stdout.contains(words),
            "no {words:?} in {}",
            shown.stdout
        );
    }
    assert!(!shown.stdout.contains("instance/db"), "{}", shown.stdout);
    let json = env.keel(&[&words[..], &["-o", "json"]].concat());
    let plan: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(plan["changes"].as_array().map(Vec::len), Some(3));
}
