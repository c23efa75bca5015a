//! The schemas in the hands of those who use them: an old and a new yaml-language-server, asked as an editor asks them, and
//! check-jsonschema, over all manifests of the tests.
//!
//! `editors/mistakes/` has ten mistakes; `editors/seen-VERSION.txt` is what a person sees of each, before (the schemas as
//! the declarations alone give them, joined by `oneOf`) and after. `KEEL_RENEW=1` writes them; read them as the person
//! would who made the mistake.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/yaml.rs"]
mod yaml;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cases::{cases, documents, texts};
use manifests::{path_io, schema};
use serde_json::{Value, json};

/// The packages, and the versions in them.
const SERVERS: [(&str, &str); 2] = [
    ("yaml-language-server-old", "1.19.2"),
    ("yaml-language-server-new", "1.25.0"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the project")
}

/// A path below what `needs_editors` installs.
#[track_caller]
fn installed(name: &str) -> PathBuf {
    let path = root().join(".cache/editors").join(name);
    assert!(
        path.exists(),
        "{} is not there; in {}: bash -c '. tests/needs.sh && needs_editors' (it needs the network once)",
        path.display(),
        root().display()
    );
    path
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the programs under test")]
    Command::new(program)
}

/// What a person asks at a file; `‸` is where the cursor stands.
fn asked(name: &str, text: &str) -> Value {
    let mut case = json!({ "name": name, "text": text.replace('‸', "") });
    if let Some((before, _)) = text.split_once('‸') {
        let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        case["at"] = json!([if before.is_empty() { 1 } else { line }, column]);
    }
    case
}

/// What a language server shows of each case, with a schema for all files of a folder.
fn seen(server: &str, schema: &Value, cases: &[Value]) -> Vec<Value> {
    let package = installed(&format!("node_modules/{server}"));
    // Not hidden: the patterns of newer servers match nothing below a hidden folder.
    let folder = tempfile::Builder::new().prefix("keel-").tempdir();
    let folder = folder.expect("a folder");
    path_io::write(folder.path().join("all.json"), schema.to_string()).expect("a schema");
    let asked = json!({
        "server": package,
        "folder": folder.path(),
        "cases": cases,
        // As keel writes them.
        "settings": {
            "yaml.schemas": { "./all.json": ["keel.yaml", "apps/**/*.{yaml,yml}"] },
            "yaml.kubernetesCRDStore.enable": false,
        },
    });
    let mut driver = command("python3")
        .arg(root().join("tests/editors/ask.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut input = driver.stdin.take().expect("piped");
    input
        .write_all(asked.to_string().as_bytes())
        .expect("asked");
    drop(input);
    let output = driver.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{server}: {}", output.status);
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    seen["cases"].as_array().expect("a list").clone()
}

/// `2:7  Value is not accepted.`
fn marks(seen: &Value) -> Vec<String> {
    let mut marks: Vec<(u64, u64, String)> = seen["marked"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|mark| {
            let number = |key: &str| mark[key].as_u64().expect("a number");
            let message = mark["message"].as_str().expect("a text").to_owned();
            (number("line"), number("column"), message)
        })
        .collect();
    marks.sort();
    marks
        .into_iter()
        .map(|(line, column, message)| format!("{line}:{column}  {message}"))
        .collect()
}

fn offered(seen: &Value) -> Vec<&str> {
    let offered = seen["offered"].as_array().expect("a list");
    offered
        .iter()
        .map(|item| item["label"].as_str().expect("a text"))
        .collect()
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "whoever renews says so by the environment"
)]
fn a_person_sees_what_is_wrong() {
    let renew = std::env::var_os("KEEL_RENEW").is_some();
    let folder = root().join("tests/editors");
    let files = path_io::list(folder.join("mistakes")).expect("mistakes");
    assert_eq!(files.len(), 10);
    let mistakes: Vec<(String, String)> = files
        .iter()
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            let text = path_io::read_to_string(path).expect("a text");
            (name.into_owned(), text)
        })
        .collect();
    let asked: Vec<Value> = mistakes
        .iter()
        .map(|(name, text)| asked(&format!("apps/{name}.yaml"), text))
        .collect();
    let (before, after) = (schema::of_all_untold(), schema::of_all());
    for (server, version) in SERVERS {
        let before = seen(server, &before, &asked);
        let after = seen(server, &after, &asked);
        let mut told = String::new();
        for (((name, text), before), after) in mistakes.iter().zip(&before).zip(&after) {
            assert!(!marks(after).is_empty(), "{version}: {name} is not seen");
            let title = name.split_once('_').expect("a number").1.replace('_', " ");
            writeln!(told, "== {title}").expect("text");
            for (number, line) in text.lines().enumerate() {
                writeln!(told, "{:>4} | {line}", number + 1).expect("text");
            }
            for (word, seen) in [("before", before), ("after", after)] {
                writeln!(told, "{word}:").expect("text");
                for mark in marks(seen) {
                    writeln!(told, "  {mark}").expect("text");
                }
            }
        }
        println!("yaml-language-server {version}\n{told}");
        let golden = folder.join(format!("seen-{version}.txt"));
        if renew {
            path_io::write(&golden, &told).expect("written");
        }
        let committed = path_io::read_if_exists(&golden).expect("a text");
        assert_eq!(
            committed.as_deref(),
            Some(told.as_str()),
            "if it is right: KEEL_RENEW=1 cargo nextest run -p keel-tests --test editors"
        );
    }
}

