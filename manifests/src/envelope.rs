//! The envelope of a document: `apiVersion`, `kind`, `metadata`, `lifecycle`, `dependsOn`; and `keel.yaml`.

mod depends_on;
mod name;
mod written_lifecycle;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::fields;
use crate::kind::Kind;
use crate::scalar::byte_size::ByteSize;
use crate::scalar::duration::Duration;
use crate::scalar::schedule::Schedule;
use crate::scalar::time_zone::TimeZoneName;

pub use depends_on::DependsOn;
pub use name::{pattern as name_pattern, words as name_words, wrong_device, wrong_name};
pub use written_lifecycle::WrittenLifecycle;

/// The one version of the language.
pub const API_VERSION: &str = "evenkeel/v1";

/// The keys of a document.
pub const KEYS: &[&str] = &[
    "$schema",
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

fields! {
    /// What becomes of what is deleted, replaced or rebuilt.
    pub struct WrittenTrash {
        /// How long it is kept.
        keep: Duration = Duration::from_seconds(7 * 86_400),
        /// How much the trash of one pool may hold before a plan warns.
        size: Option<ByteSize> = None,
    }
}

/// One window.
#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenWindow {
    /// When it begins: five cron fields or `@daily`.
    pub cron: Schedule,
    /// How long it lasts.
    pub duration: Duration,
    /// The IANA name of its time zone.
    #[serde(default)]
    pub time_zone: TimeZoneName,
}

fields! {
    /// Windows by the class of change.
    pub struct WrittenWindows {
        /// For what interrupts.
        interrupting: Vec<WrittenWindow> = Vec::new(),
        /// For what destroys.
        destructive: Vec<WrittenWindow> = Vec::new(),
    }
}

fields! {
    /// Which documents a patch changes: those to which all that is written applies.
    pub struct WrittenTarget {
        /// They are of this kind.
        kind: Option<Kind> = None,
        /// They have this name; `*` stands for any characters.
        name: Option<String> = None,
        /// They have these labels.
        labels: BTreeMap<String, String> = BTreeMap::new(),
    }
}

/// `keel.yaml` without its variables, patches and defaults, which are read from the tree.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WrittenSource {
    /// Who owns what is made from here.
    pub name: Option<String>,
    /// The host that it is for.
    pub host: Option<WrittenHost>,
    /// Folders of the layers under this one.
    pub bases: Vec<String>,
    /// Put before each name.
    pub name_prefix: String,
    /// The project of what names none.
    pub project: Option<String>,
    /// Defaults for the whole tree.
    pub lifecycle: WrittenLifecycle,
    /// Referenced here, owned elsewhere.
    pub external: Vec<String>,
    /// What one apply may take away.
    pub budget: Option<WrittenBudget>,
    /// When changes are allowed.
    pub windows: Option<WrittenWindows>,
    /// What becomes of what is taken away.
    pub trash: Option<WrittenTrash>,
}

/// The keys of `keel.yaml`.
pub const SOURCE_KEYS: &[&str] = &[
    "$schema",
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
    "trash",
];
