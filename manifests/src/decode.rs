//! Trees to types: a serde deserializer over [`Node`] whose errors carry place and pointer, and a decoding that finds
//! all errors of a document in one run.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::near_miss;
use crate::pointer::Pointer;
use crate::tree::{Key, Node, Place, Value};

/// A key that this map does not have.
pub const UNKNOWN_FIELD: Code = Code("E0104");
/// A value of the wrong type.
pub const WRONG_TYPE: Code = Code("E0105");
/// A word that is none of those that are possible here.
pub const UNKNOWN_WORD: Code = Code("E0106");
/// A value that cannot be understood: a size, an address, a duration.
pub const BAD_VALUE: Code = Code("E0107");
/// A field that must be written.
pub const MISSING_FIELD: Code = Code("E0108");

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The key is unknown; these are known.
    UnknownField(String, &'static [&'static str]),
    /// The word is unknown; these are known.
    UnknownWord(String, &'static [&'static str]),
    /// This field must be written.
    MissingField(&'static str),
    /// The type is wrong: what was found, what is expected.
    Type(String, String),
    /// The value cannot be understood, in the words of its type.
    Value(String),
}

/// One value that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub wrong: Wrong,
    /// Where it was written; the key for an unknown field.
    pub place: Option<Place>,
    /// Where it stands in the document.
    pub pointer: Pointer,
}

impl DecodeError {
    fn new(wrong: Wrong) -> Self {
        Self {
            wrong,
            place: None,
            pointer: Pointer::root(),
        }
    }

    fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn within(mut self, step: &str) -> Self {
        let below = self.pointer.as_str().to_owned();
        self.pointer = Pointer::new(&format!("{}{below}", Pointer::root().field(step)));
        self
    }

