//! Opens the state folder and the engine that works on it.

use std::path::PathBuf;

use runtime::native::{NativeConfig, NativeRuntime};

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

/// An open state folder and its engine.
pub(super) struct Opened {
    pub(super) folder: StateFolder,
    pub(super) runtime: NativeRuntime,
}

/// Opens both. Nothing is started or changed, but the folder is made where there is none.
///
/// # Errors
/// This is not root, the folder is not safe, or the host cannot be read.
pub(super) fn open(invocation: &Invocation) -> Result<Opened, CliError> {
    let Engine::Native = invocation.global.engine;
    let folder = folder(invocation)?;
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
    Ok(Opened { folder, runtime })
}

/// Opens the state folder alone.
///
/// # Errors
/// This is not root, or the folder is not safe.
pub(super) fn folder(invocation: &Invocation) -> Result<StateFolder, CliError> {
    if !rustix::process::geteuid().is_root() {
        return Err(
            CliError::new(Exit::Unexpected, "the native engine needs root")
                .hint("run it with sudo; validate, render, explain and schema need no root"),
        );
    }
    Ok(StateFolder::open(invocation.state_dir()?)?)
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
