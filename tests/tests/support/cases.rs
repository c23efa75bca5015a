//! Cases of `accepts/`, `rejects/` and the examples: files of manifests, and folders of them.

use std::path::{Path, PathBuf};

use manifests::files::Disk;
use manifests::read::{self, Texts};
use manifests::{attached, path_io};
use serde_json::Value;

use crate::yaml;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Among the examples: pipelines and rules of Prometheus, whose YAML is of others, and the settings of a controller.
const NO_MANIFESTS: [&str; 3] = ["ci", "controller", "observability"];

/// The cases of a folder: files of manifests, and folders of them.
pub(crate) fn cases(name: &str) -> Vec<PathBuf> {
    let cases: Vec<PathBuf> = path_io::list(folder(name))
        .expect("a folder of cases")
        .into_iter()
        .filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "yaml"))
        .filter(|path| !NO_MANIFESTS.iter().any(|name| path.ends_with(name)))
        .collect();
    assert!(!cases.is_empty(), "{name} has cases");
    cases
}

/// Reads a case: alone, as if its folder had nothing else.
pub(crate) fn texts(case: &Path) -> Texts {
    if case.is_dir() {
        return read::read(case).expect("readable manifests");
    }
    let name = case.file_name().expect("a file").to_string_lossy();
    let root = case.parent().expect("a folder");
    let text = path_io::read_to_string(case).expect("a text");
    let files = vec![(name.into_owned(), text)];
    Texts {
        root: "/".into(),
        attached: attached::read(&Disk, root, &[String::new()], &files)
            .expect("files that stay as they are"),
        files,
        ..Texts::default()
    }
}

/// The documents of a case as JSON, for schemas; only of files that are YAML.
pub(crate) fn documents(texts: &Texts) -> Vec<(String, Value)> {
    texts
        .files
        .iter()
        .flat_map(|(file, text)| {
            let documents = yaml::documents(text);
            documents
                .into_iter()
                .map(|document| (file.clone(), document))
        })
        .collect()
}
