//! Bases, patches, prefixes: what trees of layers mean.

use super::*;

/// Head of a document: kind and metadata.
fn head(kind: &str, metadata: &str) -> String {
    format!("apiVersion: evenkeel/v1\nkind: {kind}\nmetadata: {{ {metadata} }}\n")
}

const SOURCE: &str = "apiVersion: evenkeel/v1\nkind: Source\n";

fn run(files: &[(&str, String)]) -> Resolved {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.clone()))
        .collect();
    let texts = Texts {
        root: "/r/overlays/prod".into(),
        files,
        ..Texts::default()
    };
    resolve(&texts, None)
}

fn meaning(files: &[(&str, String)]) -> DesiredSet {
    let resolved = run(files);
    let found = resolved.found;
    resolved.desired.unwrap_or_else(|| panic!("{found:#?}"))
}

fn messages(files: &[(&str, String)]) -> Vec<String> {
    let found = run(files).found;
    let told = |one: &&Diagnostic| format!("{} {}", one.origin, one.message);
    found.sorted().iter().map(told).collect()
}

/// A field of an object, and where it was written.
fn field(desired: &DesiredSet, address: &str, path: &str) -> String {
    let address: Address = address.parse().expect("an address");
    let resource = &desired.resources[&address];
    let at = Pointer::new(path);
    let value = serde_json::json!({ "spec": resource.spec.to_value() });
    let value = value.pointer(path).cloned().unwrap_or_default();
    format!("{value} {}", resource.origin_of(&at))
}

fn base() -> Vec<(&'static str, String)> {
    let pool = head("StoragePool", "name: fast");
    let network = head("Network", "name: lan") + "spec: { ipv4: { address: 10.9.0.1/24 } }\n";
    let web = head("Instance", "name: web-1, labels: { tier: web }")
        + "spec:\n  image: busybox\n  limits:\n    memory: \"${var.memory}\"\n    cpu: 2\n  devices:\n    \
           eth0: { type: nic, network: lan }\n    root: { type: disk, path: /, pool: fast }\n";
    let image = head("Image", "name: busybox") + "spec: { source: { file: ./busybox.tar } }\n";
    let source = format!(
        "{SOURCE}name: base\nvariables: {{ memory: {{ default: 64MiB }}, copies: {{ type: integer, default: 1 }} }}\n\
         lifecycle: {{ drift: warn, protect: true }}\ndefaults: {{ Instance: {{ limits: {{ processes: 9, diskPriority: 1 }} }} }}\n\
         host: {{ name: edge-1 }}\nbudget: {{ data: 7 }}\n"
    );
    vec![
        ("../base/image.yaml", image),
        ("../base/keel.yaml", source),
        ("../base/network.yaml", network),
        ("../base/pool.yaml", pool),
        ("../base/web.yaml", web),
    ]
}

fn over(source: &str) -> Vec<(&'static str, String)> {
    let mut files = base();
    files.push(("keel.yaml", format!("{SOURCE}{source}")));
    files
}

#[test]
fn each_value_is_the_outermost_and_knows_its_line() {
    let desired = meaning(&over(
        "name: prod\nbases: [../base]\nvariables: { memory: { default: 1GiB } }\n\
         patches:\n  - target: { kind: Instance, name: web-*, labels: { tier: web } }\n    patch:\n      spec:\n        \
         limits: { cpu: 4 }\n        devices:\n          eth0: { ipv4: 10.9.0.7 }\n  - target: { kind: Network }\n    \
         patch: [{ op: add, path: /spec/description, value: lan }]\n\
         lifecycle: { protect: false }\ndefaults: { Instance: { limits: { processes: 5 } } }\n",
    ));
    let of = |path| field(&desired, "Instance/web-1", path);
    assert_eq!(desired.source.name.as_str(), "prod");
    assert_eq!(of("/spec/limits/cpu"), "4 keel.yaml:10");
    assert_eq!(of("/spec/limits/memory"), "\"1GiB\" ../base/web.yaml:7");
    assert_eq!(of("/spec/limits/processes"), "5 keel.yaml:16");
    assert_eq!(of("/spec/limits/diskPriority"), "1 ../base/keel.yaml:6");
    assert_eq!(
        of("/spec/devices/eth0/network"),
        "\"lan\" ../base/web.yaml:10"
    );
    assert_eq!(of("/spec/devices/eth0/ipv4"), "\"10.9.0.7\" keel.yaml:12");
    assert_eq!(
        field(&desired, "Network/lan", "/spec/description"),
        "\"lan\" keel.yaml:14"
    );
    // Relative to the file that names it, as it is written; relative to the source, as it is taken.
    assert_eq!(
        field(&desired, "Image/busybox", "/spec/source/file"),
        "\"../base/busybox.tar\" ../base/image.yaml:4"
    );
    let web = &desired.resources[&Address::new(Kind::Instance, "web-1")];
    assert_eq!(web.origin.to_string(), "../base/web.yaml:1");
    assert!(!web.lifecycle.protect);
    assert_eq!(web.lifecycle.drift, crate::lifecycle::DriftMode::Warn);
    assert_eq!(
        desired.budget.data, 7,
        "of the base, where nobody says more"
    );
    assert_eq!(desired.host, Some((Some("edge-1".to_owned()), None)));
    // What editing a value needs: its bytes in its file.
    let memory = web.origin_of(&Pointer::new("/spec/limits/memory"));
    let (_, text) = &base()[4];
    let bytes = memory.bytes.0 as usize..memory.bytes.1 as usize;
    assert_eq!(&text[bytes], "\"${var.memory}\"");
}

