//! One line of the log, as text for machines.

use jiff::Timestamp;
use manifests::visible::visible;
use serde_json::{Map, Value};
use tracing::Level;

use super::fields::Fields;

/// Something that is told.
pub(super) struct Line<'a> {
    /// When.
    pub(super) at: Timestamp,
    /// How bad it is.
    pub(super) level: Level,
    /// What is told.
    pub(super) told: &'a Fields,
    /// Within what, from the outside to the inside.
    pub(super) within: &'a [(&'static str, Fields)],
}

/// A form of lines.
pub(super) type Form = fn(&Line<'_>) -> String;

/// All that is known: what a span says counts for what is told within it.
fn known(line: &Line<'_>) -> Map<String, Value> {
    let mut known = Map::new();
    let outer = line.within.iter().map(|(_, fields)| fields);
    for fields in outer.chain([line.told]) {
        for (name, value) in &fields.named {
            known.insert((*name).to_owned(), value.clone());
        }
    }
    known
}

/// One JSON document: `time`, `level`, `message`, `within` where it was, and what else is known.
pub(super) fn json(line: &Line<'_>) -> String {
    let level = line.level.as_str().to_lowercase();
    let mut whole = Map::new();
    whole.insert("time".to_owned(), Value::from(line.at.to_string()));
    whole.insert("level".to_owned(), Value::from(level));
    let message = line.told.message.clone().unwrap_or_default();
    whole.insert("message".to_owned(), Value::from(message));
    for (name, value) in known(line) {
        whole.entry(name).or_insert(value);
    }
    if !line.within.is_empty() {
        let names = line.within.iter().map(|(name, _)| Value::from(*name));
        whole.insert("within".to_owned(), names.collect());
    }
    format!("{}\n", Value::Object(whole))
}

/// The priority in angle brackets (sd-daemon(3)), the message, and what else is known. journald knows when.
pub(super) fn journald(line: &Line<'_>) -> String {
    let priority = match line.level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let mut text = format!("<{priority}>");
    text.push_str(&visible(line.told.message.as_deref().unwrap_or_default()));
    for (name, value) in known(line) {
        let value = match value {
            Value::String(text) if is_word(&text) => text,
            other => other.to_string(),
        };
        text.push_str(&format!(" {name}={}", visible(&value)));
    }
    text.push('\n');
    text
}

fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@+,".contains(c);
    !text.is_empty() && text.chars().all(plain)
}
