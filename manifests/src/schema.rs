//! JSON schemas of the language (draft-07, which every editor reads), one per kind and one for all kinds, from the
//! declarations of the fields.
//!
//! A schema is for typing speed; what a manifest means is decided by [`crate::resolve`]. It is never stricter than that:
//! what resolves is valid, also `null` (removes an inherited value), `${var.…}` in place of a value, and numbers where a
//! text is wanted.

mod envelope;
mod normal;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::envelope::API_VERSION;
use crate::kind::Kind;

/// The word in `kind` of `keel.yaml`.
pub const SOURCE_KIND: &str = "Source";

/// The name of the schema of all kinds, without its ending.
pub const ALL: &str = "all";

/// The schema files: name below the folder of schemas, and content. The folder `v1` is the version of the language.
pub fn files() -> Vec<(String, String)> {
    let of_kinds = Kind::ALL
        .iter()
        .map(|kind| (kind.word().to_owned(), of_kind(*kind)));
    let rest = [
        ("source".to_owned(), of_source()),
        (ALL.to_owned(), of_all()),
    ];
    of_kinds
        .chain(rest)
        .map(|(name, schema)| (format!("v1/{name}.json"), format!("{schema:#}\n")))
        .collect()
}

/// The schema of the documents of one kind.
pub fn of_kind(kind: Kind) -> Value {
    let mut generator = generator();
    let document = envelope::document(kind, &mut generator);
    root(document, generator)
}

/// The schema of `keel.yaml`.
pub fn of_source() -> Value {
    let mut generator = generator();
    let document = envelope::source(&mut generator);
    root(document, generator)
}

/// The schema of all kinds: `kind` chooses. `if` and `then` instead of `oneOf`, since editors then name the mistake and
/// not all branches.
pub fn of_all() -> Value {
    let mut generator = generator();
    let mut documents: Vec<(&str, Value)> = Kind::ALL
        .iter()
        .map(|kind| (kind.name(), envelope::document(*kind, &mut generator)))
        .collect();
    documents.push((SOURCE_KIND, envelope::source(&mut generator)));
    let kinds: Vec<&str> = documents.iter().map(|(name, _)| *name).collect();
    // No type in here: a mistake would be told twice.
    let keys = ["metadata", "spec", "lifecycle", "forEach", "dependsOn"];
    let mut properties = Map::from_iter([
        ("$schema".to_owned(), json!({ "type": "string" })),
        ("apiVersion".to_owned(), json!({ "enum": [API_VERSION] })),
        (
            "kind".to_owned(),
            json!({ "enum": kinds, "description": "What the object is." }),
        ),
    ]);
    properties.extend(keys.iter().map(|key| ((*key).to_owned(), json!({}))));
    let branches: Vec<Value> = documents
        .iter()
        .map(|(name, _)| {
            json!({
                "if": {
                    "properties": { "apiVersion": { "const": API_VERSION }, "kind": { "const": name } },
                    "required": ["kind"],
                },
                "then": { "$ref": format!("#/definitions/{name}Document") },
            })
        })
        .collect();
    let all = json!({
        "title": "A document of Evenkeel",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": properties,
        "allOf": branches,
    });
    let mut schema = root(all, generator);
    if let Some(Value::Object(definitions)) = schema.get_mut("definitions") {
        for (name, mut document) in documents {
            normal::normal(&mut document);
            definitions.insert(format!("{name}Document"), document);
        }
    }
    schema
}

/// As [`of_kind`], before it is made what editors read well: as the declarations say it.
pub(crate) fn of_kind_plain(kind: Kind) -> Value {
    let mut generator = generator();
    let document = envelope::document(kind, &mut generator);
    collected(document, generator)
}

/// As [`of_source`], as the declarations say it.
pub(crate) fn of_source_plain() -> Value {
    let mut generator = generator();
    let document = envelope::source(&mut generator);
    collected(document, generator)
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft07()
        .with(|settings| settings.meta_schema = None)
        .into_generator()
}

fn root(top: Value, generator: SchemaGenerator) -> Value {
    let mut schema = collected(top, generator);
    normal::normal(&mut schema);
    schema
}

/// A whole schema from its top and what the generator collected.
fn collected(top: Value, mut generator: SchemaGenerator) -> Value {
    let mut schema = Map::new();
    schema.insert(
        "$schema".to_owned(),
        json!("http://json-schema.org/draft-07/schema#"),
    );
    if let Value::Object(top) = top {
        schema.extend(top);
    }
    let mut definitions = generator.take_definitions(true);
    definitions.sort_keys();
    if !definitions.is_empty() {
        schema.insert("definitions".to_owned(), Value::Object(definitions));
    }
    Value::Object(schema)
}
