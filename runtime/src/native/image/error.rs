//! What can be wrong with an image, in words for the person who asked for it.

use std::path::PathBuf;

use manifests::path_io::PathError;

use crate::native::disk_image::DiskError;
use crate::sys::command::CommandError;
use crate::sys::remove_tree::RemoveTreeError;

/// Why an image was not imported, found, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file operation of ours failed; a full disk shows as `ENOSPC` in here.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Leftovers could not be removed.
    #[error(transparent)]
    Remove(#[from] RemoveTreeError),
    /// A helper program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The disk of a machine is none, or not one that is taken.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The archive wants something that no image may have.
    #[error("entry {entry:?} {refusal}")]
    Refused {
        /// The entry's name as the archive spells it (lossy).
        entry: String,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The archive or folder is bigger than allowed.
    #[error("more than {limit} {of}")]
    TooBig {
        /// The limit.
        limit: u64,
        /// What was counted.
        of: &'static str,
    },
    /// The bytes are no archive of a known form, or broken.
    #[error("{}: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The form is known and not supported.
    #[error("{} is {what}, which nothing can start from here", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// `a zip archive`, …
        what: String,
    },
    /// It is for the other kind of instances.
    #[error("{} is {what}", path.display())]
    WrongKind {
        /// The file or folder.
        path: PathBuf,
        /// What it is, and what it should have been.
        what: &'static str,
    },
    /// An image for containers is asked for its disk, or one for machines for its root file system.
    #[error("image {fingerprint} is for {made_for}s")]
    MadeFor {
        /// Which.
        fingerprint: String,
        /// `container` or `virtual-machine`.
        made_for: &'static str,
    },
    /// What goes with a kernel is there without one.
    #[error("an initrd and a command line need a kernel")]
    NoKernel,
    /// Too long, or not one line.
    #[error("the command line of a kernel is one line of at most 2047 bytes")]
    BadCommandLine,
    /// The content is not what was declared.
    #[error("the image has sha256 {found}, wanted is {wanted}")]
    WrongFingerprint {
        /// Lower-case hexadecimal, as declared.
        wanted: String,
        /// Lower-case hexadecimal, as found.
        found: String,
    },
    /// No image or alias has that name.
    #[error("there is no image {0:?}")]
    NotFound(String),
    /// The prefix fits several images.
    #[error("{prefix:?} is the start of {count} fingerprints")]
    Ambiguous {
        /// As it was asked for.
        prefix: String,
        /// How many fit.
        count: usize,
    },
    /// The alias belongs to somebody else.
    #[error("the alias {alias:?} belongs to {owner}")]
    ForeignAlias {
        /// The alias.
        alias: String,
        /// The mark of its owner.
        owner: String,
    },
    /// Not a word that can be an alias.
    #[error(
        "{0:?} cannot be an alias: 1 to 128 printable ASCII characters without space, not a fingerprint"
    )]
    BadAlias(String),
    /// Instances use it.
    #[error("image {0} is in use")]
    InUse(String),
    /// The program for `builtin: busybox` is missing or unfit.
    #[error("no static busybox on this host; install busybox-static")]
    NoBusybox,
    /// What the host needs to unpack or to make it is missing.
    #[error("{0} is needed for this image and is not installed")]
    NoProgram(&'static str),
    /// The address is one that no manifest may make this host ask.
    #[error("download {url}: {problem}")]
    Forbidden {
        /// The address without user and password.
        url: String,
        /// Why not.
        problem: String,
    },
    /// Downloading failed.
    #[error("download {url}: {problem}")]
    Download {
        /// The address without user and password.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// A download without a pinned SHA-256.
    #[error("an image from a URL needs its sha256")]
    NoDigest,
    /// The caller asked to stop.
    #[error("importing was interrupted")]
    Interrupted,
}

/// What an entry of an archive may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Starts with `/`.
    #[error("has an absolute name")]
    Absolute,
    /// Contains `..`.
    #[error("leads upwards")]
    Upwards,
    /// Has a NUL byte in its name or target.
    #[error("has a NUL byte in its name")]
    Nul,
    /// The name is empty.
    #[error("has no name")]
    NoName,
    /// A component, the whole name, or a link's target is too long.
    #[error("has a name that is too long")]
    LongName,
    /// Too many components.
    #[error("lies too deep")]
    Deep,
    /// A component above it is a symbolic link or no folder.
    #[error("goes through something that is no folder")]
    ThroughLink,
    /// A hard link to something that is not in the archive before it.
    #[error("is a hard link to nothing in the image")]
    LinkToNothing,
    /// A hard link to a folder.
    #[error("is a hard link to a folder")]
    LinkToFolder,
    /// A symbolic link without a target.
    #[error("is a link without a target")]
    NoTarget,
    /// Owner or group outside of 0 to 65535.
    #[error("belongs to {0}, outside of 0 to 65535")]
    Owner(u64),
    /// The whole archive would replace its own root.
    #[error("would replace the root by something that is no folder")]
    ReplacesRoot,
    /// A whiteout with an unlawful name.
    #[error("is a whiteout of something outside")]
    BadWhiteout,
    /// A sparse map that does not fit the file.
    #[error("has a sparse map that does not fit")]
    BadSparse,
    /// The name was there already.
    #[error("is there twice")]
    Twice,
    /// A negative or overflowing size.
    #[error("has an impossible size")]
    BadSize,
}
