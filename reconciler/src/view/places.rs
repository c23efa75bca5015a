//! [`Places`]: the names of files as those have them who look at a whole repository and not at one source in it.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use manifests::diagnostic::{Diagnostics, Origin};

/// Where a source lies in its repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// From the top of the repository to the root of the source; empty where they are one.
    prefix: PathBuf,
}

impl Places {
    /// Of a source at `root` in the repository at `top`; outside of any repository names count from the root.
    pub fn of(root: &Path, top: Option<&Path>) -> Self {
        let prefix = top.and_then(|top| root.strip_prefix(top).ok());
        Self {
            prefix: prefix.unwrap_or(Path::new("")).to_path_buf(),
        }
    }

    /// A file of the source, from the top of the repository. A source may take in files that lie above it.
    fn whole(&self, file: &str) -> PathBuf {
        let mut whole = PathBuf::new();
        for part in self.prefix.join(file).components() {
            let up = part == Component::ParentDir;
            if !(up && whole.file_name().is_some() && whole.pop()) {
                whole.push(part);
            }
        }
        whole
    }

    /// A file of the source as people name it.
    pub fn file(&self, name: &str) -> String {
        self.whole(name).display().to_string()
    }

    /// The path as people read it.
    pub fn path(&self, origin: &Origin) -> String {
        self.file(&origin.file)
    }

    /// The path and the line: `edge/apps/web.yaml:14`.
    pub fn line(&self, origin: &Origin) -> String {
        let path = self.path(origin);
        match origin.line {
            0 => path,
            line => format!("{path}:{line}"),
        }
    }

    /// The path as a relative reference of a URI (RFC 3986): what is no plain character of a path is percent-encoded.
    pub fn uri(&self, origin: &Origin) -> String {
        let mut out = String::new();
        for byte in self.whole(&origin.file).as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
                out.push(char::from(*byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    }

    /// Gives all findings the names that their files have in the repository.
    pub fn rename(&self, found: &mut Diagnostics) {
        let rename = |origin: &mut Origin| {
            if !origin.file.is_empty() {
                origin.file = self.path(origin).into();
            }
        };
        found.each(|diagnostic| {
            rename(&mut diagnostic.origin);
            for (origin, _) in &mut diagnostic.related {
                rename(origin);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str) -> Origin {
        Origin {
            file: file.into(),
            line: 3,
            ..Origin::default()
        }
    }

    #[test]
    fn files_are_named_from_the_top_of_the_repository() {
        for (root, top, file, line, uri) in [
            ("/r", None, "a.yaml", "a.yaml:3", "a.yaml"),
            ("/r", Some("/r"), "a.yaml", "a.yaml:3", "a.yaml"),
            (
                "/r/edge",
                Some("/r"),
                "a.yaml",
                "edge/a.yaml:3",
                "edge/a.yaml",
            ),
            ("/r/edge", Some("/other"), "a.yaml", "a.yaml:3", "a.yaml"),
            (
                "/r/sites/edge",
                Some("/r"),
                "../base/web.yaml",
                "sites/base/web.yaml:3",
                "sites/base/web.yaml",
            ),
            ("/r", Some("/r"), "../x.yaml", "../x.yaml:3", "../x.yaml"),
            (
                "/r/my sites",
                Some("/r"),
                "b\u{fc}ro #1%.yaml",
                "my sites/b\u{fc}ro #1%.yaml:3",
                "my%20sites/b%C3%BCro%20%231%25.yaml",
            ),
            (
                "/r",
                Some("/r"),
                "a:b?.yaml",
                "a:b?.yaml:3",
                "a%3Ab%3F.yaml",
            ),
        ] {
            let places = Places::of(Path::new(root), top.map(Path::new));
            assert_eq!(places.line(&at(file)), line);
            assert_eq!(places.uri(&at(file)), uri);
        }
    }

    #[test]
    fn a_name_that_is_no_text_has_its_bytes_in_the_uri() {
        use std::ffi::OsStr;
        let root = Path::new(OsStr::from_bytes(b"/r/b\xfcro"));
        let places = Places::of(root, Some(Path::new("/r")));
        assert_eq!(places.uri(&at("a.yaml")), "b%FCro/a.yaml");
    }
}
