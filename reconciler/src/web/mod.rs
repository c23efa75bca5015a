//! Asking servers: `access` is where tokens and authorities are, `client` sends one question and reads a bounded answer.

pub mod access;
pub mod client;

#[cfg(test)]
pub(crate) mod testing;
