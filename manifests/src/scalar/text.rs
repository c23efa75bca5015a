//! [`Text`]: a string that may come from a secret, a template or a file; [`Document`]: such a text or a map.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A string, or where it comes from. Numbers and truth values stand for their spelling.
#[derive(Clone)]
pub enum Text {
    /// The string itself.
    Plain(String),
    /// A key of a secret, looked up when it is used; never stored.
    Secret(SecretRef),
    /// A string in which `${secret.NAME.KEY}` and `${var.NAME}` are filled in.
    Template(String),
    /// The content of a file of the repository, relative to the manifest.
    File(String),
    /// What came from a secret, told by the keyed digest of its value. In no manifest: whoever looks up secrets puts it
    /// in the place of where the text comes from.
    Sealed(Sealed),
}

/// A text from a secret, whose value is known to whoever made the digest.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    /// The value by a keyed hash: equal where the values are.
    pub digest: String,
    /// Where the text comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Where it comes from, if it is a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

impl Sealed {
    /// The text as manifests say it.
    pub fn written(&self) -> Text {
        match (&self.secret_ref, &self.template) {
            (Some(secret), _) => Text::Secret(secret.clone()),
            (None, template) => Text::Template(template.clone().unwrap_or_default()),
        }
    }
}

/// The key by which a sealed text is known in what is written down.
pub const SEALED: &str = "sealed";

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(one), Self::Plain(two))
            | (Self::Template(one), Self::Template(two))
            | (Self::File(one), Self::File(two)) => one == two,
            (Self::Secret(one), Self::Secret(two)) => one == two,
            // The same value by another name is no change.
            (Self::Sealed(one), Self::Sealed(two)) => one.digest == two.digest,
            _ => false,
        }
    }
}

crate::fields! {
    /// A key of a secret.
    pub struct SecretRef {
        /// The name of the Secret document.
        name: String = String::new(),
        /// The key in it.
        key: String = String::new(),
    }
}

impl Text {
    /// The string, where no secret is in it.
    pub fn as_plain(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a secret is in it.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::Sealed(_))
            || matches!(self, Self::Template(text) if text.contains("${secret."))
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::Plain(String::new())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => text.fmt(formatter),
            Self::Secret(SecretRef { name, key }) => write!(formatter, "secret {name}.{key}"),
            Self::Template(text) => write!(formatter, "template {text:?}"),
            Self::File(path) => write!(formatter, "file {path:?}"),
            Self::Sealed(sealed) => write!(formatter, "sealed {:?}", sealed.written()),
        }
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = match self {
            Self::Plain(text) => return serializer.serialize_str(text),
            _ => serializer.serialize_map(Some(1))?,
        };
        match self {
            Self::Plain(_) => {}
            Self::Secret(secret) => map.serialize_entry("secretRef", secret)?,
            Self::Template(text) => map.serialize_entry("template", text)?,
            Self::File(path) => map.serialize_entry("file", path)?,
            Self::Sealed(sealed) => map.serialize_entry(SEALED, sealed)?,
        }
        map.end()
    }
}

crate::fields! {
    /// Where a string comes from: one of `secretRef`, `template`, `file`.
    pub struct TextSource {
        /// A key of a secret.
        secret_ref: Option<SecretRef> = None,
        /// A string in which `${secret.NAME.KEY}` and `${var.NAME}` are filled in.
        template: Option<String> = None,
        /// A file of the repository, relative to this one.
        file: Option<String> = None,
    }
}

