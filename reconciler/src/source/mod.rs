//! Where manifests come from: work trees of people and their commits, and what a controller follows.
//!
//! To add one that is followed: write `source/<name>.rs` with a type that is [`followed::Followed`], and give it an arm in
//! [`open::open`].

mod commit;
mod digest;
pub mod directory;
pub mod failure;
pub mod followed;
pub mod git;
pub mod open;
mod reading;
pub mod repository;
pub mod revision;
pub mod watch;
