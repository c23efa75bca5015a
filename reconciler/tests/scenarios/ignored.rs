//! What an ignore rule is about is left alone by diff, plan and apply alike, whoever changed it; and rules that leave
//! nothing alone are told.

use manifests::desired::DesiredSet;
use manifests::kind::Spec;
use manifests::lifecycle::DriftMode;
use manifests::pointer::Pointer;
use reconciler::diff::WhyStale;
use serde_json::{Value, json};

use crate::stage::{Stage, address, document, ground, only, source, words};

const FIELD: &str = "/spec/limits/memory";

/// A source with `web`, which says so much memory and such a description.
fn wanted(tree: &str, memory: &str, description: &str, lifecycle: &str) -> DesiredSet {
    let spec = format!(
        "spec:\n  image: busybox\n  description: {description}\n  limits: {{ memory: {memory} }}\n  \
         devices: {{ root: {{ type: disk, path: /, pool: main }} }}\n{lifecycle}"
    );
    let more = format!("budget: {{ data: 99, percent: 100 }}\n{tree}");
    source(
        "edge",
        &more,
        &(ground() + &document("Instance", "web", &spec)),
    )
}

/// The live value of a field of `web`.
fn live(stage: &Stage, pointer: &str) -> Value {
    let world = stage.runtime.world();
    let spec = world.items[&address("instance/web")].spec.to_value();
    let below = pointer.strip_prefix("/spec").unwrap();
    spec.pointer(below).cloned().unwrap_or_default()
}

/// Somebody writes a value into a field of `web`.
fn by_hand(stage: &Stage, pointer: &str, value: Value) {
    stage.runtime.by_hand(|world| {
        let item = world.items.get_mut(&address("instance/web")).unwrap();
        let mut spec = item.spec.to_value();
        let below = pointer.strip_prefix("/spec").unwrap();
        let (map, key) = below.rsplit_once('/').unwrap();
        spec.pointer_mut(map).unwrap()[key] = value;
        item.spec = Spec::deserialize(item.address.kind, spec).unwrap();
    });
}

/// Why each rule leaves nothing alone, with its file, its line and its objects.
fn stale(stage: &Stage, desired: &DesiredSet) -> Vec<(WhyStale, String, usize)> {
    let drift = stage.session().drift(desired).unwrap();
    drift
        .stale_rules
        .into_iter()
        .map(|stale| {
            let origin = stale.rule.origin.unwrap();
            (stale.why, origin.to_string(), stale.objects.len())
        })
        .collect()
}

#[test]
fn what_is_said_of_drift_is_what_the_next_plan_does() {
    for (lifecycle, put_back) in [
        ("", &["/spec/limits/processes"][..]),
        ("lifecycle: { drift: warn }", &[]),
        (
            "lifecycle: { drift: { default: correct, /spec/limits: warn }, extras: remove }",
            &["/spec/user/note"],
        ),
    ] {
        let stage = Stage::new();
        let desired = wanted("", "1GiB", "one", lifecycle);
        stage.done(&desired);
        // Git says nothing of either: the one is a field with a default, the other an entry that somebody added.
        by_hand(&stage, "/spec/limits/processes", json!(55));
        by_hand(&stage, "/spec/user", json!({ "note": "by hand" }));
        let drift = stage.session().drift(&desired).unwrap().fields;
        assert_eq!(drift.len(), 2, "{drift:#?}");
        let corrected = drift
            .iter()
            .filter(|field| field.mode == DriftMode::Correct);
        let corrected: Vec<&str> = corrected.map(|field| field.path.as_str()).collect();
        assert_eq!(corrected, put_back, "{lifecycle}");
        let plan = stage.plan(&desired);
        let changes = plan.steps.iter().flat_map(|step| &step.changes);
        let changes: Vec<&str> = changes.map(|one| one.change.path.as_str()).collect();
        assert_eq!(changes, put_back, "{lifecycle}");
    }
}

