//! Private ranges of user and group ids, one an instance, claimed for the whole host.
//!
//! A claim is a file named after the first id, which appears with its content or not at all, and only where there is
//! none: two state folders, two programs and two threads cannot take the same range. It grows and never shrinks: what runs
//! still has the ids that it began with. Ranges that `/etc/subuid` and `/etc/subgid` give to people are left out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use manifests::path_io::{self, AtPath as _, PathError};

use super::known_files::KnownFiles;

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
    /// The range that a manifest asks for is the host's own: root of a container must be nobody there.
    #[error("ids {base} to {} are not for containers: theirs are from {FIRST} to {}", u64::from(*base) + u64::from(*size) - 1, END - 1)]
    OfTheHost {
        /// Its first id.
        base: u32,
        /// How many.
        size: u32,
    },
    /// The range that a manifest asks for is given to a person.
    #[error("ids {base} to {} are given to somebody by {file}", base + size - 1)]
    OfPeople {
        /// Its first id.
        base: u32,
        /// How many.
        size: u32,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
    },
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

/// The ranges of a `/etc/subuid` or `/etc/subgid` (`NAME:FIRST:COUNT`), without those of root, who may make containers
/// of them: pure.
pub fn of_people(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter(|line| !line.starts_with("root:") && !line.starts_with("0:"))
        .filter_map(|line| {
            let mut parts = line.trim().splitn(3, ':').skip(1);
            let base = parts.next()?.parse().ok()?;
            let size = parts.next()?.parse().ok()?;
            Some(IdRange { base, size })
        })
        .collect()
}

/// What is done about a claim.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// It is there already.
    Has(u32),
    /// This range is taken, over a claim of the owner's or nobody's where `replace` says so.
    Take { base: u32, replace: bool },
}

