//! The schemas of documents, and what of a document is not as they say.

use std::path::Path;

use manifests::path_io;
use serde_json::{Value, json};

/// A published schema, made strict: what a document has and the schema does not name is a mistake of this version.
pub(crate) fn strict_schema(name: &str) -> Value {
    fn close(schema: &mut Value) {
        match schema {
            Value::Object(fields) => {
                if fields.contains_key("properties") && !fields.contains_key("additionalProperties")
                {
                    fields.insert("additionalProperties".to_owned(), json!(false));
                }
                fields.values_mut().for_each(close);
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../schemas")
        .join(name);
    let text = path_io::read_to_string(path).expect("a schema");
    let mut schema = serde_json::from_str(&text).expect("JSON");
    assert!(jsonschema::draft202012::meta::is_valid(&schema), "{name}");
    close(&mut schema);
    schema
}

/// What of a document is not as a schema says.
pub(crate) fn wrong_with(schema: &jsonschema::Validator, document: &Value) -> Vec<String> {
    let errors = schema.iter_errors(document);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}
