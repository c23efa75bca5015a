//! After a start of the host what should run is started, and before its end what runs is stopped: batch by batch, each in
//! the journal.

use super::asked::AskedPlan;
use super::{Session, SessionError};
use crate::plan::PlanId;
use crate::plan::boot::{Batch, Boot, boot};
use crate::plan::shutdown::{Shutdown, shutdown};

/// What a start of the host asks for, and what could not be looked at.
#[derive(Debug, Clone)]
pub struct Booting {
    /// What is done, and what is left.
    pub boot: Boot,
    /// Objects of which it cannot be told whether they are there.
    pub unclear: Vec<manifests::observed::Unclear>,
}

/// What the end of the host asks for, and what could not be looked at.
#[derive(Debug, Clone)]
pub struct Ending {
    /// What is done.
    pub shutdown: Shutdown,
    /// Objects of which it cannot be told whether they are there.
    pub unclear: Vec<manifests::observed::Unclear>,
}

impl Session<'_> {
    /// Looks at the host and decides what is stopped before its end.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn ending(&self) -> Result<Ending, SessionError> {
        let (known, observed) = self.look()?;
        Ok(Ending {
            shutdown: shutdown(&observed, &known),
            unclear: observed.unclear,
        })
    }

    /// Looks at the host and decides what is started.
    ///
    /// # Errors
    /// The engine is out of reach, or the database cannot be read.
    pub fn booting(&self) -> Result<Booting, SessionError> {
        let (known, observed) = self.look()?;
        Ok(Booting {
            boot: boot(&observed, &known, self.clock.now()),
            unclear: observed.unclear,
        })
    }

    /// The plan of one batch.
    ///
    /// # Errors
    /// The host cannot be asked, or the database cannot be read.
    pub fn boot_batch(&self, batch: Batch) -> Result<AskedPlan, SessionError> {
        let id = PlanId(uuid::Uuid::now_v7());
        let (plan, desired) = self.asked_plan(id, batch.steps, batch.resources)?;
        Ok(AskedPlan {
            plan,
            desired,
            refused: Vec::new(),
            before: Vec::new(),
        })
    }
}
