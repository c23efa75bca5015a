//! [`SnapshotPattern`]: the names that a schedule gives: `nightly-%d`, `{{ creation_date }}`.

use std::fmt;
use std::str::FromStr;

use jiff::Zoned;

use super::BadScalar;

/// A pattern for names of snapshots. Each name that it makes is new: it counts, or has the time in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPattern {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// These characters.
    Text(Box<str>),
    /// A number, one more than the highest that there is.
    Count,
    /// The time, as `strftime` writes it.
    Time(Box<str>),
}

/// How the time is written where no form is given.
const TIME: &str = "%Y-%m-%dT%H-%M-%S";
/// How Incus and LXD write forms of the time (those of Go), and what they are to `strftime`.
const FORMS: &[(&str, &str)] = &[
    ("2006", "%Y"),
    ("01", "%m"),
    ("02", "%d"),
    ("15", "%H"),
    ("04", "%M"),
    ("05", "%S"),
    ("Jan", "%b"),
    ("Mon", "%a"),
];
/// The longest name of a snapshot.
const LONGEST: usize = 63;
/// Digits of a number, for telling whether names may become too long.
const DIGITS: usize = 6;

impl SnapshotPattern {
    /// A text and a number behind it.
    pub fn counting(before: &str) -> Self {
        Self {
            text: format!("{before}%d").into(),
            parts: vec![Part::Text(before.into()), Part::Count],
        }
    }

    /// The next name: one that is not in `taken`.
    pub fn name<'a>(&self, taken: &(impl Iterator<Item = &'a str> + Clone), now: &Zoned) -> String {
        let number = taken
            .clone()
            .filter_map(|name| self.number_of(name))
            .max()
            .map_or(0, |highest| highest.saturating_add(1));
        let name = self.with(&number.to_string(), now);
        // Two within a second, or an hour that the clocks go through twice.
        let mut free = std::iter::once(name.clone())
            .chain((1_u32..).map(|more| format!("{name}-{more}")))
            .filter(|name| !taken.clone().any(|other| other == name));
        free.next().unwrap_or(name)
    }

    fn with(&self, number: &str, now: &Zoned) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.to_string(),
            Part::Count => number.to_owned(),
            Part::Time(form) => now.strftime(form.as_bytes()).to_string(),
        });
        parts.collect()
    }

    /// The number in a name that this pattern may have made; with the time in it, the text around it must fit.
    fn number_of(&self, name: &str) -> Option<u64> {
        let at = self.parts.iter().position(|part| *part == Part::Count)?;
        let (before, after) = (&self.parts[..at], &self.parts[at + 1..]);
        let rest = match before {
            [] => name,
            [Part::Text(text)] => name.strip_prefix(&**text)?,
            [.., Part::Text(text)] => name.rsplit_once(&**text)?.1,
            _ => name,
        };
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = rest.split_at(digits);
        let fits = match after {
            [] => rest.is_empty(),
            [Part::Text(text)] => rest == &**text,
            [Part::Text(text), ..] => rest.starts_with(&**text),
            _ => true,
        };
        fits.then(|| number.parse().ok()).flatten()
    }
}

