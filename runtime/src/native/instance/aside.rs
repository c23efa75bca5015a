//! What an instance was before it is made anew: its root goes to the trash as it is, with its snapshots, under an identity
//! of its own. That takes neither time nor room, and nothing is removed where it cannot be done.

use manifests::action::{Action, Keep, Verb};
use manifests::id::Mark;
use manifests::observed::TrashedBy;

use super::picks::{Aside, InstancePicks};
use super::{pool_of, remove, stored};
use crate::error::RuntimeError;
use crate::native::definition::Definition;
use crate::native::host::Host;
use crate::native::pools::root_volume;
use crate::native::storage::Becomes;
use crate::runtime::Context;

/// What is kept of an instance that is made anew.
pub(super) fn of(action: &Action) -> Option<Aside> {
    let Keep {
        uid,
        at,
        expires_at,
    } = action.keep?;
    Some(Aside {
        mark: Mark {
            source: action.mark.source.clone(),
            uid,
        },
        at,
        expires_at,
        by: match action.verb {
            Verb::Replace => TrashedBy::Replace,
            _ => TrashedBy::Rebuild,
        },
    })
}

/// Stops an instance and puts its root into the trash, with its snapshots and what it was; its definition stays. For
/// making it anew under the same identity.
pub(super) fn set_aside(
    host: &Host,
    definition: &Definition<InstancePicks>,
    aside: Aside,
    context: &Context<'_>,
) -> Result<(), RuntimeError> {
    remove::end(host, definition, true, context)?;
    let mut unmade = definition.clone();
    unmade.complete = false;
    unmade.picks.aside = Some(aside);
    // Known before it is moved: whoever finds it half done moves it first.
    host.write_instance(&unmade).map_err(stored)?;
    end(host, unmade).map(|_| ())
}

/// Moves what is on its way aside into the trash, where it may be already; the instance without it.
pub(super) fn end(
    host: &Host,
    mut definition: Definition<InstancePicks>,
) -> Result<Definition<InstancePicks>, RuntimeError> {
    let Some(aside) = definition.picks.aside.clone() else {
        return Ok(definition);
    };
    if super::has_root(host, &definition) {
        let (_, driver) = pool_of(host, &definition.picks.pool)?;
        let mut was = definition.clone();
        was.uid = aside.mark.uid;
        was.mark = Some(aside.mark.clone());
        let becomes = Becomes {
            volume: root_volume(&was.uid),
            mark: super::own_mark(host, &was),
        };
        let mut entry = remove::entry(host, &definition, &was, aside.at, aside.expires_at)?;
        entry.becomes = Some(becomes);
        driver
            .trash(&entry)
            .map_err(remove::disk_failed("move to the trash what was"))?;
    }
    definition.picks.aside = None;
    host.write_instance(&definition).map_err(stored)?;
    Ok(definition)
}
