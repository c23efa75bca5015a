//! [`CliError`]: a failed command, its exit code, and the one place where a chain of causes is printed.

use std::error::Error;
use std::fmt::Write as _;

use runtime::error::Class;

use crate::view::text::visible;

/// How a command ended, in the words of the exit code table of the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// Done; with `--detailed-exitcode`: and nothing differed.
    Done,
    /// An unexpected error, or an engine out of reach.
    Unexpected,
    /// Only with `--detailed-exitcode`: there are differences.
    Differences,
    /// The manifests are invalid, or ask for what the engine cannot do.
    Invalid,
    /// A guard, policy, window or suspension refuses.
    Refused,
    /// The saved plan is stale.
    Stale,
    /// Somebody else holds the lock.
    Locked,
    /// Apply finished partly: something failed or was held.
    Partly,
    /// The command line is wrong.
    Usage,
    /// A code that a command inside an instance chose, or 125 to 127 for failures to run it.
    Other(u8),
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unexpected => 1,
            Self::Differences => 2,
            Self::Invalid => 3,
            Self::Refused => 4,
            Self::Stale => 5,
            Self::Locked => 6,
            Self::Partly => 7,
            Self::Usage => 64,
            Self::Other(code) => code,
        }
    }
}

/// A command that did not succeed.
#[derive(Debug)]
pub struct CliError {
    /// Decides the exit code.
    pub exit: Exit,
    /// A stable code such as `G102`, where the refusal has one.
    pub code: Option<String>,
    /// Why; none where everything was said already.
    pub source: Option<Box<dyn Error + Send + Sync>>,
    /// What would help, one line each.
    pub hints: Vec<String>,
}

impl CliError {
    /// A failure with its reason.
    pub fn new(exit: Exit, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            exit,
            code: None,
            source: Some(source.into()),
            hints: Vec::new(),
        }
    }

    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message.into())
    }

    /// A failure of which everything was said already; only the exit code is left.
    pub const fn said(exit: Exit) -> Self {
        Self {
            exit,
            code: None,
            source: None,
            hints: Vec::new(),
        }
    }

    /// Adds a line that helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Names the stable code of the refusal.
    #[must_use]
    pub fn coded(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// What people read: the chain of causes on one line, then the hints. Empty where everything was said already.
    pub fn report(&self) -> String {
        let Some(source) = &self.source else {
            return String::new();
        };
        let mut text = String::from("error");
        if let Some(code) = &self.code {
            let _ = write!(text, "[{code}]");
        }
        let _ = writeln!(text, ": {}", visible(&chain(source.as_ref())));
        for hint in &self.hints {
            let _ = writeln!(text, "  = {}", visible(hint));
        }
        text
    }
}

/// An error and what caused it, on one line; a cause that its parent repeats word for word is said once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            let _ = write!(text, ": {words}");
        }
        next = cause.source();
    }
    text
}

impl From<manifests::path_io::PathError> for CliError {
    fn from(error: manifests::path_io::PathError) -> Self {
        Self::new(Exit::Unexpected, error)
    }
}

/// The exit code of a failure of the engine.
pub const fn exit_of(class: Class) -> Exit {
    match class {
        Class::Unsupported => Exit::Invalid,
        Class::Refused => Exit::Refused,
        Class::Retry | Class::Conflict | Class::NeedsOperator | Class::Bug => Exit::Unexpected,
    }
}

impl From<runtime::error::RuntimeError> for CliError {
    fn from(error: runtime::error::RuntimeError) -> Self {
        let exit = exit_of(error.class);
        let bug = error.class == Class::Bug;
        let report = Self::new(exit, error);
        if bug {
            report.hint("this is a fault of keel: please report it with the output of `keel -vv …`")
        } else {
            report
        }
    }
}

impl From<crate::state_folder::StateFolderError> for CliError {
    fn from(error: crate::state_folder::StateFolderError) -> Self {
        use crate::state_folder::StateFolderError as Folder;
        let busy = match &error {
            Folder::Busy { owner } => Some(owner.as_ref().map(|owner| owner.id.clone())),
            Folder::OtherLock { held, .. } => Some(Some(held.clone())),
            _ => None,
        };
        match busy {
            None => Self::new(Exit::Unexpected, error),
            Some(None) => Self::new(Exit::Locked, error),
            Some(Some(id)) => Self::new(Exit::Locked, error).hint(format!(
                "it ends by itself; where it hangs for ever: keel unlock {id}"
            )),
        }
    }
}

impl From<crate::store::StoreError> for CliError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::new(Exit::Unexpected, error)
    }
}

impl From<crate::session::SessionError> for CliError {
    fn from(error: crate::session::SessionError) -> Self {
        use crate::session::SessionError as Session;
        match error {
            Session::Runtime(error) => error.into(),
            Session::Store(error) => error.into(),
            Session::Folder(error) => error.into(),
            Session::Journal(_) => Self::new(Exit::Unexpected, error),
            Session::Stale(_) => Self::new(Exit::Stale, error).hint("plan again: keel plan"),
            Session::NotThere(ref object) => {
                let kind = object.kind.word();
                Self::new(Exit::Unexpected, error).hint(format!("what there is: keel get {kind}"))
            }
            Session::Stopped { .. } => Self::new(Exit::Refused, error),
            Session::NotPossible { ref hint, .. } => {
                let hint = hint.clone();
                let failed = Self::new(Exit::Refused, error);
                match hint {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                }
            }
        }
    }
}

impl From<manifests::id::NotAnAddress> for CliError {
    fn from(error: manifests::id::NotAnAddress) -> Self {
        let hint = error
            .nearest
            .first()
            .map(|word| format!("did you mean `{word}`?"));
        let report = Self::new(Exit::Usage, error);
        match hint {
            Some(hint) => report.hint(hint),
            None => report,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use manifests::path_io::PathError;

    use super::*;

    #[test]
    fn a_chain_is_printed_once_on_one_line() {
        let error = PathError {
            path: "/sys/fs/cgroup/memory.max".into(),
            doing: "write to",
            source: io::Error::from_raw_os_error(16),
        };
        let report = CliError::from(error)
            .hint("the instance uses more than that")
            .report();
        assert_eq!(
            report,
            "error: write to /sys/fs/cgroup/memory.max: Device or resource busy (os error 16)\n  = the instance uses more than that\n"
        );
    }

    #[test]
    fn a_refusal_shows_its_code_and_values_cannot_drive_the_terminal() {
        let report = CliError::new(
            Exit::Refused,
            "19 of 24 instances\u{1b}[2J would be deleted",
        )
        .coded("G102")
        .report();
        assert_eq!(
            report,
            "error[G102]: 19 of 24 instances␛[2J would be deleted\n"
        );
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let table = [
            (Exit::Done, 0),
            (Exit::Unexpected, 1),
            (Exit::Differences, 2),
            (Exit::Invalid, 3),
            (Exit::Refused, 4),
            (Exit::Stale, 5),
            (Exit::Locked, 6),
            (Exit::Partly, 7),
            (Exit::Usage, 64),
            (Exit::Other(137), 137),
        ];
        for (exit, code) in table {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }
}
