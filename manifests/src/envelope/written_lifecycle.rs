//! [`WrittenLifecycle`]: the `lifecycle` block as it is written, before defaults.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use crate::lifecycle::{
    AdoptRule, DriftMode, Extras, IgnoreRule, Lifecycle, OnImageChange, OnRestartNeeded, Prune,
};
use crate::pointer::Pointer;
use crate::tree::Node;

/// The `lifecycle` block: how an object is treated over its life.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WrittenLifecycle {
    /// What happens to it when its manifest goes away. Absent: `trash` for Instance and Volume, `orphan` for Project and
    /// StoragePool, `delete` for others.
    pub prune: Option<Prune>,
    /// Whether deletion, replacement, rebuild and loss of data are held. Takes an applied `false` first to end. Absent:
    /// false.
    pub protect: Option<bool>,
    /// Whether our mark is put on an object that nobody owns, or `{from: SOURCE}`: on one that another source gave up.
    /// Absent: false.
    pub adopt: Option<Adopt>,
    /// What is done about drift: one word, or words by field with `default`: `{default: correct, /spec/state: warn}`.
    /// Absent: `correct`.
    pub drift: Option<Drift>,
    /// What is done about devices, keys and snapshots that were added by hand. Absent: `warn`.
    pub extras: Option<Extras>,
    /// Fields that diff and apply leave alone after creation.
    pub ignore: Option<Vec<IgnoreRule>>,
    /// What a moved image alias does to instances made from it. Absent: `ignore`.
    pub on_image_change: Option<OnImageChange>,
    /// When a restart that a change needs is done. Absent: `wait`.
    pub on_restart_needed: Option<OnRestartNeeded>,
}

impl WrittenLifecycle {
    /// Notes where each rule of `ignore` is written, in the block that this was read from.
    pub fn placed(&mut self, block: &Node) {
        let rules = self.ignore.iter_mut().flatten();
        let at = Pointer::new("/ignore");
        for (index, rule) in rules.enumerate() {
            rule.origin = block.at(&at.index(index)).map(|node| node.place.origin());
        }
    }

    /// Puts what is written over a lifecycle.
    pub fn apply(&self, lifecycle: &mut Lifecycle) {
        if let Some(prune) = self.prune {
            lifecycle.prune = prune;
        }
        if let Some(protect) = self.protect {
            lifecycle.protect = protect;
        }
        if let Some(Adopt(adopt)) = &self.adopt {
            lifecycle.adopt = adopt.clone();
        }
        if let Some(Drift { default, by_field }) = &self.drift {
            if let Some(mode) = default {
                lifecycle.drift = *mode;
            }
            lifecycle.drift_by_field.extend(by_field.clone());
        }
        if let Some(extras) = self.extras {
            lifecycle.extras = extras;
        }
        if let Some(ignore) = &self.ignore {
            lifecycle.ignore.clone_from(ignore);
        }
        if let Some(on_image_change) = self.on_image_change {
            lifecycle.on_image_change = on_image_change;
        }
        if let Some(on_restart_needed) = self.on_restart_needed {
            lifecycle.on_restart_needed = on_restart_needed;
        }
    }
}

/// `adopt`: whether an existing object is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Adopt(AdoptRule);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    from: String,
}

struct AdoptVisitor;

impl<'de> Visitor<'de> for AdoptVisitor {
    type Value = Adopt;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("true, false or `{from: SOURCE}`")
    }

    fn visit_bool<E: serde::de::Error>(self, adopts: bool) -> Result<Adopt, E> {
        Ok(Adopt(if adopts {
            AdoptRule::Unowned
        } else {
            AdoptRule::No
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Adopt, A::Error> {
        let From { from } = From::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(Adopt(AdoptRule::From { from }))
    }
}

impl<'de> Deserialize<'de> for Adopt {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AdoptVisitor)
    }
}

crate::scalar_schema!(Adopt, "true, false or `{from: SOURCE}`", {
    "anyOf": [
        { "type": "boolean" },
        {
            "type": "object",
            "additionalProperties": false,
            "required": ["from"],
            "properties": { "from": { "type": "string", "description": "The source that gave it up." } },
        },
    ],
});

/// `drift`: one mode, or modes by field with `default`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drift {
    default: Option<DriftMode>,
    by_field: BTreeMap<Pointer, DriftMode>,
}

struct DriftVisitor;

impl<'de> Visitor<'de> for DriftVisitor {
    type Value = Drift;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "`correct`, `warn`, `ignore` or a map such as `{default: correct, /spec/state: warn}`",
        )
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Drift, E> {
        let word: serde::de::value::StrDeserializer<'_, E> =
            serde::de::IntoDeserializer::into_deserializer(word);
        Ok(Drift {
            default: Some(DriftMode::deserialize(word)?),
            by_field: BTreeMap::new(),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Drift, A::Error> {
        let mut drift = Drift::default();
        while let Some(path) = map.next_key::<String>()? {
            if path == "default" {
                drift.default = Some(map.next_value()?);
            } else if path.starts_with('/') {
                drift
                    .by_field
                    .insert(Pointer::new(&path), map.next_value()?);
            } else {
                return Err(serde::de::Error::custom(format_args!(
                    "`{path}` is neither `default` nor a field; write a pointer such as `/spec/state`"
                )));
            }
        }
        Ok(drift)
    }
}

impl<'de> Deserialize<'de> for Drift {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DriftVisitor)
    }
}

impl schemars::JsonSchema for Drift {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Drift".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mode = generator.subschema_for::<DriftMode>();
        let of = |what: &str| serde_json::json!({ "description": what, "allOf": [mode.clone()] });
        schemars::json_schema!({
            "anyOf": [
                mode.clone(),
                {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": { "default": of("The mode of all other fields.") },
                    "patternProperties": { "^/": of("The mode of this field.") },
                },
            ],
        })
    }
}
