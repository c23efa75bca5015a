//! What people and machines read: pure functions from data to text.

pub mod objects;
pub mod text;
