//! The commands of a stream, as they come. Nothing of them has been judged.

use rustix::fs::FileType;

const MAGIC: &[u8] = b"btrfs-stream\0";
const VERSION: u32 = 1;
/// Length, number and checksum of a command. The checksum is not looked at: whoever alters a stream can write it anew.
const HEADER: usize = 10;
/// No command of version 1 is longer, its header included (`BTRFS_SEND_BUF_SIZE_V1`).
const LONGEST: usize = 64 * 1024;
/// `BTRFS_SEND_C_*`.
mod number {
    pub(super) const SUBVOLUME: u16 = 1;
    pub(super) const SNAPSHOT: u16 = 2;
    pub(super) const MAKE_FILE: u16 = 3;
    pub(super) const MAKE_FOLDER: u16 = 4;
    pub(super) const MAKE_NODE: u16 = 5;
    pub(super) const MAKE_PIPE: u16 = 6;
    pub(super) const MAKE_SOCKET: u16 = 7;
    pub(super) const SYMLINK: u16 = 8;
    pub(super) const RENAME: u16 = 9;
    pub(super) const LINK: u16 = 10;
    pub(super) const UNLINK: u16 = 11;
    pub(super) const REMOVE_FOLDER: u16 = 12;
    pub(super) const SET_ATTRIBUTE: u16 = 13;
    pub(super) const REMOVE_ATTRIBUTE: u16 = 14;
    pub(super) const WRITE: u16 = 15;
    pub(super) const CLONE: u16 = 16;
    pub(super) const TRUNCATE: u16 = 17;
    pub(super) const MODE: u16 = 18;
    pub(super) const OWNER: u16 = 19;
    pub(super) const TIMES: u16 = 20;
    pub(super) const END: u16 = 21;
}
/// `BTRFS_SEND_A_*`, those that are read, and one more than the last.
mod field {
    pub(super) const UUID: usize = 1;
    pub(super) const SIZE: usize = 4;
    pub(super) const MODE: usize = 5;
    pub(super) const UID: usize = 6;
    pub(super) const GID: usize = 7;
    pub(super) const DEVICE: usize = 8;
    pub(super) const MODIFIED: usize = 10;
    pub(super) const ACCESSED: usize = 11;
    pub(super) const NAME: usize = 13;
    pub(super) const VALUE: usize = 14;
    pub(super) const PATH: usize = 15;
    pub(super) const PATH_TO: usize = 16;
    pub(super) const PATH_LINK: usize = 17;
    pub(super) const OFFSET: usize = 18;
    pub(super) const DATA: usize = 19;
    pub(super) const CLONE_UUID: usize = 20;
    pub(super) const CLONE_PATH: usize = 22;
    pub(super) const CLONE_OFFSET: usize = 23;
    pub(super) const CLONE_LENGTH: usize = 24;
    pub(super) const ALL: usize = 25;
}

/// Which subvolume a stream is of: its uuid.
pub(in crate::native) type StreamId = [u8; 16];

/// What is done next. Paths count from the root of the subvolume; an empty one is that root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::native) enum Command<'a> {
    /// It begins: empty, or as the subvolume is that was sent before.
    Begin {
        id: StreamId,
        on: Option<StreamId>,
    },
    /// A file, a folder, a pipe, a socket or a device with this number.
    Make {
        path: &'a [u8],
        kind: FileType,
        device: u64,
    },
    Symlink {
        path: &'a [u8],
        target: &'a [u8],
    },
    Rename {
        path: &'a [u8],
        to: &'a [u8],
    },
    /// Another name of a file.
    Link {
        path: &'a [u8],
        of: &'a [u8],
    },
    Unlink {
        path: &'a [u8],
    },
    RemoveFolder {
        path: &'a [u8],
    },
    SetAttribute {
        path: &'a [u8],
        name: &'a [u8],
        value: &'a [u8],
    },
    RemoveAttribute {
        path: &'a [u8],
        name: &'a [u8],
    },
    Write {
        path: &'a [u8],
        offset: u64,
        data: &'a [u8],
    },
    /// Bytes that are those of another file, of this or of an earlier subvolume.
    Clone {
        path: &'a [u8],
        offset: u64,
        length: u64,
        of: StreamId,
        of_path: &'a [u8],
        of_offset: u64,
    },
    Truncate {
        path: &'a [u8],
        size: u64,
    },
    Mode {
        path: &'a [u8],
        mode: u64,
    },
    Owner {
        path: &'a [u8],
        uid: u64,
        gid: u64,
    },
    /// Seconds and nanoseconds since 1970.
    Times {
        path: &'a [u8],
        accessed: (i64, u32),
        modified: (i64, u32),
    },
    /// All is said.
    End,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It begins otherwise.
    #[error("is no stream of btrfs")]
    NoStream,
    /// It is of another version.
    #[error("is a stream of version {0}, and this keel reads version {VERSION}")]
    Version(u32),
    /// A command is longer than its fields, or than any.
    #[error("has a command that is damaged")]
    Damaged,
    /// A command that no stream of ours has.
    #[error("has the command {0}, which is not known")]
    Unknown(u16),
    /// It ended before its end.
    #[error("is cut short")]
    Short,
    /// Something follows its end.
    #[error("has something behind its end")]
    Long,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Commands,
    End,
}

