//! The whole tree of help as one snapshot: a change of the command line is seen as text.

use super::environment::TestEnv;

#[test]
fn the_help_of_every_command() {
    let env = TestEnv::new();
    let mut all = String::new();
    collect(&env, &mut Vec::new(), &mut all);
    insta::assert_snapshot!(all);
}

/// The short help of a command, without the flags that all share, then that of the commands below it.
fn collect(env: &TestEnv, path: &mut Vec<String>, all: &mut String) {
    let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
    arguments.push("-h");
    let help = env.keel(&arguments);
    assert_eq!(help.code, 0, "{path:?}: {}", help.stderr);
    let (own, global) = help
        .stdout
        .split_once("\nGlobal options:\n")
        .unwrap_or((&help.stdout, ""));
    all.push_str(&format!("$ keel {}\n{own}\n", path.join(" ")));
    if path.is_empty() {
        all.push_str(&format!("Global options:\n{global}\n"));
    }
    let commands = own
        .split_once("\nCommands:\n")
        .map_or("", |(_, rest)| rest)
        .lines()
        .take_while(|line| !line.is_empty());
    let names: Vec<String> = commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    for name in names {
        path.push(name);
        collect(env, path, all);
        path.pop();
    }
}

#[test]
fn the_version_is_one_word_and_json() {
    let env = TestEnv::new();
    let human = env.keel(&["version"]);
    assert_eq!(
        human.stdout,
        format!("keel {}\n", env!("CARGO_PKG_VERSION"))
    );
    let json = env.keel(&["version", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(value["apiVersion"], "evenkeel/v1");
}

#[test]
fn completion_scripts_and_manual_pages_are_made() {
    let env = TestEnv::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = env.keel(&["completion", shell]);
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains("state-dir"), "{shell}");
    }
    let man = env.keel(&["man", "pages"]);
    assert_eq!(man.code, 0, "{}", man.stderr);
    for page in ["keel.1", "keel-get.1", "keel-file-push.1"] {
        assert!(env.path().join("pages").join(page).is_file(), "{page}");
    }
}
