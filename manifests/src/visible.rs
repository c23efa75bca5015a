//! Text of others, for people: what would drive a terminal or hide something is made visible.

use std::fmt::Write as _;

/// Makes characters visible that would drive a terminal or hide text: control characters become their pictures
/// (U+2400…), direction marks and other invisible ones their number.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{0}'..='\u{1f}' => {
                out.push(char::from_u32(0x2400 + character as u32).unwrap_or('\u{fffd}'));
            }
            '\u{7f}' => out.push('\u{2421}'),
            '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' => {
                let _ = write!(out, "<U+{:04X}>", character as u32);
            }
            other => out.push(other),
        }
    }
    out
}

/// As [`visible`], but line ends stay: for text that is shown as lines.
pub fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}
