//! How values are spelled where none stood: plain where that means the same, else in quotes.

use serde_json::Value as Json;

use crate::parse::parse;
use crate::substitute::text;
use crate::tree::Value;

/// A scalar of JSON as people spell it.
pub(super) fn spelling(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A value between brackets, on one line.
pub(super) fn flow(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
        Json::String(text) => plain_or_quoted(text),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Json::Object(entries) => {
            let entry = |(key, value): (&String, &Json)| {
                format!("{}: {}", plain_or_quoted(key), flow(value))
            };
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// A key and its value as lines; the second way is for texts of several lines that no block can say.
pub(super) fn block(key: &str, value: &Json, indent: &str, eol: &str) -> Vec<String> {
    let name = plain_or_quoted(key);
    let simple = format!("{indent}{name}: {}{eol}", flow(value));
    match value {
        Json::Object(entries) if !entries.is_empty() => {
            let deeper = format!("{indent}  ");
            let below = entries.iter().map(|(key, value)| {
                let ways = block(key, value, &deeper, eol);
                ways.into_iter().next().unwrap_or_default()
            });
            let lines: String = below.collect();
            vec![format!("{indent}{name}:{eol}{lines}"), simple]
        }
        Json::String(text) if text.contains('\n') => {
            let lines = lines_of(text, &format!("{indent}  "), eol);
            let block = lines.map(|(chomp, lines)| format!("{indent}{name}: |{chomp}{eol}{lines}"));
            block.into_iter().chain([simple]).collect()
        }
        _ => vec![simple],
    }
}

/// A text as the lines of a block, and the mark for how it ends. None where a block cannot say it.
pub(super) fn lines_of(text: &str, indent: &str, eol: &str) -> Option<(&'static str, String)> {
    let control = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if text.contains(control) || text.starts_with([' ', '\n', '\t']) || text.is_empty() {
        return None;
    }
    let (chomp, body) = match text.strip_suffix('\n') {
        Some(body) if body.ends_with('\n') => ("+", body),
        Some(body) => ("", body),
        None => ("-", text),
    };
    let mut lines = String::new();
    for line in body.split('\n') {
        if !line.is_empty() {
            lines.push_str(indent);
            lines.push_str(line);
        }
        lines.push_str(eol);
    }
    Some((chomp, lines))
}

/// A text without quotes where it is one without them in every place, else in quotes.
pub(super) fn plain_or_quoted(value: &str) -> String {
    if is_plain(value, |found| matches!(found, Value::Text(_))) {
        value.to_owned()
    } else {
        quoted(value)
    }
}

/// Whether a text means itself without quotes, between brackets as well as on a line; `is_meant` looks at what it is then.
pub(super) fn is_plain(value: &str, is_meant: impl Fn(&Value) -> bool) -> bool {
    let strange = |character: char| character.is_control() || !is_printable(character);
    if value.contains(strange) {
        return false;
    }
    // In brackets a comma ends a plain value, also where it would be one elsewhere.
    [format!("a: [{value}]\n"), format!("a: {value}\n")]
        .iter()
        .all(|line| {
            let (documents, found) = parse("", line);
            let [document] = documents.as_slice() else {
                return false;
            };
            let value_of = document.get("a").map(|node| match &node.value {
                Value::List(items) => match items.as_slice() {
                    [one] => &one.value,
                    _ => &Value::Null,
                },
                one => one,
            });
            let is_same = |found: &&Value| text(found) == Some(value);
            found.is_empty() && value_of.filter(is_same).is_some_and(&is_meant)
        })
}

/// A text in double quotes; what cannot be seen is escaped.
pub(super) fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    for character in Json::from(value).to_string().chars() {
        if is_printable(character) {
            out.push(character);
        } else {
            out.push_str(&format!("\\u{:04X}", u32::from(character)));
        }
    }
    out
}

/// Whether a character stands for itself in a text; no space but the plain one does.
fn is_printable(character: char) -> bool {
    !matches!(
        character,
        '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}
