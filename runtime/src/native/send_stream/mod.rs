//! Streams of `btrfs send` (kernel fs/btrfs/send.h): how a subvolume is made, as commands one after another, with what
//! differs from another subvolume alone where that was sent before.
//!
//! The kernel writes them; there is no call that reads them, and the program `btrfs receive` does as root whatever one says.
//! Here they are read by us: a stranger's stream is judged command by command (`backup/streams.rs`), and what is done of it
//! is done beneath the folder of one new subvolume, through no link and over no mount. Version 1 alone, which every kernel
//! writes unless it is asked for another.

mod command;
mod receiver;
#[cfg(test)]
pub(super) mod tests;

pub use command::StreamError;
pub(in crate::native) use command::{Command, Parser, StreamId};
pub use receiver::ReceiveError;
pub(in crate::native) use receiver::{Receiver, path_of};
