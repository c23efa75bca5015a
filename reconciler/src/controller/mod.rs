//! The controller: sources are followed and the host is kept as they say, for months, without a person.
//!
//! `event` is what it is told and what it answers, `decide` what follows from it (pure: time and chance are given),
//! `state` what it knows of its own doing, `backoff` how long it waits after failures, `fights` what it leaves alone
//! because somebody else changes it back each time. `run` has the threads and the loop, `fetching` looks at sources (`aside`, so that
//! a server that hangs holds up nobody who leaves),
//! `in_force` keeps what they say, `revisions` what became of it, `work` does what was decided, `trials` looks after instances
//! whose image moved, `ground` is what it stands on. For those who look: `standing` is how it stands, `picture` what it last
//! saw, `news` what happened lately, `metrics` what was counted.

mod aside;
pub mod backoff;
pub mod decide;
pub mod event;
mod fetching;
pub mod fights;
pub mod ground;
pub mod in_force;
pub mod metrics;
pub mod news;
pub mod picture;
pub mod revisions;
pub mod run;
pub mod standing;
pub mod state;
mod trials;
mod work;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
