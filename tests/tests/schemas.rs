//! The committed schemas are those of this version, and they agree with the parser on the manifests of the tests.

use std::path::{Path, PathBuf};

use manifests::{path_io, schema};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_committed_schemas_are_current() {
    let folder = root().join("schemas");
    let mut stale: Vec<String> = Vec::new();
    let mut known = Vec::new();
    for (name, content) in schema::files() {
        let path = folder.join(&name);
        let committed = path_io::read_if_exists(&path).expect("a readable file");
        if committed.as_deref() != Some(&content) {
            stale.push(name);
        }
        known.push(path);
    }
    for path in path_io::list(folder.join("v1")).expect("a folder of schemas") {
        if !known.contains(&path) {
            stale.push(format!("{} is no schema of this version", path.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "not current: {stale:?}\nrenew them: cargo run -p reconciler --bin keel -- schema write schemas"
    );
}

#[test]
fn the_schemas_are_valid_schemas() {
    for (name, content) in schema::files() {
        let schema: serde_json::Value = serde_json::from_str(&content).expect("JSON");
        assert!(jsonschema::draft7::meta::is_valid(&schema), "{name}");
        jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
