//! Packs a stream beside whoever makes it: reading and hashing on one processor, compressing on another.
//!
//! It is packed in frames of zstd of [`FRAME`] bytes each, which follow one another: so what was written before it was cut
//! off is whole up to the last of them, and can be gone on with.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::part::Before;

/// Handed over at once, in bytes.
const CHUNK: usize = 512 * 1024;
/// Chunks in a frame.
const IN_A_FRAME: usize = 32;
/// Bytes in a frame, before they are packed; the last one has fewer.
pub(super) const FRAME: usize = IN_A_FRAME * CHUNK;
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
    worker: Option<JoinHandle<io::Result<u64>>>,
}

impl Packer {
    /// Packs into `sink`. `before`: what is there of it already, of which what is the same stays.
    pub(in crate::native) fn new(sink: Box<dyn Sink>, before: Option<Before>, quick: bool) -> Self {
        let level = if quick { QUICK } else { LEVEL };
        let (sender, receiver) = sync_channel(WAITING);
        Self {
            buffer: Vec::with_capacity(CHUNK),
            sender: Some(sender),
            worker: Some(std::thread::spawn(move || {
                pack(sink, before, level, &receiver)
            })),
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

    /// Waits until all is packed and durable. Answers how many packed bytes were there before.
    pub(in crate::native) fn finish(mut self) -> io::Result<u64> {
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

/// The chunks of the next frame, and whether they are the last ones.
fn frame<'a>(
    chunks: &'a Receiver<Vec<u8>>,
    ended: &'a mut bool,
) -> impl Iterator<Item = io::Result<Vec<u8>>> + 'a {
    let mut left = IN_A_FRAME;
    std::iter::from_fn(move || {
        if *ended || left == 0 {
            return None;
        }
        left -= 1;
        // Whoever gives up drops its end without the short chunk that ends a stream.
        let chunk = chunks.recv();
        let chunk = chunk.map_err(|_| io::Error::other("it was given up"));
        *ended = chunk.as_ref().is_ok_and(|chunk| chunk.len() < CHUNK);
        Some(chunk)
    })
}

fn pack_frame(
    sink: Box<dyn Sink>,
    level: i32,
    chunks: impl Iterator<Item = io::Result<Vec<u8>>>,
) -> io::Result<Box<dyn Sink>> {
    let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
    encoder.include_checksum(true)?;
    for chunk in chunks {
        encoder.write_all(&chunk?)?;
    }
    encoder.finish()
}

fn pack(
    mut sink: Box<dyn Sink>,
    mut before: Option<Before>,
    level: i32,
    chunks: &Receiver<Vec<u8>>,
) -> io::Result<u64> {
    let mut kept = 0;
    let mut ended = false;
    while !ended {
        sink = match before.take() {
            None => pack_frame(sink, level, frame(chunks, &mut ended))?,
            Some(mut there) => {
                let all = frame(chunks, &mut ended).collect::<io::Result<Vec<_>>>()?;
                if there.next_is(&all)? {
                    before = Some(there);
                    continue;
                }
                kept = there.cut()?;
                pack_frame(sink, level, all.into_iter().map(Ok))?
            }
        };
    }
    if let Some(there) = before {
        kept = there.cut()?;
    }
    sink.end()?;
    Ok(kept)
}
