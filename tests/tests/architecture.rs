//! The house plan as tests: floors, small rooms, `unsafe` in one place, what may come in.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy only knows the tests themselves"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use manifests::path_io;

/// What code in a folder may name of ours: crates of the workspace, or rooms of its own crate (`crate::…`, `crate` alone
/// for all of them). The row with the longest matching folder counts; paths through `super` stay in the room.
///
/// Arrows go down only: floor 0 is `manifests`, 1 is `diff` and `plan`, 2 is `runtime`, 3 is what persists and waits, 4
/// speaks with people. Floors 1 and 2 do not know each other.
const FLOORS: &[(&str, &[&str])] = &[
    ("manifests/src", &["crate"]),
    ("manifests/tests", &["manifests", "crate"]),
    ("runtime/src", &["manifests", "crate"]),
    ("runtime/src/bin", &["manifests", "runtime", "crate"]),
    ("runtime/tests", &["manifests", "runtime", "crate"]),
    (
        "runtime/src/sys",
        &[
            "manifests",
            "crate::sys",
            "crate::testing",
            "crate::host_test",
        ],
    ),
    (
        "runtime/src/fake",
        &[
            "manifests",
            "crate::runtime",
            "crate::error",
            "crate::fake",
            "crate::testing",
        ],
    ),
    (
        "reconciler/src",
        &["manifests", "runtime", "reconciler", "crate"],
    ),
    (
        "reconciler/tests",
        &["manifests", "runtime", "reconciler", "crate"],
    ),
    ("reconciler/src/diff", &["manifests", "crate::diff"]),
    (
        "reconciler/src/plan",
        &["manifests", "crate::diff", "crate::plan"],
    ),
    (
        "reconciler/src/snapshots",
        &["manifests", "crate::diff", "crate::snapshots"],
    ),
    ("reconciler/src/apply", FLOOR_3),
    (
        "reconciler/src/controller",
        &[
            "manifests",
            "runtime",
            "crate::apply",
            "crate::clock",
            "crate::controller",
            "crate::diff",
            "crate::error",
            "crate::journal",
            "crate::meaning",
            "crate::plan",
            "crate::secrets",
            "crate::session",
            "crate::source",
            "crate::state_folder",
            "crate::store",
        ],
    ),
    (
        "reconciler/src/api",
        &[
            "manifests",
            "runtime",
            "crate::api",
            "crate::apply",
            "crate::clock",
            "crate::controller",
            "crate::diff",
            "crate::error",
            "crate::journal",
            "crate::labels",
            "crate::plan",
            "crate::session",
            "crate::snapshots",
            "crate::source",
            "crate::state_folder",
            "crate::store",
            "crate::view",
            "crate::web",
            "crate::webhook",
        ],
    ),
    // A real controller over a real socket, with all that leads to it.
    (
        "reconciler/src/api/tests",
        &["manifests", "runtime", "crate"],
    ),
    ("reconciler/src/journal", FLOOR_3),
    (
        "reconciler/src/notify",
        &[
            "manifests",
            "runtime",
            "crate::clock",
            "crate::controller",
            "crate::diff",
            "crate::error",
            "crate::notify",
            "crate::web",
        ],
    ),
    (
        "reconciler/src/pull_requests",
        &[
            "manifests",
            "crate::clock",
            "crate::controller",
            "crate::error",
            "crate::meaning",
            "crate::plan",
            "crate::policy",
            "crate::pull_requests",
            "crate::secrets",
            "crate::source",
            "crate::view",
            "crate::web",
        ],
    ),
    ("reconciler/src/source", FLOOR_3),
    ("reconciler/src/store", FLOOR_3),
    (
        "reconciler/src/telemetry",
        &[
            "manifests",
            "crate::clock",
            "crate::error",
            "crate::telemetry",
            "crate::web",
        ],
    ),
    (
        "reconciler/src/web",
        &["manifests", "crate::clock", "crate::web"],
    ),
    (
        "reconciler/src/webhook",
        &["manifests", "crate::clock", "crate::web", "crate::webhook"],
    ),
    ("tests", &["manifests", "runtime", "reconciler", "crate"]),
];

const FLOOR_3: &[&str] = &[
    "manifests",
    "runtime",
    "crate::apply",
    "crate::clock",
    "crate::controller",
    "crate::diff",
    "crate::error",
    "crate::journal",
    "crate::plan",
    "crate::source",
    "crate::store",
    "crate::web",
];

