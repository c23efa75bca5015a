//! The OpenAPI document, made from the list of routes and the types that travel.

use axum::Json;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::routes::{Route, all};
use super::sockets::{ExecEnd, ExecStart, Said};

pub(super) async fn answer() -> Json<Value> {
    Json(document())
}

/// The document, OpenAPI 3.1.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    // What goes through web sockets, to which no operation refers.
    generator.subschema_for::<ExecStart>();
    generator.subschema_for::<Said>();
    generator.subschema_for::<ExecEnd>();
    let mut paths: Map<String, Value> = Map::new();
    for route in all() {
        let parameters = parameters(&route);
        let answered = match route.answer {
            Some(answer) => json!({"application/json": {"schema": answer(&mut generator)}}),
            None => json!({"text/plain": {"schema": {"type": "string"}}}),
        };
        let mut operation = json!({
            "operationId": name(&route),
            "summary": route.what,
            "parameters": parameters,
            "responses": {
                "2XX": {"description": "Done.", "content": answered},
                "default": {
                    "description": "Refused or failed, as RFC 9457 has it.",
                    "content": {"application/problem+json": {"schema": problem}},
                },
            },
        });
        if let Some(body) = route.body {
            operation["requestBody"] = json!({
                "required": true,
                "content": {"application/json": {"schema": body(&mut generator)}},
            });
        }
        if let Some(role) = route.role {
            operation["description"] = json!(format!("For {role} and above."));
        }
        let method = route.method.as_str().to_ascii_lowercase();
        let path = route.path.replace("{*", "{");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Evenkeel controller",
            "version": "1",
            "description": "Answers come from what the controller last saw. Over its socket the kernel says who asks.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "The socket, /run/keel/STATE-ID/api.sock"}],
        "paths": paths,
        "components": {"schemas": generator.take_definitions(true)},
    })
}

fn parameters(route: &Route) -> Vec<Value> {
    let in_path = route.path.split('/').filter_map(|step| {
        let name = step.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({
            "name": name.trim_start_matches('*'),
            "in": "path",
            "required": true,
            "schema": {"type": "string"},
        }))
    });
    let in_query = route.query.iter().map(|(name, what)| {
        json!({"name": name, "in": "query", "description": what, "schema": {"type": "string"}})
    });
    in_path.chain(in_query).collect()
}

/// `getV1Status`.
fn name(route: &Route) -> String {
    let mut name = route.method.as_str().to_ascii_lowercase();
    for step in route.path.split(['/', '.']) {
        let step = step.trim_matches(['{', '}', '*']);
        let mut characters = step.chars();
        if let Some(first) = characters.next() {
            name.extend(first.to_uppercase());
            name.push_str(characters.as_str());
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own_and_every_schema_is_there() {
        let document = document();
        let text = document.to_string();
        let mut names = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let name = operation["operationId"]
                    .as_str()
                    .expect("a name")
                    .to_owned();
                assert!(names.insert(name), "{method} {path}");
            }
        }
        for reference in text.split("\"$ref\":\"").skip(1) {
            let reference = reference.split('"').next().expect("an end");
            let at = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(at).is_some(), "{reference}");
        }
    }
}
