//! Plain text: control characters made visible, columns, numbers with units, spans of time.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub use manifests::visible::{visible, visible_lines};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The columns that a text takes on a terminal: two for the wide signs of East Asia, none for combining marks.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Fills up with spaces to a width; a longer text gets two spaces after it, so that columns never touch.
pub fn pad(text: &str, to: usize) -> String {
    let have = width(text);
    let fill = if have + 2 > to { 2 } else { to - have };
    format!("{text}{}", " ".repeat(fill))
}

/// A count with its noun: `1 object`, `3 objects`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        return format!("1 {noun}");
    }
    let plural = match noun.strip_suffix('y') {
        Some(stem) if !noun.ends_with("ey") => format!("{stem}ies"),
        _ => format!("{noun}s"),
    };
    format!("{count} {plural}")
}

/// Bytes in the largest binary unit with three digits at most: `512 MiB`, `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut whole = count;
    while whole >= 1024 * 1024 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    // In tenths, so that no floating point rounding is shown.
    let tenths = whole * 10 / 1024;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {}", UNITS[unit]),
        (whole, _) if whole >= 100 => format!("{whole} {}", UNITS[unit]),
        (whole, tenth) => format!("{whole}.{tenth} {}", UNITS[unit]),
    }
}

/// A span of time in its two largest units: `0.02 s`, `41 s`, `2 min 5 s`, `3 h`, `2 d 4 h`.
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let two = |large: u64, large_word: &str, small: u64, small_word: &str| {
        if small == 0 {
            format!("{large} {large_word}")
        } else {
            format!("{large} {large_word} {small} {small_word}")
        }
    };
    match seconds {
        0..10 => {
            let hundredths = milliseconds.div_ceil(10);
            format!("{}.{:02} s", hundredths / 100, hundredths % 100)
        }
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// How long ago something was, in one unit: `4s`, `12m`, `3h`, `5d`; `0s` for the future.
pub fn ago(then: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A value as a person reads it in a plan: text as it is where that cannot be misread, else as JSON.
pub fn shown(value: &serde_json::Value) -> String {
    use serde_json::Value;
    if let Some(text) = from_secret(value) {
        return text;
    }
    let is_flat =
        |value: &Value| from_secret(value).is_some() || !value.is_object() && !value.is_array();
    match value {
        Value::Null => "(unset)".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => visible(text),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Array(items) if items.iter().all(is_flat) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) if fields.values().all(is_flat) => {
            let fields: Vec<String> = fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{}: {}", visible(key), shown(value)))
                .collect();
            format!("{{ {} }}", fields.join(", ")).replace("{  }", "{}")
        }
        other => visible(&other.to_string()),
    }
}

/// A text of which only is known which secret it comes from: `secret db.password`, or the template with it.
pub(super) fn from_secret(value: &serde_json::Value) -> Option<String> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    if let Some(template) = map.get("template") {
        return template.as_str().map(visible);
    }
    let reference = map.get("secretRef")?;
    let (name, key) = (reference["name"].as_str()?, reference["key"].as_str()?);
    Some(format!("secret {}.{}", visible(name), visible(key)))
}

/// A text cut to a width, with an ellipsis where something was left off.
pub fn cut(text: &str, to: usize) -> String {
    if width(text) <= to {
        return text.to_owned();
    }
    let mut room = to.saturating_sub(1);
    let mut out = String::new();
    for character in text.chars() {
        let Some(left) = room.checked_sub(character.width().unwrap_or(0)) else {
            break;
        };
        room = left;
        out.push(character);
    }
    out.push('…');
    out
}

/// So much of what two texts share stands before that in which they differ.
const SHARED: usize = 8;

/// Two texts from where they differ, if that is beyond a width: cut from their beginnings they would look the same.
pub fn differing(first: &str, second: &str, within: usize) -> (String, String) {
    let pairs = first.chars().zip(second.chars());
    let shared: Vec<char> = pairs.take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    let head: usize = shared.iter().map(|c| c.width().unwrap_or(0)).sum();
    if head + SHARED <= within {
        return (first.to_owned(), second.to_owned());
    }
    let rest = |text: &str| {
        let rest: String = text
            .chars()
            .skip(shared.len().saturating_sub(SHARED))
            .collect();
        format!("…{rest}")
    };
    (rest(first), rest(second))
}

/// The lines of a text that is broken between words; a word that is longer than a line is broken too.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let most = columns.max(8);
    let mut lines = Vec::new();
    let (mut line, mut taken) = (String::new(), 0);
    for word in text.split(' ') {
        let wide = width(word);
        if !line.is_empty() && taken + 1 + wide <= columns {
            line.push(' ');
            taken += 1;
        } else if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
            taken = 0;
        }
        if taken + wide <= most {
            line.push_str(word);
            taken += wide;
            continue;
        }
        for character in word.chars() {
            let wide = character.width().unwrap_or(0);
            if taken + wide > most {
                lines.push(std::mem::take(&mut line));
                taken = 0;
            }
            line.push(character);
            taken += wide;
        }
    }
    lines.push(line);
    lines
}

