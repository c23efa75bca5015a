//! Whether an object store is made of files. Whoever may write to a repository of this host could put a pipe in the place of
//! one, and who opens that waits for ever. (Who swaps it between the look and the opening still holds up his own source.)

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use git2::Oid;
use manifests::path_io;
use rustix::fs::{Mode, OFlags, open};

/// Stores that stand on stores: more is a circle.
const DEEPEST: usize = 5;
/// The most bytes of the list of stores that one stands on.
const MOST_OF_LIST: u64 = 64 << 10;

/// Opens a file that is one: no link is followed, and a pipe is not waited for.
pub(super) fn file(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}

/// The folders of an object store: its own and those of the stores that it stands on.
///
/// # Errors
/// Something in it is neither a file nor a folder, in words.
pub(super) fn folders(objects: &Path) -> Result<Vec<PathBuf>, String> {
    let mut all = Vec::new();
    add(objects, &mut all, 0)?;
    Ok(all)
}

fn add(objects: &Path, all: &mut Vec<PathBuf>, depth: usize) -> Result<(), String> {
    if all.iter().any(|known| known == objects) {
        return Ok(());
    }
    if depth > DEEPEST {
        return Err(format!("it stands on more than {DEEPEST} other stores"));
    }
    for folder in ["pack", "info"] {
        for entry in path_io::list(objects.join(folder)).unwrap_or_default() {
            let is_regular = entry
                .metadata()
                .is_ok_and(|found| found.is_file() || found.is_dir());
            if !is_regular {
                return Err(format!("{} is no file", entry.display()));
            }
        }
    }
    all.push(objects.to_path_buf());
    let mut text = String::new();
    if let Some(list) = file(&objects.join("info/alternates")) {
        let read = list.take(MOST_OF_LIST).read_to_string(&mut text);
        read.map_err(|error| format!("the stores that it stands on: {error}"))?;
    }
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        add(&objects.join(line), all, depth + 1)?;
    }
    Ok(())
}

/// Whether an object is a file in each of the folders that have it by itself.
pub(super) fn is_file(folders: &[PathBuf], id: Oid) -> bool {
    let name = id.to_string();
    let (first, rest) = name.split_at(2);
    folders.iter().all(|folder| {
        let path = folder.join(first).join(rest);
        // What is not there is in a pack.
        path.metadata().map_or(true, |found| found.is_file())
    })
}
