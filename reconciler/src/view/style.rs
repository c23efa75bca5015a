//! Colours. They never carry meaning alone: each mark is also a word. What is written to a pipe or under `NO_COLOR`
//! loses them on the way out (anstream).

use anstyle::{AnsiColor, Style};

/// Something goes away.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Something blinks or deserves a look.
pub const CAREFUL: Style = AnsiColor::Yellow.on_default();
/// Something comes.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something changes and nobody notices.
pub const CALM: Style = AnsiColor::Cyan.on_default();
/// What leads the eye.
pub const STRONG: Style = Style::new().bold();
/// What may be skipped.
pub const FAINT: Style = Style::new().dimmed();

/// A text in a style.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}