impl TextSource {
    fn into_text<E: de::Error>(self) -> Result<Text, E> {
        match (self.secret_ref, self.template, self.file) {
            (Some(secret), None, None) if secret.name.is_empty() || secret.key.is_empty() => {
                Err(E::custom("`secretRef` needs `name` and `key`"))
            }
            (Some(secret), None, None) => Ok(Text::Secret(secret)),
            (None, Some(template), None) => Ok(Text::Template(template)),
            (None, None, Some(file)) => Ok(Text::File(file)),
            _ => Err(E::custom(
                "a text in place of a string is one of `secretRef`, `template`, `file`",
            )),
        }
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, or one of {secretRef}, {template}, {file}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text::Plain(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
        Ok(Text::Plain(text))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
        Ok(Text::Plain(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Text, E> {
        Ok(Text::Plain(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Text, E> {
        Ok(Text::Plain(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Text, E> {
        Ok(Text::Plain(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        let mut source = TextSource::default();
        let mut sealed = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "secretRef" => source.secret_ref = map.next_value()?,
                "template" => source.template = map.next_value()?,
                "file" => source.file = map.next_value()?,
                SEALED => sealed = Some(map.next_value()?),
                _ => {
                    return Err(de::Error::unknown_field(
                        &key,
                        &["secretRef", "template", "file"],
                    ));
                }
            }
        }
        match sealed {
            Some(sealed) => Ok(Text::Sealed(sealed)),
            None => source.into_text(),
        }
    }

    fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, inner: D) -> Result<Text, D::Error> {
        inner.deserialize_any(Self)
    }
}

/// The name by which [`crate::decode`] knows that the spelling of a number is wanted and not its value.
pub(crate) const SPELLING: &str = "$keel.spelling";

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SPELLING, TextVisitor)
    }
}

impl schemars::JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let source = generator.subschema_for::<TextSource>();
        schemars::json_schema!({
            "anyOf": [{ "type": ["string", "number", "boolean"] }, source],
            "errorMessage": "expected a string, or one of {secretRef}, {template}, {file}",
        })
    }
}

crate::compare_as_one!(Text, Document);

/// A text, or a map that is written as YAML or JSON where it is used.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A text.
    Text(Text),
    /// A map.
    Data(Value),
}

impl Default for Document {
    fn default() -> Self {
        Self::Text(Text::default())
    }
}

impl serde::Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Data(value) => value.serialize(serializer),
        }
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, a map, or one of {secretRef}, {template}, {file}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Document, E> {
        Ok(Document::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Document, A::Error> {
        serde::Deserialize::deserialize(de::value::SeqAccessDeserializer::new(list))
            .map(Document::Data)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
        let value: Value =
            serde::Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let source = value
            .as_object()
            .filter(|map| map.len() == 1)
            .and_then(|map| map.keys().next())
            .is_some_and(|key| matches!(key.as_str(), "secretRef" | "template" | "file" | SEALED));
        if !source {
            return Ok(Document::Data(value));
        }
        let text: Text = serde_json::from_value(value).map_err(de::Error::custom)?;
        Ok(Document::Text(text))
    }
}

impl<'de> serde::Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

crate::scalar_schema!(Document, "a string, a map, or one of {secretRef}, {template}, {file}", { "type": ["string", "object", "array"] });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_where_they_come_from() {
        let read = |text: &str| serde_json::from_str::<Text>(text);
        assert_eq!(read("\"a\"").expect("plain"), Text::from("a"));
        assert_eq!(read("8001").expect("number"), Text::from("8001"));
        assert!(
            read("{\"secretRef\":{\"name\":\"db\",\"key\":\"password\"}}")
                .expect("secret")
                .is_secret()
        );
        assert!(
            read("{\"template\":\"a ${secret.db.password}\"}")
                .expect("template")
                .is_secret()
        );
        assert!(!read("{\"file\":\"./motd\"}").expect("file").is_secret());
        for wrong in [
            "null",
            "{}",
            "{\"secretRef\":{\"name\":\"db\"}}",
            "{\"file\":\"a\",\"template\":\"b\"}",
            "{\"files\":1}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sealed_text_is_its_value_by_whatever_name() {
        let sealed = |name: &str, digest: &str| {
            let text = format!(
                "{{\"sealed\":{{\"digest\":\"{digest}\",\"secretRef\":{{\"name\":\"{name}\",\"key\":\"password\"}}}}}}"
            );
            let read: Text = serde_json::from_str(&text).expect(&text);
            assert_eq!(serde_json::to_string(&read).expect("written"), text);
            assert!(read.is_secret() && read.as_plain().is_none());
            read
        };
        assert_eq!(sealed("db", "0a"), sealed("other", "0a"));
        assert_ne!(sealed("db", "0a"), sealed("db", "0b"));
        assert_ne!(sealed("db", "0a"), Text::from("0a"));
        assert_eq!(
            format!("{:?}", sealed("db", "0a")),
            "sealed secret db.password"
        );
    }

    #[test]
    fn documents_may_be_maps() {
        let read = |text: &str| serde_json::from_str::<Document>(text).expect(text);
        assert!(matches!(
            read("{\"packages\":[\"curl\"]}"),
            Document::Data(_)
        ));
        assert!(matches!(
            read("{\"file\":\"./user-data\"}"),
            Document::Text(Text::File(_))
        ));
        let sealed = read("{\"sealed\":{\"digest\":\"0a\",\"template\":\"x\"}}");
        assert!(matches!(sealed, Document::Text(Text::Sealed(_))));
    }
}
