//! Paths, slips, and that everything is described.

use super::*;

#[test]
fn fields_are_found_by_their_paths() {
    for path in [
        "instance.spec.limits.memory",
        "Instance.limits.memory",
        "limits.memory",
        "/limits/memory",
    ] {
        let found = field(path).unwrap_or_else(|wrong| panic!("{path}: {wrong}"));
        assert_eq!(found.path, "instance.spec.limits.memory");
        assert_eq!(found.change, Some(Effect::Live));
        assert_eq!(found.example, "spec:\n  limits:\n    memory: 512MiB\n");
    }
    let state = field("instance.spec.state").expect("state");
    let words: Vec<&str> = state.words.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["Running", "Stopped", "Frozen"]);
    let devices = field("devices").expect("a map by name");
    let kinds: Vec<&str> = devices
        .fields
        .iter()
        .map(|(word, ..)| word.as_str())
        .collect();
    assert_eq!(
        kinds[..2],
        ["disk", "nic"],
        "the types that an entry may have"
    );
    let nic = field("devices.nic").expect("a variant");
    assert!(
        nic.fields.iter().any(|(name, ..)| name == "hwaddr"),
        "{nic:?}"
    );
    assert_eq!(
        field("devices.eth0.mtu")
            .expect("a field of a device")
            .change,
        Some(Effect::Replug)
    );
    assert!(!field("network").expect("a kind").fields.is_empty());
    assert_eq!(
        field("source.budget.percent")
            .expect("of keel.yaml")
            .default,
        Some(10.into())
    );
    assert_eq!(
        field("lifecycle.prune")
            .expect("of the envelope")
            .words
            .len(),
        4
    );
    assert_eq!(
        field("image.metadata.name").expect("of the envelope").path,
        "image.metadata.name"
    );
}

#[test]
fn a_wrong_word_has_the_nearest_right_one() {
    let wrong = field("instance.spec.limits.memmory").expect_err("a slip");
    assert_eq!(
        wrong.nearest.as_deref(),
        Some("instance.spec.limits.memory")
    );
    assert_eq!(
        wrong.to_string(),
        "there is no field `memmory` in instance.spec.limits"
    );
    assert_eq!(
        field("netwrok").expect_err("a slip").nearest.as_deref(),
        Some("network")
    );
}

#[test]
fn every_field_has_a_description_and_a_type() {
    fn each(kind: Option<Kind>, root: &Value, path: &str, depth: usize, missing: &mut Vec<String>) {
        let steps: Vec<&str> = path.split('.').skip(1).collect();
        let word = path.split('.').next().unwrap_or_default();
        let found =
            walk(word, kind, root, &steps).unwrap_or_else(|wrong| panic!("{path}: {wrong}"));
        if found.description.is_empty() || found.r#type.is_empty() {
            missing.push(path.to_owned());
        }
        if depth < 5 {
            for (name, ..) in &found.fields {
                each(kind, root, &format!("{path}.{name}"), depth + 1, missing);
            }
        }
    }
    let mut missing = Vec::new();
    for kind in Kind::ALL {
        each(
            Some(*kind),
            &schema::of_kind_plain(*kind),
            kind.word(),
            0,
            &mut missing,
        );
    }
    each(None, &schema::of_source_plain(), "source", 0, &mut missing);
    missing.retain(|path| !path.ends_with("devices.*.type") && !path.contains("source.defaults."));
    assert!(missing.is_empty(), "{missing:#?}");
}
