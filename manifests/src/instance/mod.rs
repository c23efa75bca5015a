//! The parts of an instance's spec, one file each; [`crate::kinds::instance`] puts them together.

pub mod boot;
pub mod cloud_init;
pub mod files;
pub mod health;
pub mod limits;
pub mod passed;
pub mod placement;
pub mod process;
pub mod savable;
pub mod security;
pub mod served;
pub mod snapshots;
