//! Where lines of a text begin and end, and where a value ends that the parser only knows the next token of.

use super::Draft;
use crate::tree::{Key, Node, Value};

impl Draft {
    /// Where the line of a byte begins.
    pub(super) fn line_start(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |found| found + 1);
        // The byte-order mark is no part of the first line.
        if start == 0 && self.text.starts_with('\u{feff}') {
            3
        } else {
            start
        }
    }

    /// Where the next line begins, or the text ends.
    pub(super) fn next_line(&self, at: usize) -> usize {
        let after = self.text.get(at..).unwrap_or_default();
        after
            .find('\n')
            .map_or(self.text.len(), |found| at + found + 1)
    }

    /// How lines of this text end.
    pub(super) fn end_of_line(&self) -> &'static str {
        match self.text.find('\n') {
            Some(at) if self.text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }

    /// What stands on the line before a byte.
    pub(super) fn before(&self, at: usize) -> &str {
        self.text.get(self.line_start(at)..at).unwrap_or_default()
    }

    /// Whether nothing but spaces stands on the line before a byte.
    pub(super) fn is_first(&self, at: usize) -> bool {
        self.before(at).chars().all(|character| character == ' ')
    }

    /// Behind the colon of a key.
    pub(super) fn behind_colon(&self, key: &Key) -> Option<usize> {
        let end = key.place.bytes.1 as usize;
        let rest = self.text.get(end..)?;
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        rest[blank..].starts_with(':').then_some(end + blank + 1)
    }

    /// Whether a list or map is written in brackets.
    pub(super) fn is_flow(&self, node: &Node) -> bool {
        let start = node.place.bytes.0;
        let opens = |bracket| {
            let rest = self.text.get(start as usize..);
            rest.is_some_and(|rest| rest.starts_with(bracket))
        };
        match &node.value {
            // A list in lines begins where its first item does, which may be one in brackets.
            Value::List(items) => {
                let first = items.first();
                opens('[') && first.is_none_or(|item| item.place.bytes.0 > start)
            }
            Value::Map(_) => opens('{'),
            _ => false,
        }
    }

    /// Where the words of the value of a key end; none where that is not known.
    pub(super) fn end_of_entry(&self, key: &Key, node: &Node) -> Option<usize> {
        let colon = self.behind_colon(key)?;
        let begin = node.place.bytes.0 as usize;
        // An alias has the place of what it stands for; nothing at all has no end.
        if begin < colon || node.value == Value::Null && node.place.bytes.0 == node.place.bytes.1 {
            let line = self.text.get(colon..self.next_line(colon))?;
            let end = line.find([',', '}', '#', '\n', '\r']).unwrap_or(line.len());
            return Some(colon + line[..end].trim_end().len());
        }
        self.end_of(node)
    }

    /// Where the words of a value end that stands in its own place.
    pub(super) fn end_of(&self, node: &Node) -> Option<usize> {
        let end = node.place.bytes.1 as usize;
        match &node.value {
            _ if self.is_flow(node) => Some(end),
            Value::Map(entries) => {
                let (key, last) = entries.last()?;
                self.end_of_entry(key, last)
            }
            Value::List(items) => {
                let last = items.last()?;
                (last.place.bytes.0 >= node.place.bytes.0).then(|| self.end_of(last))?
            }
            // A block of lines goes on to the next token.
            _ => {
                let begin = node.place.bytes.0 as usize;
                let words = self.text.get(begin..end)?;
                Some(begin + words.trim_end().len())
            }
        }
    }
}
