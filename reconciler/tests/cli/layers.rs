//! A tree with two environments over one base: validate and render, where each value comes from, and what a saved plan
//! carries of it.

use std::path::Path;

use manifests::read;
use manifests::resolve::resolve;
use reconciler::view::saved_plan::MadeFrom;

use super::environment::TestEnv;

/// The example that people read.
pub(super) fn environments() -> TestEnv {
    fn copy(from: &Path, to: &str, env: &TestEnv) {
        for path in manifests::path_io::list(from).expect("the example") {
            let name = path.file_name().expect("a name").to_string_lossy();
            let to = format!("{to}/{name}");
            if path.is_dir() {
                copy(&path, &to, env);
            } else {
                env.write(
                    &to,
                    &manifests::path_io::read_to_string(&path).expect("a text"),
                );
            }
        }
    }
    let env = TestEnv::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/layers");
    copy(&example, "shop", &env);
    env
}

#[test]
fn each_environment_has_its_values_and_says_where_they_are_from() {
    let env = environments();
    for (of, said) in [
        ("base", "5 documents in 3 files: nothing wrong"),
        ("overlays/staging", "5 documents in 4 files: nothing wrong"),
        (
            "overlays/production",
            "6 documents in 5 files: nothing wrong",
        ),
    ] {
        let ended = env.keel(&["validate", &format!("shop/{of}")]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(ended.stdout.starts_with(said), "{of}: {}", ended.stdout);
    }
    let rendered = |of: &str, only: &str| {
        let source = format!("shop/overlays/{of}");
        let ended = env.keel(&["render", "--provenance", "--only", only, &source]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let places = ended
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("# "));
        places
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    let web = rendered("production", "instance/web-2");
    for line in [
        "environment.LOG keel.yaml:16",
        "limits.memory ../../base/containers.yaml:12",
        "devices.eth0.network ../../base/containers.yaml:18",
    ] {
        assert!(web.iter().any(|told| told == line), "{line}: {web:#?}");
    }
    let db = rendered("production", "instance/db");
    assert!(
        db.contains(&"limits.memory keel.yaml:21".to_owned()),
        "{db:#?}"
    );
    let db = rendered("staging", "instance/stage-db");
    for line in [
        "devices.eth0.ipv4 keel.yaml:15",
        "devices.eth0.network ../../base/containers.yaml:32",
    ] {
        assert!(db.iter().any(|told| told == line), "{line}: {db:#?}");
    }
}

#[test]
fn mistakes_in_a_base_name_a_file_that_can_be_opened() {
    let env = environments();
    env.write(
        "shop/base/dmz.yaml",
        "apiVersion: evenkeel/v1\nkind: Network\nmetadata: { name: dmz }\nspec: { ipv5: none }\n",
    );
    let ended = env.keel(&["validate", "shop/overlays/staging"]);
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    let place = "┌─ ../../base/dmz.yaml:4:9";
    assert!(
        ended.stderr.contains(place) && ended.stderr.contains("spec: { ipv5: none }"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_saved_plan_carries_the_layers() {
    let env = environments();
    let texts = read::read(&env.path().join("shop/overlays/production")).expect("read");
    let meant = resolve(&texts, None).desired.expect("nothing wrong");
    let from = MadeFrom {
        repository: None,
        root: texts.root.clone(),
        revision: None,
        partial: texts.partial.clone(),
        part: texts.only.clone(),
        files: texts.files.clone(),
        attached: texts.attached.clone(),
        only: Vec::new(),
        exclude: Vec::new(),
        selector: None,
        approve: Vec::new(),
        allow: Vec::new(),
        no_trash: false,
        no_restore: false,
    };
    let saved = serde_json::to_string(&from).expect("JSON");
    let from: MadeFrom = serde_json::from_str(&saved).expect("read back");
    let again = resolve(&from.texts(), None).desired.expect("nothing wrong");
    assert_eq!(again, meant);
    assert!(
        again
            .resources
            .values()
            .any(|one| one.origin.file.starts_with("../../base/"))
    );
}