/// The form of a time as Incus writes it, as `strftime` does.
fn form_of(written: &str) -> Option<String> {
    let mut form = String::new();
    let mut rest = written;
    while let Some(first) = rest.chars().next() {
        if let Some((go, own)) = FORMS.iter().find(|(go, _)| rest.starts_with(go)) {
            form.push_str(own);
            rest = &rest[go.len()..];
        } else if first.is_ascii_digit() || first == '%' {
            return None;
        } else {
            form.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(form)
}

/// One `{{ … }}`.
fn time_of(inside: &str) -> Result<Part, BadScalar> {
    let mut words = inside.splitn(2, '|').map(str::trim);
    let unknown = |what: &str| {
        BadScalar::meant(
            format_args!("`{what}` is nothing that a name of a snapshot may have"),
            "{{ creation_date }}",
        )
    };
    if words.next() != Some("creation_date") {
        return Err(unknown(inside.trim()));
    }
    let Some(filter) = words.next() else {
        return Ok(Part::Time(TIME.into()));
    };
    let written = filter
        .strip_prefix("date:")
        .and_then(|quoted| {
            let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
            quoted[1..].strip_suffix(quote)
        })
        .ok_or_else(|| unknown(filter))?;
    let form = form_of(written).ok_or_else(|| {
        BadScalar::meant(
            format_args!("`{written}` is no form of a time"),
            "2006-01-02T15-04-05",
        )
    })?;
    Ok(Part::Time(form.into()))
}

impl FromStr for SnapshotPattern {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("%d") {
                if parts.contains(&Part::Count) {
                    return Err(BadScalar::new(format!("`{text}` has `%d` twice")));
                }
                parts.push(Part::Count);
                rest = after;
            } else if let Some(after) = rest.strip_prefix("{{") {
                let (inside, after) = after.split_once("}}").ok_or_else(|| {
                    BadScalar::new(format!("`{text}` has no `}}}}` after its `{{{{`"))
                })?;
                parts.push(time_of(inside)?);
                rest = after;
            } else {
                let first = rest.chars().next().map_or(0, char::len_utf8);
                let behind = &rest[first..];
                let end = [behind.find("%d"), behind.find("{{")];
                let end = end
                    .iter()
                    .flatten()
                    .min()
                    .map_or(rest.len(), |at| at + first);
                parts.push(Part::Text(rest[..end].into()));
                rest = &rest[end..];
            }
        }
        let pattern = Self {
            text: text.into(),
            parts,
        };
        if !pattern
            .parts
            .iter()
            .any(|part| !matches!(part, Part::Text(_)))
        {
            return Err(BadScalar::meant(
                format_args!("`{text}` gives every snapshot the same name"),
                format_args!("{text}-%d"),
            ));
        }
        // A day of two digits in a month of three letters: as long as it gets.
        let some = jiff::civil::date(2026, 10, 21).at(12, 34, 56, 0);
        let name = match some.to_zoned(jiff::tz::TimeZone::UTC) {
            Ok(some) => pattern.with(&"9".repeat(DIGITS), &some),
            Err(_) => String::new(),
        };
        let lawful = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if let Some(bad) = name.chars().find(|c| !lawful(*c)) {
            return Err(BadScalar::new(format!(
                "`{text}` makes names such as `{name}`: {bad:?} may not be in the name of a snapshot, only letters, digits and `._-`"
            )));
        }
        if name.starts_with(['.', '-']) {
            return Err(BadScalar::new(format!(
                "`{text}` makes names such as `{name}`: the first is a letter or digit"
            )));
        }
        if name.len() > LONGEST {
            return Err(BadScalar::new(format!(
                "`{text}` makes names of {} characters, {LONGEST} are the most",
                name.len()
            )));
        }
        Ok(pattern)
    }
}

impl fmt::Display for SnapshotPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

crate::text_scalar!(SnapshotPattern, "a name with `%d` or `{{ creation_date }}` in it", {
    "type": "string",
    "pattern": "%d|\\{\\{",
    "examples": ["nightly-%d", "{{ creation_date }}"],
});

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-03-29T01:30:00[Europe/Berlin]"
            .parse()
            .expect("a time")
    }

    fn name(pattern: &str, taken: &[&str]) -> String {
        let pattern: SnapshotPattern = pattern.parse().unwrap_or_else(|error| panic!("{error}"));
        pattern.name(&taken.iter().copied(), &now())
    }

    #[test]
    fn names_are_new() {
        assert_eq!(name("snap%d", &[]), "snap0");
        // Not the lowest free one: a name that came back would be taken for the snapshot that had it.
        assert_eq!(
            name("snap%d", &["snap0", "snap7", "snap", "other9"]),
            "snap8"
        );
        assert_eq!(name("%d-x", &["41-x", "99"]), "42-x");
        assert_eq!(
            name("{{ creation_date }}", &["2026-03-29T01-30-00"]),
            "2026-03-29T01-30-00-1"
        );
        assert_eq!(
            name("auto-{{creation_date|date:'2006-01-02_15-04-05'}}", &[]),
            "auto-2026-03-29_01-30-00"
        );
        assert_eq!(
            name("{{ creation_date|date:'Mon' }}-%d", &["Sun-3", "Mon-9"]),
            "Sun-10"
        );
        assert_eq!(
            SnapshotPattern::counting("snap"),
            "snap%d".parse().expect("one")
        );
    }

    #[test]
    fn what_makes_no_names_is_refused() {
        for (wrong, expected) in [
            (
                "nightly",
                "`nightly` gives every snapshot the same name; did you mean `nightly-%d`?",
            ),
            ("%d%d", "`%d%d` has `%d` twice"),
            (
                "{{ creation_date",
                "`{{ creation_date` has no `}}` after its `{{`",
            ),
            (
                "{{ created }}",
                "`created` is nothing that a name of a snapshot may have; did you mean `{{ creation_date }}`?",
            ),
            (
                "{{ creation_date|date:'2007-01-02' }}",
                "`2007-01-02` is no form of a time; did you mean `2006-01-02T15-04-05`?",
            ),
        ] {
            let error = wrong.parse::<SnapshotPattern>().expect_err(wrong);
            assert_eq!(error.to_string(), expected);
        }
        let long = format!("{}%d", "a".repeat(60));
        for wrong in [
            "",
            "a/%d",
            "-%d",
            "ä%d",
            "{{ creation_date|date:'15:04' }}",
            &long,
        ] {
            assert!(wrong.parse::<SnapshotPattern>().is_err(), "{wrong}");
        }
    }
}