/// Where a person stands, words that are offered there, and words that are shown there.
const PLACES: &[(&str, &[&str], &str)] = &[
    ("‸", &["Instance", "Network", "StoragePool", "Source"], ""),
    (
        "apiVersion: evenkeel/v1\nkind: ‸\n",
        &["Instance", "Profile", "Policy", "Source"],
        "",
    ),
    (
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: web }\nspec:\n  limits:\n    mem‸ory: 1GiB\n",
        &["memory", "memorySwap", "cpu", "processes"],
        "Changing it: **live**",
    ),
    (
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: web }\nspec:\n  ima‸ge: busybox\n",
        &["image", "limits", "devices"],
        "Changing it: **rebuild** (the root file system is wiped, volumes stay).",
    ),
    (
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: web }\nspec:\n  state: ‸\n",
        &["Running", "Stopped", "Frozen"],
        "Whether it runs",
    ),
    (
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: web }\nspec:\n  devices:\n    ‸\n",
        &["a root disk", "a network interface", "a port"],
        "",
    ),
    (
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: web }\nspec:\n  devices:\n    eth0:\n      type: nic\n      hw‸addr: \"10:66:6a:00:00:01\"\n",
        &["hwaddr", "mtu", "network"],
        "Changing it: **replug** (the device blinks).",
    ),
    (
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: web }\nspec:\n  devices:\n    root:\n      type: disk\n      si‸ze: 1GiB\n",
        &["size", "pool", "source"],
        "live where the host can grow it",
    ),
    (
        "apiVersion: evenkeel/v1\nkind: Profile\nmetadata: { name: web }\nspec:\n  limits:\n    kernel:\n      nof‸ile: 1024\n",
        &["nofile", "memlock"],
        "Changing it: **next start**",
    ),
    // The second document of a file.
    (
        "apiVersion: evenkeel/v1\nkind: Image\nmetadata: { name: a }\nspec: { source: { builtin: busybox } }\n---\n\
         apiVersion: evenkeel/v1\nkind: Network\nmetadata: { name: lan }\nspec:\n  ty‸pe: bridge\n",
        &["type", "ipv4", "dns"],
        "Changing it: **replace**",
    ),
];

