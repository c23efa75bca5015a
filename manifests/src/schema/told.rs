//! What editors show at a field: what it means, what a change of it costs, and what is expected where something else
//! stands.
//!
//! A type that hangs at two places has one definition if all that is told about it is the same at both, else one for
//! each: `size` of one part may be live and that of another a rebuild.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::snippets;
use crate::effect::Effect;
use crate::effect_table;
use crate::kind::Kind;
use crate::pointer::Pointer;

/// Where a schema is used: in documents of a kind, or in `keel.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    kind: Option<Kind>,
    pointer: Pointer,
}

impl Place {
    /// The whole document of a kind, or of `keel.yaml`.
    pub(super) const fn document(kind: Option<Kind>) -> Self {
        Self {
            kind,
            pointer: Pointer::root(),
        }
    }

    fn field(&self, key: &str) -> Self {
        let steps: Vec<String> = self.pointer.steps().collect();
        // What `keel.yaml` gives to all of a kind is paid for by its objects.
        if let ([only], None, Some(kind)) = (steps.as_slice(), self.kind, Kind::from_word(key))
            && only == "defaults"
        {
            return Self {
                kind: Some(kind),
                pointer: Pointer::new("/spec"),
            };
        }
        Self {
            kind: self.kind,
            pointer: self.pointer.field(key),
        }
    }

    fn is_devices(&self) -> bool {
        self.kind.is_some() && self.pointer.as_str() == DEVICES
    }

    /// The kind whose objects pay for a change here; what is no part of a spec costs nothing.
    fn payer(&self) -> Option<Kind> {
        let of_spec = Pointer::new("/spec").covers(&self.pointer);
        let forbidden = || {
            self.kind
                .is_some_and(|kind| effect_table::effect(kind, &self.pointer) == Effect::Forbidden)
        };
        self.kind.filter(|_| of_spec || forbidden())
    }
}

/// Where devices are.
const DEVICES: &str = "/spec/devices";

/// Writes at each field what is told about it; collects the definitions that are left.
pub(super) struct Teller {
    plain: Map<String, Value>,
    told: Map<String, Value>,
    names: BTreeMap<(String, Place), String>,
}

impl Teller {
    /// Of schemas whose references are to these definitions.
    pub(super) fn new(plain: Map<String, Value>) -> Self {
        Self {
            plain,
            told: Map::new(),
            names: BTreeMap::new(),
        }
    }

    /// The definitions that what was told refers to.
    pub(super) fn into_definitions(mut self) -> Map<String, Value> {
        self.told.sort_keys();
        self.told
    }

