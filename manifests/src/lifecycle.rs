//! How an object is treated over its life: [`Lifecycle`], the `lifecycle` block of every manifest.

use std::collections::BTreeMap;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::diagnostic::Origin;
use crate::kind::Kind;
use crate::pointer::Pointer;

/// What happens to an object whose manifest goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Prune {
    /// Stopped, renamed and kept for some days.
    Trash,
    /// Deleted for good.
    Delete,
    /// Stopped and left.
    Stop,
    /// Left as it is; the mark is taken off.
    Orphan,
}

impl Prune {
    /// The documented default of a kind.
    pub const fn default_of(kind: Kind) -> Self {
        match kind {
            Kind::Instance | Kind::Volume => Self::Trash,
            Kind::Project | Kind::StoragePool => Self::Orphan,
            _ => Self::Delete,
        }
    }
}

/// What is done about drift of a field.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum DriftMode {
    /// Put back.
    #[default]
    Correct,
    /// Told, not touched.
    Warn,
    /// Neither told nor touched.
    Ignore,
}

/// What is done about devices, keys and snapshots that were added by hand.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Extras {
    /// Told, not touched.
    #[default]
    Warn,
    /// Removed.
    Remove,
    /// Neither told nor touched.
    Ignore,
}

/// A field that diff and apply leave alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IgnoreRule {
    /// Which: `/spec/limits/cpu`; a step `*` stands for any.
    #[schemars(with = "String")]
    pub path: Pointer,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last day on which it counts: `2027-01-01`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "day"
    )]
    #[schemars(with = "Option<String>")]
    pub until: Option<jiff::civil::Date>,
    /// Where it is written; none where no manifest says it.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

impl IgnoreRule {
    /// Whether it still counts on this day.
    pub fn counts_on(&self, today: jiff::civil::Date) -> bool {
        self.until.is_none_or(|until| today <= until)
    }
}

fn day<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<jiff::civil::Date>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        serde::de::Error::custom(format_args!("`{text}` is no day; write it as `2027-01-01`"))
    })
}

/// Whether an existing object that nobody owns is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AdoptRule {
    /// Not.
    #[default]
    No,
    /// Yes, if it bears no mark.
    Unowned,
    /// From this source, once that has given it up.
    From {
        /// The source's name.
        from: String,
    },
}

/// The `lifecycle` block after defaults: never sent to any engine, remembered with the object. It is written as it is
/// read.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifecycle {
    /// When the manifest goes away.
    pub prune: Prune,
    /// Holds delete, replace, rebuild and data loss.
    pub protect: bool,
    /// Whether an existing object is taken.
    pub adopt: AdoptRule,
    /// What is done about drift, where no field says otherwise.
    pub drift: DriftMode,
    /// What is done about drift, by field.
    pub drift_by_field: BTreeMap<Pointer, DriftMode>,
    /// What is done about what was added by hand.
    pub extras: Extras,
    /// Fields that are left alone.
    pub ignore: Vec<IgnoreRule>,
    /// What a moved image alias does.
    pub on_image_change: OnImageChange,
    /// When a restart that a change needs is done.
    pub on_restart_needed: OnRestartNeeded,
}

impl Serialize for AdoptRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::Unowned => serializer.serialize_bool(true),
            Self::From { from } => serializer.collect_map([("from", from)]),
        }
    }
}

impl Serialize for Lifecycle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("prune", &self.prune)?;
        map.serialize_entry("protect", &self.protect)?;
        map.serialize_entry("adopt", &self.adopt)?;
        if self.drift_by_field.is_empty() {
            map.serialize_entry("drift", &self.drift)?;
        } else {
            let by_field = self.drift_by_field.iter();
            let modes: BTreeMap<&str, &DriftMode> = std::iter::once(("default", &self.drift))
                .chain(by_field.map(|(path, mode)| (path.as_str(), mode)))
                .collect();
            map.serialize_entry("drift", &modes)?;
        }
        map.serialize_entry("extras", &self.extras)?;
        map.serialize_entry("ignore", &self.ignore)?;
        map.serialize_entry("onImageChange", &self.on_image_change)?;
        map.serialize_entry("onRestartNeeded", &self.on_restart_needed)?;
        map.end()
    }
}

impl Lifecycle {
    /// The documented defaults of a kind.
    pub fn default_of(kind: Kind) -> Self {
        Self {
            prune: Prune::default_of(kind),
            protect: false,
            adopt: AdoptRule::No,
            drift: DriftMode::Correct,
            drift_by_field: BTreeMap::new(),
            extras: Extras::Warn,
            ignore: Vec::new(),
            on_image_change: OnImageChange::Ignore,
            on_restart_needed: OnRestartNeeded::Wait,
        }
    }

    /// What is done about drift of a field: the longest pointer that covers it decides.
    pub fn drift_of(&self, path: &Pointer) -> DriftMode {
        self.drift_by_field
            .iter()
            .filter(|(rule, _)| rule.matches(path))
            .max_by_key(|(rule, _)| rule.as_str().len())
            .map_or(self.drift, |(_, mode)| *mode)
    }

    /// Whether a rule leaves the field alone on this day.
    pub fn ignores(&self, path: &Pointer, today: jiff::civil::Date) -> bool {
        self.ignore
            .iter()
            .any(|rule| rule.path.matches(path) && rule.counts_on(today))
    }
}

/// What a moved image alias does to instances made from it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum OnImageChange {
    /// Nothing.
    #[default]
    Ignore,
    /// The root file system is made anew; what was goes to the trash. The controller takes it back where its health fails.
    Rebuild,
    /// The instance is made anew, as with `rebuild`.
    Recreate,
}

/// When a restart that a change needs is done.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum OnRestartNeeded {
    /// When somebody restarts it.
    #[default]
    Wait,
    /// In the next window.
    Window,
    /// At once.
    Now,
}
