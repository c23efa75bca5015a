//! `keel explain` of fields, codes and guards; of objects the tests on the real kernel tell.

use super::environment::TestEnv;

#[test]
fn the_shape_of_the_argument_says_what_it_is() {
    let env = TestEnv::new();
    for (what, told) in [
        (
            "instance.spec.limits.memory",
            &["live: in force at once", "512MiB"][..],
        ),
        // Without the kind, and in the words of other tools.
        ("limits.memory", &["instance.spec.limits.memory"]),
        ("Instance", &["lifecycle", "forEach"]),
        ("source.budget", &["G102", "percent"]),
        ("E0104", &["an unknown field", "memmory"]),
        ("g102", &["budget", "--approve G102"]),
        ("G101", &["No `--approve` passes it"]),
        (
            "drift-changed",
            &["a field was changed outside git", "keel apply"],
        ),
        ("Drift-Stale-Rule", &["an ignore rule leaves nothing alone"]),
    ] {
        let ended = env.keel(&["explain", what]);
        assert_eq!(ended.code, 0, "{what}: {}", ended.stderr);
        for words in told {
            assert!(ended.stdout.contains(words), "{what}: {}", ended.stdout);
        }
        let json = env.keel(&["explain", what, "-o", "json"]);
        assert!(json.stdout.starts_with('{'), "{what}: {}", json.stdout);
    }
}

#[test]
fn what_there_is_not_gets_the_nearest_word() {
    let env = TestEnv::new();
    for (what, hint) in [
        (
            "instance.spec.limits.memmory",
            "instance.spec.limits.memory?",
        ),
        ("instanse.spec", "instance"),
        ("E0999", "codes: E0101"),
        ("G999", "G102"),
        ("drift-change", "did you mean drift-changed?"),
        ("drift-x", "drift-added, drift-gone"),
    ] {
        let ended = env.keel(&["explain", what]);
        assert_eq!(ended.code, 64, "{what}");
        assert!(ended.stderr.contains(hint), "{what}: {}", ended.stderr);
    }
}
