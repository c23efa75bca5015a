//! That everything is told, and that a cost is told where it is paid.

use super::*;

/// Each property of a schema with its path; conditions are no fields.
fn properties<'a>(node: &'a Value, path: &str, out: &mut Vec<(String, &'a Value)>) {
    match node {
        Value::Object(map) => {
            for (key, below) in map {
                let path = format!("{path}/{key}");
                if let ("properties" | "patternProperties", Value::Object(fields)) =
                    (key.as_str(), below)
                {
                    for (name, field) in fields {
                        out.push((format!("{path}/{name}"), field));
                    }
                }
                if !["if", "defaultSnippets", "default", "examples"].contains(&key.as_str()) {
                    properties(below, &path, out);
                }
            }
        }
        Value::Array(items) => {
            for (index, below) in items.iter().enumerate() {
                properties(below, &format!("{path}/{index}"), out);
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_is_told() {
    for (name, content) in files() {
        let schema: Value = serde_json::from_str(&content).expect("JSON");
        let mut all = Vec::new();
        properties(&schema, "", &mut all);
        let silent: Vec<&String> = all
            .iter()
            .filter(|(path, field)| {
                let told = |key: &str| field[key].as_str().is_some_and(|text| !text.is_empty());
                // Names of modes by field, and the head of all kinds, which is told by its kind.
                let head = name == "v1/all.json" && path.matches('/').count() == 2;
                let of_specs = path.contains("/defaults/");
                !(head || of_specs || told("description") && told("markdownDescription"))
            })
            .map(|(path, _)| path)
            .collect();
        assert!(silent.is_empty(), "{name}: {silent:#?}");
    }
}

/// What editors show at a path, through references.
fn shown(schema: &Value, path: &[&str]) -> String {
    fn find<'a>(node: &'a Value, root: &'a Value, key: &str) -> Option<&'a Value> {
        let named = node["$ref"]
            .as_str()
            .map(|name| &root["definitions"][name.trim_start_matches("#/definitions/")]);
        let below = |list: &str| node[list].as_array().into_iter().flatten();
        node["properties"]
            .get(key)
            .or_else(|| Some(&node["additionalProperties"]).filter(|values| values.is_object()))
            .or_else(|| named.and_then(|node| find(node, root, key)))
            .or_else(|| {
                below("allOf")
                    .chain(below("anyOf"))
                    .find_map(|one| find(one, root, key))
            })
            .or_else(|| node.get("then").and_then(|node| find(node, root, key)))
    }
    let mut node = schema;
    for key in path {
        node = find(node, schema, key).unwrap_or_else(|| panic!("{key} of {path:?}"));
    }
    let text = node["markdownDescription"].as_str().expect("a text");
    text.split_once("Changing it: ")
        .map_or(String::new(), |(_, cost)| cost.to_owned())
}

#[test]
fn a_cost_is_told_where_it_is_paid() {
    let instance = of_kind(Kind::Instance);
    let of = |path: &str| shown(&instance, &path.split('.').collect::<Vec<_>>());
    for (path, begins) in [
        ("spec.limits.memory", "**live**"),
        ("spec.limits.kernel.nofile", "**next start**"),
        (
            "spec.limits",
            "**live** or **next start**, as its fields say.",
        ),
        ("spec.image", "**rebuild**"),
        ("spec.type", "**replace**"),
        // The same type at two places.
        ("spec.user.x.file", "**live**"),
        ("spec.environment.x.file", "**next start**"),
        ("metadata.labels", ""),
        ("lifecycle.prune", ""),
    ] {
        let told = of(path);
        assert!(
            told.starts_with(begins) && told.is_empty() == begins.is_empty(),
            "{path}: {told}"
        );
    }
    assert!(of("spec.devices.root.size").contains("keel doctor"));
    let profile = of_kind(Kind::Profile);
    assert!(shown(&profile, &["spec", "environment"]).starts_with("**next start**"));
    assert!(
        shown(&of_source(), &["defaults", "Instance", "environment"]).starts_with("**next start**")
    );
    let pool = of_kind(Kind::StoragePool);
    assert!(shown(&pool, &["metadata", "name"]).starts_with("**forbidden**"));
    assert_eq!(shown(&instance, &["metadata", "name"]), "");
}
