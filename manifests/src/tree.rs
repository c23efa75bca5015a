//! [`Node`]: a document as a tree in which every key and value knows where it was written.

use std::sync::Arc;

use crate::diagnostic::Origin;
use crate::pointer::Pointer;

/// Where a key or value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as messages name it.
    pub file: Arc<str>,
    /// The line, from 1; 0 for what was made and not written.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The bytes of it in the file: begin and end.
    pub bytes: (u32, u32),
}

impl Place {
    /// The place of something that nobody wrote.
    pub fn nowhere() -> Self {
        Self {
            file: Arc::from(""),
            line: 0,
            column: 0,
            bytes: (0, 0),
        }
    }

    /// The place as diagnostics carry it.
    pub fn origin(&self) -> Origin {
        Origin {
            file: self.file.clone().into(),
            line: self.line,
            column: self.column,
            bytes: self.bytes,
        }
    }
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it was written.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// A key of a map with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it was written.
    pub place: Place,
    /// Its text.
    pub name: String,
}

/// What a node is, by the core schema of YAML 1.2. Numbers keep their spelling, so that `1.10` may become a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number as it was spelled.
    Integer(Box<str>),
    /// A number as it was spelled.
    Float(Box<str>),
    /// A text.
    Text(Box<str>),
    /// A list.
    List(Vec<Node>),
    /// A map in the order of its file; keys are unique.
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// What people call it in messages.
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// A node that nobody wrote.
    pub fn made(value: Value) -> Self {
        Self {
            place: Place::nowhere(),
            value,
        }
    }

    /// The value of a key, where this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, node)| node)
    }

    /// Key and value, where this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<(&Key, &Self)> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(found, _)| found.name == key)
                .map(|(key, node)| (key, node)),
            _ => None,
        }
    }

    /// As [`Node::get`], to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => entries
                .iter_mut()
                .find(|(found, _)| found.name == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// Takes a key out of a map.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        match &mut self.value {
            Value::Map(entries) => {
                let at = entries.iter().position(|(found, _)| found.name == key)?;
                Some(entries.remove(at).1)
            }
            _ => None,
        }
    }

    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What stands under a key of a map or an index of a list.
    pub fn child(&self, step: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(_) => self.get(step),
            Value::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// What stands at a pointer.
    pub fn at(&self, pointer: &Pointer) -> Option<&Self> {
        let mut node = self;
        for step in pointer.steps() {
            node = node.child(&step)?;
        }
        Some(node)
    }

    /// Takes what stands at a pointer out of its map or list; the root stays.
    pub fn prune(&mut self, pointer: &Pointer) -> bool {
        let steps: Vec<String> = pointer.steps().collect();
        let Some((last, above)) = steps.split_last() else {
            return false;
        };
        let mut node = self;
        for step in above {
            let next = match &mut node.value {
                Value::Map(entries) => entries
                    .iter_mut()
                    .find(|(key, _)| key.name == *step)
                    .map(|(_, node)| node),
                Value::List(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get_mut(index)),
                _ => None,
            };
            let Some(next) = next else { return false };
            node = next;
        }
        match &mut node.value {
            Value::Map(_) => node.take(last).is_some(),
            Value::List(items) => match last.parse::<usize>() {
                Ok(index) if index < items.len() => {
                    items.remove(index);
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Calls back for this value and all below it with their pointers, parents first.
    pub fn walk(&self, at: &Pointer, visit: &mut dyn FnMut(&Pointer, &Self)) {
        visit(at, self);
        match &self.value {
            Value::Map(entries) => {
                for (key, node) in entries {
                    node.walk(&at.field(&key.name), visit);
                }
            }
            Value::List(items) => {
                for (index, node) in items.iter().enumerate() {
                    node.walk(&at.index(index), visit);
                }
            }
            _ => {}
        }
    }
}
