//! What the texts of a source hash to: equal where they say the same, wherever they lie.

use manifests::attached::Attached;
use manifests::read::Texts;
use sha2::{Digest as _, Sha256};

/// The hash of everything that was read, in hexadecimal digits.
pub(super) fn digest(texts: &Texts) -> String {
    let Texts {
        root: _,
        files,
        partial: _,
        only,
        attached,
        bases,
        refused,
    } = texts;
    let mut hash = Sha256::new();
    let mut add = |tag: u8, parts: &[&str]| {
        hash.update([tag]);
        for part in parts {
            // With its length, so that nothing can move from one part into the next.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    };
    add(0, &[only.as_deref().unwrap_or_default()]);
    for (name, text) in files {
        add(1, &[name, text]);
    }
    for (name, content) in attached {
        match content {
            Attached::Text(text) => add(2, &[name, text]),
            Attached::Refused(why) => add(3, &[name, why]),
        }
    }
    for name in bases {
        add(4, &[name]);
    }
    for (name, why) in refused {
        add(5, &[name, why]);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_what_is_said_and_not_of_where() {
        let texts = |root: &str, files: &[(&str, &str)]| Texts {
            root: root.into(),
            files: files
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            ..Texts::default()
        };
        let one = digest(&texts("/a", &[("a.yaml", "1"), ("b.yaml", "2")]));
        assert_eq!(
            one,
            digest(&texts("/b", &[("a.yaml", "1"), ("b.yaml", "2")]))
        );
        for other in [
            texts("/a", &[("a.yaml", "1")]),
            texts("/a", &[("a.yaml", "2"), ("b.yaml", "1")]),
            texts("/a", &[("a.yaml", "1b.yaml2")]),
            texts("/a", &[("a.yaml", ""), ("1", ""), ("b.yaml", "2")]),
        ] {
            assert_ne!(one, digest(&other), "{other:?}");
        }
    }
}
