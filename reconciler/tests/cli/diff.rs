//! `keel diff`: what a commit means, out of git's object store and with nothing of the repository run.

use std::process::Command;

use manifests::path_io;

use super::environment::{Ended, TestEnv};

const SOURCE: &str = "apiVersion: evenkeel/v1\nkind: Source\nname: edge\n";

fn network(name: &str, description: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {{ name: {name} }}\nspec: {{ description: {description} }}\n"
    )
}

/// Runs git in a folder of the test.
#[track_caller]
pub(super) fn git(env: &TestEnv, folder: &str, arguments: &[&str]) {
    #[expect(clippy::disallowed_methods, reason = "repositories are made by git")]
    let mut command = Command::new("git");
    let output = command
        .current_dir(env.path().join(folder))
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args([
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

pub(super) fn commit(env: &TestEnv, folder: &str) {
    git(env, folder, &["add", "-A"]);
    git(env, folder, &["commit", "-qm", "x"]);
}

/// A repository of two commits: `lan` is described anew, `old` goes, `new` comes.
fn repository(folder: &str) -> TestEnv {
    let env = TestEnv::new();
    let write = |name: &str, text: &str| env.write(&format!("{folder}/{name}"), text);
    write("keel.yaml", SOURCE);
    write("lan.yaml", &network("lan", "one"));
    write("net/old.yaml", &network("old", "gone"));
    git(&env, folder, &["init", "-q"]);
    commit(&env, folder);
    write("lan.yaml", &network("lan", "two"));
    write("net/new.yaml", &network("new", "here"));
    path_io::remove_file(env.path().join(folder).join("net/old.yaml")).expect("removed");
    commit(&env, folder);
    env
}

#[track_caller]
pub(super) fn ends(ended: &Ended, code: i32) {
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn a_commit_is_told_without_a_host() {
    let folder = "a répo";
    let env = repository(folder);
    let diff = |words: &[&str]| env.keel(&[&["-C", folder, "diff"], words].concat());
    let shown = diff(&["HEAD~1", "HEAD"]);
    ends(&shown, 0);
    for words in [
        "What changes in source edge at ",
        "- network/old",
        "~ network/lan",
        "one → two",
        "+ network/new",
    ] {
        assert!(
            shown.stdout.contains(words),
            "no {words:?} in {}",
            shown.stdout
        );
    }
    assert!(
        !env.path().join("state").exists(),
        "no state folder is needed"
    );
    ends(&diff(&["HEAD~1", "HEAD", "--detailed-exitcode"]), 2);
    let same = diff(&["HEAD", "--detailed-exitcode"]);
    ends(&same, 0);
    assert!(
        same.stdout
            .starts_with("Nothing changes: 2 objects of source edge at "),
        "{}",
        same.stdout
    );
    // The files as they are.
    env.write(&format!("{folder}/lan.yaml"), &network("lan", "three"));
    let dirty = diff(&["HEAD", "-o", "json"]);
    ends(&dirty, 0);
    let plan: serde_json::Value = serde_json::from_str(&dirty.stdout).expect("JSON");
    assert_eq!(plan["purpose"], "compare");
    assert_eq!(plan["changes"][0]["fields"][0]["before"], "two");
    assert_eq!(plan["changes"][0]["fields"][0]["after"], "three");
    assert_eq!(plan["changes"][0]["source"]["path"], "lan.yaml");
    // A part is told as a part, and deletes nothing.
    let part = diff(&["HEAD~1", "HEAD", "--path", "net"]);
    ends(&part, 0);
    assert!(
        part.stdout.contains("Partial: only the folder net"),
        "{}",
        part.stdout
    );
    assert!(
        part.stdout.contains("+ network/new") && !part.stdout.contains("network/old"),
        "{}",
        part.stdout
    );
}

#[test]
fn what_cannot_be_compared_is_one_clear_error() {
    let env = repository("repo");
    env.write("elsewhere/keel.yaml", SOURCE);
    for (words, code, says) in [
        (
            &["-C", "repo", "diff", "nowhere", "HEAD"][..],
            3,
            "no revision `nowhere`: git rev-parse ",
        ),
        (
            &["-C", "repo", "diff", "HEAD", "HEAD:lan.yaml"],
            3,
            "no revision",
        ),
        (
            &["-C", "repo", "diff", "--", "--output=x", "HEAD"],
            64,
            "is no revision",
        ),
        (
            &["-C", "repo", "diff", "HEAD~1", "HEAD", "--path", "nothing"],
            3,
            "nothing is not in",
        ),
        (
            &["-C", "elsewhere", "diff", "HEAD"],
            3,
            "is in no git repository",
        ),
    ] {
        let ended = env.keel(words);
        ends(&ended, code);
        assert!(
            ended.stderr.contains(says),
            "no {says:?} in {}",
            ended.stderr
        );
    }
    // A commit that means nothing says which one.
    env.write("repo/lan.yaml", "apiVersion: evenkeel/v1\nkind: Netwerk\n");
    commit(&env, "repo");
    let broken = env.keel(&["-C", "repo", "diff", "HEAD~1", "HEAD"]);
    ends(&broken, 3);
    assert!(
        broken.stderr.contains("this is how it is at "),
        "{}",
        broken.stderr
    );
}

#[test]
fn a_revision_is_read_by_its_own_rules() {
    let env = repository("repo");
    env.write("repo/.keelignore", "drafts/\n");
    env.write("repo/drafts/x.yaml", "no: manifest\n");
    env.write("repo/motd", "hello\n");
    env.write("other/a.yaml", "a: 1\n");
    git(&env, "other", &["init", "-q"]);
    commit(&env, "other");
    git(&env, "repo", &["submodule", "add", "-q", "../other", "sub"]);
    commit(&env, "repo");
    let shown = env.keel(&["-C", "repo", "diff", "HEAD~1", "HEAD"]);
    ends(&shown, 0);
    assert!(
        shown.stdout.starts_with("Nothing changes"),
        "{}",
        shown.stdout
    );
    assert!(
        shown.stderr.contains("sub is a submodule"),
        "{}",
        shown.stderr
    );
    // What was declared behind a link would count as given up.
    std::os::unix::fs::symlink("/etc/passwd", env.path().join("repo/link.yaml")).expect("a link");
    commit(&env, "repo");
    let refused = env.keel(&["-C", "repo", "diff", "HEAD~1", "HEAD"]);
    ends(&refused, 3);
    assert!(
        refused.stderr.contains("read link.yaml of ")
            && refused.stderr.contains("it is a symbolic link"),
        "{}",
        refused.stderr
    );
}

#[test]
fn nothing_of_a_hostile_repository_is_run() {
    let env = repository("repo");
    let canary = env.path().join("canary");
    let evil = env.write(
        "evil.sh",
        &format!("#!/bin/sh\ntouch '{}'\ncat\n", canary.display()),
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&evil, mode).expect("a program");
    let evil = evil.to_str().expect("UTF-8").to_owned();
    env.write(
        "repo/.gitattributes",
        "*.yaml filter=evil diff=evil text=auto eol=crlf ident\n",
    );
    commit(&env, "repo");
    for hook in [
        "post-checkout",
        "pre-commit",
        "post-index-change",
        "reference-transaction",
        "fsmonitor-watchman",
    ] {
        std::os::unix::fs::symlink(&evil, env.path().join("repo/.git/hooks").join(hook))
            .expect("a hook");
    }
    for (key, value) in [
        ("filter.evil.clean", evil.as_str()),
        ("filter.evil.smudge", &evil),
        ("filter.evil.process", &evil),
        ("filter.evil.required", "true"),
        ("diff.evil.textconv", &evil),
        ("diff.evil.command", &evil),
        ("diff.external", &evil),
        ("core.fsmonitor", &evil),
        ("core.hooksPath", ".git/hooks"),
        ("core.pager", &evil),
        ("core.editor", &evil),
        ("core.sshCommand", &evil),
        ("core.alternateRefsCommand", &evil),
        ("credential.helper", &evil),
        ("gpg.program", &evil),
        ("uploadpack.packObjectsHook", &evil),
        ("remote.origin.url", &format!("ext::{evil}")),
        ("remote.origin.uploadpack", &evil),
        ("remote.origin.promisor", "true"),
        ("protocol.ext.allow", "always"),
        ("extensions.partialClone", "origin"),
        ("alias.ls-tree", &format!("!{evil}")),
        ("alias.cat-file", &format!("!{evil}")),
    ] {
        let config = env.path().join("repo/.git/config");
        git(
            &env,
            "",
            &[
                "config",
                "--file",
                config.to_str().expect("UTF-8"),
                key,
                value,
            ],
        );
    }
    // The same size and another time: who asks for changes has to read it.
    env.write("repo/lan.yaml", &network("lan", "six"));
    for words in [
        &["diff", "HEAD~2", "HEAD"][..],
        &["diff", "HEAD"],
        &["validate"],
    ] {
        let ended = env.keel(&[&["-C", "repo"], words].concat());
        ends(&ended, 0);
        assert!(!canary.exists(), "{words:?} ran something");
    }
    // Who asks git without care runs it: the traps are set.
    #[expect(clippy::disallowed_methods, reason = "what is to be avoided")]
    let careless = Command::new("git")
        .current_dir(env.path().join("repo"))
        .arg("status")
        .output()
        .expect("git starts");
    assert!(canary.exists(), "{careless:?}");
    path_io::remove_file(&canary).expect("removed");
    // An object that is not there is not fetched.
    let objects = env.path().join("repo/.git/objects");
    path_io::rename(&objects, env.path().join("objects")).expect("taken away");
    path_io::create_dir_all(objects.join("pack")).expect("made");
    let ended = env.keel(&["-C", "repo", "diff", "HEAD"]);
    ends(&ended, 3);
    assert!(!canary.exists(), "something was fetched");
}
