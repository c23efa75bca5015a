//! Changing what a text says in one place and nothing else: comments, order, quotes and ends of lines stay.
//!
//! After each change the text is read again. A change counts only if its tree is the one of before with this one value
//! changed; what cannot be spelled so is refused and nothing is changed.

mod cut;
mod lines;
mod list;
mod map;
mod scalar;
mod spell;

use serde_json::Value as Json;

use crate::parse::parse;
use crate::pointer::Pointer;
use crate::substitute::text;
use crate::tree::{Node, Value};

/// Why a value is not changed where it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The place is not in the text: it was changed since.
    #[error("the file is not as it was read")]
    Changed,
    /// It comes from a variable or a loop.
    #[error("it is written as `{0}`: change what that stands for")]
    Filled(String),
    /// It counts wherever an alias stands.
    #[error("it is shared by an anchor, and counts wherever an alias of that stands")]
    Shared,
    /// It stands in a file of its own.
    #[error("its text is that of the file `{0}`: change that")]
    Taken(String),
    /// What lives would be read as a variable or a loop.
    #[error("`{0}` lives, which a manifest cannot say: it would stand for a variable")]
    Variable(String),
    /// Another kind of value, or another number of them, is written.
    #[error("{written} is written there, which does not become {lives} by itself")]
    Form {
        /// What is written.
        written: &'static str,
        /// What is to be.
        lives: &'static str,
    },
    /// What lives no longer is not written in this place.
    #[error("it is gone, and no line says it: it is so by default or by several parts together")]
    NotWritten,
    /// No spelling was found that leaves all else alone.
    #[error("it is written in a way that is not changed by a machine")]
    Unsure,
}

/// A place in a text: which of its documents, and where in that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The document, from 0.
    pub document: usize,
    /// Where in it.
    pub at: Pointer,
}

impl Spot {
    fn field(&self, key: &str) -> Self {
        Self {
            document: self.document,
            at: self.at.field(key),
        }
    }

    fn index(&self, index: usize) -> Self {
        Self {
            document: self.document,
            at: self.at.index(index),
        }
    }
}

/// A text on its way to another.
#[derive(Debug, Clone)]
pub struct Draft {
    text: String,
    documents: Vec<Node>,
}

