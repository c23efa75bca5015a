//! Files of the guest, read and written by its agent.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Agent, AgentError, Done};
use crate::native::deadline::Deadline;

/// How much is read or written at once.
const PIECE: usize = 256 << 10;

/// The longest answer to a question for a piece: as base64, and with room for the rest.
const PIECE_ANSWER: usize = PIECE / 3 * 4 + 4096;

const READ: &str = "guest-file-read";
const WRITE: &str = "guest-file-write";

/// A file that the agent holds open. It does until it is told to close it, or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct FileHandle(i64);

/// Where a position is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The begin of the file.
    Begin,
    /// Where one is.
    Here,
    /// The end of the file.
    End,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SentPiece {
    #[serde(default)]
    buf_b64: String,
    eof: bool,
}

#[derive(Deserialize)]
struct Written {
    count: u64,
}

#[derive(Deserialize)]
struct Position {
    position: u64,
}

fn strange(command: &'static str, what: &'static str) -> AgentError {
    AgentError::Strange { command, what }
}

impl Agent {
    /// Opens a file; `mode` as of fopen(3).
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn open_file(&mut self, path: &str, mode: &str) -> Result<FileHandle, AgentError> {
        self.ask("guest-file-open", json!({"path": path, "mode": mode}))
    }

    /// Closes a file.
    ///
    /// # Errors
    /// As [`AgentError`] says; refused also where the last bytes could not be written.
    pub fn close_file(&mut self, file: FileHandle) -> Result<(), AgentError> {
        self.ask("guest-file-close", json!({"handle": file.0}))
            .map(|Done {}| ())
    }

    /// Goes to a position, and answers it from the begin.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn seek(
        &mut self,
        file: FileHandle,
        offset: i64,
        whence: Whence,
    ) -> Result<u64, AgentError> {
        let whence = match whence {
            Whence::Begin => "set",
            Whence::Here => "cur",
            Whence::End => "end",
        };
        let arguments = json!({"handle": file.0, "offset": offset, "whence": whence});
        let at: Position = self.ask("guest-file-seek", arguments)?;
        Ok(at.position)
    }

    /// Reads what comes next, 256 KiB at most; nothing at the end of the file.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn read_piece(&mut self, file: FileHandle) -> Result<Vec<u8>, AgentError> {
        let deadline = Deadline::after(self.patience);
        self.read_until(file, &deadline).map(|(bytes, _)| bytes)
    }

    /// A piece, and whether the file has ended with it.
    fn read_until(
        &mut self,
        file: FileHandle,
        deadline: &Deadline,
    ) -> Result<(Vec<u8>, bool), AgentError> {
        let arguments = json!({"handle": file.0, "count": PIECE});
        let piece: SentPiece = self.ask_until(READ, arguments, PIECE_ANSWER, deadline)?;
        let bytes = STANDARD
            .decode(piece.buf_b64)
            .map_err(|_| strange(READ, "its bytes are no base64"))?;
        if bytes.len() > PIECE {
            return Err(strange(READ, "it is more than was asked for"));
        }
        let ended = piece.eof || bytes.is_empty();
        Ok((bytes, ended))
    }

    /// Writes bytes where one is.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn write(&mut self, file: FileHandle, bytes: &[u8]) -> Result<(), AgentError> {
        for piece in bytes.chunks(PIECE) {
            let deadline = Deadline::after(self.patience);
            self.write_until(file, piece, &deadline)?;
        }
        Ok(())
    }

    fn write_until(
        &mut self,
        file: FileHandle,
        mut bytes: &[u8],
        deadline: &Deadline,
    ) -> Result<(), AgentError> {
        while !bytes.is_empty() {
            let arguments = json!({"handle": file.0, "buf-b64": STANDARD.encode(bytes)});
            let written: Written = self.ask_until(WRITE, arguments, PIECE_ANSWER, deadline)?;
            let count = usize::try_from(written.count).unwrap_or(usize::MAX);
            bytes = match bytes.get(count..) {
                Some(_) if count == 0 => return Err(strange(WRITE, "nothing was written")),
                Some(rest) => rest,
                None => return Err(strange(WRITE, "it is more than was sent")),
            };
        }
        Ok(())
    }

    /// Reads a whole file of at most `most` bytes, within `patience`.
    ///
    /// # Errors
    /// As [`AgentError`] says; [`AgentError::TooLarge`]: it has more.
    pub fn read_file(
        &mut self,
        path: &str,
        most: usize,
        patience: Duration,
    ) -> Result<Vec<u8>, AgentError> {
        let deadline = Deadline::after(patience);
        let file = self.open_file(path, "r")?;
        let read = self.read_all(file, most, &deadline);
        self.closed_after(file, read)
    }

    fn read_all(
        &mut self,
        file: FileHandle,
        most: usize,
        deadline: &Deadline,
    ) -> Result<Vec<u8>, AgentError> {
        let mut all = Vec::new();
        loop {
            let (bytes, ended) = self.read_until(file, deadline)?;
            if all.len() + bytes.len() > most {
                return Err(AgentError::TooLarge { limit: most });
            }
            all.extend_from_slice(&bytes);
            if ended {
                return Ok(all);
            }
            past(deadline)?;
        }
    }

    /// Writes a whole file, made or cut off first, within `patience`. It has the mode that the agent's umask gives; what
    /// was there is lost even where this fails.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub fn write_file(
        &mut self,
        path: &str,
        bytes: &[u8],
        patience: Duration,
    ) -> Result<(), AgentError> {
        let deadline = Deadline::after(patience);
        let file = self.open_file(path, "w")?;
        let written = bytes.chunks(PIECE).try_for_each(|piece| {
            past(&deadline)?;
            self.write_until(file, piece, &deadline)
        });
        self.closed_after(file, written)
    }

    /// Closes the file however it went; the first error counts. One that owes an answer is not asked once more.
    fn closed_after<T>(
        &mut self,
        file: FileHandle,
        result: Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        let closed = match self.agreed {
            true => self.close_file(file),
            false => Ok(()),
        };
        let result = result?;
        closed.map(|()| result)
    }
}

/// A guest that answers each question in time could still answer for ever.
fn past(deadline: &Deadline) -> Result<(), AgentError> {
    if deadline.left().is_zero() {
        return Err(AgentError::Silent {
            after: deadline.after,
        });
    }
    Ok(())
}
