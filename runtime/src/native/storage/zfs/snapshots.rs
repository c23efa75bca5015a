//! Snapshots of datasets.
//!
//! `zfs rollback` would remove the snapshots that are newer, so a volume goes back to one by a clone of it, which takes the
//! place of its dataset. What had that place stays for as long as it has snapshots that somebody keeps, and holds
//! nothing besides. One that the clone alone needs goes the other way: the clone is promoted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments;
use super::dataset::{Base, is_mounted, mount, says, unmount, zfs};
use super::record::{Datasets, Named};
use super::report::{self, Kept};
use crate::native::storage::driver::VolumeId;
use crate::native::storage::error::StorageError;
use crate::native::storage::files::TREE;
use crate::native::storage::folders::{fresh_name, list_or_nothing, make_private};
use crate::native::storage::kept_trees::{AtOnce, SNAPSHOTS};
use crate::native::storage::unmounting::Users;
use crate::sys::remove_tree::remove_tree;

/// Where the files of a snapshot are for who reads them.
pub(super) fn tree_of(kept: &Path) -> PathBuf {
    kept.join("tree")
}

/// A volume of which snapshots are made.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) base: Arc<Base>,
    /// Its folder.
    pub(super) volume: PathBuf,
    pub(super) id: VolumeId,
    /// The size that was asked for.
    pub(super) asked: Option<u64>,
}

impl Tree {
    fn datasets(&self) -> Result<Datasets, StorageError> {
        Datasets::of_volume(&self.volume, &self.id)
    }

    fn named(&self, folder: &Path) -> Result<Named, StorageError> {
        Named::read(folder)?.ok_or_else(|| StorageError::Broken {
            path: folder.to_path_buf(),
            problem: "no snapshot of a dataset belongs to it".to_owned(),
        })
    }

    /// Removes what is not needed any more of the datasets that the volume had before.
    fn settle(&self, mut datasets: Datasets) -> Result<(), StorageError> {
        for past in datasets.past.clone() {
            let kept = match zfs(arguments::snapshots(&self.base.path(&past))) {
                Err(error) if super::dataset::is_gone(&error) => Vec::new(),
                other => report::snapshots(&other?),
            };
            let ours = |name: &str| {
                let leaf = name.strip_prefix(self.base.name());
                let leaf = leaf.and_then(|leaf| leaf.strip_prefix('/'));
                leaf.is_some_and(|leaf| datasets.all().any(|one| one == leaf))
            };
            match end_of(&kept, ours) {
                End::Stays { last } => {
                    let written = self.base.row(&past)?.map_or(0, |row| row.written);
                    if written > 0 {
                        self.base.change(vec!["rollback".into(), last.into()])?;
                    }
                    continue;
                }
                End::Goes { promote } => {
                    if let Some(clone) = promote {
                        self.base.change(vec!["promote".into(), clone.into()])?;
                    }
                    self.base.destroy(&past)?;
                }
            }
            datasets.past.retain(|name| *name != past);
            datasets.write(&self.volume)?;
        }
        Ok(())
    }
}

/// What becomes of a dataset that is no volume's tree any more.
#[derive(Debug, PartialEq, Eq)]
enum End<'kept> {
    /// Somebody keeps snapshots of it. What was written after the last one is nobody's.
    Stays { last: &'kept str },
    /// Nobody does; the one that is left is needed by this clone alone.
    Goes { promote: Option<&'kept str> },
}

fn end_of(kept: &[Kept], ours: impl Fn(&str) -> bool) -> End<'_> {
    match kept {
        [] => End::Goes { promote: None },
        [only] if only.goes && matches!(&*only.clones, [clone] if ours(clone)) => End::Goes {
            promote: only.clones.first().map(String::as_str),
        },
        [.., last] => End::Stays { last: &last.name },
    }
}

impl AtOnce for Tree {
    fn keep(&self, folder: &Path) -> Result<(), StorageError> {
        let named = Named::new(self.datasets()?.tree, fresh_name()?);
        named.write(folder)?;
        let path = self.base.path(&named.leaf());
        self.base.change(vec!["snapshot".into(), path.into()])
    }

    fn kept(&self, folder: &Path) -> Result<PathBuf, StorageError> {
        let (named, at) = (self.named(folder)?, tree_of(folder));
        let path = self.base.path(&named.leaf());
        if !is_mounted(&path, &at)? {
            make_private(&at)?;
            if !mount(&path, &at)? {
                // Somebody has removed it.
                let name = folder.file_name().unwrap_or_default();
                return Err(StorageError::NoSnapshot(
                    name.to_string_lossy().into_owned(),
                ));
            }
        }
        Ok(at)
    }

