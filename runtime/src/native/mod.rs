//! The native engine: this host's kernel. Parts return data; this folder's `mod.rs` only dispatches.

pub mod cgroup;
pub mod container;
pub mod image;
pub mod network;
pub mod probe;
pub mod shim;
pub mod storage;
