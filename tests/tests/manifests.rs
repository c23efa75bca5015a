//! Reading manifests: every example and everything in `accepts/` means something, everything in `rejects/` is refused in
//! the words of the `.diag` beside it, and the schemas agree as far as a schema can know.
//!
//! To add one: put a file (or a folder with several) there. `KEEL_RENEW=1` writes the `.diag` files; read them as the
//! person would who made the mistake.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/yaml.rs"]
mod yaml;

use std::path::{Path, PathBuf};

use cases::{cases, documents, texts};
use manifests::diagnostic::Diagnostics;
use manifests::read::{SOURCE_FILE, Texts};
use manifests::resolve::{Resolved, resolve};
use manifests::support::unsupported;
use manifests::{path_io, schema};
use reconciler::view::diagnostics::page;

fn meant(case: &Path) -> (Texts, Resolved) {
    let texts = texts(case);
    let mut resolved = resolve(&texts, None);
    if let Some(desired) = &resolved.desired {
        resolved.found.extend(unsupported(desired));
    }
    (texts, resolved)
}

fn told(found: &Diagnostics, texts: &Texts) -> String {
    let page = page(found, &texts.files);
    anstream::adapter::strip_str(&page).to_string()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&schema::of_all()).expect("a schema")
}

/// The sources of a case: where its folder is none itself, those in it, of which some may be bases of others.
fn sources(case: PathBuf) -> Vec<PathBuf> {
    if !case.is_dir() || case.join(SOURCE_FILE).is_file() {
        return vec![case];
    }
    let below = path_io::list(&case).expect("a folder");
    let below = below.into_iter().filter(|path| path.is_dir());
    let found: Vec<PathBuf> = below.flat_map(sources).collect();
    let is_source = |path: &PathBuf| path.join(SOURCE_FILE).is_file();
    if found.iter().any(is_source) {
        found.into_iter().filter(is_source).collect()
    } else {
        vec![case]
    }
}

#[test]
fn what_is_right_means_something() {
    let validator = validator();
    let cases = cases("accepts").into_iter().chain(cases("../examples"));
    for case in cases.flat_map(sources) {
        let (texts, resolved) = meant(&case);
        assert!(
            !resolved.found.has_errors(),
            "{}:\n{}",
            case.display(),
            told(&resolved.found, &texts)
        );
        for (file, document) in documents(&texts) {
            let wrong: Vec<String> = validator
                .iter_errors(&document)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(
                wrong.is_empty(),
                "{} {file}: {wrong:#?}\n{document:#}",
                case.display()
            );
        }
    }
}

#[test]
fn a_prefix_leaves_no_reference_behind() {
    for case in cases("accepts").into_iter().flat_map(sources) {
        let mut texts = texts(&case);
        let known = resolve(&texts, None).documents;
        if texts.files.iter().any(|(name, _)| name == SOURCE_FILE) {
            continue;
        }
        let source = "apiVersion: evenkeel/v1\nkind: Source\nnamePrefix: x-\n".to_owned();
        texts.files.push((SOURCE_FILE.to_owned(), source));
        let resolved = resolve(&texts, None);
        assert!(
            !resolved.found.has_errors() && resolved.documents == known,
            "{}:\n{}",
            case.display(),
            told(&resolved.found, &texts)
        );
        let desired = resolved.desired.expect("nothing is wrong");
        assert!(
            desired
                .resources
                .keys()
                .all(|address| address.name.starts_with("x-")),
            "{}",
            case.display()
        );
    }
}

/// Findings that a schema can make as well.
const OF_SCHEMAS: [&str; 3] = ["E0104", "E0105", "E0106"];

#[test]
fn what_is_wrong_is_refused_in_good_words() {
    golden("rejects", true);
}

#[test]
fn what_the_engine_cannot_do_is_told() {
    golden("unsupported", false);
}

/// Compares what is told about each case with the `.diag` beside it.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever renews says so by the environment"
)]
fn golden(of: &str, refused: bool) {
    let validator = validator();
    let renew = std::env::var_os("KEEL_RENEW").is_some();
    let mut failed = Vec::new();
    for case in cases(of) {
        let (texts, resolved) = meant(&case);
        let told = told(&resolved.found, &texts);
        let golden = case.with_extension("diag");
        assert!(
            !resolved.found.is_empty(),
            "{}: nothing is told",
            case.display()
        );
        assert_eq!(
            resolved.found.has_errors(),
            refused,
            "{}:\n{told}",
            case.display()
        );
        if renew {
            path_io::write(&golden, &told).expect("written");
        }
        if path_io::read_if_exists(&golden).expect("a text").as_deref() != Some(&told) {
            failed.push(format!("{}\n{told}", case.display()));
        }
        let of_schemas = resolved
            .found
            .sorted()
            .iter()
            .all(|found| OF_SCHEMAS.contains(&found.code.0));
        let documents = documents(&texts);
        if of_schemas
            && documents
                .iter()
                .all(|(_, document)| validator.is_valid(document))
        {
            failed.push(format!("the schema takes {}", case.display()));
        }
    }
    assert!(
        failed.is_empty(),
        "{}\nif these are right: KEEL_RENEW=1 cargo nextest run -p keel-tests --test manifests",
        failed.join("\n")
    );
}

#[test]
fn every_code_has_a_case() {
    let all: String = cases("rejects")
        .into_iter()
        .chain(cases("unsupported"))
        .map(|case| {
            path_io::read_if_exists(case.with_extension("diag"))
                .expect("a text")
                .unwrap_or_default()
        })
        .collect();
    let missing: Vec<&str> = manifests::codes::ALL
        .iter()
        // What a host lacks is told only where there is a host.
        .filter(|entry| entry.code != manifests::support::HOST)
        .map(|entry| entry.code.0)
        .filter(|code| !all.contains(&format!("[{code}]")))
        .collect();
    assert!(
        missing.is_empty(),
        "no case in tests/rejects shows {missing:?}"
    );
}