    fn empty(&self, folder: &Path) -> Result<PathBuf, StorageError> {
        let (named, at) = (Named::new(fresh_name()?, fresh_name()?), tree_of(folder));
        let mut datasets = self.datasets()?;
        datasets.past.push(named.dataset.clone());
        datasets.write(&self.volume)?;
        named.write(folder)?;
        let path = self.base.path(&named.dataset);
        self.base.change(arguments::make_tree(&path, self.asked))?;
        make_private(&at)?;
        mount(&path, &at)?;
        make_private(&at)?;
        Ok(at)
    }

    fn seal(&self, folder: &Path) -> Result<(), StorageError> {
        let (named, at) = (self.named(folder)?, tree_of(folder));
        let path = self.base.path(&named.dataset);
        if !is_mounted(&path, &at)? {
            return Ok(());
        }
        unmount(&path, &at, Users::Respect, &self.id)?;
        let path = self.base.path(&named.leaf());
        self.base.change(vec!["snapshot".into(), path.into()])
    }

    fn revert(&self, folder: &Path) -> Result<(), StorageError> {
        let named = self.named(folder)?;
        let mut datasets = self.datasets()?;
        let now = self.base.path(&datasets.tree);
        unmount(&now, &self.volume.join(TREE), Users::Respect, &self.id)?;
        let next = fresh_name()?;
        datasets.next = Some(next.clone());
        datasets.write(&self.volume)?;
        let kept = self.base.path(&named.leaf());
        let clone = arguments::clone(&kept, &self.base.path(&next), self.asked);
        match self.base.change(clone) {
            Err(error) if says(&error, "less than current used") => {
                return Err(StorageError::DoesNotFit {
                    volume: self.id.clone(),
                    size: self.asked.unwrap_or_default(),
                });
            }
            other => other?,
        }
        let before = std::mem::replace(&mut datasets.tree, next);
        datasets.past.push(before);
        datasets.next = None;
        datasets.write(&self.volume)?;
        self.settle(datasets)
    }

    fn discard(&self, folder: &Path) -> Result<(), StorageError> {
        if let Some(named) = Named::read(folder)? {
            close(&self.base, folder, Users::CutOff, &self.id)?;
            self.base.let_go(&named.leaf())?;
            if let Some(datasets) = Datasets::read(&self.volume)? {
                self.settle(datasets)?;
            }
        }
        Ok(remove_tree(folder)?)
    }

    fn clear_next(&self) -> Result<(), StorageError> {
        let Some(mut datasets) = Datasets::read(&self.volume)? else {
            return Ok(());
        };
        if let Some(next) = datasets.next.take() {
            self.base.destroy(&next)?;
            datasets.write(&self.volume)?;
        }
        self.settle(datasets)
    }
}

/// Unmounts what is mounted for who reads a snapshot; `false`: somebody still does.
pub(super) fn close(
    base: &Base,
    folder: &Path,
    users: Users,
    id: &VolumeId,
) -> Result<bool, StorageError> {
    let (at, Some(named)) = (tree_of(folder), Named::read(folder)?) else {
        return Ok(true);
    };
    for leaf in [named.leaf(), named.dataset] {
        match unmount(&base.path(&leaf), &at, users, id) {
            Err(StorageError::InUse(_)) => return Ok(false),
            other => other?,
        };
    }
    Ok(true)
}

/// The folders of the snapshots in the folder of a volume.
pub(super) fn folders(volume: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let all = list_or_nothing(&volume.join(SNAPSHOTS))?;
    Ok(all.into_iter().filter(|path| path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, goes: bool, clones: &[&str]) -> Kept {
        Kept {
            name: name.to_owned(),
            goes,
            clones: clones.iter().map(|clone| (*clone).to_owned()).collect(),
        }
    }

    #[test]
    fn a_dataset_of_before_stays_for_its_snapshots_alone() {
        let ours = |name: &str| name.starts_with("p/");
        assert_eq!(end_of(&[], ours), End::Goes { promote: None });
        let needed = kept("p/a@1", true, &["p/b"]);
        assert_eq!(
            end_of(std::slice::from_ref(&needed), ours),
            End::Goes {
                promote: Some("p/b")
            }
        );
        let meant = kept("p/a@2", false, &[]);
        assert_eq!(
            end_of(&[needed, meant.clone()], ours),
            End::Stays { last: "p/a@2" }
        );
        assert_eq!(end_of(&[meant], ours), End::Stays { last: "p/a@2" });
        for clones in [
            &["p/b", "tank/somebodys"][..],
            &["tank/somebodys"],
            &["p/b", "p/c"],
        ] {
            let needed = kept("p/a@3", true, clones);
            assert_eq!(end_of(&[needed], ours), End::Stays { last: "p/a@3" });
        }
    }
}
