//! The mind of Evenkeel: what differs, what to do about it, doing it, and remembering what was done.
//!
//! Arrows go down only: [`cli`] and [`view`] speak with people; [`source`] finds manifests; [`plan`] and [`diff`] are
//! pure decisions over the words of the `manifests` crate.
//!
//! Invariants: deciding knows no clock; what bears another source's mark or none is never changed;
//! a deed is in the journal, on disk, before it begins.

pub mod cli;
pub mod clock;
pub mod diff;
pub mod error;
pub mod plan;
pub mod source;
pub mod view;
