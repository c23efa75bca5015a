//! Files beside the manifests that they take in as texts, by `{ file: ./motd }`, and encrypted ones that secrets name:
//! only from inside the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::folder;
use crate::parse::parse;
use crate::path_io;
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
pub fn read(root: &Path, folders: &[String], files: &[(String, String)]) -> AttachedFiles {
    let read = |name: String| {
        let one = if folders.iter().any(|folder| folder::holds(folder, &name)) {
            one(root, &name).map_or_else(Attached::Refused, Attached::Text)
        } else {
            Attached::Refused(OUTSIDE.to_owned())
        };
        (name, one)
    };
    names(root, files).into_iter().map(read).collect()
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

/// One file. No step of its path may be a link: it could lead anywhere on this host.
fn one(root: &Path, name: &str) -> Result<String, String> {
    let mut path = root.to_path_buf();
    let mut found = None;
    for step in Path::new(name) {
        path.push(step);
        let kind = path
            .symlink_metadata()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => "is not there".to_owned(),
                _ => format!("cannot be read: {error}"),
            })?;
        if kind.is_symlink() {
            return Err("lies behind a symbolic link, which keel does not follow".to_owned());
        }
        found = Some(kind);
    }
    match found {
        Some(kind) if !kind.is_file() => Err("is no file".to_owned()),
        None => Err("is no file".to_owned()),
        Some(kind) if kind.len() > MOST => Err(format!("has more than {} KiB", MOST >> 10)),
        _ => {
            let bytes = path_io::read(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
                _ => "cannot be read".to_owned(),
            })?;
            String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let read = |name: &str| one(&at("root"), name);
        assert_eq!(read("motd"), Ok("hello\n".to_owned()));
        for (name, why) in [
            ("bytes", "UTF-8"),
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
            c: { content: { file: /etc/shadow } }\n";
        let files = [("a.yaml".to_owned(), manifest.to_owned())];
        let all = super::read(&at("root"), &[String::new()], &files);
        let refused = Attached::Refused(OUTSIDE.to_owned());
        assert_eq!(
            all.iter()
                .map(|(name, text)| (name.as_str(), text))
                .collect::<Vec<_>>(),
            [
                ("../secret", &refused),
                ("motd", &Attached::Text("hello\n".to_owned()))
            ]
        );
        // The folder of a layer is part of the source.
        let all = super::read(&at("root"), &["..".to_owned()], &files);
        assert_eq!(all["../secret"], Attached::Text("outside".to_owned()));
    }
}
