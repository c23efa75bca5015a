//! What lies in the trash under a name that is wanted, and what of it is not as wanted.

use manifests::change::FieldChange;
use manifests::desired::Resource;
use manifests::observed::{Item, Trashed};

use super::known::Owned;
use super::{Judged, judge};

/// One object in the trash, compared with the manifest of its name.
#[derive(Debug, Clone, PartialEq)]
pub struct InTrash {
    /// The object.
    pub trashed: Trashed,
    /// What of it is not as wanted, but whether it runs; none where it cannot be told what it was.
    pub judged: Option<Judged>,
}

impl InTrash {
    pub(super) fn compare(resource: &Resource, trashed: &Trashed, now: jiff::Timestamp) -> Self {
        let judged = trashed.was.as_deref().map(|was| {
            // Nobody could change it by hand since: what differs was edited.
            let mut judged = judge(resource, was, Some(&last_applied(was, trashed)), now);
            let state = |change: &FieldChange| change.path.as_str() == "/spec/state";
            judged.changes.retain(|change| !state(change));
            judged
        });
        Self {
            trashed: trashed.clone(),
            judged,
        }
    }
}

/// What would be remembered of it if it had never been deleted.
fn last_applied(was: &Item, trashed: &Trashed) -> Owned {
    Owned {
        uid: trashed.mark.uid,
        source: trashed.mark.source.clone(),
        address: trashed.address.clone(),
        spec: Some(was.spec.to_value().to_string()),
        origin: None,
        needs: Vec::new(),
        labels: None,
        remembered: was.remembered,
        restart_pending: Vec::new(),
        drift: Vec::new(),
    }
}
