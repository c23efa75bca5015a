//! Why a field differs: we changed our mind, or the world moved under us.

use manifests::change::{Cause, FieldChange};
use manifests::desired::Resource;
use manifests::kind::Spec;
use manifests::pointer::Pointer;

use super::known::Owned;

/// Which fields of the manifest say something else than was last applied.
#[derive(Debug)]
pub(super) enum LastApplied {
    /// Nothing is known of it, so every difference is taken for an edit.
    Unknown,
    /// These fields were edited since.
    Edited(Vec<Pointer>),
}

impl LastApplied {
    /// Reads what was last applied of this object.
    pub(super) fn of(resource: &Resource, owned: Option<&Owned>) -> Self {
        let kind = resource.spec.kind();
        let last = owned
            .and_then(|owned| owned.spec.as_deref())
            .and_then(|text| {
                let mut reader = serde_json::Deserializer::from_str(text);
                // A spec that an older version wrote and this one cannot read counts as unknown: safe, since an edit
                // is shown and applied while drift may be ignored by a rule.
                Spec::deserialize(kind, &mut reader).ok()
            });
        match last {
            Some(last) => Self::Edited(
                resource
                    .spec
                    .compare(&last)
                    .into_iter()
                    .map(|change| change.path)
                    .collect(),
            ),
            None => Self::Unknown,
        }
    }

    /// Whether anything is known.
    pub(super) const fn is_known(&self) -> bool {
        matches!(self, Self::Edited(_))
    }

    /// The cause of a difference.
    pub(super) fn cause(&self, change: &FieldChange) -> Cause {
        match self {
            Self::Unknown => Cause::Edited,
            Self::Edited(edited)
                if edited
                    .iter()
                    .any(|path| path.covers(&change.path) || change.path.covers(path)) =>
            {
                Cause::Edited
            }
            Self::Edited(_) => Cause::Drifted,
        }
    }
}
