//! What may be in a stream of a backup: each command is judged as a member of a tree is, and none touches a file system.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::judge::{Rules, Tree, shown, travels};
use crate::native::send_stream::{Command, Parser, StreamError, StreamId, path_of};

/// What an overlay notes of the very files below it, which are others elsewhere: it does without.
const OF_FILES_BELOW: [&str; 5] = [
    "user.overlay.origin",
    "user.overlay.impure",
    "user.overlay.nlink",
    "user.overlay.uuid",
    "user.overlay.protattr",
];

/// The number of the object of which the subvolumes that come one after another are: its volume, or none for the instance.
const fn object(tree: &Tree) -> Option<u32> {
    match tree {
        Tree::Volume(number) | Tree::VolumeSnapshot(number, _) => Some(*number),
        Tree::Root | Tree::Image | Tree::Tpm | Tree::Snapshot(_) => None,
    }
}

/// The one that is being read.
#[derive(Debug)]
struct Current {
    tree: Tree,
    parser: Parser,
    /// What it is, and on what it stands.
    ids: Option<(StreamId, Option<StreamId>)>,
    /// Nothing more of it is believed.
    faulty: bool,
}

/// The streams of a backup.
#[derive(Debug, Default)]
pub(super) struct Streams {
    current: Option<Current>,
    /// Those that were read to their ends, by their objects.
    whole: BTreeMap<Option<u32>, Vec<StreamId>>,
}

/// Why a piece of a stream was not taken.
pub(super) enum Stopped<E> {
    /// What is wrong with it.
    Fault(String),
    /// What the taker says.
    Taker(E),
}

impl<E> From<StreamError> for Stopped<E> {
    fn from(error: StreamError) -> Self {
        Self::Fault(error.to_string())
    }
}

impl Streams {
    /// Ends the stream that was read; its name, where it has no end.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        let part = current.tree.stream();
        if current.faulty {
            return Ok(());
        }
        match (current.parser.finish(), current.ids) {
            (Ok(()), Some((id, _))) => {
                self.whole
                    .entry(object(&current.tree))
                    .or_default()
                    .push(id);
                Ok(())
            }
            (Ok(()), None) => Err(format!("{part} {}", StreamError::Damaged)),
            (Err(error), _) => Err(format!("{part} {error}")),
        }
    }

    /// Begins the stream of a tree.
    pub(super) fn begin(&mut self, tree: &Tree) {
        self.current = Some(Current {
            tree: tree.clone(),
            parser: Parser::default(),
            ids: None,
            faulty: false,
        });
    }

    /// Takes the next piece of it. After a fault the rest of it is not looked at.
    pub(super) fn feed<E>(
        &mut self,
        bytes: &[u8],
        rules: Rules,
        take: &mut dyn FnMut(&Command<'_>) -> Result<(), E>,
    ) -> Result<(), Stopped<E>> {
        let Some(current) = self.current.as_mut().filter(|current| !current.faulty) else {
            return Ok(());
        };
        let before = self.whole.get(&object(&current.tree));
        let before = before.map(Vec::as_slice).unwrap_or_default();
        let (tree, ids) = (&current.tree, &mut current.ids);
        let mut one = |command: &Command<'_>| {
            let judged = judge(command, tree, rules, ids, before).map_err(Stopped::Fault)?;
            match judged {
                Judged::AsItIs => take(command),
                Judged::Value(name, value) => match *command {
                    Command::SetAttribute { path, .. } => {
                        let (name, value) = (name.as_bytes(), value.as_slice());
                        take(&Command::SetAttribute { path, name, value })
                    }
                    _ => Ok(()),
                },
                Judged::LeftOut => Ok(()),
            }
            .map_err(Stopped::Taker)
        };
        let fed = current.parser.feed(bytes, &mut one);
        current.faulty = matches!(fed, Err(Stopped::Fault(_)));
        fed
    }
}

enum Judged {
    AsItIs,
    /// An attribute, and what it is set to instead.
    Value(String, Vec<u8>),
    LeftOut,
}