    /// The finding that people see, with the nearest right word.
    pub fn diagnostic(&self) -> Diagnostic {
        let origin = self.place.as_ref().map(Place::origin).unwrap_or_default();
        let above = self.pointer.parent().unwrap_or_default();
        let inside = match above.dotted().as_str() {
            "" => String::new(),
            dotted => format!(" in {dotted}"),
        };
        let found = match &self.wrong {
            Wrong::UnknownField(field, known) => {
                let found = Diagnostic::error(
                    UNKNOWN_FIELD,
                    origin,
                    format!("unknown field `{field}`{inside}"),
                );
                found
                    .hint(near_miss::key(field, known))
                    .note(format!("known fields: {}", known.join(", ")))
            }
            Wrong::UnknownWord(word, known) => {
                let found = Diagnostic::error(
                    UNKNOWN_WORD,
                    origin,
                    format!("`{word}` is not possible as {}", self.pointer.dotted()),
                );
                found
                    .hint(near_miss::word(word, known))
                    .note(format!("possible: {}", known.join(", ")))
            }
            Wrong::MissingField(field) => Diagnostic::error(
                MISSING_FIELD,
                origin,
                format!("field `{field}` is missing in {}", self.pointer.dotted()),
            ),
            Wrong::Type(found, expected) => {
                let one = Diagnostic::error(
                    WRONG_TYPE,
                    origin,
                    format!("{} is {found}, expected {expected}", self.pointer.dotted()),
                );
                match near_miss::r#type(found, expected, &self.pointer) {
                    Some(hint) => one.hint(hint),
                    None => one,
                }
            }
            Wrong::Value(message) => match message.split_once("; ") {
                Some((message, hint)) => {
                    Diagnostic::error(BAD_VALUE, origin, message.to_owned()).hint(hint.to_owned())
                }
                None => Diagnostic::error(BAD_VALUE, origin, message.clone()),
            },
        };
        found.at(self.pointer.clone())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.diagnostic().message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Wrong::Value(message.to_string()))
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        use de::Unexpected as U;
        let found = match unexpected {
            U::Bool(yes) => format!("`{yes}`"),
            U::Unsigned(number) => format!("the number {number}"),
            U::Signed(number) => format!("the number {number}"),
            U::Float(number) => format!("the number {number}"),
            U::Str(text) => format!("the text `{}`", shortened(text)),
            U::Unit | U::Option => "empty".to_owned(),
            U::Seq => "a list".to_owned(),
            U::Map => "a map".to_owned(),
            other => other.to_string(),
        };
        Self::new(Wrong::Type(found, plain(&expected.to_string())))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        <Self as de::Error>::invalid_type(unexpected, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Wrong::UnknownField(shortened(field), expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Wrong::UnknownWord(shortened(variant), expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Wrong::MissingField(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Wrong::Value(format!("`{field}` is written twice")))
    }
}

/// The words of Rust's types in those of people.
fn plain(expected: &str) -> String {
    match expected {
        "a string" | "string" | "a borrowed string" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "u8" => "a whole number, 0 to 255".to_owned(),
        "u16" => "a whole number, 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "unit" => "nothing".to_owned(),
        other if other.starts_with("struct ") => "a map".to_owned(),
        other => other.to_owned(),
    }
}

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// Decodes a tree and finds everything that is wrong with it: what cannot be decoded is told, taken out, and the rest
/// decoded again. There is a value only where nothing was wrong.
pub fn decode<T>(
    node: &Node,
    at: &Pointer,
    mut deserialize: impl FnMut(Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<T, Diagnostics> {
    let mut error = match deserialize(Decoder(node)) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut found = Diagnostics::default();
    let mut rest = node.clone();
    let mut pruned = Vec::new();
    let mut with_unknown: Vec<Pointer> = Vec::new();
    // Each round takes one value out, so this ends; a page of errors is enough for one document.
    for _ in 0..100 {
        let inner = error.pointer.clone();
        error.pointer = Pointer::new(&format!("{at}{inner}"));
        // A field that was taken out for its value is missing by our doing, and so is what an unknown one was meant for.
        let ours = match &error.wrong {
            Wrong::MissingField(field) => {
                pruned.contains(&inner.field(field)) || with_unknown.contains(&inner)
            }
            Wrong::Value(_) => with_unknown.contains(&inner),
            _ => false,
        };
        if !ours {
            found.push(error.diagnostic());
        }
        if matches!(error.wrong, Wrong::UnknownField(..)) {
            with_unknown.extend(inner.parent());
        }
        if !rest.prune(&inner) {
            break;
        }
        pruned.push(inner);
        match deserialize(Decoder(&rest)) {
            Ok(_) => break,
            Err(next) => error = next,
        }
    }
    Err(found)
}

/// A deserializer over a tree.
#[derive(Clone, Copy)]
pub struct Decoder<'a>(pub &'a Node);

fn whole_number(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = if let Some(hex) = unsigned.strip_prefix("0x") {
        i128::from_str_radix(hex, 16)
    } else if let Some(octal) = unsigned.strip_prefix("0o") {
        i128::from_str_radix(octal, 8)
    } else {
        unsigned.parse()
    };
    number
        .ok()
        .map(|number| if negative { -number } else { number })
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let place = &self.0.place;
        let result = match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(yes) => visitor.visit_bool(*yes),
            Value::Integer(text) => match whole_number(text) {
                Some(number) => {
                    if let Ok(number) = u64::try_from(number) {
                        visitor.visit_u64(number)
                    } else if let Ok(number) = i64::try_from(number) {
                        visitor.visit_i64(number)
                    } else {
                        Err(de::Error::custom(format!("{text} is too large a number")))
                    }
                }
                None => Err(de::Error::custom(format!("{text} is too large a number"))),
            },
            Value::Float(text) => visitor.visit_f64(text.parse().unwrap_or(f64::NAN)),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items {
                items: items.iter(),
                index: 0,
            }),
            Value::Map(entries) => visit_entries(entries, None, visitor),
        };
        result.map_err(|error| error.at(place))
    }

    /// A number is taken as the text of its spelling: `environment: { PORT: 8080 }` means what it says.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.0.value {
            Value::Integer(text) | Value::Float(text) => visitor
                .visit_borrowed_str(text)
                .map_err(|error: DecodeError| error.at(&self.0.place)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    /// A struct that asks for the one field `type` is told apart by it, so it gets that one first.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.0.value {
            Value::Map(entries) if fields == ["type"] => {
                let first = entries.iter().position(|(key, _)| key.name == "type");
                visit_entries(entries, first, visitor).map_err(|error| error.at(&self.0.place))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let place = &self.0.place;
        match &self.0.value {
            Value::Text(word) => {
                visitor.visit_enum(de::value::BorrowedStrDeserializer::<DecodeError>::new(word))
            }
            Value::Map(entries) if entries.len() == 1 => {
                visitor.visit_enum(Variant(&entries[0].0, &entries[0].1))
            }
            other => Err(DecodeError::new(Wrong::Type(
                match other {
                    Value::Integer(text) | Value::Float(text) => format!("the number {text}"),
                    Value::Bool(yes) => format!("`{yes}`"),
                    other => other.noun().to_owned(),
                },
                format!("one of {}", words.join(", ")),
            ))),
        }
        .map_err(|error: DecodeError| error.at(place))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

impl<'de> IntoDeserializer<'de, DecodeError> for Decoder<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Visits the entries of a map, the one at `first` before the others.
fn visit_entries<'de, V: Visitor<'de>>(
    entries: &'de [(Key, Node)],
    first: Option<usize>,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    let mut map = Entries {
        entries,
        first,
        given: first.is_none(),
        next: 0,
        current: None,
    };
    visitor
        .visit_map(&mut map)
        .map_err(|error| match map.current {
            // Errors about a key are raised while its value waits to be asked for.
            Some(index) if error.place.is_none() => {
                let (key, _) = &entries[index];
                error.at(&key.place).within(&key.name)
            }
            _ => error,
        })
}

struct Entries<'de> {
    entries: &'de [(Key, Node)],
    first: Option<usize>,
    given: bool,
    next: usize,
    current: Option<usize>,
}

impl<'de> MapAccess<'de> for &mut Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let index = if self.given {
            if Some(self.next) == self.first {
                self.next += 1;
            }
            self.next += 1;
            self.next - 1
        } else {
            self.given = true;
            self.first.unwrap_or(0)
        };
        let Some((key, _)) = self.entries.get(index) else {
            self.current = None;
            return Ok(None);
        };
        self.current = Some(index);
        seed.deserialize(de::value::BorrowedStrDeserializer::new(&key.name))
            .map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        let Some(index) = self.current else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let (key, node) = &self.entries[index];
        let value = seed
            .deserialize(Decoder(node))
            .map_err(|error| error.at(&node.place).within(&key.name))?;
        self.current = None;
        Ok(value)
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.items.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Decoder(node))
            .map(Some)
            .map_err(|error| error.at(&node.place).within(&index.to_string()))
    }
}

