//! [`Expiry`]: how long something is kept, with calendar units: `7d`, `1mo`, `1y`.

use std::fmt;
use std::str::FromStr;

use super::{BadScalar, number_and_unit};

/// How long something is kept. A bare `m` or `M` is refused, since Incus reads one as months and one as minutes.
#[derive(Debug, Clone, Default)]
pub struct Expiry {
    /// Calendar months, years included.
    months: u32,
    /// Seconds beyond them.
    seconds: u64,
    spelling: Option<Box<str>>,
}

const UNITS: &[(&str, u64)] = &[
    ("w", 604_800),
    ("d", 86_400),
    ("h", 3600),
    ("min", 60),
    ("s", 1),
];

impl Expiry {
    /// So many seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self {
            months: 0,
            seconds,
            spelling: None,
        }
    }

    /// Calendar months and the seconds beyond them.
    pub const fn parts(&self) -> (u32, u64) {
        (self.months, self.seconds)
    }

    /// Seconds, a month counted as 30 days.
    pub const fn seconds(&self) -> u64 {
        (self.months as u64 * 30 * 86_400).saturating_add(self.seconds)
    }

    /// When what began at `from` is over, by the calendar of its time zone: a month after 31 January is the last day of
    /// February. None beyond the year 9999.
    pub fn end(&self, from: &jiff::Zoned) -> Option<jiff::Timestamp> {
        let seconds = i64::try_from(self.seconds).ok()?;
        let span = jiff::Span::new()
            .try_months(self.months)
            .and_then(|span| span.try_seconds(seconds));
        Some(from.checked_add(span.ok()?).ok()?.timestamp())
    }
}

impl PartialEq for Expiry {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Expiry {}

impl fmt::Display for Expiry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spelling) = &self.spelling {
            return formatter.write_str(spelling);
        }
        if self.months > 0 {
            write!(formatter, "{}mo", self.months)?;
        }
        if self.seconds > 0 || self.months == 0 {
            let (unit, factor) = UNITS
                .iter()
                .find(|(_, factor)| self.seconds > 0 && self.seconds.is_multiple_of(*factor))
                .unwrap_or(&("s", 1));
            write!(formatter, "{}{unit}", self.seconds / factor)?;
        }
        Ok(())
    }
}

impl FromStr for Expiry {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` is no length of time: write `12h`, `7d`, `4w`, `1mo` or `1y`"
            ))
        };
        let long = || BadScalar::new(format!("`{text}` is too long"));
        if text.trim().is_empty() {
            return Err(wrong());
        }
        let (mut months, mut seconds) = (0u32, 0u64);
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (number, after) = number_and_unit(rest).ok_or_else(wrong)?;
            let end = after
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, next) = after.split_at(end);
            match unit.trim() {
                "" => {
                    return Err(BadScalar::meant(
                        format_args!("`{text}` has no unit"),
                        format_args!("{}d", text.trim()),
                    ));
                }
                bare @ ("m" | "M") => {
                    return Err(BadScalar::new(format!(
                        "`{bare}` could be minutes or months; did you mean `{number}min` or `{number}mo`?"
                    )));
                }
                unit @ ("mo" | "y") => {
                    let factor = if unit == "y" { 12 } else { 1 };
                    months = u32::try_from(number)
                        .ok()
                        .and_then(|number| number.checked_mul(factor)?.checked_add(months))
                        .ok_or_else(long)?;
                }
                unit => {
                    let (_, factor) = UNITS
                        .iter()
                        .find(|(word, _)| *word == unit)
                        .ok_or_else(wrong)?;
                    seconds = number
                        .checked_mul(*factor)
                        .and_then(|part| seconds.checked_add(part))
                        .ok_or_else(long)?;
                }
            }
            rest = next;
        }
        if (months, seconds) == (0, 0) {
            return Err(BadScalar::new(format!(
                "`{text}` is no time at all: it would be over at once"
            )));
        }
        Ok(Self {
            months,
            seconds,
            spelling: Some(text.into()),
        })
    }
}

crate::text_scalar!(Expiry, "a length of time such as `7d`", {
    "type": "string",
    "pattern": "^\\s*([0-9]+\\s*(s|min|h|d|w|mo|y)\\s*)+$",
    "examples": ["12h", "7d", "4w", "1mo", "1y"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_units_and_the_refused_m() {
        assert_eq!("1y".parse::<Expiry>().map(|e| e.parts()), Ok((12, 0)));
        assert_eq!(
            "1mo 2d".parse::<Expiry>().map(|e| e.parts()),
            Ok((1, 172_800))
        );
        assert_eq!("30min".parse::<Expiry>().map(|e| e.seconds()), Ok(1800));
        assert_eq!(
            "5M".parse::<Expiry>().expect_err("bare").to_string(),
            "`M` could be minutes or months; did you mean `5min` or `5mo`?"
        );
        for wrong in ["", "d", "1q", "7", "99999999999y", "0d", "0h 0min"] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong}");
        }
        for expiry in [Expiry::from_seconds(3600), Expiry::from_seconds(61)] {
            assert_eq!(expiry.to_string().parse::<Expiry>(), Ok(expiry));
        }
    }
}
