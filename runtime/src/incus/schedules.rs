//! SnapshotSchedules: the server has none, so that they are kept in the state folder as for this host, and `keel snapshot
//! run-due` or the controller does their work. What an instance or a volume asks for itself the server does.

use manifests::id::Address;
use manifests::kind::Kind;
use manifests::observed::{Item, ObservedSet, Unclear};

use super::IncusRuntime;
use crate::error::{Class, RuntimeError};
use crate::native::chain;
use crate::native::schedules::{SchedulePicks, observe};

impl IncusRuntime {
    /// All schedules.
    pub(super) fn add_schedules(&self, out: &mut ObservedSet) -> Result<(), RuntimeError> {
        // Another keel may have written them.
        self.definitions.forget();
        let kept = self
            .definitions
            .all::<SchedulePicks>(Kind::SnapshotSchedule);
        let (schedules, bad) = kept.map_err(|error| {
            RuntimeError::new("look at the schedules", Class::NeedsOperator, error)
        })?;
        for schedule in &schedules {
            observe(schedule, out);
        }
        out.unclear
            .extend(bad.into_iter().map(|(uid, error)| Unclear {
                address: Address::new(Kind::SnapshotSchedule, uid.to_string()),
                nameless: Some(uid),
                why: chain(&error),
            }));
        Ok(())
    }

    /// One schedule.
    pub(super) fn look_at_schedule(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        let mut all = ObservedSet::default();
        self.add_schedules(&mut all)?;
        let mut items = all.items.into_iter();
        Ok(items.find(|item| item.address == *address))
    }
}
