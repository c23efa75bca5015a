//! Virtual machines: QEMU as an unprivileged process in a root of its own, which works on what it is handed.
//!
//! `plan` says what a machine is, `command_line` and `devices` put it in QEMU's words (pure), `start` starts it, `seen` reads
//! what it is. `qmp` talks with QEMU and `agent` with its guest; neither is trusted: the guest may have
//! taken over both.

mod abilities;
pub mod agent;
pub mod begun_with;
pub mod command_line;
pub mod devices;
mod emulator;
pub mod firmware;
pub mod helpers;
pub mod host_pci;
pub mod host_usb;
pub mod layer;
pub mod layer_at_rest;
mod line_socket;
mod ordered_helper;
pub mod passed;
pub mod pinning;
pub(in crate::native) mod plain;
pub mod plan;
pub mod plug;
pub mod qmp;
pub mod seen;
mod served_by;
mod start;
pub mod state;

pub use self::abilities::{Abilities, ask, ask_once};
pub use self::emulator::{Choice, accelerator, emulator, kvm_trouble};
pub use self::plan::MachinePlan;
pub use self::served_by::{ServedBy, Unserved, programs_once, swtpm, virtiofsd};
pub use self::start::{MachineError, complaints, start};