    /// A schema with all that is told in it.
    pub(super) fn tell(&mut self, schema: &Value, at: &Place) -> Value {
        let mut schema = schema.clone();
        let Value::Object(map) = &mut schema else {
            return schema;
        };
        without_null_choices(map);
        by_reference(map);
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            for (key, property) in properties {
                *property = self.property(property, &at.field(key));
            }
        }
        if let Some(values @ Value::Object(_)) = map.get_mut("additionalProperties") {
            *values = self.tell(values, &at.field("*"));
            expect(values);
        }
        if let Some(Value::Object(patterns)) = map.get_mut("patternProperties") {
            for values in patterns.values_mut() {
                *values = self.property(values, &at.field("*"));
            }
        }
        if let Some(items) = map.get_mut("items") {
            *items = self.tell(items, &at.field("0"));
            expect(items);
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            for choice in map
                .get_mut(key)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                *choice = self.tell(choice, at);
            }
        }
        if let Some(then) = map.get_mut("then") {
            *then = self.tell(then, at);
        }
        if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(of) {
            let is_map = self
                .plain
                .get(name)
                .is_some_and(|plain| plain["type"] == "object");
            let reference = json!({ "$ref": format!("#/definitions/{}", self.define(name, at)) });
            match reference {
                // Its type is said here: there a word of what is expected would be told of each wrong key too.
                reference if is_map => {
                    map.remove("$ref");
                    map.insert("type".to_owned(), "object".into());
                    map.insert("allOf".to_owned(), json!([reference]));
                }
                Value::Object(reference) => map.extend(reference),
                _ => {}
            }
        }
        schema
    }

    fn property(&mut self, plain: &Value, at: &Place) -> Value {
        let mut property = self.tell(plain, at);
        let meaning = sentence(plain).or_else(|| sentence(self.behind(plain)));
        let (Some(meaning), Value::Object(map)) = (meaning, &mut property) else {
            return property;
        };
        let markdown = match self.cost(plain, at) {
            Some(cost) => format!("{meaning}\n\nChanging it: {cost}"),
            None => meaning.clone(),
        };
        map.insert("description".to_owned(), meaning.into());
        map.insert("markdownDescription".to_owned(), markdown.into());
        if at.is_devices() {
            // Beside the map itself, editors would write the first of them with the key.
            let snippets = json!([{ "defaultSnippets": snippets::named_devices() }]);
            map.insert("allOf".to_owned(), snippets);
        }
        expect(&mut property);
        property
    }

    /// What a schema refers to, or the schema.
    fn behind<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let only = schema["allOf"].as_array().and_then(|all| all.first());
        let any = schema["anyOf"].as_array().and_then(|any| any.first());
        let named = [Some(schema), only, any].into_iter().flatten();
        let mut named = named.filter_map(|one| one["$ref"].as_str().and_then(of));
        named
            .next()
            .and_then(|name| self.plain.get(name))
            .unwrap_or(schema)
    }

    /// The name of the definition of a type as it is told at a place.
    fn define(&mut self, plain: &str, at: &Place) -> String {
        let key = (plain.to_owned(), at.clone());
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let definition = self.plain.get(plain).cloned().unwrap_or(Value::Bool(true));
        let mut definition = self.tell(&definition, at);
        if let Value::Object(map) = &mut definition {
            // Editors would show it in place of what the field says.
            map.remove("description");
            if map.get("type").is_some_and(|kind| kind == "object") {
                map.remove("type");
            }
            if at
                .pointer
                .parent()
                .is_some_and(|above| above.as_str() == DEVICES)
            {
                map.insert("defaultSnippets".to_owned(), snippets::devices());
            }
        }
        let numbers = (2..).map(|number| format!("{plain}{number}"));
        let free = |name: &String| {
            // A name of another type is no free one.
            let other = name != plain && self.plain.contains_key(name);
            !other && self.told.get(name).is_none_or(|there| *there == definition)
        };
        let mut names = std::iter::once(plain.to_owned()).chain(numbers);
        let name = names.find(free).unwrap_or_else(|| plain.to_owned());
        self.told.insert(name.clone(), definition);
        self.names.insert(key, name.clone());
        name
    }

    /// What a change costs, in a sentence.
    fn cost(&self, plain: &Value, at: &Place) -> Option<String> {
        let kind = at.payer()?;
        if let Some(depends) = effect_table::depends(kind, &at.pointer) {
            return Some(format!("{depends}."));
        }
        let mut below = BTreeSet::new();
        self.effects(plain, at, kind, &mut below);
        let words: Vec<String> = below
            .iter()
            .map(|effect| format!("**{}**", effect.word()))
            .collect();
        match (below.first(), words.as_slice()) {
            (Some(effect), [word]) => Some(format!("{word} ({}).", effect.meaning())),
            (_, [rest @ .., last]) => {
                Some(format!("{} or {last}, as its fields say.", rest.join(", ")))
            }
            _ => None,
        }
    }

    /// The effects of all that can be written below a place.
    fn effects(&self, plain: &Value, at: &Place, kind: Kind, out: &mut BTreeSet<Effect>) {
        let named = plain["$ref"].as_str().and_then(of);
        if let Some(definition) = named.and_then(|name| self.plain.get(name)) {
            return self.effects(definition, at, kind, out);
        }
        let mut below = false;
        for (key, property) in plain["properties"].as_object().into_iter().flatten() {
            // The word of a variant is the device itself.
            if plain["properties"].get("inherit").is_none()
                || !["type", "inherit"].contains(&key.as_str())
            {
                self.effects(property, &at.field(key), kind, out);
            }
            below = true;
        }
        if plain["additionalProperties"].is_object() {
            self.effects(&plain["additionalProperties"], &at.field("*"), kind, out);
            below = true;
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            let choices = plain[key].as_array().into_iter().flatten();
            for choice in choices.filter(|choice| choice.get("const").is_none()) {
                self.effects(choice.get("then").unwrap_or(choice), at, kind, out);
                below = true;
            }
        }
        if !below && plain["type"] != "null" {
            out.insert(effect_table::effect(kind, &at.pointer));
        }
    }
}