/// Floor 1 decides from what it is given: no clock, no disk, no network, no threads.
const PURE: &[&str] = &[
    "reconciler/src/diff",
    "reconciler/src/plan",
    "reconciler/src/snapshots",
];
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "rustix::",
    "rusqlite::",
    "manifests::path_io",
];

/// A room of more lines deserves a look; these are printed.
const LOOK_FROM: usize = 500;
/// A room of more lines needs a reason here.
const LINES: usize = 700;
const LONG_FOR_A_REASON: &[(&str, &str)] = &[(
    "runtime/src/native/network/host_tests.rs",
    "every test of it changes the one world that its first lines make",
)];

/// The only home of `unsafe`.
const UNSAFE: &str = "runtime/src/sys/";

const MEMBERS: [&str; 4] = ["manifests", "runtime", "reconciler", "tests"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Every Rust file of the workspace: its path from the root, and its text.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in path_io::list(folder).unwrap() {
            if entry.is_dir() && !entry.ends_with("target") {
                walk(&entry, root, found);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let name = entry.strip_prefix(root).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), path_io::read_to_string(&entry).unwrap());
            }
        }
    }
    let root = root();
    let mut found = BTreeMap::new();
    for member in MEMBERS {
        walk(&root.join(member), &root, &mut found);
    }
    assert!(
        found.contains_key("tests/tests/architecture.rs"),
        "{found:?}"
    );
    found
}

/// The text without comments and without what stands between quotes, line by line. Rough (raw strings with quotes in
/// them confuse it for a line), and enough for names of modules.
fn code(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut quoted = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if quoted => {
                    characters.next();
                }
                '"' => quoted = !quoted,
                '/' if !quoted && characters.peek() == Some(&'/') => break,
                other if !quoted => out.push(other),
                _ => {}
            }
        }
        out.push('\n');
    }
    out
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// What a file names of ours: `manifests`, `crate::plan`, …
fn named(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for ours in ["manifests", "runtime", "reconciler", "crate"] {
        for (at, _) in code.match_indices(ours) {
            let before = code[..at].chars().next_back();
            let Some(after) = code[at + ours.len()..].strip_prefix("::") else {
                continue;
            };
            // `$crate` is whoever calls the macro; `x::runtime` is somebody else's.
            if before.is_some_and(|c| is_name(c) || c == ':' || c == '$') {
                continue;
            }
            if ours != "crate" {
                found.insert(ours.to_owned());
                continue;
            }
            for room in heads(after) {
                // An item of the crate's root, such as a macro or a re-export, is a room of its own here.
                found.insert(format!("crate::{room}"));
            }
        }
    }
    found
}

