//! What may be in a backup, and where: every judgement about a member is made here, and none touches a file system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::format::{Form, HEAD, INDEX, MANIFEST, STREAMS, SUMS};
use crate::native::image::attributes::{Attributes, kept_xattr};
use crate::native::image::tar_stream::{TarEntry, TarKind};
use crate::native::image::tree_writer::entry_path;

/// The files of firmware's variables, beside a disk and beside its layers.
pub(in crate::native) const VARIABLES: [&str; 2] = ["variables.fd", "variables-secure.fd"];

/// A part that is a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::native) enum Tree {
    /// The own files of a container.
    Root,
    /// What lies below them.
    Image,
    /// The state of a machine's TPM.
    Tpm,
    /// The own files of a container in a snapshot.
    Snapshot(String),
    /// The volume of this number.
    Volume(u32),
    /// A snapshot of it.
    VolumeSnapshot(u32, String),
}

/// A part that is one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::native) enum Blob {
    /// The disk of a machine's image.
    ImageDisk,
    /// Its kernel.
    ImageKernel,
    /// The initial file system of that.
    ImageInitrd,
    /// A layer of a machine's disk.
    Layer(u32),
    /// What firmware keeps.
    Variables(&'static str),
    /// What it kept when a snapshot of a layer was made.
    LayerVariables(u32, &'static str),
    /// The volume of this number, which is a disk.
    Volume(u32),
    /// The snapshot of it that has this number.
    VolumeSnapshot(u32, u32),
}

/// Where a member belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::native) enum Place {
    Head,
    Manifest,
    Sums,
    Index,
    /// In a tree; no path: its root.
    Tree(Tree, Option<PathBuf>),
    /// A file alone.
    Blob(Blob),
    /// This piece of the stream of a tree.
    Stream(Tree, u32),
}

/// What a member is that belongs nowhere.
const NO_PART: &str = "is no part of a backup";

/// A number as it is written, and not otherwise.
fn number(text: &str) -> Option<u32> {
    let lawful = text == "0" || !text.starts_with(['0', '+']);
    text.parse::<u32>().ok().filter(|_| lawful)
}

impl Place {
    /// Where a member of this name belongs, or why nowhere.
    pub(super) fn of(name: &[u8]) -> Result<Self, String> {
        let path = entry_path(name, &super::reader::LIMITS).map_err(|why| why.to_string())?;
        let path = path.ok_or("has no name")?;
        if let Ok(within) = path.strip_prefix(STREAMS) {
            return Self::of_stream(within).ok_or_else(|| NO_PART.to_owned());
        }
        let names: Vec<&OsStr> = path.iter().collect();
        let words: Vec<&str> = names
            .iter()
            .take(5)
            .map(|name| name.to_str().unwrap_or_default())
            .collect();
        let within = |tree, above: usize| {
            let rest: PathBuf = names.iter().skip(above).collect();
            Self::Tree(tree, (!rest.as_os_str().is_empty()).then_some(rest))
        };
        let layer = |text: &str| number(text.strip_suffix(".qcow2")?);
        let variables = |text: &str| VARIABLES.iter().find(|name| **name == text).copied();
        let place = match words.as_slice() {
            [HEAD] => Some(Self::Head),
            [MANIFEST] => Some(Self::Manifest),
            [INDEX] => Some(Self::Index),
            [SUMS, _] => Some(Self::Sums),
            ["root", ..] => Some(within(Tree::Root, 1)),
            ["tpm", ..] => Some(within(Tree::Tpm, 1)),
            ["image", "rootfs", ..] => Some(within(Tree::Image, 2)),
            ["snapshots", name, ..] => Some(within(Tree::Snapshot((*name).to_owned()), 2)),
            ["volumes", of, "files", ..] => {
                number(of).map(|number| within(Tree::Volume(number), 3))
            }
            ["volumes", of, "snapshots", name, ..] => {
                number(of).map(|number| within(Tree::VolumeSnapshot(number, (*name).to_owned()), 4))
            }
            ["volumes", of, "disk"] => number(of).map(|number| Self::Blob(Blob::Volume(number))),
            ["volumes", of, "disks", at] => number(of)
                .zip(number(at))
                .map(|(of, at)| Self::Blob(Blob::VolumeSnapshot(of, at))),
            ["image", "disk"] => Some(Self::Blob(Blob::ImageDisk)),
            ["image", "kernel"] => Some(Self::Blob(Blob::ImageKernel)),
            ["image", "initrd"] => Some(Self::Blob(Blob::ImageInitrd)),
            ["disk", file] => layer(file)
                .map(Blob::Layer)
                .or_else(|| variables(file).map(Blob::Variables))
                .map(Self::Blob),
            ["disk", of, file] => number(of)
                .zip(variables(file))
                .map(|(of, file)| Self::Blob(Blob::LayerVariables(of, file))),
            _ => None,
        };
        // Names that are no text were taken for none above: only within a tree they may be so.
        place.ok_or_else(|| NO_PART.to_owned())
    }

