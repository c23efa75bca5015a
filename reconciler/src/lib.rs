//! The mind of Evenkeel: what differs, what to do about it, doing it, and remembering what was done.
//!
//! Arrows go down only: [`cli`], [`api`], [`pull_requests`] and [`view`] speak with people and use [`session`]; [`apply`], [`journal`], [`store`],
//! [`source`], [`controller`], [`notify`], [`webhook`], [`telemetry`], [`web`] and [`state_folder`] touch time, disk and threads; [`plan`], [`diff`] and [`snapshots`] are pure decisions over the words
//! of the `manifests` crate.
//!
//! Invariants: nothing below [`apply`] knows a clock; what bears another source's mark or none is never changed;
//! a deed is in the journal, on disk, before it begins.

pub mod api;
pub mod apply;
pub mod cli;
pub mod clock;
pub mod codes;
pub mod controller;
pub mod diff;
pub mod error;
pub mod journal;
pub mod labels;
pub mod meaning;
pub mod notify;
pub mod plan;
pub mod policy;
pub mod pull_requests;
pub mod secrets;
pub mod session;
pub mod snapshots;
pub mod source;
pub mod state_folder;
pub mod store;
pub mod telemetry;
pub mod view;
pub mod web;
pub mod webhook;
