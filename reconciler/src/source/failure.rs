//! [`SourceError`]: why a source cannot be taken over now.

use std::time::Duration;

use manifests::path_io::PathError;

use crate::web::access::AccessError;

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

pub use crate::web::access::Cause;

/// A source cannot be taken over. What was taken over before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder, or a file in it, cannot be read.
    #[error(transparent)]
    Folder(#[from] PathError),
    /// There is nothing in it.
    #[error("there are no manifests in {place}")]
    Empty {
        /// The folder.
        place: String,
    },
    /// There is no repository, or none that can be read.
    #[error("{url} is no repository that can be followed: {why}")]
    NoRepository {
        /// Where.
        url: String,
        /// What was found.
        why: String,
    },
    /// The server cannot be reached.
    #[error("ask {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        source: Cause,
    },
    /// It took too long.
    #[error("{url} was not done within {} s", after.as_secs())]
    TooSlow {
        /// Where.
        url: String,
        /// How long it was let.
        after: Duration,
    },
    /// The server does not let us in.
    #[error("{url} does not let keel in: {why}")]
    Denied {
        /// Where.
        url: String,
        /// What it said.
        why: String,
    },
    /// The server answers something else than git.
    #[error("{url} gives no answer of git: {why}")]
    Server {
        /// Where.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is followed is not there.
    #[error("{url} has no {wanted}")]
    NoSuchReference {
        /// Where.
        url: String,
        /// What is followed.
        wanted: String,
    },
    /// The commit does not have the path.
    #[error("{path} is not in {commit}")]
    NoSuchPath {
        /// The path within the repository.
        path: String,
        /// The commit.
        commit: String,
    },
    /// The commit does not come after the one in force.
    #[error("{commit} does not come after {last}, which is in force: the history was written anew")]
    Rewound {
        /// The commit in force.
        last: String,
        /// The whole name of the commit that is there now.
        commit: String,
    },
    /// It bears no signature.
    #[error("{object} is not signed")]
    Unsigned {
        /// The commit or tag.
        object: String,
    },
    /// Its signature does not count.
    #[error("the signature of {object} does not count: {why}")]
    BadSignature {
        /// The commit or tag.
        object: String,
        /// Why not.
        why: String,
    },
    /// It is more than is taken.
    #[error("{what} has more than {limit}")]
    TooLarge {
        /// What.
        what: String,
        /// How much would be taken, with its unit.
        limit: String,
    },
    /// A file of the commit cannot be read.
    #[error("read {file} of {commit}")]
    File {
        /// The commit.
        commit: String,
        /// The file within the repository.
        file: String,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The object store is broken or lacks something.
    #[error("read {what} from the objects of {url}")]
    Objects {
        /// Where.
        url: String,
        /// Which object.
        what: String,
        /// What is wrong.
        source: git2::Error,
    },
    /// Something that the settings name cannot be used.
    #[error("{what}")]
    Settings {
        /// What, and what for.
        what: String,
        /// Why not.
        source: Cause,
    },
}

impl From<AccessError> for SourceError {
    fn from(AccessError { what, source }: AccessError) -> Self {
        Self::Settings { what, source }
    }
}

impl SourceError {
    /// What can be done about it.
    pub fn class(&self) -> SourceClass {
        match self {
            // What keel itself will not read, such as a symbolic link; all else is the kernel's answer.
            Self::Folder(error) if error.kind() == std::io::ErrorKind::Other => {
                SourceClass::Refused
            }
            // An object store that lacks something is mended, or fetched anew.
            Self::Objects { .. } | Self::File { .. } if self.is_of_store() => SourceClass::Retry,
            Self::Folder(_)
            | Self::NoRepository { .. }
            | Self::Unreachable { .. }
            | Self::TooSlow { .. }
            | Self::Server { .. } => SourceClass::Retry,
            Self::Empty { .. }
            | Self::NoSuchReference { .. }
            | Self::NoSuchPath { .. }
            | Self::Rewound { .. }
            | Self::Unsigned { .. }
            | Self::BadSignature { .. }
            | Self::TooLarge { .. }
            | Self::Objects { .. }
            | Self::File { .. } => SourceClass::Refused,
            Self::Denied { .. } | Self::Settings { .. } => SourceClass::Config,
        }
    }

    /// Whether an object store lacks something or has it wrong; not what keel itself will not read, which would come again.
    pub(super) fn is_of_store(&self) -> bool {
        let source = match self {
            Self::Objects { source, .. } => Some(source),
            Self::File { source, .. } => source
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<git2::Error>()),
            _ => None,
        };
        source.is_some_and(|source| source.code() != git2::ErrorCode::Invalid)
    }

    /// The commit or tag that it is about, where it is about one.
    pub fn commit(&self) -> Option<&str> {
        match self {
            Self::Rewound { commit, .. }
            | Self::NoSuchPath { commit, .. }
            | Self::File { commit, .. } => Some(commit),
            Self::Unsigned { object } | Self::BadSignature { object, .. } => Some(object),
            _ => None,
        }
    }

    /// One word for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Folder(_) | Self::File { .. } | Self::Objects { .. } => "SourceUnreadable",
            Self::Empty { .. } => "SourceEmpty",
            Self::NoRepository { .. } => "SourceMissing",
            Self::Unreachable { .. } | Self::Server { .. } => "SourceUnreachable",
            Self::TooSlow { .. } => "SourceTooSlow",
            Self::Denied { .. } => "SourceDenied",
            Self::NoSuchReference { .. } | Self::NoSuchPath { .. } => "SourceNotThere",
            Self::Rewound { .. } => "SourceRewound",
            Self::Unsigned { .. } | Self::BadSignature { .. } => "SourceNotVerified",
            Self::TooLarge { .. } => "SourceTooLarge",
            Self::Settings { .. } => "SourceSettings",
        }
    }
}
