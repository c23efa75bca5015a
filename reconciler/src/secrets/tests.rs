//! Sealing what a source takes from secrets.

use std::collections::BTreeMap;

use manifests::attached::{self, AttachedFiles};
use manifests::read::Texts;
use manifests::resolve::resolve;
use manifests::scalar::text::Text;
use manifests::support::settle;

use super::*;

const KEY: &str = include_str!("vectors/key.txt");

fn desired(text: &str, attached: AttachedFiles) -> (DesiredSet, AttachedFiles) {
    let texts = Texts {
        root: "/srv/edge".into(),
        files: vec![("web.yaml".to_owned(), text.to_owned())],
        attached,
        ..Texts::default()
    };
    let resolved = resolve(&texts, None);
    let mut desired = resolved
        .desired
        .unwrap_or_else(|| panic!("{:#?}", resolved.found));
    settle(&mut desired);
    (desired, texts.attached)
}

/// Seals with the value itself in the place of a digest, for the test to see.
fn sealed(
    text: &str,
    attached: AttachedFiles,
    variables: &[(&str, &str)],
) -> (DesiredSet, Diagnostics) {
    let (mut desired, attached) = desired(text, attached);
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let places = Places {
        variable: &variable,
    };
    let mut digest = |value: SecretValue| Ok(format!("of {}", value.reveal()));
    let found = seal(&mut desired, &attached, &places, &mut digest);
    (desired, found)
}

fn environment(desired: &DesiredSet) -> BTreeMap<String, String> {
    let Some(Spec::Instance(instance)) = desired
        .resources
        .values()
        .map(|resource| &resource.spec)
        .find(|spec| matches!(spec, Spec::Instance(_)))
    else {
        panic!("an instance");
    };
    let digest = |text: &Text| match text {
        Text::Sealed(sealed) => sealed.digest.clone(),
        other => format!("{other:?}"),
    };
    instance
        .environment
        .iter()
        .map(|(name, text)| (name.clone(), digest(text)))
        .collect()
}

const SOURCE: &str = r#"
apiVersion: evenkeel/v1
kind: Secret
metadata: { name: db }
spec: { source: { environment: { password: DB_PASSWORD, user: DB_USER } } }
---
apiVersion: evenkeel/v1
kind: Secret
metadata: { name: key }
spec: { source: { age: { it: ./it.age } } }
---
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: web }
spec:
  image: { source: { builtin: busybox } }
  environment:
    PLAIN: plain
    WORD: { secretRef: { name: db, key: password } }
    URL: { template: "db://${secret.db.user}:${secret.db.password}@${host}/x" }
    KEY: { secretRef: { name: key, key: it } }
  devices: { root: { type: disk, path: /, pool: fast } }
"#;

fn age_file() -> AttachedFiles {
    let text = include_str!("vectors/two_recipients.age");
    [(
        "it.age".to_owned(),
        attached::Attached::Text(text.to_owned()),
    )]
    .into()
}

#[test]
fn texts_are_sealed_and_templates_filled() {
    let variables = [
        ("DB_PASSWORD", "hunter2"),
        ("DB_USER", "keel"),
        ("SOPS_AGE_KEY", KEY),
    ];
    let (desired, found) = sealed(SOURCE, age_file(), &variables);
    assert!(found.is_empty(), "{found:#?}");
    let environment = environment(&desired);
    assert_eq!(environment["PLAIN"], "\"plain\"");
    assert_eq!(environment["WORD"], "of hunter2");
    assert_eq!(environment["URL"], "of db://keel:hunter2@${host}/x");
    // The line end of the file is no part of the value.
    assert_eq!(environment["KEY"], "of hunter2");
}

#[test]
fn what_cannot_be_had_is_told_all_at_once_at_its_line() {
    let (_, found) = sealed(SOURCE, age_file(), &[("DB_USER", "keel")]);
    let said: Vec<String> = found
        .sorted()
        .iter()
        .map(|one| format!("{} {} {}", one.origin, one.code, one.message))
        .collect();
    assert_eq!(
        said,
        [
            "web.yaml:5 S0501 keel has no environment variable DB_PASSWORD",
            "web.yaml:10 S0501 ./it.age: this host has no age key",
        ]
    );
}

#[test]
fn files_of_the_host_and_credentials() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    manifests::path_io::write(path("password"), "hunter2\n").expect("written");
    let text = SOURCE
        .replace(
            "environment: { password: DB_PASSWORD, user: DB_USER }",
            &format!(
                "files: {{ password: {} }}, credentials: {{ user: password }}",
                path("password")
            ),
        )
        .replace("    KEY: { secretRef: { name: key, key: it } }\n", "");
    let here = path("");
    let (desired, found) = sealed(
        &text,
        AttachedFiles::new(),
        &[("CREDENTIALS_DIRECTORY", &here)],
    );
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(
        environment(&desired)["URL"],
        "of db://hunter2:hunter2@${host}/x"
    );
    let (_, found) = sealed(&text, AttachedFiles::new(), &[]);
    assert!(
        found.sorted()[0].message.contains("LoadCredential="),
        "{found:#?}"
    );
}
