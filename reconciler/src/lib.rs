//! The mind of Evenkeel.
