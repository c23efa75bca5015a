//! What reading a commit has in common, whether git's program or an object store is asked: limits, links, layers.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use manifests::folder;
use manifests::read::Texts;

/// The most bytes that one file may have.
pub(super) const MOST: u64 = 16 << 20;
/// The most bytes that all files together may have.
pub(super) const MOST_OF_ALL: u64 = 256 << 20;
/// Where a link leads is no longer than this.
pub(super) const LONGEST_LINK: u64 = 4096;
/// So many links on the way of one path are followed, as the kernel does.
const MOST_LINKS: usize = 40;

/// The sum of what was read with one file more; an error where that is too much.
pub(super) fn with_size(taken: u64, size: u64) -> Result<u64, std::io::Error> {
    let all = taken.saturating_add(size);
    if size > MOST || all > MOST_OF_ALL {
        let most = if size > MOST { MOST } else { MOST_OF_ALL };
        let why = format!("it is more than is read: {} MiB", most >> 20);
        return Err(std::io::Error::other(why));
    }
    Ok(all)
}

/// What a path is, as far as links go.
pub(super) enum Step {
    /// No link.
    Plain,
    /// A link, and where it leads.
    Link(Vec<u8>),
    /// A link of which it is not known where it leads.
    Lost,
}

/// Where a path leads, as it would in a checkout: links of the commit are followed. It may lead out of it. None where
/// that has no end.
pub(super) fn resolved(path: &Path, look: impl Fn(&Path) -> Step) -> Option<PathBuf> {
    let mut at = PathBuf::from("/");
    let mut rest: Vec<PathBuf> = steps(path);
    let mut links = 0;
    while let Some(step) = rest.pop() {
        if step == Path::new("/") {
            at = step;
        } else if step == Path::new("..") {
            at.pop();
        } else {
            at.push(step);
        }
        match look(&at) {
            Step::Plain => {}
            Step::Lost => return None,
            Step::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                rest.extend(steps(Path::new(OsStr::from_bytes(&target))));
                at.pop();
            }
        }
    }
    Some(at)
}

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<PathBuf> {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    steps
        .rev()
        .map(|step| PathBuf::from(step.as_os_str()))
        .collect()
}

/// The names of those of the paths that are in the layers of a source.
pub(super) fn in_layers<'a>(
    texts: &'a Texts,
    paths: impl Iterator<Item = &'a Path>,
) -> impl Iterator<Item = String> {
    let layers = texts.bases.iter().chain(texts.refused.keys());
    let layers: Vec<&str> = layers.map(String::as_str).chain([""]).collect();
    paths
        .map(|path| folder::name(&texts.root, path))
        .filter(move |name| layers.iter().any(|layer| folder::holds(layer, name)))
}

/// What is said of a submodule.
pub(super) fn submodule(name: &str) -> String {
    format!("{name} is a submodule, which is not read")
}
