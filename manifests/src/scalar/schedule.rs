//! [`Schedule`]: when something is due: a five-field cron expression or `@daily`.

use std::fmt;
use std::str::FromStr;

use croner::{Cron, Direction};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::BadScalar;

/// A schedule as written: five cron fields, or `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@annually`,
/// `@yearly`; several words may be joined by `, `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Box<str>);

const WORDS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@annually", "0 0 1 1 *"),
    ("@yearly", "0 0 1 1 *"),
];

impl Schedule {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The five-field expressions that it stands for; it is due when one of them is.
    pub fn expressions(&self) -> Vec<&str> {
        if !self.0.starts_with('@') {
            return vec![&self.0];
        }
        self.0
            .split(',')
            .filter_map(|word| WORDS.iter().find(|(known, _)| *known == word.trim()))
            .map(|(_, expression)| *expression)
            .collect()
    }

    /// When it is due next after `after`, by the clocks of `zone`. What is due at an hour that the clocks leave out is
    /// due when they are put forward; what is due at one that they go through twice, the first time.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.nearest(after, false, zone, Direction::Forward).min()
    }

    /// When it was due last until `until`, that moment included.
    pub fn last(&self, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.nearest(until, true, zone, Direction::Backward).max()
    }

    fn nearest(
        &self,
        from: Timestamp,
        inclusive: bool,
        zone: &TimeZone,
        direction: Direction,
    ) -> impl Iterator<Item = Timestamp> {
        let from = from.to_zoned(zone.clone());
        self.expressions()
            .into_iter()
            .filter_map(move |expression| {
                let cron: Cron = expression.parse().ok()?;
                let found: Zoned = match direction {
                    Direction::Forward => cron.find_next_occurrence(&from, inclusive),
                    Direction::Backward => cron.find_previous_occurrence(&from, inclusive),
                }
                .ok()?;
                Some(found.timestamp())
            })
    }
}

impl FromStr for Schedule {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        if text.starts_with('@') {
            for word in text.split(',').map(str::trim) {
                if !WORDS.iter().any(|(known, _)| *known == word) {
                    let near = WORDS
                        .iter()
                        .map(|(known, _)| (strsim::jaro_winkler(known, word), known))
                        .max_by(|a, b| a.0.total_cmp(&b.0));
                    return Err(match near {
                        Some((score, known)) if score > 0.8 => {
                            BadScalar::meant(format_args!("`{word}` is no schedule"), known)
                        }
                        _ => BadScalar::new(format!(
                            "`{word}` is no schedule: write five cron fields or `@hourly` to `@yearly`"
                        )),
                    });
                }
            }
            return Ok(Self(text.into()));
        }
        if let Some((known, _)) = WORDS.iter().find(|(known, _)| known[1..] == *text) {
            return Err(BadScalar::meant(
                format_args!("`{text}` is no schedule"),
                known,
            ));
        }
        if text.split_whitespace().count() != 5 {
            return Err(BadScalar::new(format!(
                "`{text}` is no schedule: write five fields (minute, hour, day, month, weekday) or `@hourly` to `@yearly`"
            )));
        }
        text.parse::<Cron>().map_err(|error| {
            BadScalar::new(format!(
                "`{text}` is no schedule: {}",
                error.to_string().trim_end_matches('.')
            ))
        })?;
        let schedule = Self(text.into());
        if schedule
            .next(Timestamp::UNIX_EPOCH, &TimeZone::UTC)
            .is_none()
        {
            return Err(BadScalar::new(format!(
                "`{text}` is never due: no month has such a day"
            )));
        }
        Ok(schedule)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

crate::text_scalar!(Schedule, "a schedule such as `0 3 * * *` or `@daily`", {
    "type": "string",
    "pattern": "^(@[a-z]+(\\s*,\\s*@[a-z]+)*|\\S+\\s+\\S+\\s+\\S+\\s+\\S+\\s+\\S+)$",
    "examples": ["@daily", "0 3 * * SUN"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_or_a_word() {
        for (text, count) in [("0 3 * * SUN", 1), ("@daily", 1), ("@hourly, @weekly", 2)] {
            assert_eq!(
                text.parse::<Schedule>().expect(text).expressions().len(),
                count
            );
        }
        assert_eq!(
            "@dayly".parse::<Schedule>().expect_err("typo").to_string(),
            "`@dayly` is no schedule; did you mean `@daily`?"
        );
        for wrong in [
            "",
            "* * * *",
            "99 * * * *",
            "* * * * * *",
            "@never-heard",
            "0 0 31 2 *",
        ] {
            assert!(wrong.parse::<Schedule>().is_err(), "{wrong}");
        }
    }
}
