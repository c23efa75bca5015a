//! What the derives write, made into what editors read well and what the language takes.

use serde_json::{Map, Value, json};

/// What stands in place of a value that is filled in later.
const VARIABLE: &str = "\\$\\{(var|each)\\.";

/// Rewrites a schema and all below it.
pub(super) fn normal(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    // `null` removes an inherited value: each value below a key may be one.
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = map.get_mut(key) {
            for (key, property) in properties {
                normal(property);
                // What the object is cannot be taken back.
                if !["apiVersion", "kind"].contains(&key.as_str()) {
                    nullable(property);
                }
            }
        }
    }
    if let Some(values @ Value::Object(_)) = map.get_mut("additionalProperties") {
        normal(values);
        nullable(values);
    }
    if let Some(Value::Object(definitions)) = map.get_mut("definitions") {
        for definition in definitions.values_mut() {
            normal(definition);
            nullable(definition);
        }
    }
    for key in ["items", "then", "else"] {
        if let Some(below) = map.get_mut(key) {
            normal(below);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(choices)) = map.get_mut(key) {
            choices.iter_mut().for_each(normal);
        }
    }
    defaults(map);
    if map.get("format").is_some() {
        // `uint32`, `ip` and such are no formats of the standard.
        map.remove("format");
    }
    variables(map);
}

/// A default of null says nothing, and one of a whole part is said by its fields.
fn defaults(map: &mut Map<String, Value>) {
    let says_nothing = match map.get("default") {
        Some(Value::Null | Value::Object(_)) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        _ => false,
    };
    if says_nothing {
        map.remove("default");
    }
}

/// Lets `${var.NAME}` stand for a number or a word, and a number for a text.
fn variables(map: &mut Map<String, Value>) {
    if let Some(Value::String(pattern)) = map.get_mut("pattern") {
        *pattern = format!("{pattern}|{VARIABLE}");
        return;
    }
    if let Some(Value::Array(words)) = map.remove("enum") {
        // What editors offer is `enum`; what else is allowed stands beside it.
        map.insert(
            "anyOf".to_owned(),
            json!([{ "enum": words }, { "type": "string", "pattern": VARIABLE }]),
        );
        return;
    }
    if let Some(Value::Array(choices)) = map.remove("oneOf") {
        // Editors complete a key whose value is one of several with a colon and a space only where it is `anyOf`.
        let variable = json!({ "type": "string", "pattern": VARIABLE });
        let choices = match words(&choices) {
            Some(words) => vec![words, variable],
            None => choices.into_iter().chain([variable]).collect(),
        };
        map.insert("anyOf".to_owned(), choices.into());
        return;
    }
    let Some(kind) = map.get("type").cloned() else {
        return;
    };
    let one = |word: &str| kind == json!(word) || kind == json!([word, "null"]);
    if one("string") && !map.contains_key("const") {
        map.insert("type".to_owned(), json!(["string", "number"]));
    } else if one("integer") || one("number") || one("boolean") {
        let word = kind
            .as_str()
            .or_else(|| kind[0].as_str())
            .unwrap_or("integer");
        map.insert("type".to_owned(), json!([word, "string"]));
        map.insert("pattern".to_owned(), json!(VARIABLE));
    }
}

/// Described words as one list of words: of a choice of constants, editors show what the chosen one means in place of
/// what the field does and costs.
fn words(choices: &[Value]) -> Option<Value> {
    let words: Option<Vec<&Value>> = choices.iter().map(|choice| choice.get("const")).collect();
    let meanings: Vec<&str> = choices
        .iter()
        .map(|choice| choice["description"].as_str().unwrap_or_default())
        .collect();
    Some(json!({ "enum": words?, "enumDescriptions": meanings }))
}

/// Adds null to what is allowed.
fn nullable(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    match map.get_mut("type") {
        Some(Value::String(word)) => {
            let word = std::mem::take(word);
            map.insert("type".to_owned(), json!([word, "null"]));
        }
        Some(Value::Array(words)) if !words.contains(&json!("null")) => words.push(json!("null")),
        Some(_) => {}
        None => {
            if let Some(Value::Array(choices)) = map.get_mut("anyOf")
                && !choices
                    .iter()
                    .any(|choice| choice.get("type") == Some(&json!("null")))
            {
                // With a title of its own, since editors take choices without one for one another.
                choices.push(json!({ "type": "null", "title": "nothing" }));
            }
        }
    }
}
