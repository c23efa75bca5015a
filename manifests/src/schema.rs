//! JSON schemas of the language (draft-07, which every editor reads), one per kind and one for all kinds, from the
//! declarations of the fields.
//!
//! A schema is for typing speed; what a manifest means is decided by [`crate::resolve`]. It is never stricter than that:
//! what resolves is valid, also `null` (removes an inherited value), `${var.…}` in place of a value, and numbers where a
//! text is wanted.

mod envelope;
mod normal;
mod snippets;
mod told;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::envelope::API_VERSION;
use crate::kind::Kind;
use told::{Place, Teller};

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
        ("controller".to_owned(), of_controller()),
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
    root(&document, generator, Some(kind))
}

/// The schema of `keel.yaml`.
pub fn of_source() -> Value {
    let mut generator = generator();
    let document = envelope::source(&mut generator);
    root(&document, generator, None)
}

/// The schema of the settings of a controller. It is not among [`of_all`]: they are no manifest.
pub fn of_controller() -> Value {
    let mut generator = generator();
    let document = envelope::controller(&mut generator);
    let mut teller = Teller::new(generator.take_definitions(true));
    let top = teller.tell(&document, &Place::document(None));
    let mut schema = whole(top, teller.into_definitions());
    normal::normal(&mut schema);
    schema
}

/// The schema of all kinds: `kind` chooses. `if` and `then` instead of `oneOf`, since editors then name the mistake and
/// not all branches.
pub fn of_all() -> Value {
    let (documents, mut generator) = documents();
    let mut teller = Teller::new(generator.take_definitions(true));
    let told: Vec<(String, Value)> = documents
        .iter()
        .map(|(kind, name, document)| {
            let mut document = teller.tell(document, &Place::document(*kind));
            normal::normal(&mut document);
            (format!("{name}Document"), document)
        })
        .collect();
    let kinds: Vec<&str> = documents.iter().map(|(_, name, _)| *name).collect();
    let what = |kind: &Option<Kind>| kind.map_or(envelope::OF_SOURCE, Kind::describe);
    let meanings: Vec<&str> = documents.iter().map(|(kind, ..)| what(kind)).collect();
    // Nothing else in here: a mistake would be told twice, and editors would complete what they know too little of.
    let properties = json!({
        "apiVersion": { "enum": [API_VERSION] },
        "kind": { "enum": kinds, "enumDescriptions": meanings },
    });
    let whole_documents: Value = documents
        .iter()
        .map(|(kind, ..)| snippets::document(*kind))
        .collect();
    let branches: Vec<Value> = kinds
        .iter()
        .map(|name| {
            json!({
                "if": {
                    // What editors offer in an empty file for each condition.
                    "title": format!("kind: {name}"),
                    "type": "object",
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
        "defaultSnippets": whole_documents,
    });
    let mut schema = whole(all, teller.into_definitions());
    normal::normal(&mut schema);
    if let Some(Value::Object(definitions)) = schema.get_mut("definitions") {
        definitions.extend(told);
    }
    schema
}

/// The schema of all kinds as the declarations alone give it, joined in the usual way: what [`of_all`] is better than.
pub fn of_all_untold() -> Value {
    let (documents, mut generator) = documents();
    let documents: Vec<Value> = documents
        .into_iter()
        .map(|(.., document)| document)
        .collect();
    let mut schema = whole(
        json!({ "oneOf": documents }),
        generator.take_definitions(true),
    );
    without_messages(&mut schema);
    schema
}

/// Without what is no part of JSON Schema.
fn without_messages(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("errorMessage");
            map.values_mut().for_each(without_messages);
        }
        Value::Array(items) => items.iter_mut().for_each(without_messages),
        _ => {}
    }
}

/// The kind of documents (none: `keel.yaml`), its name and its schema.
type Document = (Option<Kind>, &'static str, Value);

/// The documents of each kind and of `keel.yaml`.
fn documents() -> (Vec<Document>, SchemaGenerator) {
    let mut generator = generator();
    let mut documents: Vec<_> = Kind::ALL
        .iter()
        .map(|kind| {
            (
                Some(*kind),
                kind.name(),
                envelope::document(*kind, &mut generator),
            )
        })
        .collect();
    documents.push((None, SOURCE_KIND, envelope::source(&mut generator)));
    (documents, generator)
}

/// As [`of_kind`], as the declarations say it.
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

fn root(top: &Value, mut generator: SchemaGenerator, kind: Option<Kind>) -> Value {
    let mut teller = Teller::new(generator.take_definitions(true));
    let mut top = teller.tell(top, &Place::document(kind));
    top["defaultSnippets"] = json!([snippets::document(kind)]);
    let mut schema = whole(top, teller.into_definitions());
    normal::normal(&mut schema);
    schema
}

/// A whole schema from its top and what the generator collected.
fn collected(top: Value, mut generator: SchemaGenerator) -> Value {
    whole(top, generator.take_definitions(true))
}

fn whole(top: Value, mut definitions: Map<String, Value>) -> Value {
    let mut schema = Map::new();
    schema.insert(
        "$schema".to_owned(),
        json!("http://json-schema.org/draft-07/schema#"),
    );
    if let Value::Object(top) = top {
        schema.extend(top);
    }
    definitions.sort_keys();
    if !definitions.is_empty() {
        schema.insert("definitions".to_owned(), Value::Object(definitions));
    }
    Value::Object(schema)
}

#[cfg(test)]
mod tests;
