//! [`Duration`]: `30s`, `5m`, `1h30m`; kept as spelled, compared by length.

use std::fmt;
use std::str::FromStr;

use super::{BadScalar, number_and_unit};

/// A length of time in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Duration {
    milliseconds: u64,
    spelling: Option<Box<str>>,
}

const UNITS: &[(&str, u64)] = &[
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl Duration {
    /// So many seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self {
            milliseconds: seconds.saturating_mul(1000),
            spelling: None,
        }
    }

    /// Milliseconds.
    pub const fn milliseconds(&self) -> u64 {
        self.milliseconds
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(&self) -> u64 {
        self.milliseconds / 1000
    }

    /// As the standard library has it.
    pub const fn as_std(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.milliseconds)
    }
}

impl PartialEq for Duration {
    fn eq(&self, other: &Self) -> bool {
        self.milliseconds == other.milliseconds
    }
}

impl Eq for Duration {}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spelling) = &self.spelling {
            return formatter.write_str(spelling);
        }
        if self.milliseconds == 0 {
            return formatter.write_str("0s");
        }
        for (unit, factor) in UNITS {
            if self.milliseconds.is_multiple_of(*factor) {
                return write!(formatter, "{}{unit}", self.milliseconds / factor);
            }
        }
        Ok(())
    }
}

impl FromStr for Duration {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` is no duration: write a number and a unit, such as `30s`, `5m`, `12h`, `7d`"
            ))
        };
        let mut rest = text;
        let mut total: u64 = 0;
        if text.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (number, after) = number_and_unit(rest).ok_or_else(wrong)?;
            let end = after
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, next) = after.split_at(end);
            if unit.is_empty() {
                return Err(BadScalar::meant(
                    format_args!("`{text}` is no duration: the unit is missing"),
                    format_args!("{text}s"),
                ));
            }
            let (_, factor) = UNITS
                .iter()
                .find(|(word, _)| *word == unit)
                .ok_or_else(wrong)?;
            total = number
                .checked_mul(*factor)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| BadScalar::new(format!("`{text}` is too long")))?;
            rest = next;
        }
        Ok(Self {
            milliseconds: total,
            spelling: Some(text.into()),
        })
    }
}

crate::text_scalar!(Duration, "a duration such as `30s`", {
    "type": "string",
    "pattern": "^([0-9]+(ms|s|m|h|d|w))+$",
    "examples": ["30s", "5m", "12h", "7d"],
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_add_up() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("25ms", 25),
            ("4w", 2_419_200_000),
        ] {
            let duration: Duration = text.parse().expect(text);
            assert_eq!(
                (duration.milliseconds(), duration.to_string().as_str()),
                (milliseconds, text)
            );
        }
        assert_eq!("60s".parse::<Duration>(), "1m".parse());
        assert_eq!(
            "30".parse::<Duration>().expect_err("no unit").to_string(),
            "`30` is no duration: the unit is missing; did you mean `30s`?"
        );
        for wrong in [
            "",
            "s",
            "1x",
            "99999999999999999999s",
            "99999999999999999w",
            "-1s",
        ] {
            assert!(wrong.parse::<Duration>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(seconds in 0u64..u64::MAX / 1000) {
            let duration = Duration::from_seconds(seconds);
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }
    }
}
