//! What is written where, and what is refused, for sources of a few lines.

use manifests::diagnostic::Origin;
use manifests::lifecycle::DriftMode;
use manifests::path_io;
use manifests::pointer::Pointer;
use serde_json::{Value, json};

use super::*;
use crate::session::Drift;

const HOST: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
spec: { driver: dir }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: lan }
spec: { type: bridge, ipv4: { address: 10.77.0.1/24 } }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: wan }
spec: { type: bridge, ipv4: { address: 10.78.0.1/24 } }
---
apiVersion: evenkeel/v1
kind: Profile
metadata: { name: small }
spec:
  limits: { memory: 64MiB } # of all
  devices:
    root: { type: disk, path: /, pool: fast }
    eth0: { type: nic, network: lan }
";

const ONE: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: one }
spec:
  profiles: [small]
  image: busybox
  state: Running # always
  limits:
    processes: 100
  command: [\"/bin/sh\", -c, 'sleep 1']
  environment:
    HOME: ${HOME}/x
    # Of the team.
    TEAM: a
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: two }
spec: { profiles: [small], image: busybox }
";

const OVER: &str = "\
apiVersion: evenkeel/v1
kind: Source
name: over
bases: [../base]
variables: { team: { type: string, default: b } }
patches:
  - target: { kind: Instance, name: one }
    patch:
      spec:
        environment:
          TEAM: \"${var.team}\"
";

/// A source in a folder of its own: `base/`, and `over/` that stands on it.
struct Scene {
    _folder: tempfile::TempDir,
    source: Source,
}

impl Scene {
    fn of(files: &[(&str, &str)], root: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            path_io::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            path_io::write(path, text).expect("a file");
        }
        let source = Source::read(Some(&folder.path().join(root))).expect("a source");
        let source = source.strict();
        assert!(source.resolved.desired.is_some(), "{}", source.findings());
        Self {
            _folder: folder,
            source,
        }
    }

    fn base(one: &str) -> Self {
        Self::of(&[("base/host.yaml", HOST), ("base/one.yaml", one)], "base")
    }

    fn over() -> Self {
        let files = [
            ("base/host.yaml", HOST),
            ("base/one.yaml", ONE),
            ("over/keel.yaml", OVER),
        ];
        Self::of(&files, "over")
    }

    fn desired(&self) -> &DesiredSet {
        self.source
            .resolved
            .desired
            .as_ref()
            .expect("what is wanted")
    }

    fn one(&self) -> &Resource {
        let address = "instance/one".parse().expect("an address");
        &self.desired().resources[&address]
    }

    /// What comes of these values that live in `one`.
    fn accept(&self, live: &[(&str, Value)]) -> Edited {
        let one = self.one();
        let spec = one.spec.to_value();
        let field = |(path, live): &(&str, Value)| {
            let desired = spec.pointer(path).cloned().unwrap_or_default();
            DriftedField {
                desired,
                ..drifted(self, &format!("/spec{path}"), live.clone())
            }
        };
        let fields: Vec<DriftedField> = live.iter().map(field).collect();
        let texts = &self.source.texts;
        edited(self.desired(), texts, one, &fields, &|_| Ok(())).expect("edited")
    }

    /// The lines that differ, as `- old` and `+ new`.
    #[track_caller]
    fn written(&self, edited: &Edited) -> Vec<String> {
        assert_eq!(edited.refused, [], "nothing is refused");
        let mut lines = Vec::new();
        for ((name, old), (_, new)) in self.source.texts.files.iter().zip(&edited.texts.files) {
            let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
            let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
            let rest = old[same..].iter().rev().zip(new[same..].iter().rev());
            let end = rest.take_while(|(a, b)| a == b).count();
            let told = |mark: &str, lines: &[&str]| {
                let told = lines[same..lines.len() - end].iter();
                told.map(|line| format!("{name} {mark}{line}"))
                    .collect::<Vec<_>>()
            };
            lines.extend(told("-", &old));
            lines.extend(told("+", &new));
        }
        lines
    }
}

