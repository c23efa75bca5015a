//! The screen of a machine: QEMU listens nowhere for clients, each is handed to it.

use std::os::fd::BorrowedFd;

use serde_json::{Value, json};

use super::{connect_failed, control, monitor_failed};
use crate::error::{Class, RuntimeError};
use crate::native::machine::qmp::Qmp;
use crate::native::shim::Running;

const DOING: &str = "show the screen of";
/// The socket of a screen in the run folder, unless a person wants it elsewhere.
pub(in crate::native) const SOCKET: &str = "screen";
/// How a client is called while it is handed over.
const CLIENT: &str = "screen-client";

/// Refuses a machine that has no screen: one that boots a kernel directly has its console alone.
pub(in crate::native) fn look(running: &Running) -> Result<(), RuntimeError> {
    let mut qmp = control(running).map_err(connect_failed)?;
    there(&mut qmp)
}

fn there(qmp: &mut Qmp) -> Result<(), RuntimeError> {
    let servers = qmp.execute("query-vnc-servers", Value::Null);
    let servers = servers.map_err(monitor_failed(DOING))?;
    if servers
        .as_array()
        .is_some_and(|servers| !servers.is_empty())
    {
        return Ok(());
    }
    let why = "it has none: it boots a kernel directly, and has its console (`keel console`)";
    Err(RuntimeError::new(DOING, Class::Unsupported, why))
}

/// Hands a client over.
pub(in crate::native) fn show(
    running: &Running,
    client: BorrowedFd<'_>,
) -> Result<(), RuntimeError> {
    let mut qmp = control(running).map_err(connect_failed)?;
    there(&mut qmp)?;
    qmp.execute_with("getfd", json!({ "fdname": CLIENT }), client)
        .map_err(monitor_failed(DOING))?;
    // It takes the descriptor out of its list also where it does not want it.
    qmp.execute("add_client", json!({ "protocol": "vnc", "fdname": CLIENT }))
        .map(|_| ())
        .map_err(monitor_failed(DOING))
}
