//! `keel render` and `keel schema write`: what they write is read again.

use super::environment::TestEnv;

const MANIFESTS: &str = "\
# yaml-language-server: $schema=.keel/schemas/v1/all.json
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: lan }
spec: { ipv4: { address: 10.20.0.1/24 } }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: 'web-${each.index}', previousNames: ['www-${each.index}'], labels: { tier: web } }
forEach: [a, b]
lifecycle:
  adopt: { from: old }
  drift: { default: correct, /spec/state: warn }
  ignore: [{ path: /spec/limits/cpu, reason: tuned by hand, until: 2027-01-01 }]
dependsOn: [Instance/db]
spec:
  image: busybox
  limits: { memory: 512MiB, cpu: \"2-2\" }
  environment: { VALUE: '${each.value}', TEXT: { template: '${HOME}' } }
  devices:
    eth0: { type: nic, network: lan, ipv4: '10.20.0.1${each.index}' }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: db }
lifecycle: { adopt: true, protect: true }
dependsOn: { Network/lan: started }
spec: { image: busybox, state: Running, boot: { autostart: true } }
";

#[test]
fn what_is_rendered_means_the_same() {
    let env = TestEnv::new();
    env.write("source/all.yaml", MANIFESTS);
    let first = env.keel(&["render", "source"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    env.write("again/all.yaml", &first.stdout);
    let second = env.keel(&["render", "again"]);
    assert_eq!(second.code, 0, "{}\n{}", second.stderr, first.stdout);
    assert_eq!(first.stdout, second.stdout);
    // With the places in comments it is the same to a reader.
    let commented = env.keel(&["render", "--provenance", "source"]);
    assert!(
        commented.stdout.contains("# limits.memory ") && commented.stdout.contains("all.yaml:22"),
        "{}",
        commented.stdout
    );
    env.write("again/all.yaml", &commented.stdout);
    assert_eq!(env.keel(&["render", "again"]).stdout, first.stdout);
}

#[test]
fn schemas_are_written_and_the_line_for_editors_is_told() {
    let env = TestEnv::new();
    let ended = env.keel(&["schema", "write"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let line = "# yaml-language-server: $schema=.keel/schemas/v1/all.json";
    assert!(ended.stdout.contains(line), "{}", ended.stdout);
    assert!(env.path().join(".keel/schemas/v1/all.json").is_file());
    // What was written is in nobody's way.
    env.write("all.yaml", MANIFESTS);
    assert_eq!(env.keel(&["validate"]).code, 0);
}

#[test]
fn machines_read_values_to_the_letter() {
    let env = TestEnv::new();
    // Delete and an escape are what a terminal is spared: a document is none.
    let text = MANIFESTS.replace("VALUE: '${each.value}'", r#"VALUE: "a\x7fb\e[31mc""#);
    env.write("source/all.yaml", &text);
    let rendered = env.keel(&["render", "-o", "json", "source"]);
    assert_eq!(rendered.code, 0, "{}", rendered.stderr);
    let document: serde_json::Value = serde_json::from_str(&rendered.stdout).expect("JSON");
    let items = document["items"].as_array().expect("a list");
    let values: Vec<&serde_json::Value> = items
        .iter()
        .map(|item| &item["spec"]["environment"]["VALUE"])
        .filter(|value| !value.is_null())
        .collect();
    assert_eq!(values, ["a\u{7f}b\u{1b}[31mc"; 2]);
}
