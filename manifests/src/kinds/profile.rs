//! [`Profile`]: declared beside [`Instance`](super::instance::Instance), of which it is a part.

pub use super::instance::Profile;
