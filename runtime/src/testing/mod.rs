//! Helpers for tests of this and other crates (feature `testing`): namespaces of a test's own.

pub mod host;
