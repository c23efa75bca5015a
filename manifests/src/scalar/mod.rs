//! Typed values that are written as one word: sizes, rates, addresses, durations.
//!
//! To add one: write `scalar/<name>.rs` with the type, its `FromStr` (the error is one sentence, and may end in
//! `; did you mean …?`) and its `Display`, call [`text_scalar!`](crate::text_scalar) with its schema, add the line below.

pub mod address;
pub mod byte_size;
pub mod cpu;
pub mod duration;
pub mod expiry;
pub mod file_mode;
pub mod id_map;
pub mod image_ref;
pub mod ip_range;
pub mod kernel_limit;
pub mod mac;
pub mod memory;
pub mod path;
pub mod ports;
pub mod prefix;
pub mod proxy_address;
pub mod rate;
pub mod schedule;
pub mod snapshot_pattern;
pub mod text;
pub mod time_zone;
pub mod word_list;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// A text that is not what it should be: one sentence for people, with a hint after `; did you mean `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadScalar(pub String);

impl BadScalar {
    /// Just a sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// A sentence, and what the writer probably meant.
    pub fn meant(message: impl fmt::Display, suggestion: impl fmt::Display) -> Self {
        Self(format!("{message}; did you mean `{suggestion}`?"))
    }
}

/// Reads a scalar from a string, or from a number by its digits.
pub struct TextVisitor<T> {
    /// Said where something else is found: "a size such as `512MiB`".
    pub expecting: &'static str,
    /// Which scalar.
    pub of: PhantomData<T>,
}

impl<T: FromStr> serde::de::Visitor<'_> for TextVisitor<T>
where
    T::Err: fmt::Display,
{
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Makes a type with `FromStr` and `Display` a value of the language: read, written, compared as one, in the schema.
#[macro_export]
macro_rules! text_scalar {
    ($type:ty, $expecting:literal, $schema:tt) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::scalar::TextVisitor {
                    expecting: $expecting,
                    of: std::marker::PhantomData::<$type>,
                })
            }
        }

        $crate::scalar_schema!($type, $expecting, $schema);
        $crate::compare_as_one!($type);
    };
}

/// Gives a type a schema that is written in place and not by reference. What is expected is what editors say where they
/// find something else.
#[macro_export]
macro_rules! scalar_schema {
    ($type:ty, $expecting:literal, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut schema = schemars::json_schema!($schema);
                schema.insert(
                    "errorMessage".to_owned(),
                    concat!("expected ", $expecting).into(),
                );
                schema
            }
        }
    };
}

/// Splits the digits at the front from the rest: `512MiB` is `(512, "MiB")`.
pub(crate) fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text.get(..end)?.parse().ok()?, text.get(end..)?))
}
