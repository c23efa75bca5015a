//! Telling people: what fails, waits, drifts, or is over. The controller never waits for it.
//!
//! `concerns` is what is wrong at a moment, as the controller's state says (pure); `teller` compares it with what was told
//! and says what is told now (pure: de-duplication, reminders, calm); `message` is one piece of news, `form` how each kind
//! of target wants it (pure), `target` brings it there; `notifier` has the threads and keeps on disk what was told.
//!
//! To add a kind of target: its settings in `manifests/src/controller/notification.rs`, a form in `form/`, an arm in
//! `target`.

pub mod concerns;
pub mod form;
pub mod message;
pub mod notifier;
pub mod target;
pub mod teller;

#[cfg(test)]
mod tests;