fn refusals(edited: &Edited) -> Vec<String> {
    refusals_of(&edited.refused)
}

fn refusals_of(refused: &[Refused]) -> Vec<String> {
    let one = |refused: &Refused| {
        let Origin {
            file, line, column, ..
        } = &refused.source;
        format!(
            "{file}:{line}:{column} {}: {}",
            refused.path.dotted(),
            refused.why
        )
    };
    refused.iter().map(one).collect()
}

#[test]
fn values_lists_keys_and_lines_are_written() {
    let scene = Scene::base(ONE);
    for (path, live, lines) in [
        (
            "/limits/processes",
            json!(50),
            &["-    processes: 100", "+    processes: 50"][..],
        ),
        (
            "/state",
            json!("Stopped"),
            &["-  state: Running # always", "+  state: Stopped # always"],
        ),
        (
            "/limits/processes",
            json!(null),
            &["-  limits:", "-    processes: 100", "+  limits: {}"],
        ),
        ("/environment/TEAM", json!(null), &["-    TEAM: a"]),
        (
            "/environment/NEW",
            json!("yes: no"),
            &["+    NEW: \"yes: no\""],
        ),
        (
            "/environment/HOME",
            json!("${HOME}/y"),
            &["-    HOME: ${HOME}/x", "+    HOME: \"${HOME}/y\""],
        ),
        (
            "/limits/cpuAllowance",
            json!("50ms/100ms"),
            &["+    cpuAllowance: 50ms/100ms"],
        ),
        (
            "/security/nesting",
            json!(true),
            &["+  security:", "+    nesting: true"],
        ),
        (
            "/command",
            json!(["/bin/sh", "-c", "sleep 2", "x"]),
            &[
                "-  command: [\"/bin/sh\", -c, 'sleep 1']",
                "+  command: [\"/bin/sh\", -c, 'sleep 2', x]",
            ],
        ),
        (
            "/environment",
            json!({ "HOME": "${HOME}/x", "TEAM": "b", "X": "1" }),
            &["-    TEAM: a", "+    TEAM: b", "+    X: \"1\""],
        ),
    ] {
        let edited = scene.accept(&[(path, live)]);
        let expected: Vec<String> = lines
            .iter()
            .map(|line| format!("one.yaml {line}"))
            .collect();
        assert_eq!(scene.written(&edited), expected, "{path}");
        assert_eq!(edited.also_changes, [], "{path}");
    }
}

#[test]
fn a_line_that_counts_for_others_says_so() {
    let scene = Scene::base(ONE);
    let edited = scene.accept(&[("/limits/memory", json!("128MiB"))]);
    assert_eq!(
        scene.written(&edited),
        [
            "host.yaml -  limits: { memory: 64MiB } # of all",
            "host.yaml +  limits: { memory: 128MiB } # of all",
        ]
    );
    assert_eq!(
        edited.also_changes,
        [Also {
            id: "instance/two".parse().expect("an address"),
            fields: vec!["limits.memory".to_owned()],
        }]
    );
    // An object that names another needs that one.
    let edited = scene.accept(&[("/devices/eth0/network", json!("wan"))]);
    let fields = vec![
        "devices.eth0.network".to_owned(),
        "order after others".to_owned(),
    ];
    assert_eq!(scene.written(&edited).len(), 2);
    assert_eq!(edited.also_changes[0].fields, fields);
    // A part of a device of the profile is written there.
    let edited = scene.accept(&[("/devices/eth0/mtu", json!(1400))]);
    let line = "host.yaml +    eth0: { type: nic, network: lan, mtu: 1400 }";
    assert_eq!(scene.written(&edited)[1], line);
}

