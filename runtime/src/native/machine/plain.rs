//! Text of somebody who is not trusted, fit to be shown.

use serde::{Deserialize, Deserializer};

/// The longest text that is shown, in characters.
const LONGEST: usize = 500;

/// Without what would steer a terminal or turn the direction of writing, and not too long.
pub(in crate::native) fn plain(text: &str) -> String {
    let steers = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|c| !steers(c)).take(LONGEST).collect()
}

/// For fields: [`plain`].
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(|text| plain(&text))
}

/// For fields that may be missing: [`plain`].
pub(super) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(from).map(|text| text.map(|text| plain(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_steers_a_terminal() {
        assert_eq!(plain("\u{1b}[31mred\u{202e}\r\n\u{9b}\0 é"), "[31mred é");
        assert_eq!(plain(&"x".repeat(10_000)).len(), LONGEST);
    }
}