/// The first names after `crate::`: one, or those of a group in braces.
fn heads(after: &str) -> Vec<String> {
    let first = |text: &str| text.chars().take_while(|c| is_name(*c)).collect::<String>();
    let Some(group) = after.strip_prefix('{') else {
        return vec![first(after)];
    };
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut start = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(first(group[start..at].trim()));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

#[test]
fn names_are_found_in_code_only() {
    let code = code(
        "use crate::{plan::{Plan, Step}, diff, store::Store};\n\
         //! [`crate::cli`]\nlet x = \"crate::view\"; // crate::apply\n\
         use runtime::error; foo::runtime::x(); $crate::testing::x(); crate::host_test! {}\n",
    );
    let expected = [
        "crate::diff",
        "crate::host_test",
        "crate::plan",
        "crate::store",
        "runtime",
    ];
    assert_eq!(named(&code), expected.map(str::to_owned).into());
}

#[test]
fn arrows_go_down_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let (folder, may) = FLOORS
            .iter()
            .filter(|(folder, _)| {
                let rest = file.strip_prefix(folder);
                // A room may be a folder or one file.
                rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
            })
            .max_by_key(|(folder, _)| folder.len())
            .unwrap_or_else(|| panic!("{file} is on no floor"));
        for name in named(&code(&text)) {
            let allowed = may
                .iter()
                .any(|may| *may == name || (*may == "crate" && name.starts_with("crate::")));
            if !allowed {
                wrong.push(format!("{file} names {name}; {folder} may use {may:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn deciding_has_no_clock_no_disk_and_no_threads() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !PURE.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        let code = code(&text);
        for name in IMPURE.iter().filter(|name| code.contains(**name)) {
            wrong.push(format!("{file} names {name}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rooms_are_small() {
    let mut too_long = Vec::new();
    for (file, text) in sources() {
        let lines = text.lines().count();
        if lines > LOOK_FROM {
            println!("{lines:5} {file}");
        }
        if lines > LINES && !LONG_FOR_A_REASON.iter().any(|(listed, _)| *listed == file) {
            too_long.push(format!(
                "{file} has {lines} lines, {LINES} at most: split it by subject"
            ));
        }
    }
    for (listed, reason) in LONG_FOR_A_REASON {
        let text = path_io::read_to_string(root().join(listed)).unwrap();
        assert!(
            text.lines().count() > LINES,
            "{listed} is short now: no longer {reason}"
        );
    }
    assert!(too_long.is_empty(), "{}", too_long.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(file, _)| file)
        .collect();
    assert!(
        silent.is_empty(),
        "these do not begin with //! — {}",
        silent.join(", ")
    );
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for member in MEMBERS {
        let text = path_io::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        assert!(
            text.contains("[lints]\nworkspace = true\n"),
            "{member}/Cargo.toml"
        );
    }
}

#[test]
fn unsafe_has_one_home() {
    let outside: Vec<String> = sources()
        .into_iter()
        .filter(|(file, _)| !file.starts_with(UNSAFE))
        .filter(|(_, text)| {
            let code = code(text);
            code.match_indices("unsafe").any(|(at, word)| {
                let before = code[..at].chars().next_back();
                let after = code[at + word.len()..].chars().next();
                !before.is_some_and(is_name) && !after.is_some_and(is_name)
            }) || code.contains("unsafe_code")
        })
        .map(|(file, _)| file)
        .collect();
    assert!(
        outside.is_empty(),
        "unsafe outside {UNSAFE}: {}",
        outside.join(", ")
    );
}

/// The packages of Cargo.lock: name and version, source, and the names of what they depend on.
fn locked() -> Vec<(String, Option<String>, BTreeSet<String>)> {
    let text = path_io::read_to_string(root().join("Cargo.lock")).unwrap();
    let quoted = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    text.split("[[package]]\n")
        .skip(1)
        .map(|package| {
            let field = |key: &str| {
                let mut lines = package.lines();
                lines.find(|line| line.starts_with(key)).map(quoted)
            };
            let depends = package
                .lines()
                .filter(|line| line.starts_with(" \""))
                // `name` or `name version`, where two versions are locked.
                .map(|line| {
                    quoted(line)
                        .split(' ')
                        .next()
                        .unwrap_or_default()
                        .to_owned()
                });
            (
                field("name = ").unwrap(),
                field("source = "),
                depends.collect(),
            )
        })
        .collect()
}

/// What deny.toml forbids: the crate, and who may depend on it directly all the same.
fn denied() -> Vec<(String, BTreeSet<String>)> {
    let text = path_io::read_to_string(root().join("deny.toml")).unwrap();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("{ name = \""))
        .map(|line| {
            let (name, rest) = line.split_once('"').unwrap();
            let wrappers = rest
                .split_once("wrappers = [")
                .map_or("", |(_, list)| list.split_once(']').unwrap().0);
            let wrappers = wrappers.split('"').skip(1).step_by(2).map(str::to_owned);
            (name.to_owned(), wrappers.collect())
        })
        .collect()
}

#[test]
fn crates_stay_on_their_floor() {
    // cargo-deny says the same with more words; this needs nothing installed.
    let (locked, denied) = (locked(), denied());
    assert!(denied.len() > 10, "deny.toml was understood: {denied:?}");
    let mut wrong = Vec::new();
    for (name, source, depends) in &locked {
        for (denied, wrappers) in &denied {
            if depends.contains(denied) && !wrappers.contains(name) {
                wrong.push(format!("{name} depends on {denied}, only {wrappers:?} may"));
            }
        }
        let registry =
            source.as_deref() == Some("registry+https://github.com/rust-lang/crates.io-index");
        if source.is_some() && !registry {
            wrong.push(format!("{name} comes from {source:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_licence_is_here_and_said_by_every_crate() {
    let text = path_io::read_to_string(root().join("LICENSE")).unwrap();
    assert!(text.contains("Apache License") && text.contains("Version 2.0, January 2004"));
    for member in MEMBERS {
        let text = path_io::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        assert!(
            text.contains("license.workspace = true"),
            "{member}/Cargo.toml"
        );
    }
}
