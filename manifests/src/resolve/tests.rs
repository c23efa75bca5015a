//! Trees of manifests and what they mean.

use super::*;

fn run(files: &[(&str, &str)]) -> Resolved {
    let files = files
        .iter()
        .map(|(n, t)| ((*n).to_owned(), (*t).to_owned()))
        .collect();
    resolve(
        &Texts {
            root: "/".into(),
            files,
            ..Texts::default()
        },
        None,
    )
}

fn messages(files: &[(&str, &str)]) -> Vec<String> {
    let resolved = run(files);
    assert_eq!(resolved.desired.is_some(), !resolved.found.has_errors());
    resolved
        .found
        .sorted()
        .iter()
        .map(|d| {
            format!(
                "{} {} {} | {}",
                d.origin,
                d.code,
                d.message,
                d.hint.as_deref().unwrap_or("-")
            )
        })
        .collect()
}

const BASE: &str = "apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: {name: fast}\n---\n\
    apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: lan}\nspec: {ipv4: {address: 10.9.0.1/24}}\n---\n\
    apiVersion: evenkeel/v1\nkind: Profile\nmetadata: {name: default}\nspec:\n  image: no\n";

fn instance(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{name: {name}}}\nspec:\n  image: busybox\n{rest}"
    )
}

#[test]
fn profiles_lie_under_instances_and_roots_on_the_only_pool() {
    let profile = "apiVersion: evenkeel/v1\nkind: Profile\nmetadata: {name: web}\nspec:\n  limits: {memory: 64MiB, cpu: 1}\n";
    let web = instance("web", "  profiles: [web]\n  limits: {cpu: 2}\n");
    let pool = BASE.split("---").next().expect("the pool");
    let resolved = run(&[("a.yaml", pool), ("p.yaml", profile), ("w.yaml", &web)]);
    let desired = resolved
        .desired
        .unwrap_or_else(|| panic!("{:?}", resolved.found));
    assert_eq!(desired.resources.len(), 2, "a profile is resolved away");
    let web = &desired.resources[&Address::new(Kind::Instance, "web")];
    let Spec::Instance(spec) = &web.spec else {
        panic!("an instance")
    };
    assert_eq!(
        spec.limits
            .memory
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("64MiB")
    );
    assert_eq!(
        spec.limits.cpu.as_ref().map(ToString::to_string).as_deref(),
        Some("2")
    );
    assert_eq!(
        spec.root().and_then(|(_, root)| root.pool.as_deref()),
        Some("fast")
    );
    assert_eq!(
        web.origin_of(&Pointer::new("/spec/limits/memory"))
            .to_string(),
        "p.yaml:5"
    );
    assert_eq!(
        web.origin_of(&Pointer::new("/spec/limits/cpu")).to_string(),
        "w.yaml:7"
    );
}

#[test]
fn all_that_is_wrong_with_a_tree_is_told_in_one_run() {
    let base = BASE.replace("  image: no\n", "  limits: {}\n");
    let one = instance(
        "one",
        "  limits: {memmory: 4GiB}\n  devices:\n    eth0: {type: nic, network: lna}\n",
    );
    let two = instance(
        "two",
        "  devices: {eth0: {type: nic, network: lan, ipv4: 10.9.0.1}}\n",
    );
    let bad = instance("../etc", "");
    let twice = instance("two", "");
    let typo = "apiVersion: evenkeel/v1\nkind: Instnce\nmetadata: {name: x}\n";
    assert_eq!(
        messages(&[
            ("base.yaml", &base),
            ("one.yaml", &one),
            ("three.yaml", &twice),
            ("two.yaml", &two),
            ("typo.yaml", typo),
            ("x.yaml", &bad),
        ]),
        [
            "one.yaml:6 E0104 unknown field `memmory` in limits | did you mean `memory`?",
            "two.yaml:3 E0111 instance/two is declared twice, first in three.yaml:3 | -",
            "typo.yaml:2 E0106 there is no kind `Instnce` | did you mean `Instance`?",
            "x.yaml:3 E0110 `../etc` is no name here | names of Instance objects have letters, digits and `-`, begin with a letter, do not end with `-`, and have at most 63 characters",
        ]
    );
    assert_eq!(
        messages(&[("base.yaml", &base), ("two.yaml", &two)]),
        ["two.yaml:6 R0204 10.9.0.1 is the address of network lan itself | -"]
    );
    let lost = instance("one", "  devices: {eth0: {type: nic, network: lna}}\n");
    assert_eq!(
        messages(&[("base.yaml", &base), ("one.yaml", &lost)]),
        ["one.yaml:6 R0201 there is no network `lna` | did you mean `lan`?"]
    );
}

#[test]
fn one_document_may_stand_for_many() {
    let many = "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: \"lan${each.index}\"}\nforEach: [a, b]\nspec: {description: \"${each.value} ${var.env} ${HOME}\"}\n";
    let source = "apiVersion: evenkeel/v1\nkind: Source\nname: edge\nvariables: {env: {type: string, default: prod}}\n";
    let resolved = run(&[("keel.yaml", source), ("n.yaml", many)]);
    let desired = resolved
        .desired
        .unwrap_or_else(|| panic!("{:?}", resolved.found));
    assert_eq!(desired.source.name.as_str(), "edge");
    let words: Vec<String> = desired
        .resources
        .values()
        .map(|r| format!("{} {}", r.address, r.spec.to_value()["description"]))
        .collect();
    assert_eq!(
        words,
        [
            "network/lan0 \"a prod ${HOME}\"",
            "network/lan1 \"b prod ${HOME}\""
        ]
    );
    let wrong = many.replace("var.env", "var.envv");
    assert_eq!(
        messages(&[("keel.yaml", source), ("n.yaml", &wrong)])[0],
        "n.yaml:5 E0115 `${var.envv}` is not defined | did you mean `${var.env}`?"
    );
}

#[test]
fn circles_are_found() {
    let a = "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: a}\ndependsOn: [Network/b]\n---\napiVersion: evenkeel/v1\nkind: Network\nmetadata: {name: b}\ndependsOn: [Network/a]\n";
    assert_eq!(
        messages(&[("n.yaml", a)]),
        ["n.yaml:1 R0202 these wait for each other: network/a → network/b → network/a | -"]
    );
}
