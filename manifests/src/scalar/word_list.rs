//! [`WordList`]: words as a list or with commas between, compared as a set.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{SeqAccess, Visitor};

/// Words of which the order does not matter: `[tcp, udp]` or `"tcp, udp"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordList(pub BTreeSet<String>);

impl WordList {
    /// The words, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl serde::Serialize for WordList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

struct WordListVisitor;

impl<'de> Visitor<'de> for WordListVisitor {
    type Value = WordList;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of words, or words with commas between")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WordList, E> {
        let words = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        Ok(WordList(words.map(str::to_owned).collect()))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<WordList, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WordList, A::Error> {
        let mut words = BTreeSet::new();
        while let Some(Word(word)) = list.next_element()? {
            words.insert(word.trim().to_owned());
        }
        Ok(WordList(words))
    }
}

/// A word that may be a number.
struct Word(String);

impl<'de> serde::Deserialize<'de> for Word {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(super::TextVisitor {
                expecting: "a word",
                of: std::marker::PhantomData::<String>,
            })
            .map(Self)
    }
}

impl<'de> serde::Deserialize<'de> for WordList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordListVisitor)
    }
}

crate::scalar_schema!(WordList, "a list of words, or words with commas between", {
    "anyOf": [
        { "type": ["string", "integer"] },
        { "type": "array", "items": { "type": ["string", "integer"] } },
    ],
});
crate::compare_as_one!(WordList);