/// Reads a stream that comes in pieces of any length.
#[derive(Debug)]
pub(in crate::native) struct Parser {
    /// The begin of what is not there wholly.
    rest: Vec<u8>,
    at: At,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            rest: Vec::new(),
            at: At::Start,
        }
    }
}

impl Parser {
    /// Takes the next piece, and hands on what is whole.
    pub(in crate::native) fn feed<E: From<StreamError>>(
        &mut self,
        mut bytes: &[u8],
        take: &mut dyn FnMut(&Command<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.rest.is_empty() && !bytes.is_empty() {
            // As much as is missing of the first, so that all others are read where they lie.
            let whole = self.whole(&self.rest)?;
            let more = whole.saturating_sub(self.rest.len()).min(bytes.len());
            let (now, later) = bytes.split_at(more);
            self.rest.extend_from_slice(now);
            bytes = later;
            let wanted = self.whole(&self.rest)?;
            if self.rest.len() < wanted {
                continue;
            }
            let one = std::mem::take(&mut self.rest);
            self.one(&one, take)?;
        }
        while !bytes.is_empty() {
            let whole = self.whole(bytes)?;
            let Some((one, later)) = bytes.split_at_checked(whole) else {
                self.rest.extend_from_slice(bytes);
                break;
            };
            self.one(one, take)?;
            bytes = later;
        }
        Ok(())
    }

    /// Says that nothing follows.
    pub(in crate::native) fn finish(&self) -> Result<(), StreamError> {
        match (self.at, self.rest.is_empty()) {
            (At::End, true) => Ok(()),
            _ => Err(StreamError::Short),
        }
    }

    /// How long the next thing is of which these are the first bytes; only as long as its header where that is not there.
    fn whole(&self, bytes: &[u8]) -> Result<usize, StreamError> {
        match self.at {
            At::Start => Ok(MAGIC.len() + 4),
            At::End => Err(StreamError::Long),
            At::Commands => match bytes.first_chunk::<4>() {
                Some(length) if bytes.len() >= HEADER => {
                    let length = u32::from_le_bytes(*length);
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    let whole = length.saturating_add(HEADER);
                    match whole <= LONGEST {
                        true => Ok(whole),
                        false => Err(StreamError::Damaged),
                    }
                }
                _ => Ok(HEADER),
            },
        }
    }

    fn one<E: From<StreamError>>(
        &mut self,
        bytes: &[u8],
        take: &mut dyn FnMut(&Command<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.at == At::Start {
            let version = bytes.strip_prefix(MAGIC).ok_or(StreamError::NoStream)?;
            let version = version.first_chunk().ok_or(StreamError::NoStream)?;
            let version = u32::from_le_bytes(*version);
            if version != VERSION {
                return Err(StreamError::Version(version).into());
            }
            self.at = At::Commands;
            return Ok(());
        }
        let command = command(bytes)?;
        if command == Command::End {
            self.at = At::End;
        }
        take(&command)
    }
}

/// The fields of a command by their numbers; of several with one number the last.
struct Fields<'a>([Option<&'a [u8]>; field::ALL]);

