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
