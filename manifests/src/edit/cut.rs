//! Taking an entry of a map or an item of a list away, with its line or its comma.

use std::ops::Range;

use super::{Draft, EditError, Spot, bytes};
use crate::tree::{Node, Value};

impl Draft {
    /// Takes the value of a key away, and the key.
    pub(super) fn remove(&mut self, spot: &Spot) -> Result<(), EditError> {
        let (Some(parent), Some(name)) = (spot.at.parent(), spot.at.steps().last()) else {
            return Err(EditError::Unsure);
        };
        let parent = Spot {
            document: spot.document,
            at: parent,
        };
        let map = self.node(&parent).ok_or(EditError::Changed)?.clone();
        let Value::Map(entries) = &map.value else {
            return Err(EditError::Unsure);
        };
        let found = entries.iter().position(|(key, _)| key.name == name);
        let at = found.ok_or(EditError::NotWritten)?;
        let (key, value) = &entries[at];
        let begin = key.place.bytes.0 as usize;
        let end = self.end_of_entry(key, value).ok_or(EditError::Unsure)?;
        let expected = self.expected(&parent, |map| {
            map.take(&name);
        });
        let next = entries.get(at + 1);
        let next = next.map(|(key, _)| key.place.bytes.0 as usize);
        let texts = if entries.len() == 1 {
            self.emptied(&parent, &map, begin..end, "{}")
        } else if self.is_flow(&map) {
            vec![self.without(begin..end)]
        } else if self.is_first(begin) {
            vec![self.with(self.line_start(begin)..self.next_line(end), "")]
        } else {
            // It stands behind the dash of an item: the next key takes its place.
            let between = next.and_then(|next| self.text.get(end..next));
            let is_blank = between.is_some_and(|between| between.trim().is_empty());
            let next = next.filter(|_| is_blank);
            next.map(|next| self.with(begin..next, ""))
                .into_iter()
                .collect()
        };
        self.take(texts, &expected)
    }

    /// Takes an item of a list away.
    pub(super) fn remove_item(&mut self, spot: &Spot, index: usize) -> Result<(), EditError> {
        let list = self.node(spot).ok_or(EditError::Changed)?.clone();
        let Value::List(items) = &list.value else {
            return Err(EditError::Unsure);
        };
        let item = items.get(index).ok_or(EditError::Changed)?;
        if item.place.bytes.0 < list.place.bytes.0 {
            return Err(EditError::Shared);
        }
        let expected = self.expected(spot, |list| {
            if let Value::List(items) = &mut list.value {
                items.remove(index);
            }
        });
        let end = self.end_of(item).ok_or(EditError::Unsure)?;
        let (flow, begin) = (self.is_flow(&list), bytes(item).start);
        let texts = match (flow, self.dash(begin)) {
            (false, None) => return Err(EditError::Unsure),
            (_, dash) if items.len() == 1 => {
                let begin = dash.filter(|_| !flow).unwrap_or(begin);
                self.emptied(spot, &list, begin..end, "[]")
            }
            (true, _) => vec![self.without(begin..end)],
            (false, Some(dash)) => {
                vec![self.with(self.line_start(dash)..self.next_line(end), "")]
            }
        };
        self.take(texts, &expected)
    }

    /// Where the dash of an item stands, if it is the first on its line.
    pub(super) fn dash(&self, item: usize) -> Option<usize> {
        let before = self.before(item);
        let blank = before.len() - before.trim_start_matches(' ').len();
        let is_dash = before[blank..].trim_end() == "-";
        is_dash.then(|| self.line_start(item) + blank)
    }

    /// The text with an empty list or map in the place of one whose only entry are these bytes.
    fn emptied(&self, spot: &Spot, node: &Node, entry: Range<usize>, empty: &str) -> Vec<String> {
        if self.is_flow(node) {
            return vec![self.with(bytes(node), empty)];
        }
        let mut texts = Vec::new();
        let parent = spot.at.parent().zip(spot.at.steps().last());
        let colon = parent.and_then(|(at, name)| {
            let parent = Spot {
                document: spot.document,
                at,
            };
            let (key, _) = self.node(&parent)?.entry(&name)?;
            self.behind_colon(key)
        });
        if let Some(colon) = colon.filter(|_| self.is_first(entry.start)) {
            let without = self.line_start(entry.start)..self.next_line(entry.end);
            let mut text = self.with(without, "");
            text.insert_str(colon, &format!(" {empty}"));
            texts.push(text);
        }
        texts.push(self.with(entry, empty));
        texts
    }

    /// The text without an entry between brackets and its comma; a line that was only its own goes as well.
    fn without(&self, entry: Range<usize>) -> String {
        let after = self.text.get(entry.end..).unwrap_or_default();
        let blank = after.len() - after.trim_start().len();
        let cut = if after[blank..].starts_with(',') {
            let end = entry.end + blank + 1;
            let rest = &self.text[end..];
            let spaces = rest.len() - rest.trim_start_matches(' ').len();
            let line = self.line_start(entry.start)..self.next_line(end);
            let is_own = self.is_first(entry.start)
                && self.text[end..line.end].trim().is_empty()
                && line.end > end;
            if is_own {
                line
            } else {
                entry.start..end + spaces
            }
        } else {
            let before = self.text.get(..entry.start).unwrap_or_default();
            match before.trim_end().strip_suffix(',') {
                Some(before) => before.len()..entry.end,
                None => entry,
            }
        };
        self.with(cut, "")
    }
}