#[test]
fn what_a_base_does_not_have_goes_into_the_patch_over_it() {
    let scene = Scene::over();
    for (path, live, lines) in [
        (
            "/limits/processes",
            json!(50),
            &[
                "../base/one.yaml -    processes: 100",
                "../base/one.yaml +    processes: 50",
            ][..],
        ),
        (
            "/environment/NEW",
            json!("x"),
            &["keel.yaml +          NEW: x"],
        ),
        (
            "/limits/cpuAllowance",
            json!("50ms/100ms"),
            &[
                "keel.yaml +        limits:",
                "keel.yaml +          cpuAllowance: 50ms/100ms",
            ],
        ),
    ] {
        let edited = scene.accept(&[(path, live)]);
        assert_eq!(scene.written(&edited), lines, "{path}");
    }
}

#[test]
fn all_refusals_are_told_at_once() {
    let scene = Scene::over();
    let edited = scene.accept(&[
        ("/environment/TEAM", json!("c")),
        ("/limits/processes", json!(50)),
        ("/environment/NEW", json!("${each.value}")),
        ("/type", json!("none such")),
    ]);
    assert_eq!(
        refusals(&edited)[..2],
        [
            "keel.yaml:11:17 environment.TEAM: it is written as `\"${var.team}\"`: change what that stands for",
            "../base/one.yaml:11:3 environment.NEW: `${each.value}` lives, which a manifest cannot say: \
             it would stand for a variable",
        ],
    );
    let wrong = &refusals(&edited)[2];
    assert!(
        wrong.contains("the manifests would be wrong then: ["),
        "{wrong}"
    );
}

#[test]
fn what_an_anchor_shares_is_refused() {
    let one = ONE.replace("TEAM: a", "TEAM: &t a\n    ALSO: *t");
    let scene = Scene::base(&one);
    let edited = scene.accept(&[("/environment/ALSO", json!("b"))]);
    assert_eq!(
        refusals(&edited),
        [
            "one.yaml:14:14 environment.ALSO: it is shared by an anchor, and counts wherever an alias of that stands"
        ]
    );
}

#[test]
fn nothing_else_may_change() {
    let scene = Scene::base(ONE);
    let (before, one) = (scene.desired(), scene.one());
    let found = |change: &dyn Fn(&mut DesiredSet)| {
        let mut after = before.clone();
        change(&mut after);
        let mut refused = Vec::new();
        meaning::of_the_object(before, &after, one, &[], &mut refused);
        let refused: Vec<String> = refused.into_iter().map(|one| one.why).collect();
        let others = meaning::others(before, &after, Some(&one.address));
        let others = others
            .into_iter()
            .map(|also| format!("{} {}", also.id, also.fields.join(" ")));
        refused.into_iter().chain(others).collect::<Vec<_>>()
    };
    assert_eq!(found(&|_| ()), Vec::<String>::new());
    let two = || "instance/two".parse::<Address>().expect("an address");
    let label = |set: &mut DesiredSet, address: &Address| {
        let resource = set.resources.get_mut(address).expect("an object");
        resource.labels.insert("a".to_owned(), "b".to_owned());
        resource.annotations.insert("a".to_owned(), "b".to_owned());
        resource.previous.push(two());
        resource.lifecycle.protect = !resource.lifecycle.protect;
        resource.needs.clear();
    };
    let parts = [
        "labels",
        "annotations",
        "lifecycle",
        "previous names",
        "order after others",
    ];
    let own = parts.map(|part| format!("its {part} would change as well"));
    assert_eq!(found(&|set| label(set, &one.address)), own);
    let all = format!("instance/two {}", parts.join(" "));
    assert_eq!(found(&|set| label(set, &two())), [all]);
    let source = found(&|set| {
        set.budget.data += 1;
        set.windows.destructive.push(manifests::desired::Window {
            cron: "* * * * *".to_owned(),
            seconds: 1,
            time_zone: "UTC".to_owned(),
        });
        set.trash.keep_seconds += 1;
        set.host = Some((None, None));
        set.external.push(two());
    });
    let parts = ["host", "budget", "windows", "trash", "external"];
    let own = parts.map(|part| format!("`{part}` of the source would change as well"));
    assert_eq!(source, own);
    // An instance takes the place of what a policy and a secret are: resources by their addresses.
    let other = |set: &DesiredSet| set.resources[&two()].clone();
    let gone = "instance/two is not declared any more";
    assert_eq!(found(&|set| drop(set.resources.remove(&two()))), [gone]);
    let moved = found(&|set| {
        let mut policy = other(set);
        policy.address.name = "rule".to_owned();
        set.policies.push(policy.clone());
        policy.address.name = "key".to_owned();
        set.secrets.insert(policy.address.clone(), policy);
    });
    assert_eq!(
        moved,
        [
            "instance/key is declared then",
            "instance/rule is declared then"
        ]
    );
}