    /// A piece of a stream: the name of its tree, and a number.
    fn of_stream(within: &Path) -> Option<Self> {
        let number = number(within.file_name()?.to_str()?)?;
        match Self::of(within.parent()?.as_os_str().as_bytes()) {
            Ok(Self::Tree(tree, None)) if tree.may_be_stream() => Some(Self::Stream(tree, number)),
            _ => None,
        }
    }

    /// The name of the part; empty for what the writer itself makes.
    pub(super) fn part(&self) -> String {
        match self {
            Self::Head | Self::Manifest | Self::Sums | Self::Index => String::new(),
            Self::Tree(tree, _) => tree.part(),
            Self::Blob(blob) => blob.part(),
            Self::Stream(tree, _) => tree.stream(),
        }
    }
}

impl Tree {
    /// The name of the part that it is as a stream; its pieces are numbered below it.
    pub(in crate::native) fn stream(&self) -> String {
        format!("{STREAMS}/{}", self.part())
    }

    /// The name of the part in a form.
    pub(in crate::native) fn part_in(&self, form: Form) -> String {
        match form {
            Form::Files => self.part(),
            Form::Btrfs => self.stream(),
        }
    }

    const fn may_be_stream(&self) -> bool {
        !matches!(self, Self::Image | Self::Tpm)
    }

    /// The name of the part.
    pub(in crate::native) fn part(&self) -> String {
        match self {
            Self::Root => "root".to_owned(),
            Self::Image => "image/rootfs".to_owned(),
            Self::Tpm => "tpm".to_owned(),
            Self::Snapshot(name) => format!("snapshots/{name}"),
            Self::Volume(number) => format!("volumes/{number}/files"),
            Self::VolumeSnapshot(number, name) => format!("volumes/{number}/snapshots/{name}"),
        }
    }
}

impl Blob {
    /// The name of the part.
    pub(in crate::native) fn part(self) -> String {
        match self {
            Self::ImageDisk => "image/disk".to_owned(),
            Self::ImageKernel => "image/kernel".to_owned(),
            Self::ImageInitrd => "image/initrd".to_owned(),
            Self::Layer(layer) => format!("disk/{layer}.qcow2"),
            Self::Variables(file) => format!("disk/{file}"),
            Self::LayerVariables(layer, file) => format!("disk/{layer}/{file}"),
            Self::Volume(number) => format!("volumes/{number}/disk"),
            Self::VolumeSnapshot(number, at) => format!("volumes/{number}/disks/{at}"),
        }
    }
}

/// What the configuration of an instance allows in its trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::native) struct Rules {
    /// How many ids it has.
    pub(in crate::native) ids: u32,
    /// Whether its files may be devices of the host.
    pub(in crate::native) devices: bool,
}

impl Rules {
    /// Whatever some instance may have.
    pub(in crate::native) const ANY: Self = Self {
        ids: u32::MAX,
        devices: true,
    };
}

/// What a member becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::native) enum Member {
    Folder,
    File,
    /// Another name of what has this path in the same tree.
    HardLink(PathBuf),
    Symlink,
    /// A pipe, a socket or a device, with its number.
    Node(FileType, u64),
}

/// What a member of a tree becomes, or why it may not be there.
pub(super) fn judge(
    entry: &TarEntry,
    tree: &Tree,
    path: Option<&Path>,
    rules: Rules,
) -> Result<(Member, Attributes), String> {
    let plain = matches!(tree, Tree::Image | Tree::Tpm);
    let member = match entry.kind {
        TarKind::Folder => Member::Folder,
        _ if path.is_none() => return Err("is no folder".to_owned()),
        TarKind::File if entry.socket && plain => return Err("is a socket".to_owned()),
        TarKind::File if entry.socket => Member::Node(FileType::Socket, 0),
        TarKind::File => Member::File,
        TarKind::HardLink => Member::HardLink(linked(entry, tree, path)?),
        TarKind::Symlink if *tree == Tree::Tpm => return Err("is a link".to_owned()),
        TarKind::Symlink => Member::Symlink,
        TarKind::Pipe if *tree == Tree::Tpm => return Err("is a pipe".to_owned()),
        TarKind::Pipe => Member::Node(FileType::Fifo, 0),
        TarKind::CharacterDevice | TarKind::BlockDevice => device(entry, plain, rules)?,
        TarKind::Other(kind) => {
            return Err(format!("is of unknown kind {:?}", char::from(kind)));
        }
    };
    if member == Member::File {
        fits(entry)?;
    }
    // Those who share a volume may have other ids than this one, and more of them.
    let shared = matches!(tree, Tree::Volume(_) | Tree::VolumeSnapshot(..));
    let id = |id: u64| {
        let known = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let within = known.filter(|id| *id < rules.ids || shared || *tree == Tree::Tpm);
        within.ok_or_else(|| format!("belongs to {id}, which its instance does not have"))
    };
    let mut xattrs = Vec::new();
    for (name, value) in &entry.xattrs {
        // What a writer leaves out is no reason to refuse, unless an overlay would obey it.
        match travels(name, value) {
            Some(value) => xattrs.push((name.clone(), value)),
            None if name.starts_with("user.overlay.") => {
                return Err(format!("has the attribute {name}"));
            }
            None => {}
        }
    }
    let attributes = Attributes {
        mode: entry.mode,
        uid: id(entry.uid)?,
        gid: id(entry.gid)?,
        modified: entry.modified,
        xattrs,
    };
    Ok((member, attributes))
}

