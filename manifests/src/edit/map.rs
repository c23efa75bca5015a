//! Writing a key and its value into a map, and a value behind a key that has none.

use serde_json::Value as Json;

use super::spell::{block, flow, plain_or_quoted};
use super::{Draft, EditError, Spot, bytes, made};
use crate::tree::{Key, Place, Value};

/// A key that nobody wrote.
pub(super) fn key(name: &str) -> Key {
    Key {
        place: Place::nowhere(),
        name: name.to_owned(),
    }
}

impl Draft {
    /// Writes a key and its value behind the last one of a map.
    pub(super) fn put(&mut self, spot: &Spot, name: &str, is: &Json) -> Result<(), EditError> {
        let map = self.node(spot).ok_or(EditError::Changed)?.clone();
        let Value::Map(entries) = &map.value else {
            return Err(EditError::Unsure);
        };
        let expected = self.expected(spot, |map| {
            if let Value::Map(entries) = &mut map.value {
                entries.push((key(name), made(is)));
            }
        });
        let entry = format!("{}: {}", plain_or_quoted(name), flow(is));
        let Some((last, value)) = entries.last() else {
            return self.take(
                [self.with(bytes(&map), &format!("{{ {entry} }}"))],
                &expected,
            );
        };
        let end = self.end_of_entry(last, value).ok_or(EditError::Unsure)?;
        if self.is_flow(&map) {
            return self.take([self.with(end..end, &format!(", {entry}"))], &expected);
        }
        // As far in as the other keys, also where the first one stands behind a dash.
        let first = entries.first().map_or(last, |(first, _)| first);
        let begin = first.place.bytes.0 as usize;
        let before = self.before(begin);
        let blank = before.trim_start_matches(['-', ' ']).is_empty();
        if !blank {
            return Err(EditError::Unsure);
        }
        let indent = " ".repeat(before.len());
        let end_of_line = self.end_of_line();
        let at = self.next_line(end);
        let open = if self.text[..at].ends_with('\n') {
            ""
        } else {
            end_of_line
        };
        let texts = block(name, is, &indent, end_of_line)
            .into_iter()
            .map(|lines| self.with(at..at, &format!("{open}{lines}")))
            .collect::<Vec<_>>();
        self.take(texts, &expected)
    }

    /// Writes a value behind a key that has none, or in the place of a written null.
    pub(super) fn fill(&mut self, spot: &Spot, is: &Json) -> Result<(), EditError> {
        let node = self.node(spot).ok_or(EditError::Changed)?.clone();
        let expected = self.expected(spot, |node| *node = made(is));
        let place = bytes(&node);
        let text = if place.is_empty() {
            let colon = self.text.get(..place.start).and_then(|before| {
                // It has the place of the colon, before or behind it.
                let here = self.text[place.start..].starts_with(':');
                here.then_some(place.start + 1)
                    .or_else(|| before.ends_with(':').then_some(place.start))
            });
            let colon = colon.ok_or(EditError::Unsure)?;
            self.with(colon..colon, &format!(" {}", flow(is)))
        } else {
            self.with(place, &flow(is))
        };
        self.take([text], &expected)
    }
}