#[test]
fn a_prefix_is_put_before_names_and_what_refers_to_them() {
    let mut files = over(
        "bases: [../base]\nnamePrefix: \"${var.env}-\"\nvariables: { env: { default: blue } }\nexternal: [Network/lxdbr0]\n\
         patches: [{ target: { name: web-1 }, patch: { metadata: { previousNames: [www] }, forEach: { count: \"${var.copies}\" } } }]\n",
    );
    let db = head("Instance", "name: \"db-${each.index}\"")
        + "forEach: { count: 2 }\nspec:\n  image: debian/12\n  profiles: [small, default]\n  devices:\n    \
           root: { type: disk, path: /, pool: fast }\n    data: { type: disk, pool: fast, source: \"data-${each.value}/a\", path: /a }\n    \
           eth0: { type: nic, network: lxdbr0, acls: [web] }\n\
           dependsOn: [Instance/web-1, { \"Volume/fast/data-0\": started }]\n";
    let volumes = head("Volume", "name: \"data-${each.index}\"")
        + "forEach: { count: 2 }\nspec: { pool: fast }\n";
    let acl =
        head("NetworkAcl", "name: web") + "spec: { ingress: [{ source: \"web, 10.0.0.0/8\" }] }\n";
    let profile =
        |name: &str| head("Profile", &format!("name: {name}")) + "spec: { limits: { cpu: 3 } }\n";
    let schedule = head("SnapshotSchedule", "name: nightly")
        + "spec: { schedule: \"@daily\", selector: { names: [web-1, \"db-*\", \"*\", other] } }\n";
    for (name, text) in [
        ("acl.yaml", acl),
        ("db.yaml", db),
        ("default.yaml", profile("default")),
        ("schedule.yaml", schedule),
        ("small.yaml", profile("small")),
        ("volumes.yaml", volumes),
    ] {
        files.push((name, text));
    }
    let desired = meaning(&files);
    let names: Vec<String> = desired.resources.keys().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "storage-pool/blue-fast",
            "network/blue-lan",
            "network-acl/blue-web",
            "image/blue-busybox",
            "volume/blue-fast/blue-data-0",
            "volume/blue-fast/blue-data-1",
            "instance/blue-db-0",
            "instance/blue-db-1",
            "instance/blue-web-1",
            "snapshot-schedule/blue-nightly",
        ]
    );
    let of = |address: &str, path: &str| field(&desired, address, path);
    let db = "Instance/blue-db-1";
    assert_eq!(
        of(db, "/spec/image"),
        "\"debian/12\" db.yaml:6",
        "one of the store"
    );
    assert_eq!(
        of(db, "/spec/devices/eth0/network"),
        "\"lxdbr0\" db.yaml:11",
        "external"
    );
    assert_eq!(
        of(db, "/spec/devices/eth0/acls/0"),
        "\"blue-web\" db.yaml:11"
    );
    assert_eq!(
        of(db, "/spec/devices/data/source"),
        "\"blue-data-1/a\" db.yaml:10"
    );
    assert_eq!(
        of(db, "/spec/profiles"),
        "[\"blue-small\",\"default\"] db.yaml:7"
    );
    assert_eq!(
        of("Instance/blue-web-1", "/spec/image"),
        "\"blue-busybox\" ../base/web.yaml:5"
    );
    assert_eq!(
        of("NetworkAcl/blue-web", "/spec/ingress/0/source"),
        "[\"10.0.0.0/8\",\"blue-web\"] acl.yaml:4"
    );
    assert_eq!(
        of("SnapshotSchedule/blue-nightly", "/spec/selector/names"),
        "[\"blue-web-1\",\"blue-db-*\",\"*\",\"other\"] schedule.yaml:4"
    );
    let needs: Vec<String> = desired.resources[&db.parse().expect("an address")]
        .needs
        .iter()
        .map(|(need, _)| need.to_string())
        .collect();
    assert!(
        needs.contains(&"instance/blue-web-1".to_owned()),
        "{needs:?}"
    );
    assert!(
        needs.contains(&"volume/blue-fast/blue-data-0".to_owned()),
        "{needs:?}"
    );
    let web = &desired.resources[&Address::new(Kind::Instance, "blue-web-1")];
    assert_eq!(web.previous, [Address::new(Kind::Instance, "blue-www")]);
}

