//! How each kind of target wants a message. Pure.

pub mod chat;
pub mod event;
pub mod mail;