impl Draft {
    /// Begins with a text.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(text: &str) -> Result<Self, EditError> {
        let (documents, found) = parse("", text);
        if found.has_errors() {
            return Err(EditError::Changed);
        }
        Ok(Self {
            text: text.to_owned(),
            documents,
        })
    }

    /// The text as it is by now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a value stands that was read from this very text.
    ///
    /// # Errors
    /// It stands in several places, or in none.
    pub fn find(&self, node: &Node) -> Result<Spot, EditError> {
        let spots = self.spots(node.place.bytes);
        if !are_nested(&spots) {
            return Err(EditError::Shared);
        }
        // A list of one item may have the bytes of the item.
        let is_alike = |spot: &&Spot| {
            self.node(spot)
                .is_some_and(|found| form(found) == form(node))
        };
        let best = spots.iter().find(is_alike).or(spots.first());
        best.cloned().ok_or(EditError::Changed)
    }

    /// The document that was read from these bytes.
    pub fn document(&self, bytes: (u32, u32)) -> Option<Spot> {
        let mut roots = self.documents.iter();
        let document = roots.position(|root| root.place.bytes == bytes)?;
        let at = Pointer::root();
        Some(Spot { document, at })
    }

    /// What stands in a place.
    pub fn node(&self, spot: &Spot) -> Option<&Node> {
        self.documents.get(spot.document)?.at(&spot.at)
    }

    /// Makes a value that means `was` mean `is`: of lists and maps only what differs is touched. Null takes it away.
    ///
    /// # Errors
    /// It is not written so that this is sure; the text is as it was.
    pub fn change(&mut self, spot: &Spot, was: &Json, is: &Json) -> Result<(), EditError> {
        self.or_as_it_was(|draft| draft.change_node(spot, was, is))
    }

    /// Writes a value into a map where it has none: below as many keys as the map does not have either.
    ///
    /// # Errors
    /// As [`Draft::change`].
    pub fn insert(&mut self, map: &Spot, keys: &[String], is: &Json) -> Result<(), EditError> {
        self.or_as_it_was(|draft| draft.insert_below(map, keys, is))
    }

    fn or_as_it_was(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let before = self.clone();
        let changed = change(self);
        if changed.is_err() {
            *self = before;
        }
        changed
    }

    fn change_node(&mut self, spot: &Spot, was: &Json, is: &Json) -> Result<(), EditError> {
        if was == is {
            return Ok(());
        }
        if let Some(text) = variable_in(is) {
            return Err(EditError::Variable(text.to_owned()));
        }
        let node = self.node(spot).ok_or(EditError::Changed)?.clone();
        if !are_nested(&self.spots(node.place.bytes)) {
            return Err(EditError::Shared);
        }
        match (&node.value, was, is) {
            (_, _, Json::Null) => self.remove(spot),
            (Value::Null, ..) => self.fill(spot, is),
            (Value::Map(entries), Json::Object(was), Json::Object(is)) => {
                for (key, is) in is {
                    let was = was.get(key).unwrap_or(&Json::Null);
                    let is_there = entries.iter().any(|(found, _)| found.name == *key);
                    match is_there {
                        _ if was == is => {}
                        true => self.change_node(&spot.field(key), was, is)?,
                        false => self.put(spot, key, is)?,
                    }
                }
                for key in was.keys().filter(|key| !is.contains_key(*key)) {
                    if !entries.iter().any(|(found, _)| found.name == *key) {
                        return Err(EditError::NotWritten);
                    }
                    self.remove(&spot.field(key))?;
                }
                Ok(())
            }
            (Value::List(items), Json::Array(was), Json::Array(is)) if items.len() == was.len() => {
                self.change_list(spot, was, is)
            }
            (Value::Map(entries), ..) => Err(match entries.as_slice() {
                [(key, file)] if key.name == "file" => {
                    EditError::Taken(text(&file.value).unwrap_or_default().to_owned())
                }
                _ => self.other_form(&node, is),
            }),
            (Value::List(_), ..) => Err(self.other_form(&node, is)),
            _ => self.change_scalar(spot, &node, is),
        }
    }

    fn other_form(&self, node: &Node, is: &Json) -> EditError {
        EditError::Form {
            written: node.value.noun(),
            lives: match is {
                Json::Null => "nothing",
                Json::Object(_) => "a map",
                Json::Array(_) => "another list",
                Json::String(_) | Json::Number(_) | Json::Bool(_) => "one value",
            },
        }
    }

    fn insert_below(&mut self, map: &Spot, keys: &[String], is: &Json) -> Result<(), EditError> {
        let Some((last, above)) = keys.split_last() else {
            return Err(EditError::Changed);
        };
        if let Some(text) = variable_in(is) {
            return Err(EditError::Variable(text.to_owned()));
        }
        let mut spot = map.clone();
        let mut above = above.iter();
        // What there is of the way is gone; from there on it is made.
        let mut key = None;
        for step in above.by_ref() {
            if self
                .node(&spot)
                .is_some_and(|node| node.child(step).is_some())
            {
                spot = spot.field(step);
            } else {
                key = Some(step.clone());
                break;
            }
        }
        let rest: Vec<&String> = above.chain([last]).collect();
        let (key, rest) = match key {
            Some(key) => (key, &rest[..]),
            None => (last.clone(), &rest[1..]),
        };
        let wrap =
            |is: Json, key: &&String| Json::Object([((*key).clone(), is)].into_iter().collect());
        let whole = rest.iter().rev().fold(is.clone(), wrap);
        let node = self.node(&spot).ok_or(EditError::Changed)?;
        if !are_nested(&self.spots(node.place.bytes)) {
            return Err(EditError::Shared);
        }
        match &node.value {
            Value::Map(_) if node.get(&key).is_some() => {
                self.change_node(&spot.field(&key), &Json::Null, &whole)
            }
            Value::Map(_) => self.put(&spot, &key, &whole),
            Value::Null => {
                let whole = wrap(whole, &&key);
                self.fill(&spot, &whole)
            }
            _ => Err(self.other_form(node, &whole)),
        }
    }

    /// All places with these bytes: several where an alias stands for a value.
    fn spots(&self, bytes: (u32, u32)) -> Vec<Spot> {
        let mut spots = Vec::new();
        for (document, root) in self.documents.iter().enumerate() {
            root.walk(&Pointer::root(), &mut |at, node| {
                if node.place.bytes == bytes {
                    let at = at.clone();
                    spots.push(Spot { document, at });
                }
            });
        }
        spots
    }

    /// Takes the first of some texts that says what is expected.
    fn take(
        &mut self,
        texts: impl IntoIterator<Item = String>,
        expected: &[Node],
    ) -> Result<(), EditError> {
        for text in texts {
            let (documents, found) = parse("", &text);
            let is_same = documents.len() == expected.len()
                && documents.iter().zip(expected).all(|(a, b)| says_same(a, b));
            if !found.has_errors() && is_same {
                *self = Self { text, documents };
                return Ok(());
            }
        }
        Err(EditError::Unsure)
    }

    /// The documents with another value in one place.
    fn expected(&self, spot: &Spot, change: impl FnOnce(&mut Node)) -> Vec<Node> {
        let mut documents = self.documents.clone();
        let node = documents.get_mut(spot.document);
        if let Some(node) = node.and_then(|root| at_mut(root, &spot.at)) {
            change(node);
        }
        documents
    }

    /// The text with something in the place of these bytes.
    fn with(&self, bytes: std::ops::Range<usize>, text: &str) -> String {
        let mut changed = String::with_capacity(self.text.len() + text.len());
        changed.push_str(self.text.get(..bytes.start).unwrap_or_default());
        changed.push_str(text);
        changed.push_str(self.text.get(bytes.end..).unwrap_or_default());
        changed
    }
}

