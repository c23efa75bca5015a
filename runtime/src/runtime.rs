//! The seam between deciding and doing: [`Runtime`] (observe, perform) and [`Operate`] (work with an instance).

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use manifests::action::Action;
use manifests::desired::DesiredSet;
use manifests::feature::Capabilities;
use manifests::id::{Address, Uid};
use manifests::kind::Kind;
use manifests::observed::{Item, ObservedSet};

use crate::error::RuntimeError;

/// What surrounds one deed.
pub struct Context<'a> {
    /// Set when a person asked to leave: no new waits are begun.
    pub cancel: &'a AtomicBool,
    /// How long an orderly stop, a start or a wait may take at most.
    pub timeout: Duration,
    /// The time of the deed, for records.
    pub now: jiff::Timestamp,
    /// Told the phase: `unpacking`, `starting`.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// What a deed came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effected {
    /// It was done.
    Done,
    /// It was so already.
    NotNeeded,
    /// It was accepted and is in force after a restart.
    NextStart,
}

/// An engine. Every action is idempotent and may be performed again after a crash at any point inside it.
pub trait Runtime: Send + Sync {
    /// What this host can do.
    ///
    /// # Errors
    /// The host could not be asked.
    fn capabilities(&self) -> Result<Capabilities, RuntimeError>;

    /// Everything there is, read from the world. What cannot be read is in the answer as unseen or unclear.
    ///
    /// # Errors
    /// The engine is out of reach as a whole.
    fn observe(&self) -> Result<ObservedSet, RuntimeError>;

    /// One object as [`Runtime::observe`] would say it; none if it is not there. For the look before and after a deed.
    ///
    /// # Errors
    /// It could not be told whether it is there.
    fn look(&self, address: &Address) -> Result<Option<Item>, RuntimeError>;

    /// Bytes of data of a live object's own, or of one in the trash; none where there is nothing more to count than [`Runtime::observe`] and
    /// [`Runtime::look`] tell. Those do not count what takes as long as a root is large, and as its owner chooses.
    ///
    /// # Errors
    /// It could not be told.
    fn measure(&self, kind: Kind, uid: &Uid) -> Result<Option<u64>, RuntimeError>;

    /// Whether the value of a secret that was seen somewhere, told by its digest, can be put there again.
    fn knows_secret(&self, digest: &str) -> bool;

