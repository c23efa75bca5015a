//! What an instance wrote to its console, for people.

use super::text;

/// Console output without what drives a terminal; colours go too.
pub fn harmless(bytes: &[u8]) -> String {
    let plain = String::from_utf8_lossy(bytes);
    let plain = anstream::adapter::strip_str(&plain).to_string();
    // What a terminal would write over stands on a line of its own.
    let plain = plain
        .replace("\r\n", "\n")
        .replace('\r', "\n")
        .replace('\t', "    ");
    text::visible_lines(&plain)
}

/// How much of `now`, the newest bytes of a ring, was there in `before`: the longest end of `before` with which `now`
/// begins.
pub fn overlap(before: &[u8], now: &[u8]) -> usize {
    let longest = before.len().min(now.len());
    (0..=longest)
        .rev()
        .find(|&length| before[before.len() - length..] == now[..length])
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_cannot_drive_the_terminal() {
        assert_eq!(
            harmless(b"\x1b[32mok\x1b[0m\r\n\x1b]0;title\x07x\x08y\n"),
            "ok\nxy\n"
        );
    }
}
