//! One value in the place of another: in its quotes, or as the lines of a block.

use serde_json::Value as Json;

use super::spell::{flow, is_plain, lines_of, quoted, spelling};
use super::{Draft, EditError, Spot, bytes, has_variable, made};
use crate::tree::{Node, Value};

impl Draft {
    pub(super) fn change_scalar(
        &mut self,
        spot: &Spot,
        node: &Node,
        is: &Json,
    ) -> Result<(), EditError> {
        let place = bytes(node);
        let written = self.text.get(place.clone()).ok_or(EditError::Changed)?;
        if has_variable(written) {
            return Err(EditError::Filled(written.chars().take(60).collect()));
        }
        let expected = self.expected(spot, |node| *node = made(is));
        let Some(value) = spelling(is) else {
            return self.take([self.with(place, &flow(is))], &expected);
        };
        if let Some(header) = self.block_header(spot, &node.place.bytes) {
            let texts = self.as_block(header, node, &value);
            return self.take(texts, &expected);
        }
        let mut spellings = Vec::new();
        if written.starts_with('\'') && !value.contains(char::is_control) {
            spellings.push(format!("'{}'", value.replace('\'', "''")));
        }
        if !written.starts_with(['\'', '"']) {
            // A text that looks like a number is one where a number stood.
            let kind = std::mem::discriminant(&node.value);
            let text = std::mem::discriminant(&Value::Text("".into()));
            let is_meant = |is_now: &Value| {
                let now = std::mem::discriminant(is_now);
                !is.is_string() || now == text || now == kind
            };
            if is_plain(&value, is_meant) {
                spellings.push(value.clone());
            }
        }
        spellings.push(quoted(&value));
        let texts: Vec<String> = spellings
            .iter()
            .map(|spelled| self.with(place.clone(), spelled))
            .collect();
        self.take(texts, &expected)
    }

    /// Where the `|` or `>` of a block of lines stands, if the value is one.
    fn block_header(&self, spot: &Spot, place: &(u32, u32)) -> Option<usize> {
        let parent = Spot {
            document: spot.document,
            at: spot.at.parent()?,
        };
        let name = spot.at.steps().last()?;
        let begin = match &self.node(&parent)?.value {
            Value::Map(_) => {
                let (key, _) = self.node(&parent)?.entry(&name)?;
                self.behind_colon(key)?
            }
            // The line above the first of its lines is that of its dash.
            _ => {
                let line = self.line_start(place.0 as usize);
                let above = self.line_start(line.checked_sub(1)?);
                let dash = self.text.get(above..line)?.find("- ")?;
                above + dash + 1
            }
        };
        let rest = self.text.get(begin..place.0 as usize)?;
        let blank = rest.len() - rest.trim_start_matches(' ').len();
        rest[blank..]
            .starts_with(['|', '>'])
            .then_some(begin + blank)
    }

    /// The text with the lines of a block changed, else with a quoted text in its place.
    fn as_block(&self, header: usize, node: &Node, value: &str) -> Vec<String> {
        let first = self.next_line(header);
        let end = self.end_of(node).map_or(first, |end| self.next_line(end));
        let end = end.max(first);
        let line = &self.text[header..first];
        let words = line.trim_end();
        let mark = words.find([' ', '\t']).unwrap_or(words.len());
        let rest = &words[mark..];
        let eol = self.end_of_line();
        let content = &self.text[first..end];
        let indent = content.lines().find(|line| !line.trim().is_empty());
        let indent = indent.map(|line| &line[..line.len() - line.trim_start_matches(' ').len()]);
        let mut texts = Vec::new();
        if let Some(indent) = indent
            && let Some((chomp, lines)) = lines_of(value, indent, eol)
        {
            for style in [&words[..1], "|"] {
                let block = format!("{style}{chomp}{rest}{eol}{lines}");
                texts.push(self.with(header..end, &block));
            }
        }
        let ending = if self.text[..end].ends_with('\n') {
            eol
        } else {
            ""
        };
        texts.push(self.with(header..end, &format!("{}{rest}{ending}", quoted(value))));
        texts
    }
}
