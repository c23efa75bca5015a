//! Reports as one HTML page: nothing from elsewhere, no script, light and dark, to be read on a screen and on paper.
//!
//! Every text that is not written here goes through [`xml`](super::escape::xml).

mod drift;
mod plan;

use std::fmt::Write as _;

use manifests::pointer::Pointer;
use serde_json::Value;

pub use self::drift::of_drift;
pub use self::plan::of_plan;

use super::escape::xml;
use super::values::reported_both;

const STYLE: &str = include_str!("style.css");

/// Values are cut to so many columns.
const VALUE: usize = 600;

/// How something stands out. The word beside it says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Bad,
    Care,
    Calm,
    Good,
    Mute,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Care => "care",
            Self::Calm => "calm",
            Self::Good => "good",
            Self::Mute => "mute",
        }
    }
}

/// A choice of what is shown, and how many cards it leaves.
struct Pick {
    class: &'static str,
    word: &'static str,
    count: usize,
}

/// A page being written.
struct Page {
    body: String,
    style: String,
    title: String,
}

impl Page {
    /// Begins with what it is about; `about` are pairs of a word and a value.
    fn new(command: &str, name: &str, about: &[(&str, String)]) -> Self {
        let mut body = format!(
            "<p class=\"eyebrow\">keel {command}</p>\n<h1>{}</h1>\n<dl class=\"about\">\n",
            xml(name)
        );
        for (word, value) in about.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(body, "<div><dt>{word}</dt><dd>{}</dd></div>", xml(value));
        }
        body.push_str("</dl>\n");
        Self {
            body,
            style: STYLE.to_owned(),
            title: format!("keel {command} · {name}"),
        }
    }

    /// Numbers that tell how it stands.
    fn tiles(&mut self, tiles: &[(Tone, usize, String)]) {
        self.body.push_str("<ul class=\"tiles\">\n");
        for (tone, count, word) in tiles {
            let _ = writeln!(
                self.body,
                "<li class=\"tile {}\"><b>{count}</b><span>{}</span></li>",
                tone.class(),
                xml(word)
            );
        }
        self.body.push_str("</ul>\n");
    }

    /// Choices of what is shown, by classes of cards. They work by the style alone: the fields stand before what they
    /// hide.
    fn picks(&mut self, picks: &[Pick]) {
        let picks: Vec<&Pick> = picks.iter().filter(|pick| pick.count > 0).collect();
        if picks.len() < 3 {
            return;
        }
        for (index, pick) in picks.iter().enumerate() {
            let checked = if index == 0 { " checked" } else { "" };
            let class = pick.class;
            let _ = writeln!(
                self.body,
                "<input class=\"pick\" type=\"radio\" name=\"pick\" id=\"pick-{class}\"{checked}>"
            );
            let _ = write!(
                self.style,
                "#pick-{class}:checked ~ .picks label[for=pick-{class}] {{ background: var(--ink); color: var(--page); }}\n\
                 #pick-{class}:checked ~ .picks label[for=pick-{class}] span {{ color: inherit; }}\n\
                 #pick-{class}:focus-visible ~ .picks label[for=pick-{class}] {{ outline: 2px solid var(--focus); outline-offset: 2px; }}\n"
            );
            if index > 0 {
                let _ = writeln!(
                    self.style,
                    "#pick-{class}:checked ~ .card:not(.is-{class}) {{ display: none; }}"
                );
            }
        }
        self.body.push_str("<div class=\"picks\">");
        for pick in picks {
            let _ = write!(
                self.body,
                "<label for=\"pick-{}\">{} <span>{}</span></label>",
                pick.class, pick.word, pick.count
            );
        }
        self.body.push_str("</div>\n");
    }

    /// The whole document; `made` says by whom and when.
    fn finish(self, made: &str) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main class=\"sheet\">\n{}\
             <footer>keel {} · {}</footer>\n</main>\n</body>\n</html>\n",
            xml(&self.title),
            self.style,
            self.body,
            env!("CARGO_PKG_VERSION"),
            xml(made),
        )
    }
}

/// The first line of a card.
fn card_head(tone: Tone, badge: &str, name: &str, more: &str, place: &str) -> String {
    let mut out = format!(
        "<div class=\"head\"><span class=\"badge {}\">{}</span><span class=\"name mono\">{}</span>",
        tone.class(),
        xml(badge),
        xml(name)
    );
    if !more.is_empty() {
        let _ = write!(out, "<span>{}</span>", xml(more));
    }
    if !place.is_empty() {
        let _ = write!(out, "<span class=\"place mono\">{}</span>", xml(place));
    }
    out.push_str("</div>\n");
    out
}

/// Two values of a field in cells, each with its class; nothing is told as such.
fn values(path: &Pointer, both: [(&Value, &str); 2]) -> [String; 2] {
    let ([first, second], _) = reported_both(path, both.map(|(value, _)| value), VALUE);
    let cell = |(value, class): (&Value, &str), shown: &str| {
        let class = if value.is_null() { "none" } else { class };
        format!("<code class=\"{class}\">{}</code>", xml(shown))
    };
    [cell(both[0], &first), cell(both[1], &second)]
}

#[cfg(test)]
mod tests;
