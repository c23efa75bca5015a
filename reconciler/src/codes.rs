//! All codes with a text of their own: those of manifests and those of the rooms here. Guards explain themselves.

use manifests::codes::{self, Entry};

use crate::{policy, secrets};

/// Each of them.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    codes::ALL.iter().chain(policy::CODES).chain(secrets::CODES)
}

/// The entry of a code, in any case.
pub fn find(code: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.code.0.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::gates::GATES;

    #[test]
    fn no_two_codes_are_the_same() {
        let mut codes: Vec<&str> = all().map(|entry| entry.code.0).collect();
        codes.extend(GATES.iter().map(|gate| gate.code.0));
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}
