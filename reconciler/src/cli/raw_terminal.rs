//! [`RawTerminal`]: every key goes to the other end while it lives.

use std::os::fd::AsFd;

use rustix::fd::OwnedFd;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// A terminal that hands on every key; dropping it puts back what was. On what is no terminal it does nothing.
pub(super) struct RawTerminal(Option<(OwnedFd, Termios)>);

impl RawTerminal {
    pub(super) fn enter(terminal: &impl AsFd) -> Self {
        let enter = || {
            let saved = tcgetattr(terminal).ok()?;
            let mut raw = saved.clone();
            raw.make_raw();
            let own = terminal.as_fd().try_clone_to_owned().ok()?;
            tcsetattr(terminal, OptionalActions::Now, &raw).ok()?;
            Some((own, saved))
        };
        Self(enter())
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some((terminal, saved)) = &self.0 {
            // A terminal that went away needs nothing put back.
            let _ = tcsetattr(terminal, OptionalActions::Drain, saved);
        }
    }
}