/// The name in `#/definitions/NAME`.
fn of(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/definitions/")
}

/// `Option<T>` is `anyOf: [T, null]`: messages about both are worse than about one, and null is allowed by the type.
fn without_null_choices(map: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = map.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type") != Some(&json!("null")));
    if choices.len() == 1 {
        let only = choices.remove(0);
        map.remove("anyOf");
        // What stands beside a reference is read by editors and passed over by all else.
        if let Value::Object(only) = only {
            for (key, value) in only {
                map.entry(key).or_insert(value);
            }
        }
    }
}

/// `allOf: [{$ref}]` is `$ref`: what is told beside it is shown by editors, and passed over by all else.
fn by_reference(map: &mut Map<String, Value>) {
    let Some([Value::Object(only)]) = map
        .get("allOf")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    else {
        return;
    };
    if let (1, Some(reference)) = (only.len(), only.get("$ref").cloned()) {
        map.remove("allOf");
        map.insert("$ref".to_owned(), reference);
    }
}

/// The description in one line.
fn sentence(schema: &Value) -> Option<String> {
    let text = schema["description"].as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Says what is expected where something else stands. Not of maps with fields of their own: there editors would say it of
/// each key that is wrong too.
fn expect(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let message = map.remove("errorMessage");
    if let Some(choices) = map.get_mut("anyOf").and_then(Value::as_array_mut) {
        let message = message.map(|message| message.as_str().unwrap_or_default().to_owned());
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            match &message {
                Some(message) if has_no_fields(choice) => {
                    choice.insert("errorMessage".to_owned(), message.clone().into());
                }
                Some(_) => {}
                None => {
                    if let Some(expected) = expected(choice) {
                        choice.entry("errorMessage").or_insert(expected.into());
                    }
                }
            }
        }
        return;
    }
    if let Some(expected) = expected(map) {
        let message = message.unwrap_or_else(|| expected.into());
        map.insert("errorMessage".to_owned(), message);
    }
}

fn has_no_fields(map: &Map<String, Value>) -> bool {
    map.contains_key("type") && !map.contains_key("properties")
}

/// What a schema of a type expects; nothing of words, which editors list.
fn expected(map: &Map<String, Value>) -> Option<String> {
    if !has_no_fields(map) || map.contains_key("const") {
        return None;
    }
    let word = |kind: &Value| match kind.as_str()? {
        "string" => Some("a text"),
        "integer" => Some("a whole number"),
        "number" => Some("a number"),
        "boolean" => Some("true or false"),
        "array" => Some("a list"),
        "object" => Some("a map"),
        _ => None,
    };
    let words: Vec<&str> = match map.get("type")? {
        Value::Array(kinds) => kinds.iter().filter_map(word).collect(),
        kind => word(kind).into_iter().collect(),
    };
    let range = match (map.get("minimum"), map.get("maximum")) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", {least} or more"),
        _ => String::new(),
    };
    (!words.is_empty()).then(|| format!("expected {}{range}", words.join(" or ")))
}