struct Variant<'de>(&'de Key, &'de Node);

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = DecodeError;
    type Variant = Decoder<'de>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Decoder<'de>), DecodeError> {
        let name = de::value::BorrowedStrDeserializer::<DecodeError>::new(&self.0.name);
        let word = seed
            .deserialize(name)
            .map_err(|error| error.at(&self.0.place))?;
        Ok((word, Decoder(self.1)))
    }
}

impl<'de> VariantAccess<'de> for Decoder<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Subject {
        count: u8,
        #[serde(default)]
        words: Vec<Word>,
        #[serde(default)]
        environment: BTreeMap<String, String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Word {
        Trash,
        Delete,
    }

    fn run(text: &str) -> Result<Subject, Vec<String>> {
        let (documents, found) = crate::parse::parse("a.yaml", text);
        assert!(found.is_empty(), "{found:?}");
        decode(&documents[0], &Pointer::new("/spec"), |d| {
            Subject::deserialize(d)
        })
        .map_err(|found| {
            found
                .sorted()
                .iter()
                .map(|d| {
                    let hint = d.hint.as_deref().unwrap_or("-");
                    format!(
                        "{}:{} {} {} | {} | {hint}",
                        d.origin.line, d.origin.column, d.code, d.path, d.message
                    )
                })
                .collect()
        })
    }

    #[test]
    fn numbers_are_texts_where_texts_are_wanted() {
        let subject =
            run("count: 0x10\nenvironment: {PORT: 8080, VERSION: 1.10}\n").expect("valid");
        assert_eq!(subject.count, 16);
        assert_eq!(subject.environment["PORT"], "8080");
        assert_eq!(subject.environment["VERSION"], "1.10");
    }

    #[test]
    fn all_mistakes_are_told_in_one_run() {
        let text =
            "cuont: 1\ncount: two\nwords: [trash, trsh, {x: 1}]\nenvironment: {A: true, B: [1]}\n";
        assert_eq!(
            run(text).expect_err("many mistakes"),
            [
                "1:1 E0104 /spec/cuont | unknown field `cuont` in spec | did you mean `count`?",
                "2:8 E0105 /spec/count | count is the text `two`, expected a whole number, 0 to 255 | -",
                "3:16 E0106 /spec/words/1 | `trsh` is not possible as words.1 | did you mean `trash`?",
                "3:23 E0106 /spec/words/1 | `x` is not possible as words.1 | not known here",
                "4:18 E0105 /spec/environment/A | environment.A is `true`, expected a text | -",
                "4:27 E0105 /spec/environment/B | environment.B is a list, expected a text | -",
            ]
        );
    }
}
