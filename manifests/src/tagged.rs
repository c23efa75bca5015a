//! `tagged!`: an enum of structs that is written as one map with the word of the variant under `type`.

/// Declares an enum of [`fields!`](crate::fields) structs, told apart by `type`.
///
/// Errors inside a variant keep their place, which serde's own internally tagged enums lose: `type` is read first, then
/// the rest goes straight into the struct. [`crate::decode`] hands out `type` first wherever it stands; in other formats
/// what comes before it is kept aside.
#[macro_export]
macro_rules! tagged {
    ($(#[$meta:meta])* pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident $word:literal ($type:ty) ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name { $( $(#[$variant_meta])* $variant(Box<$type>) ),* }

        impl $name {
            /// The words that tell the variants apart.
            pub const WORDS: &'static [&'static str] = &[$( $word ),*];

            /// The word of this variant.
            pub const fn word(&self) -> &'static str {
                match self { $( Self::$variant(_) => $word ),* }
            }

            /// The keys of each variant, as people write them.
            pub fn keys_of(word: &str) -> Vec<String> {
                match word { $( $word => <$type>::keys(), )* _ => Vec::new() }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serde::Serializer::serialize_map(serializer, None)?;
                serde::ser::SerializeMap::serialize_entry(&mut map, "type", self.word())?;
                match self { $( Self::$variant(inner) => $crate::fields::Entries::write(inner.as_ref(), &mut map)? ),* }
                serde::ser::SerializeMap::end(map)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ByType;
                impl<'de> serde::de::Visitor<'de> for ByType {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(formatter, "a map with `type`, one of {}", $name::WORDS.join(", "))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        let (word, rest) = $crate::tagged::split(map, $name::WORDS)?;
                        match word {
                            $( $word => <$type as serde::Deserialize>::deserialize(rest).map(|inner| $name::$variant(Box::new(inner))), )*
                            other => Err(serde::de::Error::unknown_variant(other, $name::WORDS)),
                        }
                    }
                }
                deserializer.deserialize_struct(stringify!($name), $crate::tagged::TYPE_FIRST, ByType)
            }
        }

        impl $crate::change::Compare for $name {
            fn compare(&self, seen: &Self, at: &$crate::pointer::Pointer, out: &mut $crate::change::Comparison) {
                match (self, seen) {
                    $( (Self::$variant(wanted), Self::$variant(there)) => $crate::change::Compare::compare(wanted.as_ref(), there.as_ref(), at, out), )*
                    _ => out.differs(at.clone(), $crate::change::shown(seen), $crate::change::shown(self)),
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let variants = vec![$( ($word, <$type as schemars::JsonSchema>::json_schema(generator)) ),*];
                $crate::tagged::schema(&variants)
            }
        }
    };
}

use serde::de::{self, IntoDeserializer, MapAccess};
use serde_json::Value;

/// Asks [`crate::decode`] for `type` before all other keys.
pub(crate) const TYPE_FIRST: &[&str] = &["type"];

/// The word under `type`, and a deserializer of all other keys.
pub(crate) fn split<'de, A: MapAccess<'de>>(
    mut map: A,
    words: &'static [&'static str],
) -> Result<(&'static str, de::value::MapAccessDeserializer<Rest<A>>), A::Error> {
    let mut before = Vec::new();
    while let Some(key) = map.next_key::<String>()? {
        if key == "type" {
            let Word(word) = map.next_value_seed(OneOf(words))?;
            before.reverse();
            let rest = Rest {
                before,
                value: None,
                map,
            };
            return Ok((word, de::value::MapAccessDeserializer::new(rest)));
        }
        before.push((key, map.next_value::<Value>()?));
    }
    Err(de::Error::missing_field("type"))
}

struct Word(&'static str);

struct OneOf(&'static [&'static str]);

impl<'de> de::DeserializeSeed<'de> for OneOf {
    type Value = Word;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Word, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl de::Visitor<'_> for OneOf {
    type Value = Word;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "one of {}", self.0.join(", "))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
        match self.0.iter().find(|word| **word == text) {
            Some(word) => Ok(Word(word)),
            None => Err(E::unknown_variant(text, self.0)),
        }
    }
}

/// What is left of a map after `type`: what was kept aside, then what had not been read.
pub struct Rest<A> {
    before: Vec<(String, Value)>,
    value: Option<Value>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<A> {
    type Error = A::Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        match self.before.pop() {
            Some((key, value)) => {
                self.value = Some(value);
                seed.deserialize(key.into_deserializer()).map(Some)
            }
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, A::Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(value).map_err(de::Error::custom),
            None => self.map.next_value_seed(seed),
        }
    }
}

/// A schema that shows the keys of the variant that `type` names: `if`/`then` gives better messages in editors than
/// `oneOf`.
pub(crate) fn schema(variants: &[(&'static str, schemars::Schema)]) -> schemars::Schema {
    let words: Vec<&str> = variants.iter().map(|(word, _)| *word).collect();
    let branches: Vec<Value> = variants
        .iter()
        .map(|(word, schema)| {
            let mut then = schema.clone().to_value();
            if let Some(properties) = then
                .as_object_mut()
                .map(|map| map.entry("properties").or_insert_with(|| Value::Object(serde_json::Map::new())))
                .and_then(Value::as_object_mut)
            {
                properties.insert(
                    "type".to_owned(),
                    serde_json::json!({ "const": word, "description": "What it is." }),
                );
                properties.insert(
                    "inherit".to_owned(),
                    serde_json::json!({
                        "type": "boolean",
                        "description": "Whether this adds to the device of the same name in an earlier profile instead of replacing it.",
                    }),
                );
            }
            serde_json::json!({
                "if": {
                    "title": format!("type: {word}"),
                    "type": "object",
                    "properties": { "type": { "const": word } },
                    "required": ["type"],
                },
                "then": then,
            })
        })
        .collect();
    schemars::json_schema!({
        "type": "object",
        "properties": { "type": { "enum": words, "description": "What it is." } },
        "allOf": branches,
        // What is added to an inherited device is of its type.
        "if": { "required": ["inherit"] },
        "else": { "required": ["type"] },
    })
}