fn judge(
    command: &Command<'_>,
    tree: &Tree,
    rules: Rules,
    ids: &mut Option<(StreamId, Option<StreamId>)>,
    before: &[StreamId],
) -> Result<Judged, String> {
    if ids.is_none() && !matches!(command, Command::Begin { .. }) {
        return Err(StreamError::Damaged.to_string());
    }
    let shared = matches!(tree, Tree::Volume(_) | Tree::VolumeSnapshot(..));
    match *command {
        Command::Begin { id, on } => {
            if ids.is_some() {
                return Err(StreamError::Damaged.to_string());
            }
            if on.is_some_and(|on| !before.contains(&on)) {
                return Err("stands on one that is not before it".to_owned());
            }
            *ids = Some((id, on));
        }
        Command::Make { path, kind, device } => {
            inside(path, true)?;
            let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
            let is_whiteout = kind == FileType::CharacterDevice && device == 0;
            if is_device && !is_whiteout && !rules.devices {
                let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
                return Err(format!("has {}: the device {major}:{minor}", shown(path)));
            }
        }
        Command::Symlink { path, target } => {
            inside(path, true)?;
            if target.is_empty() || target.contains(&0) {
                return Err(format!("has {}: a link to nothing", shown(path)));
            }
        }
        Command::Rename { path, to } => {
            inside(path, true)?;
            inside(to, true)?;
        }
        Command::Link { path, of } => {
            inside(path, true)?;
            inside(of, true)?;
        }
        Command::Unlink { path }
        | Command::RemoveFolder { path }
        | Command::Write { path, .. }
        | Command::Truncate { path, .. } => {
            inside(path, true)?;
        }
        Command::Clone {
            path, of, of_path, ..
        } => {
            inside(path, true)?;
            inside(of_path, true)?;
            let own = ids.is_some_and(|(id, on)| of == id || Some(of) == on);
            if !own {
                return Err("takes bytes of one that is not before it".to_owned());
            }
        }
        Command::Mode { path, mode } => {
            inside(path, false)?;
            if mode > 0o7777 {
                return Err(format!("has {}: the mode {mode:o}", shown(path)));
            }
        }
        Command::Owner { path, uid, gid } => {
            inside(path, false)?;
            for id in [uid, gid] {
                let known = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
                if !known.is_some_and(|id| id < rules.ids || shared) {
                    return Err(format!(
                        "has {}: it belongs to {id}, which its instance does not have",
                        shown(path)
                    ));
                }
            }
        }
        Command::Times { path, .. } => {
            inside(path, false)?;
        }
        Command::SetAttribute { path, name, value } => {
            inside(path, false)?;
            return attribute(path, name, value);
        }
        Command::RemoveAttribute { path, name } => {
            inside(path, false)?;
            // One that did not come is not there, and others are nobody's to remove.
            let name = OsStr::from_bytes(name).to_str();
            if name.is_none_or(|name| travels(name, b"y").is_none() && name != CAPABILITY) {
                return Ok(Judged::LeftOut);
            }
        }
        Command::End => {}
    }
    Ok(Judged::AsItIs)
}

/// Its value says whether it travels.
const CAPABILITY: &str = "security.capability";

fn attribute(path: &[u8], name: &[u8], value: &[u8]) -> Result<Judged, String> {
    let Ok(name) = std::str::from_utf8(name) else {
        return Ok(Judged::LeftOut);
    };
    match travels(name, value) {
        Some(same) if same == value => Ok(Judged::AsItIs),
        Some(other) => Ok(Judged::Value(name.to_owned(), other)),
        None if OF_FILES_BELOW.contains(&name) => Ok(Judged::LeftOut),
        None if name.starts_with("user.overlay.") => {
            Err(format!("has {}: the attribute {name}", shown(path)))
        }
        None => Ok(Judged::LeftOut),
    }
}

/// A path that is no more than names; `below`: and not that of the root.
fn inside(path: &[u8], below: bool) -> Result<PathBuf, String> {
    let bad = || format!("has a bad name: {}", shown(path));
    let found = path_of(path).map_err(|_| bad())?;
    let root = found == Path::new("");
    let deep = found.components().count() > super::reader::LIMITS.depth;
    match (root && below) || deep {
        true => Err(bad()),
        false => Ok(found),
    }
}
