//! Webhooks: a forge says that there may be something new at a source. It only causes a look: what a delivery says is
//! never read, so it decides nothing.
//!
//! `signature` checks who sent it (pure), `guard` refuses what comes twice or too often (pure), `doors` has the secrets.
//! They are taken in by `api::hooks`.

pub mod doors;
mod guard;
mod signature;

#[cfg(test)]
mod tests;
