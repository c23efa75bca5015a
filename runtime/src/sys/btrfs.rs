//! Subvolumes and quota groups of btrfs, by its ioctls (`linux/btrfs.h`): the program `btrfs` costs more than most of them.
#![expect(unsafe_code, reason = "ioctls with structures of the kernel")]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// `statfs(2)` says this of btrfs.
const MAGIC: i64 = 0x9123_683e;
/// The inode of the root folder of every subvolume, and the least of what is in it.
const FIRST_INODE: u64 = 256;
/// Trees and types of items (`linux/btrfs_tree.h`).
const ROOT_TREE: u64 = 1;
const QUOTA_TREE: u64 = 8;
const ROOT_REFERENCE: u32 = 156;
const GROUP_INFORMATION: u32 = 242;
const GROUP_LIMIT: u32 = 244;
/// The limit that is set is on all that a subvolume refers to.
const LIMITS_REFERENCED: u64 = 1;
const READ_ONLY: u64 = 1 << 1;
const BY_ID: u64 = 1 << 4;

const fn request(read: bool, number: u64, size: usize) -> u64 {
    let direction: u64 = if read { 3 } else { 1 };
    (direction << 30) | ((size as u64) << 16) | (0x94 << 8) | number
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Named {
    descriptor: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`, with the variants that are used.
#[repr(C)]
struct ById {
    descriptor: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    id: u64,
    rest: [u8; 4032],
}

/// `struct btrfs_ioctl_vol_args_v2`, as a snapshot is made by it.
#[repr(C)]
struct Source {
    descriptor: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_search_args`.
#[repr(C)]
struct Search {
    tree: u64,
    least_object: u64,
    most_object: u64,
    least_offset: u64,
    most_offset: u64,
    least_transaction: u64,
    most_transaction: u64,
    least_type: u32,
    most_type: u32,
    items: u32,
    unused: u32,
    unused_more: [u64; 4],
    found: [u8; 3992],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct Quota {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
struct Group {
    create: u64,
    id: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct Limit {
    id: u64,
    flags: u64,
    most_referenced: u64,
    most_exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// `struct btrfs_ioctl_send_args`.
#[repr(C)]
struct Send {
    pipe: i64,
    sources: u64,
    source: *const u64,
    parent: u64,
    flags: u64,
    version: u32,
    reserved: [u8; 28],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
struct About {
    id: u64,
    name: [u8; 256],
    unused: [u64; 4],
    uuid: [u8; 16],
    parent: [u8; 16],
    received: [u8; 16],
    rest: [u64; 20],
}

const RESIZE: u64 = request(false, 3, size_of::<Named>());
const CREATE: u64 = request(false, 14, size_of::<Named>());
const DESTROY: u64 = request(false, 15, size_of::<Named>());
const SEARCH: u64 = request(true, 17, size_of::<Search>());
const LOOKUP: u64 = request(true, 18, size_of::<Lookup>());
const SNAPSHOT: u64 = request(false, 23, size_of::<Source>());
const SET_FLAGS: u64 = request(false, 26, size_of::<u64>());
const QUOTA: u64 = request(true, 40, size_of::<Quota>());
const GROUP: u64 = request(false, 42, size_of::<Group>());
/// It only reads, and the kernel calls it `_IOR`.
const LIMIT: u64 = (2 << 30) | ((size_of::<Limit>() as u64) << 16) | (0x94 << 8) | 43;
/// It only reads, and the kernel calls it `_IOR`.
const ABOUT: u64 = (2 << 30) | ((size_of::<About>() as u64) << 16) | (0x94 << 8) | 60;
const SEND: u64 = request(false, 38, size_of::<Send>());
const DESTROY_BY_ID: u64 = request(false, 63, size_of::<ById>());

fn call<T>(on: BorrowedFd<'_>, request: u64, argument: &mut T) -> rustix::io::Result<()> {
    // SAFETY: every request of this file is of the size of the structure that it is called with, which is live, has no
    // padding, and may be filled with any bytes; the one pointer in them is that of `send`, which is live as long.
    match unsafe { libc::ioctl(on.as_raw_fd(), request as _, std::ptr::from_mut(argument)) } {
        0.. => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

fn named(name: &OsStr) -> rustix::io::Result<Named> {
    let mut named = Named {
        descriptor: 0,
        name: [0; 4088],
    };
    // Longer ones are refused by the kernel too, which wants a zero behind them.
    if name.len() > 255 {
        return Err(Errno::NAMETOOLONG);
    }
    named
        .name
        .iter_mut()
        .zip(name.as_bytes())
        .for_each(|(to, from)| *to = *from);
    Ok(named)
}

/// Whether something lies on btrfs.
///
/// # Errors
/// It is not there.
pub fn is_btrfs(path: &Path) -> rustix::io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type == MAGIC)
}

/// Whether a folder is the root folder of a subvolume.
///
/// # Errors
/// It cannot be looked at.
pub fn is_subvolume(folder: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(rustix::fs::fstatfs(folder)?.f_type == MAGIC
        && rustix::fs::fstat(folder)?.st_ino == FIRST_INODE)
}

/// Makes an empty subvolume in a folder.
///
/// # Errors
/// The kernel's refusal.
pub fn create(above: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    call(above.as_fd(), CREATE, &mut named(name)?)
}

/// Makes a subvolume that is as another one is now, with what its writers have not waited for yet, and waits until it is on
/// disk. Those in it are empty folders in the copy.
///
/// # Errors
/// The kernel's refusal: `EXDEV` where it is on another file system.
pub fn snapshot(
    of: impl AsFd,
    above: impl AsFd,
    name: &OsStr,
    read_only: bool,
) -> rustix::io::Result<()> {
    let Named { name: long, .. } = named(name)?;
    let mut source = Source {
        descriptor: of.as_fd().as_raw_fd().into(),
        transaction: 0,
        flags: if read_only { READ_ONLY } else { 0 },
        unused: [0; 4],
        name: [0; 4040],
    };
    let bytes = source.name.iter_mut().zip(long);
    bytes.for_each(|(to, from)| *to = from);
    call(above.as_fd(), SNAPSHOT, &mut source)
}

/// Deletes a subvolume with all that is in it at once; the space is given back in the background.
///
/// # Errors
/// The kernel's refusal: `ENOTEMPTY` where it has others in it.
pub fn delete(above: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    call(above.as_fd(), DESTROY, &mut named(name)?)
}

/// Deletes a subvolume by its number, wherever in the same file system it is.
///
/// # Errors
/// As [`delete`].
pub fn delete_by_id(anywhere: impl AsFd, id: u64) -> rustix::io::Result<()> {
    let mut which = ById {
        descriptor: 0,
        transaction: 0,
        flags: BY_ID,
        unused: [0; 4],
        id,
        rest: [0; 4032],
    };
    call(anywhere.as_fd(), DESTROY_BY_ID, &mut which)
}

/// Lets a subvolume be written to again.
///
/// # Errors
/// The kernel's refusal.
pub fn make_writable(subvolume: impl AsFd) -> rustix::io::Result<()> {
    call(subvolume.as_fd(), SET_FLAGS, &mut 0_u64)
}

/// Lets nobody write to a subvolume any more.
///
/// # Errors
/// The kernel's refusal.
pub fn make_read_only(subvolume: impl AsFd) -> rustix::io::Result<()> {
    call(subvolume.as_fd(), SET_FLAGS, &mut { READ_ONLY })
}

/// The identity of a subvolume, and of the one of which it was made as a snapshot; that one may be gone.
///
/// # Errors
/// The kernel's refusal.
pub fn identity(subvolume: impl AsFd) -> rustix::io::Result<([u8; 16], [u8; 16])> {
    let mut about = About {
        id: 0,
        name: [0; 256],
        unused: [0; 4],
        uuid: [0; 16],
        parent: [0; 16],
        received: [0; 16],
        rest: [0; 20],
    };
    call(subvolume.as_fd(), ABOUT, &mut about)?;
    Ok((about.uuid, about.parent))
}

/// Writes into a pipe how a subvolume is made to which nobody may write: all of it, or what differs from one that was sent
/// before. In version 1 of the stream. Returns when all is in the pipe.
///
/// # Errors
/// The kernel's refusal: `EPIPE` where nobody reads any more.
pub fn send(
    subvolume: impl AsFd,
    before: Option<BorrowedFd<'_>>,
    pipe: impl AsFd,
) -> rustix::io::Result<()> {
    let before = before.map(id).transpose()?;
    // What has its bytes in it shares them there, too, without being sent.
    let source = before.unwrap_or(0);
    let mut how = Send {
        pipe: pipe.as_fd().as_raw_fd().into(),
        sources: before.map_or(0, |_| 1),
        source: &raw const source,
        parent: source,
        flags: 0,
        version: 0,
        reserved: [0; 28],
    };
    call(subvolume.as_fd(), SEND, &mut how)
}

/// Lets the file system be as big as its device.
///
/// # Errors
/// The kernel's refusal.
pub fn fill_device(anywhere: impl AsFd) -> rustix::io::Result<()> {
    call(anywhere.as_fd(), RESIZE, &mut named(OsStr::new("max"))?)
}

/// The number of the subvolume in which something is.
///
/// # Errors
/// The kernel's refusal.
pub fn id(of: impl AsFd) -> rustix::io::Result<u64> {
    let mut lookup = Lookup {
        tree: 0,
        object: FIRST_INODE,
        name: [0; 4080],
    };
    call(of.as_fd(), LOOKUP, &mut lookup)?;
    Ok(lookup.tree)
}

/// One item of a tree.
struct Item {
    offset: u64,
    content: Vec<u8>,
}

/// The items of one type that an object has in a tree, from an offset to another.
fn search(
    anywhere: BorrowedFd<'_>,
    tree: u64,
    (object, kind): (u64, u32),
    (mut least, most): (u64, u64),
) -> rustix::io::Result<Vec<Item>> {
    let mut all = Vec::new();
    loop {
        let mut search = Search {
            tree,
            least_object: object,
            most_object: object,
            least_offset: least,
            most_offset: most,
            least_transaction: 0,
            most_transaction: u64::MAX,
            least_type: kind,
            most_type: kind,
            items: 4096,
            unused: 0,
            unused_more: [0; 4],
            found: [0; 3992],
        };
        call(anywhere, SEARCH, &mut search)?;
        let mut rest = search.found.as_slice();
        for _ in 0..search.items {
            // `struct btrfs_ioctl_search_header`: transaction, object, offset, type, length.
            let (Some(offset), Some(length)) = (number(rest, 16), rest.get(28..32)) else {
                return Err(Errno::IO);
            };
            let length = length
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let content = rest.get(32..32 + length).ok_or(Errno::IO)?.to_vec();
            rest = rest.get(32 + length..).unwrap_or_default();
            all.push(Item { offset, content });
        }
        match all.last() {
            Some(last) if search.items > 0 && last.offset < most => least = last.offset + 1,
            _ => return Ok(all),
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// A subvolume in another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    /// Its number.
    pub id: u64,
    /// Where it is, from the root folder of the one that was asked about.
    pub path: PathBuf,
}

/// The subvolumes in a subvolume, and those in them: each before what is in it.
///
/// # Errors
/// The kernel's refusal.
pub fn nested(subvolume: impl AsFd) -> rustix::io::Result<Vec<Nested>> {
    let on = subvolume.as_fd();
    let mut found = Vec::new();
    let mut open = vec![(id(on)?, PathBuf::new())];
    while let Some((above, path)) = open.pop() {
        for item in search(on, ROOT_TREE, (above, ROOT_REFERENCE), (0, u64::MAX))? {
            // `struct btrfs_root_ref`: folder, sequence, length of the name; then the name.
            let folder = number(&item.content, 0).ok_or(Errno::IO)?;
            let name = OsStr::from_bytes(item.content.get(18..).ok_or(Errno::IO)?);
            let mut lookup = Lookup {
                tree: above,
                object: folder,
                name: [0; 4080],
            };
            call(on, LOOKUP, &mut lookup)?;
            let length = lookup.name.iter().position(|byte| *byte == 0).unwrap_or(0);
            let folder = OsStr::from_bytes(&lookup.name[..length]);
            let nested = Nested {
                id: item.offset,
                path: path.join(folder).join(name),
            };
            open.push((nested.id, nested.path.clone()));
            found.push(nested);
        }
    }
    Ok(found)
}

/// Limits the bytes that a subvolume may refer to; `None`: it has no limit. Turns quotas on where they are off.
///
/// `anywhere` is outside of that subvolume: the call needs room where it is made, and one that is full has none.
///
/// # Errors
/// The kernel's refusal.
pub fn limit(anywhere: impl AsFd, id: u64, bytes: Option<u64>) -> rustix::io::Result<()> {
    let on = anywhere.as_fd();
    let mut limit = Limit {
        id,
        flags: LIMITS_REFERENCED,
        // All ones take the limit away (fs/btrfs/qgroup.c, `CLEAR_VALUE`).
        most_referenced: bytes.unwrap_or(u64::MAX),
        most_exclusive: 0,
        reserved_referenced: 0,
        reserved_exclusive: 0,
    };
    loop {
        match call(on, LIMIT, &mut limit) {
            // No limit and no quotas are the same.
            Err(Errno::NOTCONN) if bytes.is_none() => return Ok(()),
            Err(Errno::NOTCONN) => {
                let enable = 1;
                let mut quota = Quota {
                    command: enable,
                    status: 0,
                };
                call(on, QUOTA, &mut quota)?;
            }
            Err(Errno::NOENT) if bytes.is_none() => return Ok(()),
            // Somebody removed its group by hand.
            Err(Errno::NOENT) => call(on, GROUP, &mut Group { create: 1, id })?,
            other => return other,
        }
    }
}

/// Forgets the quota group of a subvolume that is deleted. Newer kernels do it themselves, and refuse until then.
pub fn forget_group(anywhere: impl AsFd, id: u64) {
    let _ = call(anywhere.as_fd(), GROUP, &mut Group { create: 0, id });
}

fn of_group(anywhere: BorrowedFd<'_>, id: u64, kind: u32) -> rustix::io::Result<Option<Item>> {
    match search(anywhere, QUOTA_TREE, (0, kind), (id, id)) {
        // Quotas are off.
        Err(Errno::NOENT) => Ok(None),
        other => Ok(other?.pop()),
    }
}

/// The bytes that a subvolume may refer to; `None`: any number.
///
/// # Errors
/// The kernel's refusal.
pub fn limit_of(subvolume: impl AsFd) -> rustix::io::Result<Option<u64>> {
    let on = subvolume.as_fd();
    let Some(item) = of_group(on, id(on)?, GROUP_LIMIT)? else {
        return Ok(None);
    };
    // `struct btrfs_qgroup_limit_item`: flags, most_referenced, …
    let (flags, most) = (number(&item.content, 0), number(&item.content, 8));
    Ok(most.filter(|_| flags.is_some_and(|flags| flags & LIMITS_REFERENCED != 0)))
}

/// The bytes that a subvolume refers to, as of the last commit; `None`: quotas are off.
///
/// # Errors
/// The kernel's refusal.
pub fn referenced(subvolume: impl AsFd) -> rustix::io::Result<Option<u64>> {
    let on = subvolume.as_fd();
    let item = of_group(on, id(on)?, GROUP_INFORMATION)?;
    // `struct btrfs_qgroup_info_item`: generation, referenced, …
    Ok(item.and_then(|item| number(&item.content, 8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_kernel() {
        assert_eq!(CREATE, 0x5000_940e);
        assert_eq!(DESTROY, 0x5000_940f);
        assert_eq!(RESIZE, 0x5000_9403);
        assert_eq!(SEARCH, 0xd000_9411);
        assert_eq!(LOOKUP, 0xd000_9412);
        assert_eq!(SET_FLAGS, 0x4008_941a);
        assert_eq!(QUOTA, 0xc010_9428);
        assert_eq!(GROUP, 0x4010_942a);
        assert_eq!(LIMIT, 0x8030_942b);
        assert_eq!(DESTROY_BY_ID, 0x5000_943f);
        assert_eq!(ABOUT, 0x81f8_943c);
        assert_eq!(SEND, 0x4048_9426);
    }
}
