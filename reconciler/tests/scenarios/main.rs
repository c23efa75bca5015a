//! Sources of manifests over a fake world, through everything but the command line: what a person would lose if it went
//! wrong is played here.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy only knows the tests themselves"
)]

mod doubts;
mod failures;
mod ignored;
mod parts;
mod readiness;
mod saved;
mod sources;
mod stage;
mod users;
