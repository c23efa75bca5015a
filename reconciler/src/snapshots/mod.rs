//! Snapshots and backups by schedule, decided: whose turn it is, what it is called, and what goes. Nothing here knows a clock.

pub mod due;
pub mod exports;
pub mod jobs;
pub mod leaps;
pub mod lull;
pub mod retention;
pub mod stand;
pub mod trash;
pub mod watch;

#[cfg(test)]
mod two_years;
