//! [`SourceError`]: why a source cannot be taken over now.

use manifests::path_io::PathError;

/// What can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceClass {
    /// It may work later without anybody's doing: the network, a server, a disk.
    Retry,
    /// It is there and must not be taken over until it says something else, or a person allows it.
    Refused,
    /// The settings of the source are wrong.
    Config,
}

/// A source cannot be taken over. What was taken over before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder, or a file in it, cannot be read.
    #[error(transparent)]
    Folder(#[from] PathError),
}

impl SourceError {
    /// What can be done about it.
    pub fn class(&self) -> SourceClass {
        match self {
            // What keel itself will not read, such as a symbolic link; all else is the kernel's answer.
            Self::Folder(error) if error.kind() == std::io::ErrorKind::Other => {
                SourceClass::Refused
            }
            Self::Folder(_) => SourceClass::Retry,
        }
    }

    /// One word for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Folder(_) => "SourceUnreadable",
        }
    }
}
