//! Which host ids a container gets: a range of its own, claimed once for the whole host, whoever asks.
//!
//! Choosing is pure; a claim is a file named after its range, made under a lock that all keels of a host share.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::{FlockOperation, Mode, OFlags};

/// Where keel begins to give ids out, in the host's ids.
pub const BASE: u32 = 1_000_000;
/// What a system container needs: all of the 16-bit ids.
pub const LENGTH: u32 = 65_536;
/// Ids that mean "none" to the kernel and to others: `(uid_t)-1`, and -1 as 16 bits is inside every container.
const END: u64 = u32::MAX as u64;

/// Ids of the host, users and groups alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first.
    pub base: u32,
    /// How many.
    pub length: u32,
}

impl Range {
    /// One behind the last.
    fn end(self) -> u64 {
        u64::from(self.base) + u64::from(self.length)
    }

    fn overlaps(self, other: Self) -> bool {
        u64::from(self.base) < other.end() && u64::from(other.base) < self.end()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.base, self.length)
    }
}

/// Why there is no range.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// All ids are taken.
    #[error("no {length} ids are free above {BASE}")]
    Exhausted {
        /// How many were wanted.
        length: u32,
    },
    /// The range asked for belongs to somebody else.
    #[error("the ids from {} on are taken by {by}", range.base)]
    Taken {
        /// What was asked for.
        range: Range,
        /// Who has some of it.
        by: String,
    },
    /// A claim cannot be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The lowest free range of a length at or above `base`, in steps of that length.
pub fn lowest_free(taken: &[Range], base: u32, length: u32) -> Option<Range> {
    let mut taken: Vec<Range> = taken
        .iter()
        .copied()
        .filter(|range| range.length > 0)
        .collect();
    taken.sort_unstable();
    let mut candidate = Range { base, length };
    for range in taken {
        if candidate.overlaps(range) {
            let behind = range.end() - u64::from(base);
            let steps = behind.div_ceil(u64::from(length.max(1)));
            let next = u64::from(base) + steps * u64::from(length);
            candidate.base = u32::try_from(next).ok()?;
        }
    }
    (length > 0 && candidate.end() <= END).then_some(candidate)
}

/// The ranges of `/etc/subuid` or `/etc/subgid`, each with its owner (`subuid(5)`); lines that mean nothing are
/// skipped, as shadow does.
pub fn parse_subids(text: &str) -> Vec<(Range, String)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next().filter(|owner| !owner.starts_with('#'))?;
            let base = fields.next()?.parse().ok()?;
            let length = fields.next()?.parse().ok()?;
            let range = Range { base, length };
            fields.next().is_none().then(|| (range, owner.to_owned()))
        })
        .collect()
}

/// The claims of a host.
#[derive(Debug, Clone)]
pub struct Claims {
    folder: PathBuf,
    /// Ranges of others: `/etc/subuid`, `/etc/subgid`.
    foreign: Vec<(Range, String)>,
}

impl Claims {
    /// Opens the folder of claims, which all keels of a host share, and reads what others have been given.
    ///
    /// # Errors
    /// The folder cannot be made, or a file cannot be read.
    pub fn open(folder: &Path) -> Result<Self, ClaimError> {
        path_io::create_dir_all(folder)?;
        let mut foreign = Vec::new();
        for path in ["/etc/subuid", "/etc/subgid"] {
            let text = path_io::read_if_exists(path)?.unwrap_or_default();
            foreign.extend(
                parse_subids(&text)
                    .into_iter()
                    .map(|(range, owner)| (range, format!("{owner} in {path}"))),
            );
        }
        Ok(Self::with_foreign(folder, foreign))
    }

    /// As [`Claims::open`], with the ranges of others given.
    pub fn with_foreign(folder: &Path, foreign: Vec<(Range, String)>) -> Self {
        Self {
            folder: folder.to_path_buf(),
            foreign,
        }
    }

    /// Claims a range for `owner`, for ever: until [`Claims::release`]. Asked again, the owner gets the same one.
    ///
    /// # Errors
    /// No ids are left, or the `wanted` base belongs to somebody else.
    pub fn claim(
        &self,
        owner: &str,
        length: u32,
        wanted: Option<u32>,
    ) -> Result<Range, ClaimError> {
        let _lock = self.lock()?;
        let claims = self.list()?;
        let mine = claims
            .iter()
            .find(|(range, by)| by == owner && range.length == length);
        if let Some((range, _)) = mine
            && wanted.is_none_or(|base| base == range.base)
        {
            return Ok(*range);
        }
        let taken = || claims.iter().chain(&self.foreign);
        let range = match wanted {
            Some(base) => {
                let range = Range { base, length };
                if let Some((_, by)) = taken().find(|(other, _)| other.overlaps(range)) {
                    let by = by.clone();
                    return Err(ClaimError::Taken { range, by });
                }
                range
            }
            None => {
                let taken: Vec<Range> = taken().map(|(range, _)| *range).collect();
                lowest_free(&taken, BASE, length).ok_or(ClaimError::Exhausted { length })?
            }
        };
        path_io::write_durably(self.folder.join(range.to_string()), owner)?;
        Ok(range)
    }

