//! The newest plan of each source, for those who ask what waits and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use manifests::id::SourceName;

use super::in_force::InForce;
use crate::plan::Plan;

/// A plan and what it was made from.
#[derive(Debug)]
pub struct LastPlan {
    /// The plan.
    pub plan: Plan,
    /// What was in force.
    pub of: Arc<InForce>,
}

/// The newest plan of each source.
#[derive(Debug, Default)]
pub struct LastPlans(Mutex<BTreeMap<SourceName, Arc<LastPlan>>>);

impl LastPlans {
    /// The newest plan of a source.
    pub fn of(&self, source: &SourceName) -> Option<Arc<LastPlan>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(source).cloned()
    }

    pub(super) fn put(&self, source: &SourceName, plan: Plan, of: &Arc<InForce>) {
        let last = LastPlan {
            plan,
            of: Arc::clone(of),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(source.clone(), Arc::new(last));
    }
}
