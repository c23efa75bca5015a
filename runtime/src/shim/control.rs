//! The protocol of a running companion's control socket. Builds of different ages speak it to each other: variants and
//! fields are only ever appended, a tag is never used again, and an old companion refuses what it does not know.
//!
//! The socket is a `SOCK_SEQPACKET` in the run folder: one request a packet, one reply a packet.

use super::wire::{choice, message};

/// Its name in the run folder.
pub const FILE: &str = "control";

/// Rises when something is appended. A companion answers with its own; a newer one still understands older ones.
pub const VERSION: u32 = 1;

/// The longest request or reply, in bytes.
pub const LONGEST: usize = 4096;

message! {
    /// What the companion knows.
    pub struct State {
        /// [`VERSION`] of the companion.
        pub version: u32,
        /// Number of the start.
        pub generation: u64,
        /// The host's boot.
        pub boot_id: String,
        /// Pid of init in the host's view; 0 while the companion waits to start it again.
        pub init: i32,
        /// Field 22 of its `/proc/PID/stat`.
        pub start_time: u64,
        /// Pid of the companion.
        pub shim: i32,
        /// How often it has started init again.
        pub restarts: u32,
        /// Whether it will again.
        pub restarting: bool,
        /// Console output that could not be kept, in bytes.
        pub lost: u64,
    }
}

choice! {
    /// Asked by keel.
    pub enum Request {
        /// Answered by [`Reply::State`].
        0 => State,
        /// Answered by [`Reply::State`] with the pidfd of init and the pty master of the console.
        1 => Handles,
        /// Start the instance again when it ends, or no more. Answered by [`Reply::State`].
        2 => Restarting {
            /// As the manifest says, or `false` before a stop.
            wanted: bool,
        },
        /// This connection becomes the console after [`Reply::State`]: packets to the client are output; packets from
        /// it begin with 0 for input, or are 1, rows and columns (two bytes each) for the window.
        3 => Attach,
    }

    /// Answered by the companion.
    pub enum Reply {
        /// What it knows.
        0 => State {
            /// After the request.
            state: State,
        },
        /// It does not know the request, or cannot do it now.
        1 => Refused {
            /// errno.
            errno: i32,
        },
    }
}

/// First byte of a console packet from the client: input follows.
pub const INPUT: u8 = 0;
/// First byte of a console packet from the client: rows and columns follow.
pub const WINDOW: u8 = 1;
