//! The command line as people meet it: `keel` is run, and its output and exit code are compared. Few: what can be tested
//! below is tested there.
//!
//! They live here and not in the folder of end-to-end tests because cargo builds the program for tests of its own crate.

mod artifacts;
mod diff;
mod environment;
mod explain;
mod formats;
mod help;
mod init;
mod layers;
mod render;
mod revisions;
mod usage;