/// A path as a word of a shell: as it is where that is safe, else in quotes. What begins with a dash is no flag.
pub fn shell_word(path: &Path) -> String {
    let safe = |c: char| c.is_alphanumeric() || "_./:=@%+,-".contains(c);
    let dash = if path.as_os_str().as_bytes().starts_with(b"-") {
        "./"
    } else {
        ""
    };
    match path.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(safe) => format!("{dash}{text}"),
        Some(text) if visible(text) == text => {
            format!("'{dash}{}'", text.replace('\'', "'\\''"))
        }
        _ => {
            let mut out = format!("$'{dash}");
            for byte in path.as_os_str().as_bytes() {
                match byte {
                    b'\'' | b'\\' => {
                        out.push('\\');
                        out.push(char::from(*byte));
                    }
                    b' '..=b'~' => out.push(char::from(*byte)),
                    other => {
                        let _ = write!(out, "\\x{other:02x}");
                    }
                }
            }
            out.push('\'');
            out
        }
    }
}

/// Rows under a header in columns as wide as their widest cell, three spaces apart.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| width(cell)).collect();
    for row in rows {
        for (cell, widest) in row.iter().zip(&mut widths) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(&pad(cell, width + 3));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    };
    let mut out = line(&mut header.iter().copied());
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_drives_the_terminal() {
        for (text, seen) in [
            ("plain ü", "plain ü"),
            ("a\u{1b}]0;x\u{7}b", "a␛]0;x␇b"),
            ("a\nb\r", "a␊b␍"),
            ("\u{202e}abc", "<U+202E>abc"),
            ("\u{9b}2J", "<U+009B>2J"),
            ("\u{7f}", "␡"),
        ] {
            assert_eq!(visible(text), seen);
        }
        assert_eq!(visible_lines("a\n\u{1b}b\n"), "a\n␛b\n");
    }

    #[test]
    fn columns_are_counted_as_a_terminal_draws_them() {
        for (text, columns) in [
            ("web", 3),
            ("né", 2),
            ("ne\u{301}", 2),
            ("東京", 4),
            ("→…", 2),
        ] {
            assert_eq!(width(text), columns, "{text}");
        }
        assert_eq!(cut("東京都", 5), "東京…");
        assert_eq!(cut("東京都", 4), "東…");
        let both = |first: &str, second: &str| differing(first, second, 20);
        let own = |first: &str, second: &str| (first.to_owned(), second.to_owned());
        assert_eq!(both("a b", "a c"), own("a b", "a c"));
        let (old, new) = ("x".repeat(40) + "old", "x".repeat(40) + "new");
        assert_eq!(both(&old, &new), own("…xxxxxxxxold", "…xxxxxxxxnew"));
        assert_eq!(pad("東京", 6), "東京  ");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("", 8), [""]);
        assert_eq!(
            wrapped("a 123456789012345678 b", 9),
            ["a", "123456789", "012345678", "b"]
        );
    }

    #[test]
    fn paths_are_words_of_a_shell() {
        use std::ffi::OsStr;
        for (path, word) in [
            (&b"apps/web-1.yaml"[..], "apps/web-1.yaml"),
            (b"-x", "./-x"),
            (b"", "''"),
            (b"my sites/b\xc3\xbcro", "'my sites/büro'"),
            (b"it's $HOME", r"'it'\''s $HOME'"),
            (b"a\n\xff'b", r"$'a\x0a\xff\'b'"),
        ] {
            let path = Path::new(OsStr::from_bytes(path));
            assert_eq!(shell_word(path), word);
            let arguments = ["-c".to_owned(), format!("printf %s {word}")];
            let echoed = runtime::sys::command::run("bash", arguments, None).expect("a shell");
            let meant = word
                .strip_prefix("./")
                .map_or(path.as_os_str().as_bytes(), |_| word.as_bytes());
            assert_eq!(echoed, meant, "{word}");
        }
    }

    #[test]
    fn units_are_readable() {
        for (count, seen) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (536_870_912, "512 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (1_073_741_823, "1023 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), seen, "{count}");
        }
        for (milliseconds, seen) in [
            (0, "0.00 s"),
            (15, "0.02 s"),
            (1500, "1.50 s"),
            (41_000, "41 s"),
            (125_000, "2 min 5 s"),
            (3_600_000, "1 h"),
            (187_200_000, "2 d 4 h"),
        ] {
            assert_eq!(span(milliseconds), seen, "{milliseconds}");
        }
    }

    #[test]
    fn values_read_as_people_write_them() {
        for (value, seen) in [
            (json!(null), "(unset)"),
            (json!(""), "\"\""),
            (json!("512MiB"), "512MiB"),
            (json!(true), "true"),
            (json!(["a", 1]), "[a, 1]"),
            (json!({}), "{}"),
            (json!({"type": "nic", "mtu": null}), "{ type: nic }"),
            (json!({"a": {"b": 1}}), "{\"a\":{\"b\":1}}"),
            (
                json!({"A": {"secretRef": {"name": "db", "key": "password"}}, "B": 1}),
                "{ A: secret db.password, B: 1 }",
            ),
            (
                json!({"template": "a=${secret.db.password}\n"}),
                "a=${secret.db.password}␊",
            ),
            (json!("x\u{1b}y"), "x␛y"),
        ] {
            assert_eq!(shown(&value), seen);
        }
    }

    #[test]
    fn tables_line_up_without_spaces_at_the_end() {
        let rows = vec![
            vec!["web-1".to_owned(), "Running".to_owned(), String::new()],
            vec!["db".to_owned(), "Stopped".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "STATE", "NOTE"], &rows),
            "NAME    STATE     NOTE\nweb-1   Running\ndb      Stopped   x\n"
        );
    }

    #[test]
    fn nouns_have_their_plural() {
        assert_eq!(counted(1, "object"), "1 object");
        assert_eq!(counted(0, "object"), "0 objects");
        assert_eq!(counted(2, "copy"), "2 copies");
    }
}