#[test]
fn a_person_is_helped_at_every_key() {
    let asked: Vec<Value> = PLACES
        .iter()
        .enumerate()
        .map(|(number, (text, ..))| asked(&format!("apps/{number}.yaml"), text))
        .collect();
    for (server, version) in SERVERS {
        let seen = seen(server, &schema::of_all(), &asked);
        for ((text, words, shown), seen) in PLACES.iter().zip(&seen) {
            let offered = offered(seen);
            let missing: Vec<&&str> = words
                .iter()
                .filter(|word| !offered.contains(*word))
                .collect();
            assert!(
                missing.is_empty(),
                "{version}: {missing:?} is not among {offered:?} in\n{text}"
            );
            let there = seen["shown"].as_str().unwrap_or_default();
            assert!(there.contains(shown), "{version}: {there}\nin\n{text}");
        }
        // What a kind is, beside its word, and a key that goes on where its value is written.
        let about = |at: usize, label: &str, key: &str| {
            let items = seen[at]["offered"].as_array().expect("a list");
            let item = items.iter().find(|item| item["label"] == label);
            item.and_then(|item| item[key].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(about(1, "Image", "about"), "What instances start from.");
        assert_eq!(about(3, "limits", "inserted"), "limits:\n  ");
        assert_eq!(about(3, "state", "inserted"), "state: ");
    }
}

#[test]
fn other_files_are_left_alone() {
    let text = "apiVersion: v1\nkind: Pod\n";
    let names = ["keel.yaml", "apps/deep/x.yml", ".github/workflows/x.yaml"];
    let asked: Vec<Value> = names.iter().map(|name| asked(name, text)).collect();
    for (server, version) in SERVERS {
        let seen = seen(server, &schema::of_all(), &asked);
        let marked: Vec<bool> = seen.iter().map(|seen| !marks(seen).is_empty()).collect();
        assert_eq!(marked, [true, true, false], "{version}");
    }
}

/// The documents that check-jsonschema refuses, by their numbers.
fn refused(documents: &[Value]) -> Vec<usize> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    path_io::write(at("all.json"), schema::of_all().to_string()).expect("a schema");
    let mut check = command(installed("python/bin/check-jsonschema"));
    check
        .args(["--output-format", "json", "--schemafile"])
        .arg(at("all.json"));
    for (number, document) in documents.iter().enumerate() {
        let path = at(&format!("{number:04}.json"));
        path_io::write(&path, document.to_string()).expect("a document");
        check.arg(path);
    }
    let output = check.output().expect("it starts");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let unread = told["parse_errors"].as_array();
    assert!(unread.is_none_or(Vec::is_empty), "{unread:?}");
    let mut refused: Vec<usize> = told["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| {
            let file = Path::new(error["filename"].as_str().expect("a text"));
            let stem = file.file_stem().expect("a name").to_string_lossy();
            stem.parse().expect("a number")
        })
        .collect();
    refused.sort_unstable();
    refused.dedup();
    refused
}

#[test]
fn another_checker_takes_what_is_right_and_refuses_what_is_wrong() {
    let of = |folders: &[&str]| -> Vec<Value> {
        folders
            .iter()
            .flat_map(|folder| cases(folder))
            .flat_map(|case| documents(&texts(&case)))
            .map(|(_, document)| document)
            .collect()
    };
    let right = of(&["accepts", "../examples"]);
    assert!(right.len() > 20);
    let wrong: Vec<&Value> = refused(&right)
        .iter()
        .map(|number| &right[*number])
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What a schema can see is decided by another implementation; each checks the other.
    let all = of(&["rejects", "unsupported"]);
    let validator = jsonschema::draft7::new(&schema::of_all()).expect("a schema");
    let expected: Vec<usize> = (0..all.len())
        .filter(|number| !validator.is_valid(&all[*number]))
        .collect();
    assert!(expected.len() > 20, "{} of {}", expected.len(), all.len());
    assert_eq!(refused(&all), expected);
}
