//! What a companion keeps to start its instance again.

use std::os::fd::BorrowedFd;

use rustix::process::Pid;

use super::descriptors::Descriptors;
use super::failure::Failure;
use super::launch::{self, Live};
use super::links::Links;
use super::machine;
use super::messages::{Fd, Machine, Opened, Restart, Start};

/// An order that was obeyed, with its descriptors.
#[derive(Debug)]
pub struct Again {
    /// As keel ordered it.
    pub what: What,
    /// Its descriptors.
    pub descriptors: Descriptors,
}

/// What is started.
#[derive(Debug)]
pub enum What {
    /// Processes in namespaces.
    Container {
        /// As keel ordered it.
        start: Box<Start>,
        /// What keel plugged in, where it has been started once and may be again.
        links: Option<Links>,
    },
    /// QEMU. What keel plugs into it are descriptors.
    Machine(Box<Machine>),
}

impl What {
    /// The run folder.
    pub fn run_dir(&self) -> &Fd {
        match self {
            Self::Container { start, .. } => &start.run_dir,
            Self::Machine(machine) => &machine.run_dir,
        }
    }

    /// The cgroups of the companion.
    pub fn monitors(&self) -> &[Opened] {
        match self {
            Self::Container { start, .. } => &start.monitors,
            Self::Machine(machine) => &machine.monitors,
        }
    }

    /// Number of the start, and the boot of the host.
    pub fn about(&self) -> (u64, &str) {
        match self {
            Self::Container { start, .. } => (start.generation, &start.boot_id),
            Self::Machine(machine) => (machine.generation, &machine.boot_id),
        }
    }

    /// Whether and how it is started again.
    pub fn restart(&self) -> Option<&Restart> {
        match self {
            Self::Container { start, .. } => start.restart.as_ref(),
            Self::Machine(machine) => machine.restart.as_ref(),
        }
    }
}

impl Again {
    /// Starts it; `begun` hears the pid while the new process waits.
    ///
    /// # Errors
    /// As [`launch::launch`].
    pub fn launch(
        &mut self,
        keel: Option<BorrowedFd<'_>>,
        begun: &mut dyn FnMut(Pid) -> Result<(), Failure>,
    ) -> Result<Live, Failure> {
        let descriptors = &self.descriptors;
        match &mut self.what {
            What::Container { start, links } => {
                let restarts = start.restart.is_some();
                let mut plugged = |pid| {
                    match links.as_ref() {
                        Some(kept) => *links = Some(kept.move_to(pid)?),
                        None if restarts => *links = Some(Links::of(pid)?),
                        None => {}
                    }
                    begun(pid)
                };
                launch::launch(start, descriptors, keel, &mut plugged)
            }
            What::Machine(one) => machine::launch(one, descriptors, keel, begun),
        }
    }
}