#[test]
fn a_patch_may_change_how_many_a_document_stands_for() {
    let mut files = over(
        "bases: [../base]\npatches: [{ target: { name: worker-* }, patch: { forEach: { count: 2 } } }]\n",
    );
    let worker = head("Instance", "name: \"worker-${each.index}\"")
        + "forEach: { count: 0 }\nspec: { image: busybox }\n";
    files.push(("../base/worker.yaml", worker));
    let desired = meaning(&files);
    let worker = Address::new(Kind::Instance, "worker-1");
    assert!(desired.resources.contains_key(&worker));
}

#[test]
fn a_base_may_come_in_twice() {
    let two = |blue: &str, green: &str| {
        let mut files = over("bases: [../blue, ../green]\n");
        files.push((
            "../blue/keel.yaml",
            format!("{SOURCE}bases: [../base]\n{blue}"),
        ));
        files.push((
            "../green/keel.yaml",
            format!("{SOURCE}bases: [../base]\n{green}"),
        ));
        files
    };
    // The same by both ways counts once.
    assert_eq!(meaning(&two("", "")).resources.len(), 4);
    // With names of their own they are two; prefixes add up.
    let mut files = two(
        "namePrefix: blue-\n",
        "namePrefix: green-\nproject: default\n",
    );
    files.retain(|(name, _)| *name != "keel.yaml" && *name != "../base/network.yaml");
    let web = base()[4]
        .1
        .replace("eth0: { type: nic, network: lan }\n    ", "");
    files
        .iter_mut()
        .filter(|(name, _)| *name == "../base/web.yaml")
        .for_each(|(_, text)| text.clone_from(&web));
    files.push((
        "keel.yaml",
        format!("{SOURCE}bases: [../blue, ../green]\nnamePrefix: a-\n"),
    ));
    let desired = meaning(&files);
    let names: Vec<&str> = desired
        .resources
        .keys()
        .map(|address| address.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "a-blue-fast",
            "a-green-fast",
            "a-blue-busybox",
            "a-green-busybox",
            "a-blue-web-1",
            "a-green-web-1"
        ]
    );
    assert_eq!(
        field(
            &desired,
            "Instance/a-green-web-1",
            "/spec/devices/root/pool"
        ),
        "\"a-green-fast\" ../base/web.yaml:10"
    );
    // Different by each way, it is declared twice.
    let told = messages(&two("lifecycle: { protect: false }\n", ""));
    assert_eq!(told.len(), 4, "{told:#?}");
    assert_eq!(
        told[3],
        "../base/web.yaml:3 instance/web-1 is declared twice: its layer comes in by two bases, which change it"
    );
}

#[test]
fn ways_to_a_base_are_bounded() {
    // Twelve layers, each of which stands twice on the next: 4096 ways to the last.
    let names: Vec<String> = (0..24)
        .map(|n| format!("../{}{}", ["a", "b"][n % 2], n / 2))
        .collect();
    let mut files = vec![(
        "keel.yaml".to_owned(),
        format!("{SOURCE}bases: [../a0, ../b0]\n"),
    )];
    for (n, name) in names.iter().enumerate() {
        let level = n / 2 + 1;
        let bases = if level < 12 {
            format!("bases: [../a{level}, ../b{level}]\n")
        } else {
            String::new()
        };
        files.push((format!("{name}/keel.yaml"), format!("{SOURCE}{bases}")));
    }
    let files: Vec<(&str, String)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.clone()))
        .collect();
    assert_eq!(
        messages(&files),
        ["keel.yaml:1 there are more than 1000 ways to the bases of this source"]
    );
}

#[test]
fn mistakes_in_bases_are_told_where_they_are() {
    let mut files = over("bases: [../base]\n");
    files.push((
        "../base/typo.yaml",
        head("Network", "name: dmz") + "spec: { ipv5: 1, description: \"${var.nmae}\" }\n",
    ));
    files.push(("../base/lab/keel.yaml", SOURCE.to_owned()));
    assert_eq!(
        messages(&files),
        [
            "../base/lab/keel.yaml:1 a source within a source",
            "../base/typo.yaml:4 unknown field `ipv5` in spec",
            "../base/typo.yaml:4 `${var.nmae}` is not defined",
        ]
    );
}

#[test]
fn the_source_is_known_without_its_bases() {
    let text = format!(
        "{SOURCE}name: \"${{var.env}}\"\nbases: [../gone]\nvariables: {{ env: {{ default: prod }} }}\n"
    );
    let texts = Texts {
        root: "/r".into(),
        files: vec![("keel.yaml".to_owned(), text)],
        ..Texts::default()
    };
    assert_eq!(source_of(&texts).expect("a source").name.as_str(), "prod");
    assert!(resolve(&texts, None).desired.is_none());
}