/// A field of `one` that drifted.
fn drifted(scene: &Scene, path: &str, live: Value) -> DriftedField {
    let one = scene.one();
    let path = Pointer::new(path);
    DriftedField {
        address: one.address.clone(),
        desired: json!("one"),
        live,
        mode: DriftMode::Correct,
        first_seen: jiff::Timestamp::UNIX_EPOCH,
        times: 1,
        gone: false,
        origin: one.origin_of(&path),
        secret: false,
        author: None,
        why: None,
        hold: None,
        path,
    }
}

#[test]
fn what_cannot_be_accepted_says_why() {
    let scene = Scene::base(ONE);
    let gone = |field: DriftedField| DriftedField {
        gone: true,
        ..field
    };
    let secret = |field: DriftedField| DriftedField {
        secret: true,
        ..field
    };
    for (field, place, words) in [
        (
            gone(drifted(&scene, "", json!(null))),
            "one.yaml:1:1 : ",
            "it is gone from the world",
        ),
        (
            drifted(&scene, "", json!("there in part")),
            "one.yaml:1:1 : ",
            "it is there only in part",
        ),
        (
            drifted(&scene, "/metadata/name", json!("uno")),
            "one.yaml:3:19 metadata.name: ",
            "write `name: uno` and `previousNames: [one]`",
        ),
        (
            secret(drifted(
                &scene,
                "/spec/environment/TEAM",
                json!("(secret #1)"),
            )),
            "one.yaml:14:11 environment.TEAM: ",
            "its value comes from a secret",
        ),
    ] {
        let drift = Drift {
            fields: vec![field],
            ..Drift::default()
        };
        let mut refused = Vec::new();
        let texts = &scene.source.texts;
        let chosen = chosen::fields(drift, scene.one(), None, texts, &mut refused);
        assert_eq!(chosen.expect("fields"), []);
        let told = refusals_of(&refused);
        assert!(
            told[0].starts_with(place) && told[0].contains(words),
            "{told:?}"
        );
    }
}

#[test]
fn a_field_that_did_not_drift_says_so() {
    let scene = Scene::base(ONE);
    let drift = || Drift {
        fields: vec![drifted(&scene, "/spec/state", json!("Stopped"))],
        unseen: vec![crate::plan::NotSeen {
            address: scene.one().address.clone(),
            unseen: vec![manifests::observed::Unseen {
                path: Pointer::new("/spec/devices"),
                why: "no answer".to_owned(),
            }],
        }],
        ignored: [(
            scene.one().address.clone(),
            vec![Pointer::new("/spec/autostart")],
        )]
        .into(),
        ..Drift::default()
    };
    let ask = |drift: Drift, field: Option<&str>| {
        let texts = &scene.source.texts;
        let mut refused = Vec::new();
        let chosen = chosen::fields(drift, scene.one(), field, texts, &mut refused);
        chosen
            .map(|fields| fields.len())
            .map_err(|error| error.report())
    };
    for field in ["state", "spec.state", "/spec/state"] {
        assert_eq!(ask(drift(), Some(field)), Ok(1));
    }
    for (drift, field, words) in [
        (
            drift(),
            Some("limits.memory"),
            "limits.memory of instance/one has not drifted",
        ),
        (
            Drift::default(),
            None,
            "nothing of instance/one has drifted",
        ),
        (
            drift(),
            Some("devices"),
            "devices of instance/one could not be read: no answer",
        ),
        (
            drift(),
            Some("autostart"),
            "a rule of its lifecycle leaves that alone",
        ),
    ] {
        let report = ask(drift, field).expect_err("refused");
        assert!(report.contains(words), "{report}");
    }
}

