//! Machines: what keel says to QEMU and to the agent in its guest. Neither is trusted: both may have been taken over.

//AGENT
mod deadline;
mod line_socket;
mod plain;
pub mod qmp;
