//! Changing the items of a list that differ, and adding and taking away what it has more or less.

use serde_json::Value as Json;

use super::spell::flow;
use super::{Draft, EditError, Spot, bytes, made};
use crate::tree::Value;

impl Draft {
    /// Makes a list with the items `was` one with the items `is`.
    pub(super) fn change_list(
        &mut self,
        spot: &Spot,
        was: &[Json],
        is: &[Json],
    ) -> Result<(), EditError> {
        let same = |pairs: &mut dyn Iterator<Item = (&Json, &Json)>| {
            pairs.take_while(|(was, is)| was == is).count()
        };
        let first = same(&mut was.iter().zip(is));
        let last = same(&mut was[first..].iter().rev().zip(is[first..].iter().rev()));
        let (was, is) = (&was[first..was.len() - last], &is[first..is.len() - last]);
        for (index, (was, is)) in was.iter().zip(is).enumerate() {
            self.change_node(&spot.index(first + index), was, is)?;
        }
        for (index, item) in is.iter().enumerate().skip(was.len()) {
            self.put_item(spot, first + index, item)?;
        }
        for index in (is.len()..was.len()).rev() {
            self.remove_item(spot, first + index)?;
        }
        Ok(())
    }

    /// Writes an item before the one with this number.
    fn put_item(&mut self, spot: &Spot, index: usize, is: &Json) -> Result<(), EditError> {
        let list = self.node(spot).ok_or(EditError::Changed)?.clone();
        let Value::List(items) = &list.value else {
            return Err(EditError::Unsure);
        };
        let expected = self.expected(spot, |list| {
            if let Value::List(items) = &mut list.value {
                items.insert(index, made(is));
            }
        });
        let is_own = |item: &&crate::tree::Node| item.place.bytes.0 >= list.place.bytes.0;
        let own = |item| Some(item).filter(is_own).ok_or(EditError::Shared);
        let item = flow(is);
        let before = index.checked_sub(1).and_then(|before| items.get(before));
        let text = match (before, items.get(index)) {
            (Some(before), _) => {
                let end = self.end_of(own(before)?).ok_or(EditError::Unsure)?;
                if self.is_flow(&list) {
                    self.with(end..end, &format!(", {item}"))
                } else {
                    let dash = self.dash_of(bytes(before).start)?;
                    let (at, eol) = (self.next_line(end), self.end_of_line());
                    let ends = self.text[..at].ends_with('\n');
                    let line = match ends {
                        true => format!("{dash}{item}{eol}"),
                        false => format!("{eol}{dash}{item}"),
                    };
                    self.with(at..at, &line)
                }
            }
            (None, Some(after)) => {
                let begin = bytes(own(after)?).start;
                if self.is_flow(&list) {
                    self.with(begin..begin, &format!("{item}, "))
                } else {
                    let dash = self.dash_of(begin)?;
                    let at = self.line_start(begin);
                    self.with(at..at, &format!("{dash}{item}{}", self.end_of_line()))
                }
            }
            (None, None) => self.with(bytes(&list), &format!("[{item}]")),
        };
        self.take([text], &expected)
    }

    /// What stands on the line before an item: spaces, its dash, spaces.
    fn dash_of(&self, item: usize) -> Result<String, EditError> {
        self.dash(item).ok_or(EditError::Unsure)?;
        Ok(self.before(item).to_owned())
    }
}
