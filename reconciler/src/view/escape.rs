//! Texts that become part of a document of another language, and say there nothing but themselves.

use super::text::visible;

/// As text or attribute of XML and HTML. Line ends stay; other control characters are made visible, since XML has none.
pub fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            // Non-characters are no XML either.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => {
                let mut buffer = [0; 4];
                let seen = visible(other.encode_utf8(&mut buffer));
                out.push_str(&seen.replace('<', "&lt;").replace('>', "&gt;"));
            }
        }
    }
    out
}

/// As the message of a workflow command of GitHub.
pub fn workflow_message(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// As a property of a workflow command of GitHub.
pub fn workflow_property(text: &str) -> String {
    workflow_message(text)
        .replace(':', "%3A")
        .replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_nothing_but_themselves() {
        assert_eq!(
            xml("<a b='1' c=\"2\">&\u{1b}\u{202e}\u{ffff}\nx"),
            "&lt;a b=&#39;1&#39; c=&quot;2&quot;&gt;&amp;␛&lt;U+202E&gt;\u{fffd}\nx"
        );
        assert_eq!(
            workflow_message("100%\r\n::error::x"),
            "100%25%0D%0A::error::x"
        );
        assert_eq!(workflow_property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }
}
