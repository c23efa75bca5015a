//! [`Fields`]: what an event or a span says of itself.

use std::fmt::Debug;

use serde_json::Value;
use tracing::field::{Field, Visit};

/// A longer text is cut: what others wrote is told in here too.
const LONGEST: usize = 16 * 1024;

/// Names and values in the order in which they stand in the code; the message apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields {
    /// What happened, in words.
    pub(super) message: Option<String>,
    /// The rest.
    pub(super) named: Vec<(&'static str, Value)>,
}

impl Fields {
    /// A value by its name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let found = self.named.iter().find(|(one, _)| *one == name);
        found.map(|(_, value)| value)
    }

    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match self.named.iter_mut().find(|(one, _)| *one == name) {
            Some((_, old)) => *old = value,
            None => self.named.push((name, value)),
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = cut(value.to_owned());
        match field.name() {
            "message" => self.message = Some(text),
            _ => self.put(field, Value::from(text)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}
