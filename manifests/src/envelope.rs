//! The envelope of a document: `apiVersion`, `kind`, `metadata`, `lifecycle`, `dependsOn`; and `keel.yaml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::desired::Readiness;
use crate::fields;
use crate::kind::Kind;
use crate::lifecycle::{
    AdoptRule, DriftMode, Extras, IgnoreRule, Lifecycle, OnImageChange, OnRestartNeeded, Prune,
};
use crate::pointer::Pointer;
use crate::scalar::duration::Duration;

/// The one version of the language.
pub const API_VERSION: &str = "evenkeel/v1";

/// The keys of a document.
pub const KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "lifecycle",
    "forEach",
    "dependsOn",
];

fields! {
    /// Who an object is.
    pub struct Metadata {
        /// Its name.
        name: String = String::new(),
        /// Its project.
        project: Option<String> = None,
        /// For selectors; never sent to the guest.
        labels: BTreeMap<String, String> = BTreeMap::new(),
        /// Free text for other tools.
        annotations: BTreeMap<String, String> = BTreeMap::new(),
        /// Names that it had before: a rename is a rename, not delete and create.
        previous_names: Vec<String> = Vec::new(),
    }
}

/// `adopt`: whether an existing object is taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Adopt {
    Switch(bool),
    From { from: String },
}

/// `drift`: one mode, or modes by field with `default`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Drift {
    One(DriftMode),
    ByField(BTreeMap<String, DriftMode>),
}

/// The `lifecycle` block as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WrittenLifecycle {
    prune: Option<Prune>,
    protect: Option<bool>,
    adopt: Option<Adopt>,
    drift: Option<Drift>,
    extras: Option<Extras>,
    ignore: Option<Vec<IgnoreRule>>,
    on_image_change: Option<OnImageChange>,
    on_restart_needed: Option<OnRestartNeeded>,
}

impl WrittenLifecycle {
    /// Puts what is written over a lifecycle.
    pub fn apply(&self, lifecycle: &mut Lifecycle) {
        if let Some(prune) = self.prune {
            lifecycle.prune = prune;
        }
        if let Some(protect) = self.protect {
            lifecycle.protect = protect;
        }
        match &self.adopt {
            Some(Adopt::Switch(true)) => lifecycle.adopt = AdoptRule::Unowned,
            Some(Adopt::Switch(false)) => lifecycle.adopt = AdoptRule::No,
            Some(Adopt::From { from }) => lifecycle.adopt = AdoptRule::From { from: from.clone() },
            None => {}
        }
        match &self.drift {
            Some(Drift::One(mode)) => lifecycle.drift = *mode,
            Some(Drift::ByField(modes)) => {
                for (path, mode) in modes {
                    if path == "default" {
                        lifecycle.drift = *mode;
                    } else {
                        lifecycle.drift_by_field.insert(Pointer::new(path), *mode);
                    }
                }
            }
            None => {}
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

/// One entry of `dependsOn`: a name, or names with how far they must be.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum DependsOn {
    /// Healthy where it has health, else running.
    Name(String),
    /// As far as it says.
    Until(BTreeMap<String, Readiness>),
}

fields! {
    /// The host that a source is for.
    pub struct WrittenHost {
        /// Its name.
        name: Option<String> = None,
        /// Its machine id.
        machine_id: Option<String> = None,
    }
}

fields! {
    /// How much one apply may take away unasked.
    pub struct WrittenBudget {
        /// Objects that hold data.
        data: u32 = 1,
        /// Of all objects, in percent.
        percent: u32 = 10,
    }
}

/// One window.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenWindow {
    /// When it begins.
    pub cron: String,
    /// How long it lasts.
    pub duration: Duration,
    /// The time zone.
    #[serde(default = "utc")]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Windows by the class of change.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WrittenWindows {
    /// For what interrupts.
    pub interrupting: Vec<WrittenWindow>,
    /// For what destroys.
    pub destructive: Vec<WrittenWindow>,
}

/// `keel.yaml` without its variables, layers and defaults, which are read from the tree.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WrittenSource {
    /// Who owns what is made from here.
    pub name: Option<String>,
    /// The host that it is for.
    pub host: Option<WrittenHost>,
    /// Put before each name.
    pub name_prefix: String,
    /// The project of what names none.
    pub project: Option<String>,
    /// Defaults for the whole tree.
    pub lifecycle: WrittenLifecycle,
    /// Referenced here, owned elsewhere.
    pub external: Vec<String>,
    /// What one apply may take away.
    pub budget: WrittenBudget,
    /// When changes are allowed.
    pub windows: WrittenWindows,
}

/// The keys of `keel.yaml`.
pub const SOURCE_KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "host",
    "bases",
    "patches",
    "namePrefix",
    "project",
    "variables",
    "lifecycle",
    "defaults",
    "external",
    "budget",
    "windows",
];

/// What is wrong with a name of a kind, in words.
pub fn wrong_name(kind: Kind, name: &str) -> Option<String> {
    let label = |text: &str| {
        text.len() <= 63
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && !text.ends_with('-')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let plain = |text: &str, also: &str| {
        !text.is_empty()
            && text.len() <= 63
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !text.contains("..")
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || also.contains(c))
    };
    let (good, rule) = match kind {
        Kind::Instance => (
            label(name),
            "letters, digits and `-`, beginning with a letter, at most 63",
        ),
        Kind::Image => (
            !name.is_empty()
                && name.len() <= 255
                && !name.starts_with('/')
                && !name
                    .split('/')
                    .any(|part| part == ".." || part == "." || part.is_empty())
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_./+".contains(c)),
            "letters, digits, `-`, `_`, `.`, `+` and `/`",
        ),
        _ => (
            plain(name, "-_."),
            "letters, digits, `-`, `_` and `.`, at most 63",
        ),
    };
    (!good).then(|| format!("the name of this kind has {rule}"))
}