impl<'a> Fields<'a> {
    fn read(mut bytes: &'a [u8]) -> Result<Self, StreamError> {
        let mut fields = [None; field::ALL];
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_first_chunk::<4>().ok_or(StreamError::Damaged)?;
            let [a, b, c, d] = *head;
            let (kind, length) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            let (value, rest) = rest
                .split_at_checked(length.into())
                .ok_or(StreamError::Damaged)?;
            if let Some(field) = fields.get_mut(usize::from(kind)) {
                *field = Some(value);
            }
            bytes = rest;
        }
        Ok(Self(fields))
    }

    fn bytes(&self, field: usize) -> Result<&'a [u8], StreamError> {
        let found = self.0.get(field).copied().flatten();
        found.ok_or(StreamError::Damaged)
    }

    fn number(&self, field: usize) -> Result<u64, StreamError> {
        let bytes = self.bytes(field)?.try_into();
        bytes
            .map(u64::from_le_bytes)
            .map_err(|_| StreamError::Damaged)
    }

    fn id(&self, field: usize) -> Result<StreamId, StreamError> {
        self.bytes(field)?
            .try_into()
            .map_err(|_| StreamError::Damaged)
    }

    fn time(&self, field: usize) -> Result<(i64, u32), StreamError> {
        let (seconds, rest) = self
            .bytes(field)?
            .split_first_chunk::<8>()
            .ok_or(StreamError::Damaged)?;
        let rest: [u8; 4] = rest.try_into().map_err(|_| StreamError::Damaged)?;
        Ok((i64::from_le_bytes(*seconds), u32::from_le_bytes(rest)))
    }
}

fn command(bytes: &[u8]) -> Result<Command<'_>, StreamError> {
    let (header, rest) = bytes
        .split_first_chunk::<HEADER>()
        .ok_or(StreamError::Damaged)?;
    let number = u16::from_le_bytes([header[4], header[5]]);
    let fields = Fields::read(rest)?;
    let make = |kind, device| {
        Ok(Command::Make {
            path: fields.bytes(field::PATH)?,
            kind,
            device,
        })
    };
    let path = || fields.bytes(field::PATH);
    Ok(match number {
        number::SUBVOLUME => Command::Begin {
            id: fields.id(field::UUID)?,
            on: None,
        },
        number::SNAPSHOT => Command::Begin {
            id: fields.id(field::UUID)?,
            on: Some(fields.id(field::CLONE_UUID)?),
        },
        number::MAKE_FILE => make(FileType::RegularFile, 0)?,
        number::MAKE_FOLDER => make(FileType::Directory, 0)?,
        number::MAKE_PIPE => make(FileType::Fifo, 0)?,
        number::MAKE_SOCKET => make(FileType::Socket, 0)?,
        number::MAKE_NODE => {
            let mode = u32::try_from(fields.number(field::MODE)?);
            let mode = mode.map_err(|_| StreamError::Damaged)?;
            let kind = FileType::from_raw_mode(mode);
            if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
                return Err(StreamError::Damaged);
            }
            make(kind, fields.number(field::DEVICE)?)?
        }
        number::SYMLINK => Command::Symlink {
            path: path()?,
            target: fields.bytes(field::PATH_LINK)?,
        },
        number::RENAME => Command::Rename {
            path: path()?,
            to: fields.bytes(field::PATH_TO)?,
        },
        number::LINK => Command::Link {
            path: path()?,
            of: fields.bytes(field::PATH_LINK)?,
        },
        number::UNLINK => Command::Unlink { path: path()? },
        number::REMOVE_FOLDER => Command::RemoveFolder { path: path()? },
        number::SET_ATTRIBUTE => Command::SetAttribute {
            path: path()?,
            name: fields.bytes(field::NAME)?,
            value: fields.bytes(field::VALUE)?,
        },
        number::REMOVE_ATTRIBUTE => Command::RemoveAttribute {
            path: path()?,
            name: fields.bytes(field::NAME)?,
        },
        number::WRITE => Command::Write {
            path: path()?,
            offset: fields.number(field::OFFSET)?,
            data: fields.bytes(field::DATA)?,
        },
        number::CLONE => Command::Clone {
            path: path()?,
            offset: fields.number(field::OFFSET)?,
            length: fields.number(field::CLONE_LENGTH)?,
            of: fields.id(field::CLONE_UUID)?,
            of_path: fields.bytes(field::CLONE_PATH)?,
            of_offset: fields.number(field::CLONE_OFFSET)?,
        },
        number::TRUNCATE => Command::Truncate {
            path: path()?,
            size: fields.number(field::SIZE)?,
        },
        number::MODE => Command::Mode {
            path: path()?,
            mode: fields.number(field::MODE)?,
        },
        number::OWNER => Command::Owner {
            path: path()?,
            uid: fields.number(field::UID)?,
            gid: fields.number(field::GID)?,
        },
        number::TIMES => Command::Times {
            path: path()?,
            accessed: fields.time(field::ACCESSED)?,
            modified: fields.time(field::MODIFIED)?,
        },
        number::END => Command::End,
        other => return Err(StreamError::Unknown(other)),
    })
}