/// Whether each of these places lies in the one before it.
fn are_nested(spots: &[Spot]) -> bool {
    spots
        .windows(2)
        .all(|pair| pair[0].document == pair[1].document && pair[0].at.covers(&pair[1].at))
}

/// The bytes of a value.
fn bytes(node: &Node) -> std::ops::Range<usize> {
    node.place.bytes.0 as usize..node.place.bytes.1 as usize
}

fn form(node: &Node) -> std::mem::Discriminant<Value> {
    std::mem::discriminant(match &node.value {
        Value::List(_) | Value::Map(_) => &node.value,
        _ => &Value::Null,
    })
}

fn at_mut<'a>(root: &'a mut Node, at: &Pointer) -> Option<&'a mut Node> {
    let mut node = root;
    for step in at.steps() {
        node = match &mut node.value {
            Value::Map(entries) => {
                let found = entries.iter_mut().find(|(key, _)| key.name == step);
                &mut found?.1
            }
            Value::List(items) => items.get_mut(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(node)
}

/// Whether two trees say the same: the same words in the same order. How a word is quoted is not looked at.
fn says_same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Map(ones), Value::Map(others)) => {
            ones.len() == others.len()
                && ones
                    .iter()
                    .zip(others)
                    .all(|(a, b)| a.0.name == b.0.name && says_same(&a.1, &b.1))
        }
        (Value::List(ones), Value::List(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(a, b)| says_same(a, b))
        }
        (Value::Null, Value::Null) => true,
        (ones, others) => text(ones).is_some() && text(ones) == text(others),
    }
}

/// A value of JSON as a tree.
fn made(value: &Json) -> Node {
    Node::made(match value {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => Value::Integer(number.to_string().into()),
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Array(items) => Value::List(items.iter().map(made).collect()),
        Json::Object(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, value)| (map::key(key), made(value)))
                .collect(),
        ),
    })
}

/// A text in a value in which something would be filled in; every other `${…}` is literal text.
fn variable_in(value: &Json) -> Option<&str> {
    match value {
        Json::String(text) => has_variable(text).then_some(text),
        Json::Array(items) => items.iter().find_map(variable_in),
        Json::Object(entries) => entries.values().find_map(variable_in),
        _ => None,
    }
}

fn has_variable(text: &str) -> bool {
    ["${var.", "${each."]
        .iter()
        .any(|begin| text.contains(begin))
}

#[cfg(test)]
mod tests;
