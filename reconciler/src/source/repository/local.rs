//! A repository of this host, read where it is: nothing is copied, and no program of git is run. Of its settings nothing
//! is heeded, so that who may write to it can make keel do nothing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::controller::RefName;
use manifests::path_io;

use super::choosing::{Choosing, Chosen, Offered, object};
use super::objects::Objects;
use super::regular;
use crate::source::failure::SourceError;
use crate::source::followed::Watched;

/// A push moves a reference in one step: it is looked at nearly at once.
const QUIET: Duration = Duration::from_millis(5);
/// The most bytes that the file of one reference has.
const MOST_OF_REFERENCE: u64 = 4096;
/// The most bytes that a list of references has: some millions.
const MOST_OF_LIST: u64 = 512 << 20;
/// References that name references: more is a circle.
const MOST_NAMED: usize = 5;
/// Folders within `refs/tags`.
const DEEPEST: usize = 16;

/// A repository of this host.
#[derive(Debug)]
pub(super) struct Local {
    /// Where its work tree is; of one without, itself.
    pub(super) top: PathBuf,
}

impl Local {
    /// A repository at a path, which need not be there now.
    pub(super) fn at(path: &Path) -> Self {
        Self {
            top: path.to_path_buf(),
        }
    }

    /// Where its objects and references are.
    fn git(&self) -> PathBuf {
        let below = self.top.join(".git");
        match below.is_dir() {
            true => below,
            false => self.top.clone(),
        }
    }

    fn url(&self) -> String {
        self.top.display().to_string()
    }

    fn none(&self, why: &str) -> SourceError {
        SourceError::NoRepository {
            url: self.url(),
            why: why.to_owned(),
        }
    }

    /// Chooses among its references.
    ///
    /// # Errors
    /// It is no repository, or none that can be read, or does not have what is wanted.
    pub(super) fn choose(
        &self,
        mut choosing: Choosing<'_>,
        wanted: &str,
    ) -> Result<Chosen, SourceError> {
        self.offer(&mut choosing)?;
        choosing
            .chosen()
            .ok_or_else(|| SourceError::NoSuchReference {
                url: self.url(),
                wanted: wanted.to_owned(),
            })
    }

    /// Offers its references.
    ///
    /// # Errors
    /// It is no repository, or none that can be read.
    pub(super) fn offer(&self, offered: &mut dyn Offered) -> Result<(), SourceError> {
        if !self.git().join("objects").is_dir() {
            return Err(self.none("it has no objects of git"));
        }
        if self.git().join("reftable").exists() {
            return Err(self.none("its references are kept as reftable, which keel does not read"));
        }
        let prefix = offered.prefix();
        if offered.is_known() {
        } else if prefix.ends_with('/') {
            // Packed ones first: a loose one of the same name is newer.
            self.packed(&mut |name, id| offered.offer(name, id))?;
            let objects = self.objects()?;
            let mut offer = |name: &str, id: &str| {
                offered.offer(name, id);
                // Only the list says what a tag leads to.
                let peeled = object(id).and_then(|id| objects.peeled(id).ok());
                if let Some((Some(_), commit)) = peeled {
                    offered.offer(&format!("{name}^{{}}"), &commit.to_string());
                }
            };
            self.loose(&prefix, &mut offer, 0)?;
        } else if let Some(id) = self.one(&prefix)? {
            offered.offer(&prefix, &id);
        }
        Ok(())
    }

    /// Its objects.
    pub(super) fn objects(&self) -> Result<Objects, SourceError> {
        let folder = self.git().join("objects");
        let folders = regular::folders(&folder).map_err(|why| self.none(&why))?;
        Objects::open(&folder, folders, &self.url())
    }

    /// Where something happens when it moves.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let watched = |path: &Path, deep, only: &[&str]| Watched {
            path: path.to_path_buf(),
            deep,
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            quiet: QUIET,
        };
        vec![
            watched(&self.git(), false, &["HEAD", "packed-refs"]),
            watched(&self.git().join("refs"), true, &[]),
        ]
    }

    /// What a reference names in the end.
    fn one(&self, name: &str) -> Result<Option<String>, SourceError> {
        let mut name = name.to_owned();
        for _ in 0..MOST_NAMED {
            let found = match self.file(&name)? {
                Some(text) => Some(text),
                // It may have been packed meanwhile, and then changed.
                None => match self.packed_one(&name)? {
                    Some(id) => Some(id),
                    None => self.file(&name)?,
                },
            };
            let Some(text) = found else {
                return Ok(None);
            };
            let Some(next) = text.strip_prefix("ref: ") else {
                return Ok(Some(text));
            };
            // Only what is a name: it becomes a path.
            let below = next.trim().strip_prefix("refs/");
            match below.filter(|below| below.parse::<RefName>().is_ok()) {
                Some(below) => name = format!("refs/{below}"),
                None => return Err(self.none(&format!("{name} names no reference"))),
            }
        }
        Err(self.none(&format!("{name} names itself")))
    }

    fn packed_one(&self, wanted: &str) -> Result<Option<String>, SourceError> {
        let mut found = None;
        self.packed(&mut |name, id| {
            if name == wanted {
                found = Some(id.to_owned());
            }
        })?;
        Ok(found)
    }

    /// The text of the file of a reference.
    fn file(&self, name: &str) -> Result<Option<String>, SourceError> {
        let path = self.git().join(name);
        let Some(file) = regular::file(&path) else {
            return Ok(None);
        };
        let mut text = String::new();
        let read = file.take(MOST_OF_REFERENCE).read_to_string(&mut text);
        match read {
            Ok(_) => Ok(Some(text.trim_end().to_owned())),
            Err(_) => Err(self.none(&format!("{name} is not UTF-8"))),
        }
    }

    /// Goes through the list of packed references.
    fn packed(&self, offer: &mut dyn FnMut(&str, &str)) -> Result<(), SourceError> {
        let Some(file) = regular::file(&self.git().join("packed-refs")) else {
            return Ok(());
        };
        let mut lines = BufReader::new(file.take(MOST_OF_LIST));
        let mut line = Vec::new();
        let mut before = String::new();
        loop {
            line.clear();
            let got = (&mut lines)
                .take(MOST_OF_REFERENCE)
                .read_until(b'\n', &mut line);
            match got {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(source) => {
                    return Err(SourceError::Unreachable {
                        url: self.url(),
                        source: source.into(),
                    });
                }
            }
            let Ok(text) = std::str::from_utf8(&line) else {
                continue;
            };
            let text = text.trim_end();
            if let Some(id) = text.strip_prefix('^') {
                offer(&format!("{before}^{{}}"), id);
            } else if let Some((id, name)) = text.split_once(' ') {
                offer(name, id);
                name.clone_into(&mut before);
            }
        }
    }

    /// Goes through the files of references in a folder.
    fn loose(
        &self,
        folder: &str,
        offer: &mut dyn FnMut(&str, &str),
        depth: usize,
    ) -> Result<(), SourceError> {
        let path = self.git().join(folder);
        if depth > DEEPEST || !path.is_dir() {
            return Ok(());
        }
        for (path, kind) in path_io::list_kinds(&path)? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let name = format!("{}/{name}", folder.trim_end_matches('/'));
            if kind.is_dir() {
                self.loose(&name, offer, depth + 1)?;
            } else if let Some(id) = self.file(&name)? {
                offer(&name, &id);
            }
        }
        Ok(())
    }
}
