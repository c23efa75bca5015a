//! [`Chore`]: what the controller does by the clock. While nothing can be due it does not look at the host.

use std::sync::{Mutex, PoisonError};

use super::invocation::Invocation;
use crate::error::{CliError, Exit, chain};
use crate::session::Session;
use crate::snapshots::lull::{Found, Lull};

/// Something that is done when it is due.
#[derive(Debug, Default)]
pub(super) struct Chore {
    lull: Mutex<Option<Lull>>,
}

impl Chore {
    /// Does it, unless a look showed that it is not due yet and nobody has changed anything since. What it would have
    /// said to people is in the error.
    pub(super) fn unless_lull(
        &self,
        session: &Session<'_>,
        by: &Invocation,
        look: impl FnOnce() -> Result<(Exit, Found), CliError>,
    ) -> Result<(), String> {
        // What changes while it is looked is looked at next time.
        let (now, at_rest) = (session.clock.now(), session.at_rest());
        let at_rest = at_rest.map_err(|error| chain(&error))?;
        let mut lull = self.lull.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(lull), Some(generation)) = (*lull, at_rest)
            && lull.lasts(now, generation)
        {
            return Ok(());
        }
        *lull = None;
        let looked = look();
        if let (Ok((_, Found::Nothing { next })), Some(generation)) = (&looked, at_rest) {
            *lull = Some(Lull::new(now, *next, generation));
        }
        ended(looked.map(|(exit, _)| exit), by)
    }
}

/// How a part of the command line ended that the controller does on its own, with what it would have said.
pub(super) fn ended(exit: Result<Exit, CliError>, by: &Invocation) -> Result<(), String> {
    let warnings = by.warnings();
    match exit {
        Ok(Exit::Done) => Ok(()),
        Ok(_) if warnings.is_empty() => Err("some of it failed".to_owned()),
        Ok(_) => Err(warnings.join("; ")),
        Err(error) => Err(error
            .source
            .map_or_else(String::new, |source| chain(source.as_ref()))),
    }
}
