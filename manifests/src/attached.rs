//! Files beside the manifests that they take in as texts, by `{ file: ./motd }`, and encrypted ones that secrets name:
//! only from inside the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::files::{Entry, Files};
use crate::folder;
use crate::parse::parse;
use crate::path_io::PathError;
use crate::tree::{Node, Value};

/// The most bytes that a file may have: what is larger is no text that a manifest would have had.
pub const MOST: u64 = 1 << 20;

/// What a file says, or why it cannot be taken in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Attached {
    /// Its content.
    Text(String),
    /// Why not, in words that go on after its name.
    Refused(String),
}

/// One of these is in every text that names a file.
const KEYS: [&str; 3] = ["file:", "sops:", "age:"];

/// Files by their names relative to the root of the source.
pub type AttachedFiles = BTreeMap<String, Attached>;

/// Why a file is not taken that lies elsewhere.
pub const OUTSIDE: &str =
    "lies outside of the source: a manifest takes in files of its own repository only";

/// The name of what a manifest names; none for a path of the host.
pub fn name_of(root: &Path, manifest: &str, path: &str) -> Option<String> {
    folder::join(root, folder::of(manifest), path)
}

/// Reads every file that manifests name and that lies in one of the folders. Those that images are made of are larger than
/// is read.
///
/// # Errors
/// A file cannot be read to its end: it changes meanwhile, or a commit lacks it.
pub fn read<F: Files>(
    files: &F,
    root: &Path,
    folders: &[String],
    manifests: &[(String, String)],
) -> Result<AttachedFiles, PathError> {
    let mut all = AttachedFiles::new();
    let mut wanted = Vec::new();
    for name in names(root, manifests) {
        let refused = if folders.iter().any(|folder| folder::holds(folder, &name)) {
            match reach(files, root, &name) {
                Ok(path) => {
                    wanted.push((name, path));
                    continue;
                }
                Err(why) => why,
            }
        } else {
            OUTSIDE.to_owned()
        };
        all.insert(name, Attached::Refused(refused));
    }
    let paths: Vec<PathBuf> = wanted.iter().map(|(_, path)| path.clone()).collect();
    for ((name, _), bytes) in wanted.into_iter().zip(files.read_all(&paths)) {
        let one = match bytes {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err("may not be read".to_owned())
            }
            Err(error) => return Err(error),
        };
        all.insert(name, one.map_or_else(Attached::Refused, Attached::Text));
    }
    Ok(all)
}

/// The files that manifests name in a map `{ file: … }`, `{ sops: … }` or below `age`, by their names relative to the root.
pub fn names(root: &Path, files: &[(String, String)]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let may_name = |text: &str| KEYS.iter().any(|key| text.contains(key));
    for (manifest, text) in files.iter().filter(|(_, text)| may_name(text)) {
        let mut paths = Vec::new();
        for document in parse(manifest, text).0 {
            named(&document, &mut paths);
        }
        all.extend(
            paths
                .iter()
                .filter_map(|path| name_of(root, manifest, path)),
        );
    }
    all
}

fn named(node: &Node, out: &mut Vec<String>) {
    match &node.value {
        Value::Map(entries) => {
            if let [(key, below)] = entries.as_slice()
                && matches!(key.name.as_str(), "file" | "sops")
            {
                out.extend(below.text().map(str::to_owned));
            }
            for (key, below) in entries {
                if key.name == "age"
                    && let Value::Map(files) = &below.value
                {
                    out.extend(
                        files
                            .iter()
                            .filter_map(|(_, file)| file.text().map(str::to_owned)),
                    );
                }
                named(below, out);
            }
        }
        Value::List(items) => {
            for below in items {
                named(below, out);
            }
        }
        _ => {}
    }
}

/// The path of a file. No step of it may be a link: it could lead anywhere on this host.
fn reach<F: Files>(files: &F, root: &Path, name: &str) -> Result<PathBuf, String> {
    let unreadable = |error: PathError| format!("cannot be read: {}", error.source);
    let mut path = root.to_path_buf();
    let mut found = None;
    for step in Path::new(name).components() {
        if step == Component::ParentDir {
            path.pop();
            continue;
        }
        path.push(step);
        found = match files.look(&path).map_err(unreadable)? {
            Some(Entry::Link { .. }) => {
                return Err("lies behind a symbolic link, which keel does not follow".to_owned());
            }
            None => return Err("is not there".to_owned()),
            entry => entry,
        };
    }
    if found != Some(Entry::File) {
        return Err("is no file".to_owned());
    }
    if files.size(&path).map_err(unreadable)? > MOST {
        return Err(format!("has more than {} KiB", MOST >> 10));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Disk;
    use crate::path_io;

    #[test]
    fn what_is_no_text_of_the_source_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        path_io::create_dir_all(at("root/sub")).expect("a folder");
        path_io::write(at("secret"), "outside").expect("written");
        path_io::write(at("root/motd"), "hello\n").expect("written");
        path_io::write(at("root/bytes"), [0xff, 0xfe]).expect("written");
        path_io::write(at("root/large"), vec![b'a'; (1 << 20) + 1]).expect("written");
        std::os::unix::fs::symlink("../secret", at("root/link")).expect("a link");
        std::os::unix::fs::symlink("..", at("root/up")).expect("a link");
        let read = |name: &str| reach(&Disk, &at("root"), name);
        assert_eq!(read("motd"), Ok(at("root/motd")));
        for (name, why) in [
            ("large", "1024 KiB"),
            ("link", "symbolic link"),
            ("up/secret", "symbolic link"),
            ("sub", "no file"),
            ("gone", "not there"),
        ] {
            let refused = read(name).expect_err(name);
            assert!(refused.contains(why), "{name}: {refused}");
        }
        let manifest = "a: { content: { file: ./motd } }\nb: { content: { file: ../secret } }\n\
            c: { content: { file: /etc/shadow } }\nd: { content: { file: bytes } }\n";
        let files = [("a.yaml".to_owned(), manifest.to_owned())];
        let all = super::read(&Disk, &at("root"), &[String::new()], &files).expect("read");
        let refused = Attached::Refused(OUTSIDE.to_owned());
        let bytes = Attached::Refused("is not UTF-8".to_owned());
        assert_eq!(
            all.iter()
                .map(|(name, text)| (name.as_str(), text))
                .collect::<Vec<_>>(),
            [
                ("../secret", &refused),
                ("bytes", &bytes),
                ("motd", &Attached::Text("hello\n".to_owned()))
            ]
        );
        // The folder of a layer is part of the source.
        let all = super::read(&Disk, &at("root"), &["..".to_owned()], &files).expect("read");
        assert_eq!(all["../secret"], Attached::Text("outside".to_owned()));
    }
}
