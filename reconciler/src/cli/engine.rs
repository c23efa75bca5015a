//! Opens the state folder and the engine that works on it.
//!
//! Each server of Incus has a state folder of its own below the one that is said: what was applied to one engine says
//! nothing of another.

use std::path::PathBuf;

use manifests::desired::DesiredSet;
use manifests::feature::Capabilities;
use runtime::error::RuntimeError;
use runtime::incus::{AsWritten, IncusRuntime};
use runtime::native::{NativeConfig, NativeRuntime, SecretStore};
use runtime::runtime::{Operate, Runtime, Snapshots};
use runtime::watch::{Bell, Moved};

use super::global::Engine;
use super::invocation::{Invocation, environment};
use crate::error::{CliError, Exit};
use crate::state_folder::StateFolder;
use crate::store::SqliteStore;

/// Where the companion of each instance is installed, if not beside `keel`.
const SHIM: &str = "/usr/lib/keel/keel-shim";
/// Where ranges of ids are claimed for all state folders of the host.
const CLAIMS: &str = "/var/lib/evenkeel/claims";
/// What runs, of all state folders of the host; gone after a start of the host.
const RUN: &str = "/run/keel";

/// What commands ask of every engine.
pub(super) trait Works: Runtime + Operate + Snapshots {
    /// What is known of secrets.
    fn secrets(&self) -> &SecretStore;

    /// What it can do of what is wanted: as [`Runtime::capabilities`], and more of what takes longer to find out. Absent
    /// `desired`: whatever may be planned.
    fn capabilities_for(&self, desired: Option<&DesiredSet>) -> Result<Capabilities, RuntimeError>;

    /// Tells what moves, until the bell says that it is enough.
    ///
    /// # Errors
    /// The kernel refuses, or the server is out of reach.
    fn watch(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), RuntimeError>;

    /// This host, where it is the engine.
    fn native(&self) -> Option<&NativeRuntime>;

    /// What people wrote, where an engine has profiles of its own.
    ///
    /// # Errors
    /// The engine is out of reach.
    fn as_written(&self) -> Result<AsWritten, RuntimeError> {
        Ok(AsWritten::default())
    }
}

impl Works for NativeRuntime {
    fn secrets(&self) -> &SecretStore {
        self.secrets()
    }

    fn capabilities_for(&self, desired: Option<&DesiredSet>) -> Result<Capabilities, RuntimeError> {
        self.capabilities_for_machines(desired)
    }

    fn watch(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), RuntimeError> {
        self.watch(bell, moved)
    }

    fn native(&self) -> Option<&NativeRuntime> {
        Some(self)
    }
}

impl Works for IncusRuntime {
    fn secrets(&self) -> &SecretStore {
        self.secrets()
    }

    fn capabilities_for(&self, desired: Option<&DesiredSet>) -> Result<Capabilities, RuntimeError> {
        self.capabilities_for(desired)
    }

    fn watch(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), RuntimeError> {
        self.watch(bell, moved)
    }

    fn native(&self) -> Option<&NativeRuntime> {
        None
    }

    fn as_written(&self) -> Result<AsWritten, RuntimeError> {
        self.as_written()
    }
}

/// An open state folder and its engine.
pub(super) struct Opened {
    pub(super) folder: StateFolder,
    pub(super) runtime: Box<dyn Works>,
}

impl Opened {
    /// This host, for what only it does.
    ///
    /// # Errors
    /// Another engine does the work.
    pub(super) fn native(&self) -> Result<&NativeRuntime, CliError> {
        self.runtime.native().ok_or_else(|| {
            CliError::new(
                Exit::Invalid,
                "this is done by the native engine only, so far",
            )
        })
    }
}

/// Opens both. Nothing is started or changed, but the folder is made where there is none.
///
/// # Errors
/// This is not root, the folder is not safe, or the host or server cannot be asked.
pub(super) fn open(invocation: &Invocation) -> Result<Opened, CliError> {
    let folder = folder(invocation)?;
    if let Engine::Incus(server) = &invocation.global.engine {
        let endpoint = super::remotes::endpoint(server)?;
        let runtime = IncusRuntime::open(endpoint, folder.path(), folder.id())?;
        return Ok(Opened {
            folder,
            runtime: Box::new(runtime),
        });
    }
    let runtime = NativeRuntime::open(NativeConfig {
        state: folder.path().to_path_buf(),
        run: folder.run(),
        shared_run: PathBuf::from(RUN),
        // Tests have claims of their own.
        claims: environment("KEEL_CLAIMS").map_or_else(|| CLAIMS.into(), PathBuf::from),
        state_id: folder.id().to_owned(),
        shim: shim()?,
        accelerator: invocation.global.accelerator.into(),
    })?;
    Ok(Opened {
        folder,
        runtime: Box::new(runtime),
    })
}

/// Opens the state folder alone.
///
/// # Errors
/// This is not root, or the folder is not safe.
pub(super) fn folder(invocation: &Invocation) -> Result<StateFolder, CliError> {
    let state = invocation.state_dir()?;
    if let Engine::Incus(server) = &invocation.global.engine {
        return Ok(StateFolder::open(
            state.join("incus").join(file_name(server)),
        )?);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(
            CliError::new(Exit::Unexpected, "the native engine needs root")
                .hint("run it with sudo; validate, render, explain and schema need no root"),
        );
    }
    Ok(StateFolder::open(state)?)
}

/// A server's name as that of a folder; no two have the same.
fn file_name(server: &str) -> String {
    let mut name = String::new();
    for byte in server.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            other => name.push_str(&format!("_{other:02x}")),
        }
    }
    name
}

/// The database of store and journal.
///
/// # Errors
/// It cannot be opened.
pub(super) fn store(folder: &StateFolder) -> Result<SqliteStore, CliError> {
    Ok(SqliteStore::open(&folder.database())?)
}

/// The companion of this very program: a newer or older one may not understand it.
fn shim() -> Result<PathBuf, CliError> {
    let own = std::env::current_exe()
        .map_err(|error| CliError::new(Exit::Unexpected, format!("find keel itself: {error}")))?;
    let beside = own.with_file_name("keel-shim");
    [beside.clone(), PathBuf::from(SHIM)]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let message = format!("{} is not there", beside.display());
            CliError::new(Exit::Unexpected, message)
                .hint("build both: cargo build --release --bin keel --bin keel-shim")
        })
}
