//! Network namespaces of other processes, and work done inside them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace could not be opened or entered.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The process is gone, or is not ours to look into.
    #[error("open {path}")]
    Open {
        /// The file of procfs.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// setns(2) was refused.
    #[error("enter a network namespace")]
    Enter {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread that was to enter it could not be made, or panicked.
    #[error("run a thread in a network namespace")]
    Thread,
}

/// An open network namespace; it lives as long as this value.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// The network namespace in which a process is (host's view of its number).
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(process: u32) -> Result<Self, NamespaceError> {
        Self::open(format!("/proc/{process}/ns/net"))
    }

    /// The network namespace of the calling thread.
    ///
    /// # Errors
    /// procfs is not mounted.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open("/proc/thread-self/ns/net".to_owned())
    }

    fn open(path: String) -> Result<Self, NamespaceError> {
        match File::open(&path) {
            Ok(file) => Ok(Self(file.into())),
            Err(source) => Err(NamespaceError::Open { path, source }),
        }
    }

    /// What tells two namespaces apart: the inode of nsfs.
    ///
    /// # Errors
    /// fstat(2) failed.
    pub fn identity(&self) -> Result<u64, NamespaceError> {
        rustix::fs::fstat(&self.0)
            .map(|status| status.st_ino)
            .map_err(|error| NamespaceError::Enter {
                source: error.into(),
            })
    }

    /// Runs a function on a thread of its own inside the namespace: `setns(CLONE_NEWNET)` concerns one thread only.
    ///
    /// # Errors
    /// The namespace could not be entered, or the function panicked.
    pub fn run<T: Send>(
        &self,
        function: impl Fn() -> T + Send + Sync,
    ) -> Result<T, NamespaceError> {
        Self::run_each(&[self], function)
            .pop()
            .unwrap_or(Err(NamespaceError::Thread))
    }

    /// As [`run`](Self::run), in one namespace after the other on one thread: starting a thread costs twenty times what
    /// entering a namespace does. Answers in the order of the namespaces.
    ///
    /// # Errors
    /// Each answer has its own; if the function panicked, all of them.
    pub fn run_each<T: Send>(
        namespaces: &[&Self],
        function: impl Fn() -> T + Send + Sync,
    ) -> Vec<Result<T, NamespaceError>> {
        let enter = |namespace: &&Self| {
            move_into_link_name_space(namespace.0.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| NamespaceError::Enter {
                    source: error.into(),
                })?;
            Ok(function())
        };
        let results = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, || namespaces.iter().map(enter).collect::<Vec<_>>())
                .ok()
                .and_then(|thread| thread.join().ok())
        });
        results.unwrap_or_else(|| {
            let failed = namespaces.iter().map(|_| Err(NamespaceError::Thread));
            failed.collect()
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Namespace {
    /// Takes a descriptor of a file of nsfs, or a pidfd (setns takes both; `IFLA_NET_NS_FD` only the first).
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}