fn device(entry: &TarEntry, plain: bool, rules: Rules) -> Result<Member, String> {
    let is_whiteout = entry.kind == TarKind::CharacterDevice && entry.device == (0, 0);
    let (major, minor) = entry.device;
    if plain || (!is_whiteout && !rules.devices) {
        return Err(format!("is the device {major}:{minor}"));
    }
    let kind = match entry.kind {
        TarKind::BlockDevice => FileType::BlockDevice,
        _ => FileType::CharacterDevice,
    };
    Ok(Member::Node(kind, rustix::fs::makedev(major, minor)))
}

fn linked(entry: &TarEntry, tree: &Tree, path: Option<&Path>) -> Result<PathBuf, String> {
    let outside = || "is a hard link to something outside of its tree".to_owned();
    let target = match Place::of(&entry.link) {
        Ok(Place::Tree(of, Some(target))) if of == *tree => target,
        _ => return Err(outside()),
    };
    // What it is a name of comes before it: so nothing is linked that is not there yet.
    match path.is_some_and(|path| target.as_path() < path) {
        true => Ok(target),
        false => Err("is a hard link to nothing before it".to_owned()),
    }
}

/// Whether the data of a file lies within it, in order.
pub(super) fn fits(entry: &TarEntry) -> Result<(), String> {
    let mut end = 0_u64;
    for (offset, length) in entry.runs.iter().flatten() {
        let next = offset
            .checked_add(*length)
            .filter(|next| *offset >= end && *next <= entry.size);
        end = next.ok_or("has a sparse map that does not fit")?;
    }
    Ok(())
}

/// The value under which an extended attribute goes into a backup and comes out of it; none: it stays.
///
/// An overlay's own marks are kept where they mean the same elsewhere: an opaque folder. What it notes of the very files
/// below (`origin`, `impure`, `nlink`, `uuid`) it does without; `redirect` and `metacopy` would have it look for files
/// where the writer chooses, and ours never writes them (kernel Documentation/filesystems/overlayfs.rst, "userxattr").
pub(super) fn travels(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    match name {
        "user.overlay.opaque" => matches!(value, b"y" | b"x").then(|| value.to_vec()),
        "user.overlay.whiteout" => value.len().le(&1).then(|| value.to_vec()),
        _ => kept_xattr(name, value),
    }
}

/// Whether members come in their order, each once, each in a folder that came before it.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Parts that have begun, in that order.
    pub(super) parts: Vec<String>,
    last: Option<PathBuf>,
    /// How many pieces there were of the last part, which is a stream.
    pieces: u32,
    /// The folders above the last member, from the root.
    folders: Vec<PathBuf>,
}

impl Order {
    fn begin(&mut self, part: String) -> Result<(), String> {
        if self.parts.contains(&part) {
            return Err("is there twice".to_owned());
        }
        self.parts.push(part);
        self.last = None;
        Ok(())
    }

    /// Takes the next member; what is wrong with its place.
    pub(super) fn take(&mut self, place: &Place, is_folder: bool) -> Result<(), String> {
        let part = place.part();
        if let Place::Stream(_, number) = place {
            if *number == 0 {
                self.pieces = 0;
                self.begin(part)?;
                self.folders = Vec::new();
            } else if self.parts.last() != Some(&part) {
                return Err("is not with the rest of its stream".to_owned());
            }
            if *number != self.pieces {
                return Err("is not in its order".to_owned());
            }
            self.pieces = self.pieces.saturating_add(1);
            return Ok(());
        }
        let path = match place {
            Place::Tree(_, path) => path.as_deref(),
            _ => None,
        };
        let Some(path) = path else {
            self.begin(part)?;
            self.folders = match place {
                Place::Tree(..) => vec![PathBuf::new()],
                _ => Vec::new(),
            };
            return Ok(());
        };
        if self.parts.last() != Some(&part) {
            return Err("is not with the rest of its tree".to_owned());
        }
        if self.last.as_deref().is_some_and(|last| last >= path) {
            return Err("is there twice, or not in its order".to_owned());
        }
        let above = path.parent().unwrap_or(Path::new(""));
        while self
            .folders
            .last()
            .is_some_and(|top| !above.starts_with(top))
        {
            self.folders.pop();
        }
        if self.folders.last().map(PathBuf::as_path) != Some(above) {
            return Err("is in no folder".to_owned());
        }
        if is_folder {
            self.folders.push(path.to_path_buf());
        }
        self.last = Some(path.to_path_buf());
        Ok(())
    }
}

/// A name for people: what it spells is a stranger's.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.escape_debug().to_string()
}
