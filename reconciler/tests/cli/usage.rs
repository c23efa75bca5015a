//! Wrong command lines: exit code 64 and a hint for the words of other tools.

use super::environment::TestEnv;

#[test]
fn wrong_command_lines_end_with_64() {
    let env = TestEnv::new();
    for arguments in [
        &[][..],
        &["nonsense"],
        &["get", "--nonsense"],
        &["get", "-o", "nonsense"],
        &["get", "nonsense"],
        &["describe", "instanse/web"],
        &["--timeout", "soon", "get"],
        &["--parallelism", "0", "get"],
        &["--only", "web", "get"],
        &["file", "pull", "web"],
        &["file", "push", "x", "web/etc/x", "--mode", "rw"],
    ] {
        let ended = env.keel(arguments);
        assert_eq!(ended.code, 64, "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

#[test]
fn words_of_other_tools_get_a_hint() {
    let env = TestEnv::new();
    for (arguments, hint) in [
        (&["list"][..], "keel get"),
        (&["launch", "images:debian/12"], "keel apply"),
        (
            &["config", "set", "web", "limits.memory=1GiB"],
            "keel apply",
        ),
        (&["up"], "keel apply"),
        (&["down"], "keel destroy"),
        (&["preview"], "keel plan"),
        (&["apply", "--target", "instance/web"], "--only"),
        (&["shell", "web"], "keel exec"),
    ] {
        let ended = env.keel(arguments);
        assert_eq!(ended.code, 64, "{arguments:?}");
        assert!(
            ended.stderr.contains(hint),
            "{arguments:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn flags_have_variables() {
    let env = TestEnv::new();
    let ended = env.ended(env.command(&["version"]).env("KEEL_OUTPUT", "json"));
    assert!(ended.stdout.starts_with('{'), "{}", ended.stdout);
    let ended = env.ended(env.command(&["version"]).env("KEEL_ENGINE", "nonsense"));
    assert_eq!(ended.code, 64, "{}", ended.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let env = TestEnv::new();
    let mut command = env.command(&["completion", "bash"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("keel starts");
    drop(child.stdout.take());
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn colours_are_for_terminals_and_those_who_ask() {
    let env = TestEnv::new();
    let plain = env.keel(&["get", "nonsense"]);
    assert!(!plain.stderr.contains('\u{1b}'), "{:?}", plain.stderr);
    let help = env.ended(env.command(&["-h"]).env("CLICOLOR_FORCE", "1"));
    assert!(help.stdout.contains('\u{1b}'), "{:?}", help.stdout);
    let help = env.ended(
        env.command(&["-h"])
            .env("CLICOLOR_FORCE", "1")
            .env("NO_COLOR", "1"),
    );
    assert!(!help.stdout.contains('\u{1b}'), "{:?}", help.stdout);
}
