//! Looking into a schema: what it refers to, its fields, its words, its type in words.

use serde_json::{Map, Value};

/// A schema without references, and without the choice of nothing: what is left to look into.
pub(super) fn settled(node: &Value, root: &Value) -> Value {
    let mut node = node.clone();
    for _ in 0..16 {
        if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
            let name = reference.trim_start_matches("#/definitions/");
            node = root["definitions"][name].clone();
            continue;
        }
        let choices = |key: &str| node.get(key).and_then(Value::as_array);
        let something =
            |choice: &&Value| choice.get("type").and_then(Value::as_str) != Some("null");
        let only: Vec<Value> = match (choices("allOf"), choices("anyOf")) {
            (Some(all), _)
                if node.get("properties").is_none()
                    && all.first().is_some_and(|one| one.get("if").is_none()) =>
            {
                all.clone()
            }
            (_, Some(any)) => any.iter().filter(something).cloned().collect(),
            _ => return node,
        };
        let refers = |one: &&Value| one.get("$ref").is_some() || one.get("properties").is_some();
        match only.as_slice() {
            [one] => node = one.clone(),
            // A name with rules beside the whole of it: what has fields is looked into.
            several => match several.iter().find(refers) {
                Some(one) => node = one.clone(),
                None => return node,
            },
        }
    }
    node
}

/// The fields of a schema, those of its variants too.
pub(super) fn properties(node: &Value, root: &Value) -> Vec<(String, Value)> {
    let own = |node: &Value| -> Vec<(String, Value)> {
        let map = node.get("properties").and_then(Value::as_object);
        map.into_iter()
            .flat_map(Map::iter)
            .map(|(name, below)| (name.clone(), below.clone()))
            .collect()
    };
    let mut all = own(node);
    for (_, variant) in variants(node) {
        for (name, below) in own(&variant) {
            if !all.iter().any(|(known, _)| *known == name) {
                all.push((name, below));
            }
        }
    }
    let element = node.get("items").map(|items| settled(items, root));
    if let Some(element) = element.filter(|_| all.is_empty()) {
        all = own(&element);
    }
    all
}

/// The variants of a device by their word.
pub(super) fn variants(node: &Value) -> Vec<(String, Value)> {
    let branches = node
        .get("allOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    branches
        .filter_map(|branch| {
            let word = branch["if"]["properties"]["type"]["const"].as_str()?;
            Some((word.to_owned(), branch.get("then")?.clone()))
        })
        .collect()
}

/// What stands below a step: a field, an entry of a map under any name, an element of a list, a variant by its word.
pub(super) fn child(node: &Value, root: &Value, step: &str) -> Option<Value> {
    if let Some((_, variant)) = variants(node).into_iter().find(|(word, _)| word == step) {
        return Some(variant);
    }
    if let Some((_, below)) = properties(node, root)
        .into_iter()
        .find(|(name, _)| name == step)
    {
        return Some(below);
    }
    let values = node
        .get("additionalProperties")
        .filter(|values| values.is_object());
    if let Some(values) = values {
        // `devices.nic` may mean the variant, and any other word is a name that people choose.
        let settled = settled(values, root);
        let variant = variants(&settled)
            .into_iter()
            .find(|(word, _)| word == step);
        return Some(variant.map_or_else(|| values.clone(), |(_, variant)| variant));
    }
    let element = node.get("items").filter(|_| step.parse::<usize>().is_ok());
    element.cloned()
}

pub(super) fn words(node: &Value, root: &Value) -> Vec<(String, String)> {
    let choices = node
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let described = choices.filter_map(|choice| {
        let word = choice.get("const")?.as_str()?;
        Some((
            word.to_owned(),
            text(choice, "description").unwrap_or_default(),
        ))
    });
    let plain = node
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let plain = plain
        .filter(|word| !word.is_null())
        .map(|word| (bare(word), String::new()));
    let mut words: Vec<(String, String)> = described.chain(plain).collect();
    if words.is_empty()
        && let Some(any) = node.get("anyOf").and_then(Value::as_array)
    {
        for choice in any {
            words.extend(self::words(&settled(choice, root), root));
        }
    }
    words
}

/// A value as it stands in YAML.
fn bare(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn type_of(node: &Value, root: &Value) -> String {
    let node = settled(node, root);
    if !words(&node, root).is_empty() && node.get("anyOf").is_none() {
        return "one of these words".to_owned();
    }
    if !variants(&node).is_empty() {
        return "a map, by `type`".to_owned();
    }
    if let Some(any) = node.get("anyOf").and_then(Value::as_array) {
        let mut types: Vec<String> = any
            .iter()
            .map(|choice| type_of(choice, root))
            .filter(|word| word != "nothing")
            .collect();
        types.dedup();
        return types.join(", or ");
    }
    let plain = |word: &str| match word {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        _ => "nothing",
    };
    let first = match node.get("type") {
        Some(Value::String(word)) => plain(word).to_owned(),
        Some(Value::Array(words)) => {
            let words: Vec<&str> = words
                .iter()
                .filter_map(Value::as_str)
                .filter(|word| *word != "null")
                .map(plain)
                .collect();
            words.join(" or ")
        }
        _ if node.get("properties").is_some() => "a map".to_owned(),
        _ => "any value".to_owned(),
    };
    match first.as_str() {
        "a list" => match node.get("items").map(|items| type_of(items, root)) {
            Some(of) => format!("a list; in it: {of}"),
            None => first,
        },
        "a map"
            if node
                .get("additionalProperties")
                .is_some_and(Value::is_object)
                && node.get("properties").is_none() =>
        {
            format!(
                "a map by name; in it: {}",
                type_of(&node["additionalProperties"], root)
            )
        }
        _ => first,
    }
}

pub(super) fn text(node: &Value, key: &str) -> Option<String> {
    let text = node.get(key)?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
