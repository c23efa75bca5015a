//! Sets of CPU or memory node numbers in the kernel's list format: `0-3,5`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kernel builds for at most this many CPUs (`NR_CPUS` of every architecture is below); a larger number in a
/// list is a typing error and must not make us allocate.
const HIGHEST: u32 = 65_535;

/// A set of CPUs (or NUMA nodes) by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CpuList(pub BTreeSet<u32>);

/// A text that is no list of numbers and ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a list of numbers and ranges such as 0-3,5")]
pub struct NotACpuList(pub String);

impl CpuList {
    /// How many are in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every member is also in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl FromIterator<u32> for CpuList {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl FromStr for CpuList {
    type Err = NotACpuList;

    fn from_str(text: &str) -> Result<Self, NotACpuList> {
        let wrong = || NotACpuList(text.trim().to_owned());
        let number = |part: &str| {
            part.trim()
                .parse::<u32>()
                .ok()
                .filter(|n| *n <= HIGHEST)
                .ok_or_else(wrong)
        };
        let mut set = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            match part.split_once('-') {
                None => {
                    set.insert(number(part)?);
                }
                Some((from, to)) => {
                    let (from, to) = (number(from)?, number(to)?);
                    if from > to {
                        return Err(wrong());
                    }
                    set.extend(from..=to);
                }
            }
        }
        Ok(Self(set))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(from) = numbers.next() {
            let mut to = from;
            while numbers.peek() == Some(&(to + 1)) {
                to += 1;
                numbers.next();
            }
            if from == to {
                write!(f, "{separator}{from}")?;
            } else {
                write!(f, "{separator}{from}-{to}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> Self {
        list.to_string()
    }
}

impl TryFrom<String> for CpuList {
    type Error = NotACpuList;

    fn try_from(text: String) -> Result<Self, NotACpuList> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_and_shown_as_the_kernel_does() {
        for (text, shown) in [
            ("", ""),
            ("\n", ""),
            ("0", "0"),
            ("0-1\n", "0-1"),
            ("3,0-1", "0-1,3"),
            ("0,1,2,5", "0-2,5"),
        ] {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), shown);
        }
        for text in ["a", "1-", "3-1", "-1", "0-4294967295", "99999999"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(numbers in proptest::collection::btree_set(0u32..300, 0..40)) {
            let list = CpuList(numbers);
            prop_assert_eq!(list.to_string().parse::<CpuList>().unwrap(), list);
        }
    }
}
