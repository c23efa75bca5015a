//! The mounts of this process' namespace, as the kernel lists them: the world, never a memory of what we mounted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, PathError};

/// One line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Where it is mounted, as seen from this process' root.
    pub mount_point: PathBuf,
    /// Which folder of its file system is shown there; `/` unless it is a bind mount.
    pub root: PathBuf,
    /// `ext4`, `overlay`, …
    pub filesystem: String,
    /// What was mounted: a device path, or any word for file systems without one.
    pub source: PathBuf,
    /// `major:minor` of the file system.
    pub device: String,
}

/// Reads the table of the calling process.
///
/// # Errors
/// `/proc` is not mounted or cannot be read.
pub fn read() -> Result<Vec<MountEntry>, PathError> {
    Ok(parse(&path_io::read("/proc/self/mountinfo")?))
}

/// The mounts at `path` and below it, deepest and latest first: the order in which they can be unmounted.
///
/// `path` is made canonical first where it exists, because the kernel lists canonical paths.
///
/// # Errors
/// As [`read`].
pub fn at_or_below(path: &Path) -> Result<Vec<MountEntry>, PathError> {
    let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mut found: Vec<MountEntry> = read()?
        .into_iter()
        .filter(|m| m.mount_point.starts_with(&canonical))
        .collect();
    // Later lines lie on top of earlier ones with the same mount point.
    found.reverse();
    found.sort_by_key(|m| std::cmp::Reverse(m.mount_point.components().count()));
    Ok(found)
}

fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// Where a path of this process lies: the file system, as the kernel numbers it, and the path in it. A bind mount of it
/// shows the same, wherever it is mounted. None for what is not there.
pub fn place(path: &Path, table: &[MountEntry]) -> Option<(String, PathBuf)> {
    let canonical = path.canonicalize().ok()?;
    // Of several at one mount point the last lies on top, and that is the one that is found.
    let entry = table
        .iter()
        .filter(|entry| canonical.starts_with(&entry.mount_point))
        .max_by_key(|entry| entry.mount_point.components().count())?;
    let below = canonical.strip_prefix(&entry.mount_point).ok()?;
    Some((entry.device.clone(), entry.root.join(below)))
}

/// Reads one line of such a table, also of another process.
pub fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = words.iter().skip(6).position(|word| *word == b"-")? + 6;
    Some(MountEntry {
        mount_point: unescape(words.get(4)?),
        root: unescape(words.get(3)?),
        filesystem: String::from_utf8_lossy(words.get(separator + 1)?).into_owned(),
        source: unescape(words.get(separator + 2)?),
        device: String::from_utf8_lossy(words.get(2)?).into_owned(),
    })
}

/// Space, tab, newline and backslash are written as three octal digits (`fs/proc_namespace.c`, `mangle`).
fn unescape(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        rest = match tail {
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] if *first == b'\\' => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                after
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_and_without_optional_fields() {
        let table = parse(
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
              37 35 0:41 / /a\\040b\\134c rw - tmpfs none rw\n\
              broken\n\n",
        );
        assert_eq!(
            table,
            [
                MountEntry {
                    mount_point: "/mnt2".into(),
                    root: "/mnt1".into(),
                    filesystem: "ext3".into(),
                    source: "/dev/root".into(),
                    device: "98:0".into()
                },
                MountEntry {
                    mount_point: "/a b\\c".into(),
                    root: "/".into(),
                    filesystem: "tmpfs".into(),
                    source: "none".into(),
                    device: "0:41".into()
                },
            ]
        );
    }

    #[test]
    fn a_place_is_told_by_its_file_system() {
        let table = parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n\
              2 1 8:2 /sub /usr rw - ext4 /dev/b rw\n\
              3 1 8:3 / /usr rw - ext4 /dev/c rw\n",
        );
        let place = |path| place(Path::new(path), &table).unwrap();
        assert_eq!(place("/"), ("8:1".to_owned(), "/".into()));
        assert_eq!(place("/usr"), ("8:3".to_owned(), "/".into()));
        assert_eq!(place("/usr/share"), ("8:3".to_owned(), "/share".into()));
        assert_eq!(super::place(Path::new("/nowhere/at/all"), &table), None);
    }

    #[test]
    fn this_process_has_a_root() {
        let table = read().unwrap();
        assert!(table.iter().any(|m| m.mount_point == Path::new("/")));
    }
}