    /// Gives all ranges of an owner back.
    ///
    /// # Errors
    /// A claim cannot be read or removed.
    pub fn release(&self, owner: &str) -> Result<(), ClaimError> {
        let _lock = self.lock()?;
        for (range, by) in self.list()? {
            if by == owner {
                path_io::remove_file(self.folder.join(range.to_string()))?;
            }
        }
        Ok(())
    }

    /// All claims with their owners.
    ///
    /// # Errors
    /// The folder or a claim cannot be read.
    pub fn list(&self) -> Result<Vec<(Range, String)>, ClaimError> {
        let mut claims = Vec::new();
        for path in path_io::list(&self.folder)? {
            let range = path.file_name().and_then(|name| parse_name(name.to_str()?));
            if let Some(range) = range {
                claims.push((range, path_io::read_to_string(&path)?));
            }
        }
        Ok(claims)
    }

    fn lock(&self) -> Result<OwnedFd, ClaimError> {
        let path = self.folder.join("lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let locked = || {
            let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))?;
            loop {
                match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => return other.map(|()| file),
                }
            }
        };
        Ok(locked().map_err(io::Error::from).at("lock", &path)?)
    }
}

fn parse_name(name: &str) -> Option<Range> {
    let (base, length) = name.split_once('-')?;
    Some(Range {
        base: base.parse().ok()?,
        length: length.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(base: u32, length: u32) -> Range {
        Range { base, length }
    }

    #[test]
    fn the_lowest_gap_is_taken() {
        let check = |taken: &[Range], expected: Option<u32>| {
            let found = lowest_free(taken, BASE, LENGTH).map(|range| range.base);
            assert_eq!(found, expected, "{taken:?}");
        };
        check(&[], Some(BASE));
        check(&[range(BASE, LENGTH)], Some(BASE + LENGTH));
        check(&[range(BASE + LENGTH, LENGTH)], Some(BASE));
        check(&[range(100_000, 65_536)], Some(BASE));
        check(&[range(BASE + 5, 1)], Some(BASE + LENGTH));
        // What LXD and Incus write for themselves.
        check(
            &[range(1_000_000, 1_000_000_000)],
            Some(BASE + 15_259 * LENGTH),
        );
        check(&[range(0, u32::MAX)], None);
    }

    #[test]
    fn ranges_of_others_are_read() {
        let text = "root:1000000:1000000000\n# note\nann:100000:65536\nbroken:x:1\n\nlong:1:2:3\n";
        let expected = [
            (range(1_000_000, 1_000_000_000), "root".to_owned()),
            (range(100_000, 65_536), "ann".to_owned()),
        ];
        assert_eq!(parse_subids(text), expected);
    }

    #[test]
    fn a_claim_is_kept_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = vec![(range(BASE, LENGTH), "ann in /etc/subuid".to_owned())];
        let claims = Claims::with_foreign(folder.path(), foreign);
        let first = claims.claim("one", LENGTH, None).unwrap();
        assert_eq!(first, range(BASE + LENGTH, LENGTH));
        assert_eq!(claims.claim("one", LENGTH, None).unwrap(), first);
        let second = claims.claim("two", LENGTH, None).unwrap();
        assert!(!second.overlaps(first));
        let error = claims.claim("three", LENGTH, Some(BASE)).unwrap_err();
        let text = "the ids from 1000000 on are taken by ann in /etc/subuid";
        assert_eq!(error.to_string(), text);
        claims.release("one").unwrap();
        assert_eq!(claims.claim("three", LENGTH, None).unwrap(), first);
        assert_eq!(claims.list().unwrap().len(), 2);
    }

    #[test]
    fn claims_at_the_same_time_do_not_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::with_foreign(folder.path(), Vec::new());
        let mut got: Vec<Range> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let claims = &claims;
                    scope.spawn(move || claims.claim(&format!("owner-{number}"), LENGTH, None))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap().unwrap())
                .collect()
        });
        got.sort_unstable();
        assert!(
            got.windows(2).all(|pair| !pair[0].overlaps(pair[1])),
            "{got:?}"
        );
    }

    proptest! {
        #[test]
        fn what_is_found_is_free(
            taken in prop::collection::vec((0..3_000_000u32, 0..500_000u32), 0..20),
            length in 1..200_000u32,
        ) {
            let taken: Vec<Range> = taken.into_iter().map(|(base, length)| range(base, length)).collect();
            let found = lowest_free(&taken, BASE, length).unwrap();
            prop_assert!(found.base >= BASE && found.end() <= END);
            let overlaps = |range: &Range| range.length > 0 && range.overlaps(found);
            prop_assert!(!taken.iter().any(overlaps));
        }
    }
}