/// Decides which range is claimed: pure but for `people`, who are asked only where it matters.
fn choose(
    claims: &[(IdRange, String)],
    owner: &str,
    size: u32,
    wished: Option<u32>,
    people: impl FnOnce() -> Result<Vec<(IdRange, &'static str)>, PathError>,
) -> Result<Choice, IdRangeError> {
    let own = || {
        claims
            .iter()
            .map(|(range, whose)| (*range, whose))
            .filter(|(range, whose)| {
                *whose == owner && wished.is_none_or(|base| base == range.base)
            })
    };
    if let Some((range, _)) = own().find(|(range, _)| range.size >= size) {
        return Ok(Choice::Has(range.base));
    }
    let people = people()?;
    let Some(base) = wished else {
        let taken = |mine: Option<u32>| {
            let claims = claims.iter().map(|(range, _)| *range);
            let taken: Vec<IdRange> = claims
                .filter(|range| mine != Some(range.base))
                .chain(people.iter().map(|(range, _)| *range))
                .collect();
            taken
        };
        let grown = own().map(|(range, _)| range.base).find(|base| {
            let grown = IdRange { base: *base, size };
            !taken(Some(*base)).iter().any(|range| range.overlaps(grown))
        });
        let base = grown.or_else(|| lowest_free(size, &taken(None)));
        return Ok(Choice::Take {
            base: base.ok_or(IdRangeError::Full(size))?,
            replace: grown.is_some(),
        });
    };
    let range = IdRange { base, size };
    if base < FIRST || base.checked_add(size).is_none_or(|end| end > END) {
        return Err(IdRangeError::OfTheHost { base, size });
    }
    if let Some((_, file)) = people.iter().find(|(other, _)| other.overlaps(range)) {
        return Err(IdRangeError::OfPeople { base, size, file });
    }
    let free = |whose: &str| whose == owner || whose.is_empty();
    if let Some((_, whose)) = claims
        .iter()
        .find(|(other, whose)| other.overlaps(range) && !free(whose))
    {
        return Err(IdRangeError::Taken {
            base,
            size,
            owner: whose.clone(),
        });
    }
    Ok(Choice::Take {
        base,
        replace: claims.iter().any(|(other, _)| other.base == base),
    })
}

/// The claims of a host.
#[derive(Debug, Clone)]
pub struct IdRanges {
    folder: PathBuf,
    known: Arc<KnownFiles>,
}

impl IdRanges {
    /// The claims kept in a folder, which all state folders of the host share.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            known: Arc::default(),
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
            let Some(text) = self.known.read(&path)? else {
                continue;
            };
            // A spoiled claim counts with the usual size, as nobody's.
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
            let choice = choose(&claims, owner, size, wished, || {
                let mut people = Vec::new();
                for file in ["/etc/subuid", "/etc/subgid"] {
                    let text = path_io::read_if_exists(file)?.unwrap_or_default();
                    people.extend(of_people(&text).into_iter().map(|range| (range, file)));
                }
                Ok(people)
            })?;
            match choice {
                Choice::Has(base) => return Ok(base),
                Choice::Take { base, replace } => {
                    if self.write(base, size, owner, replace)? {
                        return Ok(base);
                    }
                    // Somebody was faster: look again.
                }
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

    /// Writes a claim; `false`: there is one already, and it was not to be replaced.
    fn write(&self, base: u32, size: u32, owner: &str, replace: bool) -> Result<bool, PathError> {
        let path = self.file(base);
        // As `sweep` knows them.
        let name = format!(".ids-{base}.{}.new", std::process::id());
        let new = self.folder.join(name);
        path_io::write(&new, format!("{size} {owner}\n"))?;
        if replace {
            path_io::rename(&new, &path)?;
            return Ok(true);
        }
        let linked = rustix::fs::link(&new, &path);
        path_io::remove_file(&new)?;
        match linked {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error).at("create", &path),
        }
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
                let file = self.file(range.base);
                self.known.forget(&file);
                path_io::remove_file(file)?;
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
            of_people("anna:1000000:65536\nroot:2000000:65536\n# no\nbroken\n"),
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

    #[test]
    fn a_claim_changes_its_size_or_says_why_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let ranges = IdRanges::new(folder.path());
        let first = ranges.claim("s/a", 65_536, None).expect("a range");
        let own = |size, base| ranges.claim("s/a", size, base);
        assert_eq!(own(1000, Some(first)).expect("enough"), first);
        assert_eq!(own(131_072, Some(first)).expect("more"), first);
        // What runs may have all of them still.
        assert_eq!(own(65_536, None).expect("enough"), first);
        let second = ranges.claim("s/b", 65_536, None).expect("the next range");
        assert_eq!(second, first + 131_072);
        let error = own(196_608, Some(first)).expect_err("another's");
        assert!(matches!(error, IdRangeError::Taken { owner, .. } if owner == "s/b"));
        let third = own(196_608, None).expect("a range of its own size");
        assert_eq!(third, second + 65_536);
        assert_eq!(own(196_608, None).expect("the same"), third);
        let names: Vec<_> = path_io::list(folder.path()).expect("listed");
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn a_claim_that_was_cut_short_holds_nobody_up() {
        let folder = tempfile::tempdir().expect("a folder");
        path_io::write(folder.path().join("ids-2000000"), "").expect("a spoiled claim");
        let ranges = IdRanges::new(folder.path());
        let base = ranges.claim("s/a", 65_536, Some(2_000_000));
        assert_eq!(base.expect("replaced"), 2_000_000);
        ranges.release("s/a").expect("given back");
        assert_eq!(path_io::list(folder.path()).expect("listed").len(), 0);
    }

    #[test]
    fn ids_of_the_host_and_of_people_are_not_claimed() {
        let people = || {
            Ok(vec![(
                IdRange {
                    base: 1_200_000,
                    size: 65_536,
                },
                "/etc/subuid",
            )])
        };
        let wish = |base, size| choose(&[], "s/a", size, Some(base), people);
        for base in [0, 100_000, FIRST - 1, END - 1, u32::MAX] {
            let error = wish(base, 65_536).expect_err("the host's");
            assert!(matches!(error, IdRangeError::OfTheHost { .. }), "{error}");
        }
        let error = wish(1_190_000, 65_536).expect_err("a person's");
        assert_eq!(
            error.to_string(),
            "ids 1190000 to 1255535 are given to somebody by /etc/subuid"
        );
        let taken = Choice::Take {
            base: FIRST,
            replace: false,
        };
        assert_eq!(wish(FIRST, 65_536).expect("free"), taken);
    }
}