    /// Does one thing to one object. `desired` holds the object itself and what it refers to.
    ///
    /// # Errors
    /// It was not done, or not to its end; what was begun is found by the next observation.
    fn perform(
        &self,
        action: &Action,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError>;

    /// Removes what a process that died left half made and no observation tells of: temporary files, folders without
    /// a name. The caller holds the lock, so that nobody else is at it.
    ///
    /// # Errors
    /// Something of it could not be removed.
    fn sweep(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Whether somebody who died had something of it that no journal tells of: then there is something to sweep.
    fn is_littered(&self) -> bool {
        false
    }

    /// Nothing is done for now: what is kept only so that it is not read twice can go.
    fn rest(&self) {}

    /// Derived things of many objects at once (firewall rulesets, DHCP reservations), once after a batch of deeds.
    ///
    /// # Errors
    /// Some of it could not be put in force; the next observation says which.
    fn settle(&self, context: &Context<'_>) -> Result<(), RuntimeError>;
}

/// How a command ran inside an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended by itself with this code.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

/// A command to run inside an instance.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Added to the environment.
    pub environment: Vec<(String, String)>,
    /// The folder in which it runs; `/root` or `/` where none is said.
    pub directory: Option<String>,
    /// The user inside.
    pub uid: u32,
    /// The group inside.
    pub gid: u32,
    /// Whether it gets a terminal of the instance's own.
    pub terminal: bool,
}

/// What an instance uses now.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processor time since its start, in microseconds.
    pub cpu_microseconds: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// What `keel file` reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInside {
    /// The bytes.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The user inside.
    pub uid: u32,
    /// The group inside.
    pub gid: u32,
}

/// Work with one instance.
pub trait Operate {
    /// Runs a command to its end; its streams are these descriptors.
    ///
    /// # Errors
    /// The instance does not run, or the command could not be started in it.
    fn exec(
        &self,
        instance: &Address,
        request: &ExecRequest,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<ExitStatus, RuntimeError>;

    /// Connects these descriptors to its console until the input ends or the detach byte (Ctrl-A q) comes.
    ///
    /// # Errors
    /// It does not run, or its shim does not answer.
    fn console(&self, instance: &Address, streams: [BorrowedFd<'_>; 2])
    -> Result<(), RuntimeError>;

    /// Hands a VNC client to the screen of a machine, which serves it until one of them goes.
    ///
    /// # Errors
    /// It does not run or has no screen.
    fn show_screen(&self, instance: &Address, client: BorrowedFd<'_>) -> Result<(), RuntimeError>;

    /// Where the socket of its screen would be by default, in a folder that only root can enter.
    ///
    /// # Errors
    /// As [`Operate::show_screen`].
    fn screen_socket(&self, instance: &Address) -> Result<PathBuf, RuntimeError>;

    /// What its console printed, the newest `limit` bytes; also of a stopped one.
    ///
    /// # Errors
    /// There is no such instance.
    fn console_log(&self, instance: &Address, limit: usize) -> Result<Vec<u8>, RuntimeError>;

    /// What it uses now.
    ///
    /// # Errors
    /// It does not run.
    fn usage(&self, instance: &Address) -> Result<Usage, RuntimeError>;

    /// Reads a file inside it.
    ///
    /// # Errors
    /// There is no such file, it is not a regular one, or it is bigger than this engine reads.
    fn read_file(&self, instance: &Address, path: &str) -> Result<FileInside, RuntimeError>;

    /// Writes a file inside it.
    ///
    /// # Errors
    /// Its folder is not there and `create_folders` is false, or the kernel refuses.
    fn write_file(
        &self,
        instance: &Address,
        path: &str,
        file: &FileInside,
        create_folders: bool,
    ) -> Result<(), RuntimeError>;
}

/// A snapshot of an instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// What for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether memory is in it.
    pub memory: bool,
    /// The schedule that made it; none: a person did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Uid>,
    /// When it may go; none: it stays until somebody or its schedule deletes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<jiff::Timestamp>,
}

/// A snapshot that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Its name; none: `snap` with a number.
    pub name: Option<String>,
    /// What for.
    pub description: String,
    /// Whether memory is to be in it.
    pub memory: bool,
    /// The schedule that makes it.
    pub made_by: Option<Uid>,
    /// When it may go.
    pub expires_at: Option<jiff::Timestamp>,
}

/// Snapshots of instances. Each deed may be done again after a crash at any point inside it.
pub trait Snapshots {
    /// Those of one instance, oldest first.
    ///
    /// # Errors
    /// There is no such instance, or the engine makes none of its kind.
    fn snapshots(&self, instance: &Address) -> Result<Vec<Snapshot>, RuntimeError>;

    /// Makes one; its name.
    ///
    /// # Errors
    /// It was not made: the instance is as before.
    fn create_snapshot(
        &self,
        instance: &Address,
        new: &NewSnapshot,
        context: &Context<'_>,
    ) -> Result<String, RuntimeError>;

    /// Goes back to one: what was written since, and no other snapshot keeps, is lost. What ran runs again; one with
    /// memory goes on from there, unless only the disk is asked for.
    ///
    /// # Errors
    /// There is no such snapshot, or the instance cannot be stopped or started.
    fn restore_snapshot(
        &self,
        instance: &Address,
        name: &str,
        disk_only: bool,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError>;

    /// Gives one another name.
    ///
    /// # Errors
    /// There is none, or another has the name.
    fn rename_snapshot(&self, instance: &Address, from: &str, to: &str)
    -> Result<(), RuntimeError>;

    /// Deletes one; what others need of it stays.
    ///
    /// # Errors
    /// There is none, or its data could not be given to those that need them.
    fn delete_snapshot(
        &self,
        instance: &Address,
        name: &str,
        context: &Context<'_>,
    ) -> Result<(), RuntimeError>;
}
