//! Where manifests come from. To add one: write `source/<name>.rs` and give it an arm where the command line opens it.

mod commit;
pub mod git;
pub mod revision;