#[test]
fn who_is_not_declared_here_is_told_where() {
    let one = ONE.replace("{ name: two }", "{ name: two, previousNames: [zwei] }");
    let scene = Scene::base(&one);
    let drift = Drift {
        fields: vec![drifted(&scene, "/metadata/name", json!("uno"))],
        ..Drift::default()
    };
    let mut desired = scene.desired().clone();
    let two = "instance/two".parse::<Address>().expect("an address");
    for (object, words) in [
        (
            "instance/uno",
            "instance/uno is declared as instance/one: it was renamed outside git",
        ),
        (
            "instance/zwei",
            "instance/zwei is declared as instance/two by now",
        ),
        ("instance/onne", "did you mean `one`?"),
        ("instance/other", "keel render lists what is"),
    ] {
        let object = object.parse().expect("an address");
        let error = chosen::resource(&desired, &drift, &object).expect_err("refused");
        assert!(error.report().contains(words), "{}", error.report());
    }
    assert!(chosen::resource(&desired, &drift, &two).is_ok());
    desired.keep(|resource| resource.address != two);
    let error = chosen::resource(&desired, &drift, &two).expect_err("refused");
    assert!(
        error.report().contains("outside of the part"),
        "{}",
        error.report()
    );
}

#[test]
fn other_sources_on_the_same_base_are_told() {
    let staging =
        "apiVersion: evenkeel/v1\nkind: Source\nname: staging\nbases: [../base]\nnamePrefix: s-\n";
    let fixed = format!(
        "{staging}patches:\n  - target: {{ kind: Instance, name: one }}\n    patch: {{ spec: {{ limits: {{ processes: 7 }} }} }}\n"
    );
    let scene = Scene::of(
        &[
            (
                "base/keel.yaml",
                "apiVersion: evenkeel/v1\nkind: Source\nname: base\n",
            ),
            ("base/host.yaml", HOST),
            ("base/one.yaml", ONE),
            ("over/keel.yaml", OVER),
            ("staging/keel.yaml", staging),
            ("fixed/keel.yaml", &fixed),
            ("wrong/keel.yaml", &format!("{staging}windows: 1\n")),
            (
                "alone/keel.yaml",
                "apiVersion: evenkeel/v1\nkind: Source\nname: alone\n",
            ),
            (".hidden/keel.yaml", staging),
        ],
        "over",
    );
    let edited = scene.accept(&[("/limits/processes", json!(50))]);
    let mut told = sources::that_change(&scene.source.texts, &edited.texts);
    let object = |id: &str| {
        vec![Also {
            id: id.parse().expect("an address"),
            fields: vec!["limits.processes".to_owned()],
        }]
    };
    let problem = told.pop().expect("one that is wrong");
    assert_eq!(problem.path, "../wrong");
    assert!(
        problem
            .problem
            .is_some_and(|why| why.contains("wrong already"))
    );
    let paths = told
        .iter()
        .map(|one| (one.path.as_str(), one.base, one.changes.clone()));
    assert_eq!(
        paths.collect::<Vec<_>>(),
        [
            ("../base", true, object("instance/one")),
            ("../staging", false, object("instance/s-one")),
        ]
    );
    assert_eq!(
        sources::that_change(&scene.source.texts, &scene.source.texts),
        []
    );
}
