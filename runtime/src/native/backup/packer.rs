//! Packs a stream beside whoever makes it: reading and hashing on one processor, compressing on another.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Handed over at once, in bytes.
const CHUNK: usize = 512 * 1024;
/// Chunks that wait at most.
const WAITING: usize = 4;
/// What `zstd` itself takes.
const LEVEL: i32 = 3;
/// What is asked for where it is to be quick.
const QUICK: i32 = 1;

/// Where packed bytes go.
pub trait Sink: Write + Send {
    /// All was written: makes it durable.
    ///
    /// # Errors
    /// The disk is full, or gone.
    fn end(self: Box<Self>) -> io::Result<()>;
}

impl Sink for std::fs::File {
    fn end(self: Box<Self>) -> io::Result<()> {
        self.sync_all()
    }
}

/// The plain end of the packing.
pub(in crate::native) struct Packer {
    buffer: Vec<u8>,
    sender: Option<SyncSender<Vec<u8>>>,
    worker: Option<JoinHandle<io::Result<()>>>,
}

impl Packer {
    pub(in crate::native) fn new(sink: Box<dyn Sink>, quick: bool) -> Self {
        let level = if quick { QUICK } else { LEVEL };
        let (sender, receiver) = sync_channel(WAITING);
        Self {
            buffer: Vec::with_capacity(CHUNK),
            sender: Some(sender),
            worker: Some(std::thread::spawn(move || pack(sink, level, &receiver))),
        }
    }

    /// Why the worker has ended.
    fn why(&mut self) -> io::Error {
        self.sender = None;
        let ended = self.worker.take().map(JoinHandle::join);
        match ended {
            Some(Ok(Err(error))) => error,
            _ => io::Error::other("the packer has ended"),
        }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.sender.as_ref().map(|sender| sender.send(chunk));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.why()),
        }
    }

    /// Waits until all is packed and durable.
    pub(in crate::native) fn finish(mut self) -> io::Result<()> {
        self.hand_over()?;
        self.sender = None;
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(io::Error::other("the packer has ended")),
        }
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let taken = bytes.len().min(room);
        self.buffer
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.buffer.len() == CHUNK {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(sink: Box<dyn Sink>, level: i32, chunks: &Receiver<Vec<u8>>) -> io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
    encoder.include_checksum(true)?;
    let mut ended = false;
    for chunk in chunks {
        // Whoever gives up drops its end without the empty chunk that ends a stream.
        ended = chunk.len() < CHUNK;
        encoder.write_all(&chunk)?;
    }
    if !ended {
        return Err(io::Error::other("it was given up"));
    }
    encoder.finish()?.end()
}
