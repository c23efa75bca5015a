//! The names that objects can have, by kind: the rules of Incus.

use crate::kind::Kind;

/// How names of a kind look.
struct Rule {
    /// As a regular expression, for schemas and for tests.
    pattern: &'static str,
    /// In words.
    words: &'static str,
    holds: fn(&str) -> bool,
}

const LABEL: Rule = Rule {
    pattern: "^[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$",
    words: "letters, digits and `-`, begin with a letter, do not end with `-`, and have at most 63 characters",
    holds: |name| {
        (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && !name.ends_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    },
};

const PLAIN: Rule = Rule {
    pattern: "^[A-Za-z0-9](\\.?[A-Za-z0-9_-]){0,62}\\.?$",
    words: "letters, digits, `-`, `_` and `.`, begin with a letter or digit, and have at most 63 characters and no `..`",
    holds: |name| {
        (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !name.contains("..")
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    },
};

/// Incus joins a project and a name by `_`, so that the name of a project has none.
const PROJECT: Rule = Rule {
    pattern: "^[A-Za-z0-9](\\.?[A-Za-z0-9-]){0,62}\\.?$",
    words: "letters, digits, `-` and `.`, begin with a letter or digit, and have at most 63 characters and no `..`",
    holds: |name| (PLAIN.holds)(name) && !name.contains('_'),
};

const IMAGE: Rule = Rule {
    pattern: "^[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*$",
    words: "letters, digits, `-`, `_`, `.`, `+` and `/`, no part `.` or `..`, and at most 255 characters",
    holds: |name| {
        name.len() <= 255
            && !name.starts_with('-')
            && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_./+".contains(&b))
    },
};

const fn rule(kind: Kind) -> &'static Rule {
    match kind {
        Kind::Instance | Kind::NetworkAcl => &LABEL,
        Kind::Project => &PROJECT,
        Kind::Image => &IMAGE,
        _ => &PLAIN,
    }
}

/// What is wrong with a name of a kind, in words.
pub fn wrong_name(kind: Kind, name: &str) -> Option<String> {
    let rule = rule(kind);
    if (rule.holds)(name) {
        return None;
    }
    let words = words(kind);
    Some(match alike(name).filter(|near| (rule.holds)(near)) {
        Some(near) => format!("did you mean `{near}`? {words}"),
        None => words,
    })
}

/// A name with `-` for what other names have between their words; none where it says nothing of what was meant.
fn alike(name: &str) -> Option<String> {
    let near = name.replace(['_', '.', ' '], "-");
    (near != name && !name.contains("..")).then_some(near)
}

/// The names of a kind as a regular expression; it lets pass some that [`wrong_name`] refuses (`a/../b`).
pub const fn pattern(kind: Kind) -> &'static str {
    rule(kind).pattern
}

/// How names of a kind look, in words.
pub fn words(kind: Kind) -> String {
    format!("names of {} objects have {}", kind.name(), rule(kind).words)
}

/// What is wrong with the name of a device: it is a step of paths and part of the names of interfaces.
pub fn wrong_device(name: &str) -> Option<&'static str> {
    let good = (1..=64).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (!good).then_some("the name of a device has 1 to 64 letters, digits, `.`, `_` and `-`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_their_kind() {
        let long = "a".repeat(64);
        let cases: &[(Kind, &[&str], &[&str])] = &[
            (
                Kind::Instance,
                &["web-1", "W", "a1"],
                &[
                    "1web", "web-", "-web", "web_1", "web.1", "a/b", "..", "", "a\n", "a\0b", "ä",
                    &long,
                ],
            ),
            (
                Kind::StoragePool,
                &["fast", "fast_1", "a.b", "1"],
                &["-fast", ".a", "a..b", "a/b", "a b", "", &long],
            ),
            (Kind::Project, &["shop"], &["shop_1", "a/b"]),
            (Kind::NetworkAcl, &["web"], &["@internal", "1.2"]),
            (
                Kind::Image,
                &["debian/12", "a+b", "busybox"],
                &["/a", "a//b", "../etc", "a/../b", "-x", "", "a b"],
            ),
        ];
        for (kind, good, bad) in cases {
            for name in *good {
                assert_eq!(wrong_name(*kind, name), None, "{name}");
            }
            for name in *bad {
                assert!(wrong_name(*kind, name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn devices_are_steps_of_paths() {
        for name in ["root", "eth0", "a.b_c-d"] {
            assert_eq!(wrong_device(name), None, "{name}");
        }
        for name in ["", ".", "..", "-v", "a/b", "a b", "a\nb", &"x".repeat(65)] {
            assert!(wrong_device(name).is_some(), "{name}");
        }
    }
}
