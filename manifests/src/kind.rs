//! The kinds of objects: `kinds!` makes [`Kind`] and [`Spec`], with dispatch, from the one list in [`crate::kinds`].

/// What the registry of kinds must say of each.
pub trait ResourceKind {
    /// What other objects this one needs before it: `(kind, name as written, where it is written)`.
    fn references(&self, out: &mut Vec<crate::desired::Reference>);
}

/// Makes `Kind` and `Spec` from `Variant "word" (Type) [scope]` lines.
#[macro_export]
macro_rules! kinds {
    ($( $(#[doc = $doc:literal])* $variant:ident $word:literal $scope:ident ($type:ty) ),* $(,)?) => {
        /// What an object is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum Kind { $( $(#[doc = $doc])* $variant ),* }

        impl Kind {
            /// All kinds, in the order in which things are made.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The word in addresses and output: `storage-pool`.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }

            /// The name in manifests: `StoragePool`.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => stringify!($variant) ),* }
            }

            /// What it is, in a sentence.
            pub const fn describe(self) -> &'static str {
                match self { $( Self::$variant => concat!($($doc),*).trim_ascii() ),* }
            }

            /// Whether objects of this kind belong to the host and to no project.
            pub const fn belongs_to_host(self) -> bool {
                match self { $( Self::$variant => $crate::kinds!(@host $scope) ),* }
            }
        }

        /// What an object should be or was seen to be, by kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Spec { $( $(#[doc = $doc])* $variant(Box<$type>) ),* }

        impl serde::Serialize for Spec {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $( Self::$variant(spec) => serde::Serialize::serialize(spec, serializer) ),* }
            }
        }

        impl Spec {
            /// What it is.
            pub const fn kind(&self) -> Kind {
                match self { $( Self::$variant(_) => Kind::$variant ),* }
            }

            /// The documented defaults of a kind.
            pub fn default_of(kind: Kind) -> Self {
                match kind { $( Kind::$variant => Self::$variant(Box::default()) ),* }
            }

            /// Reads the `spec` of a kind.
            ///
            /// # Errors
            /// The deserializer's, with its place.
            pub fn deserialize<'de, D: serde::Deserializer<'de>>(kind: Kind, from: D) -> Result<Self, D::Error> {
                Ok(match kind {
                    $( Kind::$variant => Self::$variant(Box::new(<$type as serde::Deserialize>::deserialize(from)?)) ),*
                })
            }

            /// The value as documents and plans write it.
            pub fn to_value(&self) -> serde_json::Value {
                match self { $( Self::$variant(spec) => $crate::change::shown(spec) ),* }
            }

            /// What other objects it needs before it.
            pub fn references(&self) -> Vec<$crate::desired::Reference> {
                let mut out = Vec::new();
                match self { $( Self::$variant(spec) => $crate::kind::ResourceKind::references(spec.as_ref(), &mut out) ),* }
                out
            }

            /// The fields that differ; none if the kinds differ, which addresses make impossible.
            pub fn compare(&self, seen: &Self) -> Vec<$crate::change::FieldChange> {
                let mut out = $crate::change::Comparison::default();
                let at = $crate::pointer::Pointer::new("/spec");
                match (self, seen) {
                    $( (Self::$variant(wanted), Self::$variant(seen)) => $crate::change::Compare::compare(wanted, seen, &at, &mut out), )*
                    _ => {}
                }
                out.into_changes()
            }

            /// The JSON schema of each kind's `spec`.
            pub fn schema_of(kind: Kind, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                match kind { $( Kind::$variant => generator.subschema_for::<$type>() ),* }
            }
        }
    };
    (@host host) => { true };
    (@host project) => { false };
}

pub use crate::kinds::{Kind, Spec};

/// Reads the spec of a kind that is known beforehand, without a value in between.
#[derive(Debug, Clone, Copy)]
pub struct SpecOf(pub Kind);

impl<'de> serde::de::DeserializeSeed<'de> for SpecOf {
    type Value = Spec;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Spec, D::Error> {
        Spec::deserialize(self.0, from)
    }
}

impl Kind {
    /// What sentences call it: `storage pool`, `NetworkAcl`.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::StoragePool => "storage pool",
            Self::NetworkAcl | Self::NetworkForward | Self::SnapshotSchedule => self.name(),
            other => other.word(),
        }
    }

    /// Takes `StoragePool`, `storage-pool` and `storagepool`, in any case.
    pub fn from_word(text: &str) -> Option<Self> {
        let squeezed = |text: &str| text.replace('-', "").to_lowercase();
        let wanted = squeezed(text);
        Self::ALL
            .iter()
            .copied()
            .find(|kind| squeezed(kind.word()) == wanted)
    }

    /// The words nearest to a wrong one, best first; empty where none is near.
    pub fn nearest(text: &str) -> Vec<&'static str> {
        let mut near: Vec<(f64, &'static str)> = Self::ALL
            .iter()
            .map(|kind| {
                (
                    strsim::jaro_winkler(&text.to_lowercase(), kind.word()),
                    kind.word(),
                )
            })
            .filter(|(score, _)| *score > 0.8)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        near.into_iter().map(|(_, word)| word).collect()
    }
}
