//! New repositories, and the settings of editors.

use manifests::path_io;

use super::environment::TestEnv;

#[test]
fn a_new_repository_is_right_at_once() {
    let env = TestEnv::new();
    let ended = env.keel(&["init", "Edge 1"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    insta::assert_snapshot!(ended.stdout);
    assert!(env.path().join("Edge 1/.git").is_dir());
    let checked = env.keel(&["-C", "Edge 1", "validate"]);
    assert_eq!(
        (checked.code, checked.stderr.as_str()),
        (0, ""),
        "{}",
        checked.stdout
    );
    let rendered = env.keel(&["render", "Edge 1", "-o", "json"]);
    assert!(rendered.stdout.contains("\"hello\""), "{}", rendered.stdout);
    let read =
        |name: &str| path_io::read_to_string(env.path().join("Edge 1").join(name)).expect("a file");
    assert!(read("keel.yaml").ends_with("name: edge-1\n"));
    let settings: serde_json::Value =
        serde_json::from_str(&read(".vscode/settings.json")).expect("JSON");
    assert_eq!(
        settings["yaml.schemas"]["./.keel/schemas/v1/all.json"],
        serde_json::json!([
            "images/**/*.{yaml,yml}",
            "instances/**/*.{yaml,yml}",
            "keel.yaml",
            "networks/**/*.{yaml,yml}",
            "pools/**/*.{yaml,yml}",
            "profiles/**/*.{yaml,yml}"
        ])
    );
    // Once more: nothing is written.
    let again = env.keel(&["init", "Edge 1"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(!again.stdout.contains("  new "), "{}", again.stdout);
    assert!(
        again.stdout.contains("left  README.md") && again.stdout.contains("none are added"),
        "{}",
        again.stdout
    );
}

#[test]
fn what_is_there_is_left() {
    let env = TestEnv::new();
    let mine = [
        ("repo/hosts/web.yaml", "# mine\n"),
        ("repo/hosts/README.md", "mine\n"),
        ("repo/.git/HEAD", "ref: refs/heads/main\n"),
        (
            "repo/.vscode/settings.json",
            "{\n  // mine\n  \"editor.tabSize\": 2,\n}\n",
        ),
    ];
    for (name, text) in mine {
        env.write(name, text);
    }
    let ended = env.keel(&["init", "repo/hosts", "--name", "edge"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let read = |name: &str| path_io::read_to_string(env.path().join(name)).expect("a file");
    for (name, text) in &mine[..3] {
        assert_eq!(read(name), *text);
    }
    assert!(!env.path().join("repo/hosts/keel.yaml").exists());
    assert!(!env.path().join("repo/hosts/.git").exists());
    let settings = read("repo/.vscode/settings.json");
    assert!(
        settings.contains("  // mine\n  \"editor.tabSize\": 2,\n")
            && settings.contains(
                "\"./hosts/.keel/schemas/v1/all.json\": [\n      \"hosts/**/*.{yaml,yml}\""
            )
            && settings.contains("\"yaml.kubernetesCRDStore.enable\": false"),
        "{settings}"
    );
}

#[test]
fn a_source_has_no_other_in_it_and_a_name() {
    let env = TestEnv::new();
    env.write(
        "keel.yaml",
        "apiVersion: evenkeel/v1\nkind: Source\nname: a\n",
    );
    for (arguments, said) in [
        (&["init", "below"][..], "is in the source"),
        (&["init", "/tmp", "--name", "a/b"], "names of sources have"),
    ] {
        let ended = env.keel(arguments);
        assert_eq!(ended.code, 64, "{}", ended.stdout);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    assert!(!env.path().join("below").exists(), "nothing was made");
}

#[test]
fn settings_that_are_not_understood_are_left() {
    let env = TestEnv::new();
    env.write(
        "keel.yaml",
        "apiVersion: evenkeel/v1\nkind: Source\nname: a\n",
    );
    env.write(".vscode/settings.json", "{ broken\n");
    let ended = env.keel(&["schema", "write"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stdout.contains("please add by hand") && ended.stdout.contains("\"keel.yaml\""),
        "{}",
        ended.stdout
    );
    let settings = env.path().join(".vscode/settings.json");
    assert_eq!(
        path_io::read_to_string(&settings).expect("a file"),
        "{ broken\n"
    );
    path_io::remove_file(&settings).expect("removed");
    let ended = env.keel(&["schema", "write", "--no-settings"]);
    assert!(!settings.exists(), "{}", ended.stdout);
    let ended = env.keel(&["schema", "write"]);
    assert!(settings.exists(), "{}", ended.stdout);
}
