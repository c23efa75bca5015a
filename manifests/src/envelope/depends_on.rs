//! [`DependsOn`]: what must be there before an object begins, beyond what its references say.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};

use crate::desired::Readiness;

/// `dependsOn`: names in a list, `{name: readiness}` for some of them or for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DependsOn {
    /// Each name as written, its step in the list if it is one, and how far it must be.
    pub entries: Vec<Dependency>,
}

/// One entry of `dependsOn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The name as written.
    pub name: String,
    /// Where it stands below `dependsOn`: an index of the list, or a key of the map.
    pub step: String,
    /// How far it must be.
    pub readiness: Readiness,
}

/// A name alone, or names with how far they must be.
enum Entry {
    Name(String),
    Until(Vec<(String, Readiness)>),
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name such as `Instance/db-1`, or `{Instance/db-1: started}`")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Entry, E> {
        Ok(Entry::Name(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        until(map).map(Entry::Until)
    }
}

fn until<'de, A: MapAccess<'de>>(mut map: A) -> Result<Vec<(String, Readiness)>, A::Error> {
    let mut names = Vec::new();
    while let Some(entry) = map.next_entry()? {
        names.push(entry);
    }
    Ok(names)
}

impl<'de> serde::Deserialize<'de> for Entry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct DependsOnVisitor;

impl<'de> Visitor<'de> for DependsOnVisitor {
    type Value = DependsOn;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("a list of names such as `[Instance/db-1]`, or `{Instance/db-1: started}`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<DependsOn, A::Error> {
        let mut entries = Vec::new();
        let mut index = 0;
        while let Some(entry) = list.next_element()? {
            let names = match entry {
                Entry::Name(name) => vec![(name, Readiness::Healthy)],
                Entry::Until(names) => names,
            };
            entries.extend(names.into_iter().map(|(name, readiness)| Dependency {
                name,
                step: index.to_string(),
                readiness,
            }));
            index += 1;
        }
        Ok(DependsOn { entries })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DependsOn, A::Error> {
        let entries = until(map)?.into_iter().map(|(name, readiness)| Dependency {
            step: name.clone(),
            name,
            readiness,
        });
        Ok(DependsOn {
            entries: entries.collect(),
        })
    }
}

impl<'de> serde::Deserialize<'de> for DependsOn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DependsOnVisitor)
    }
}

impl schemars::JsonSchema for DependsOn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DependsOn".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let until = serde_json::json!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<Readiness>(),
        });
        schemars::json_schema!({
            "anyOf": [
                { "type": "array", "items": { "anyOf": [{ "type": "string" }, until.clone()] } },
                until,
            ],
        })
    }
}