#[test]
fn a_rule_acts_on_diff_plan_and_apply_alike_at_each_level() {
    let rule = |path: &str| format!("lifecycle: {{ ignore: [{{ path: {path} }}] }}");
    let field = rule(FIELD);
    for (tree, lifecycle) in [
        // A field, a part, each of something, all of an object; of an object, and of the tree.
        ("", field.as_str()),
        ("", &rule("/spec/limits")),
        ("", &rule("/spec/*/memory")),
        (&field, ""),
        (&rule("/spec/limits"), ""),
    ] {
        let what = format!("{tree:?} {lifecycle:?}");
        let set = |memory, description| wanted(tree, memory, description, lifecycle);
        let stage = Stage::new();
        stage.done(&set("1GiB", "one"));
        assert_eq!(live(&stage, FIELD), "1GiB", "made as git says: {what}");
        assert_eq!(
            stale(&stage, &set("1GiB", "one"))[0].0,
            WhyStale::NothingDiffers
        );
        by_hand(&stage, FIELD, json!("2GiB"));

        // It is no drift, and no plan touches it.
        let drift = stage.session().drift(&set("1GiB", "one")).unwrap();
        assert_eq!(drift.fields, [], "{what}");
        assert_eq!(
            drift.ignored[&address("instance/web")],
            [Pointer::new(FIELD)],
            "{what}"
        );
        assert_eq!(drift.stale_rules, [], "{what}");
        assert_eq!(stage.plan(&set("1GiB", "one")).steps, [], "{what}");
        // Nor where git changes its mind.
        assert_eq!(stage.plan(&set("3GiB", "one")).steps, [], "{what}");

        // What else is changed in git is changed, and no apply puts it back on the way.
        let edited = set("3GiB", "two");
        let plan = stage.plan(&edited);
        assert_eq!(words(&plan.steps), ["update instance/web"], "{what}");
        assert_eq!(plan.steps[0].changes.len(), 1, "{what}");
        stage.done(&edited);
        assert_eq!(live(&stage, "/spec/description"), "two", "{what}");
        assert_eq!(live(&stage, FIELD), "2GiB", "{what}");
        assert_eq!(stage.plan(&edited).steps, [], "{what}");

        // Without the rule, git says what is so again.
        stage.done(&wanted("", "3GiB", "two", ""));
        assert_eq!(live(&stage, FIELD), "3GiB", "{what}");
    }
}

#[test]
fn a_rule_for_a_whole_object_leaves_all_of_it_alone() {
    for (tree, lifecycle) in [
        ("", "lifecycle: { ignore: [{ path: /spec }] }"),
        ("lifecycle: { ignore: [{ path: /spec }] }", ""),
    ] {
        let set = |description| wanted(tree, "1GiB", description, lifecycle);
        let stage = Stage::new();
        stage.done(&set("one"));
        by_hand(&stage, FIELD, json!("2GiB"));
        let drift = stage.session().drift(&set("two")).unwrap();
        assert_eq!(drift.fields, []);
        assert_eq!(stage.plan(&set("two")).steps, []);
        stage.done(&set("two"));
        assert_eq!(live(&stage, FIELD), "2GiB");
        assert_eq!(live(&stage, "/spec/description"), "one");
        // That it is there at all is no field of it.
        stage.runtime.by_hand(|world| {
            world.items.remove(&address("instance/web"));
        });
        assert_eq!(
            words(&stage.plan(&set("two")).steps),
            ["create instance/web"]
        );
    }
}

#[test]
fn the_rules_of_an_object_stand_for_those_of_the_tree() {
    let tree = "lifecycle: { ignore: [{ path: /spec/description }] }";
    let own = format!("lifecycle: {{ ignore: [{{ path: {FIELD} }}] }}");
    let set = wanted(tree, "1GiB", "one", &own);
    let stage = Stage::new();
    stage.done(&set);
    by_hand(&stage, FIELD, json!("2GiB"));
    by_hand(&stage, "/spec/description", json!("by hand"));
    let plan = stage.plan(&set);
    assert_eq!(words(&plan.steps), ["update instance/web"]);
    assert_eq!(
        plan.steps[0].changes[0].change.path.as_str(),
        "/spec/description"
    );
    stage.done(&set);
    assert_eq!(live(&stage, FIELD), "2GiB");
}

#[test]
fn rules_that_leave_nothing_alone_are_told_with_their_place() {
    let rules = |text: &str| format!("lifecycle: {{ ignore: [{text}] }}");
    let own = rules(
        "{ path: /spec/limits/memory, until: 2026-11-22 }, { path: /spec/limits/memmory }, \
         { path: /spec/devices/*/pool }, { path: /spec/limits/memory, until: 2026-11-23 }",
    );
    let set = wanted("", "1GiB", "one", &own);
    let stage = Stage::new();
    stage.done(&set);
    by_hand(&stage, FIELD, json!("2GiB"));
    let line = "all.yaml:20".to_owned();
    let told = stale(&stage, &set);
    assert_eq!(
        told,
        [
            (WhyStale::Expired, line.clone(), 1),
            (WhyStale::NoField, line.clone(), 1),
            (WhyStale::NothingDiffers, line, 1),
        ]
    );

    // A rule of the tree is for all, and needed where one needs it.
    let tree = rules("{ path: /spec/limits/memory }, { path: /spec/nonsense }");
    let set = wanted(&tree, "1GiB", "one", "");
    let line = "keel.yaml:5".to_owned();
    assert_eq!(stale(&stage, &set), [(WhyStale::NoField, line.clone(), 3)]);
    // A part does not know what the others need; that a rule is over, it knows.
    assert_eq!(stale(&stage, &only(set, "image/busybox")), []);
    let tree = rules("{ path: /spec/limits/memory, until: 2026-01-01 }");
    let part = only(wanted(&tree, "1GiB", "one", ""), "image/busybox");
    assert_eq!(stale(&stage, &part), [(WhyStale::Expired, line, 3)]);

    // Of what is not there, or was not read, it is not known.
    let own = rules("{ path: /spec/limits/memory }");
    let set = wanted("", "1GiB", "one", &own);
    assert_eq!(stale(&Stage::new(), &set), []);
}
