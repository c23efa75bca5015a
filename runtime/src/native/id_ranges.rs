//! Private ranges of user and group ids, one an instance, claimed for the whole host.
//!
//! A claim is a file named after the first id, made with `O_EXCL`: two state folders, two programs and two threads
//! cannot take the same range. Ranges that `/etc/subuid` and `/etc/subgid` give to people are left out.

use std::io;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};

/// The first id that is given out.
const FIRST: u32 = 1_000_000;
/// The ids end before this one: the highest are reserved by the kernel.
const END: u32 = 4_000_000_000;

/// No range could be claimed.
#[derive(Debug, thiserror::Error)]
pub enum IdRangeError {
    /// A claim could not be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// All are taken.
    #[error("no range of {0} ids is free below {END}")]
    Full(u32),
    /// The range that a manifest asks for is another's.
    #[error("ids {base} to {} are claimed by {owner}", base + size - 1)]
    Taken {
        /// Its first id.
        base: u32,
        /// How many.
        size: u32,
        /// Who has it.
        owner: String,
    },
}

/// A stretch of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first.
    pub base: u32,
    /// How many.
    pub size: u32,
}

impl IdRange {
    fn overlaps(self, other: Self) -> bool {
        self.base < other.base.saturating_add(other.size)
            && other.base < self.base.saturating_add(self.size)
    }
}

/// The lowest free range: pure. Ranges begin at multiples of 65 536, so that a listing of a folder tells instances apart.
pub fn lowest_free(size: u32, taken: &[IdRange]) -> Option<u32> {
    let step = 65_536;
    let mut base = FIRST;
    while base < END - size {
        let candidate = IdRange { base, size };
        match taken.iter().find(|range| range.overlaps(candidate)) {
            None => return Some(base),
            Some(range) => {
                let end = range.base.saturating_add(range.size);
                let steps = (end - FIRST.min(end))
                    .div_ceil(step)
                    .max((base - FIRST) / step + 1);
                base = FIRST.checked_add(steps.checked_mul(step)?)?;
            }
        }
    }
    None
}

/// The ranges of a `/etc/subuid` or `/etc/subgid` (`NAME:FIRST:COUNT`): pure.
pub fn of_people(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.trim().splitn(3, ':').skip(1);
            let base = parts.next()?.parse().ok()?;
            let size = parts.next()?.parse().ok()?;
            Some(IdRange { base, size })
        })
        .collect()
}

/// The claims of a host.
#[derive(Debug, Clone)]
pub struct IdRanges {
    folder: PathBuf,
}

impl IdRanges {
    /// The claims kept in a folder, which all state folders of the host share.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
        }
    }

    fn file(&self, base: u32) -> PathBuf {
        self.folder.join(format!("ids-{base}"))
    }

    /// All claims: range and owner.
    fn claims(&self) -> Result<Vec<(IdRange, String)>, PathError> {
        let mut claims = Vec::new();
        for path in path_io::list(&self.folder)? {
            let base = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_prefix("ids-")?.parse().ok());
            let Some(base) = base else { continue };
            let Some(text) = path_io::read_if_exists(&path)? else {
                continue;
            };
            // A claim that is being written counts with the usual size.
            let (size, owner) = text.trim().split_once(' ').unwrap_or(("65536", ""));
            claims.push((
                IdRange {
                    base,
                    size: size.parse().unwrap_or(65_536),
                },
                owner.to_owned(),
            ));
        }
        Ok(claims)
    }

    /// Claims a range for an owner: the one that it has already, the wished one, or the lowest free.
    ///
    /// # Errors
    /// [`IdRangeError`].
    pub fn claim(&self, owner: &str, size: u32, wished: Option<u32>) -> Result<u32, IdRangeError> {
        path_io::create_dir_all(&self.folder)?;
        loop {
            let claims = self.claims()?;
            if let Some((range, _)) = claims.iter().find(|(range, whose)| {
                whose == owner && range.size == size && wished.is_none_or(|base| base == range.base)
            }) {
                return Ok(range.base);
            }
            let mut taken: Vec<IdRange> = claims.iter().map(|(range, _)| *range).collect();
            let base = match wished {
                Some(base) => {
                    let range = IdRange { base, size };
                    if let Some((_, whose)) = claims
                        .iter()
                        .find(|(other, whose)| other.overlaps(range) && whose != owner)
                    {
                        return Err(IdRangeError::Taken {
                            base,
                            size,
                            owner: whose.clone(),
                        });
                    }
                    base
                }
                None => {
                    for file in ["/etc/subuid", "/etc/subgid"] {
                        let text = path_io::read_if_exists(file)?.unwrap_or_default();
                        taken.extend(of_people(&text));
                    }
                    lowest_free(size, &taken).ok_or(IdRangeError::Full(size))?
                }
            };
            let path = self.file(base);
            // With its text from the first moment: a claim of nobody would be a claim for ever.
            let name = format!(".ids-{base}.{}.new", std::process::id());
            let temporary = self.folder.join(name);
            path_io::write(&temporary, format!("{size} {owner}\n"))?;
            let linked = std::fs::hard_link(&temporary, &path);
            path_io::remove_file(&temporary)?;
            match linked {
                Ok(()) => return Ok(base),
                // Somebody was faster: look again.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).at("create", &path)?,
            }
        }
    }

    /// Removes what processes left that were killed while they claimed.
    ///
    /// # Errors
    /// The folder cannot be read or changed.
    pub fn sweep(&self) -> Result<(), PathError> {
        path_io::sweep_unfinished(&self.folder)
    }

    /// Gives up what an owner claimed.
    ///
    /// # Errors
    /// A claim could not be read or removed.
    pub fn release(&self, owner: &str) -> Result<(), PathError> {
        if !self.folder.exists() {
            return Ok(());
        }
        for (range, whose) in self.claims()? {
            if whose == owner {
                path_io::remove_file(self.file(range.base))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_range_avoids_all_others() {
        let range = |base, size| IdRange { base, size };
        assert_eq!(lowest_free(65_536, &[]), Some(1_000_000));
        assert_eq!(
            lowest_free(65_536, &[range(1_000_000, 65_536)]),
            Some(1_065_536)
        );
        assert_eq!(
            lowest_free(65_536, &[range(100_000, 65_536)]),
            Some(1_000_000)
        );
        assert_eq!(
            lowest_free(65_536, &[range(1_000_000, 1), range(1_100_000, 10)]),
            Some(1_131_072)
        );
        assert_eq!(lowest_free(65_536, &[range(0, u32::MAX)]), None);
    }

    #[test]
    fn ranges_of_people_are_read() {
        assert_eq!(
            of_people("anna:1000000:65536\n# no\nbroken\n"),
            [IdRange {
                base: 1_000_000,
                size: 65_536
            }]
        );
    }

    #[test]
    fn a_claim_is_kept_shared_with_nobody_and_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let ranges = IdRanges::new(folder.path());
        let first = ranges.claim("s/a", 65_536, None).expect("a range");
        assert_eq!(ranges.claim("s/a", 65_536, None).expect("the same"), first);
        let second = ranges.claim("s/b", 65_536, None).expect("another");
        assert_ne!(first, second);
        let error = ranges.claim("s/c", 65_536, Some(first)).expect_err("taken");
        assert!(matches!(error, IdRangeError::Taken { owner, .. } if owner == "s/a"));
        ranges.release("s/a").expect("given back");
        assert_eq!(
            ranges.claim("s/c", 65_536, Some(first)).expect("free now"),
            first
        );
    }
}
