//! [`ByteSize`]: `512MiB`, `10GB`; kept as spelled, compared by bytes.

use std::fmt;
use std::str::FromStr;

use super::{BadScalar, number_and_unit};

/// A number of bytes. `MiB` is 2^20, `MB` is 10^6; a bare number is bytes.
#[derive(Debug, Clone, Default)]
pub struct ByteSize {
    bytes: u64,
    spelling: Option<Box<str>>,
}

/// The units of Incus, greatest first, binary before decimal.
const UNITS: &[(&str, u64)] = &[
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("EB", 1_000_000_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// A size that nobody spelled; shown in the greatest unit that divides it, binary before decimal.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self {
            bytes,
            spelling: None,
        }
    }

    /// The bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl PartialEq for ByteSize {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for ByteSize {}

impl PartialOrd for ByteSize {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByteSize {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spelling) = &self.spelling {
            return formatter.write_str(spelling);
        }
        let exact = |(_, factor): &&(&str, u64)| {
            self.bytes >= *factor && self.bytes.is_multiple_of(*factor)
        };
        let (unit, factor) = UNITS.iter().find(exact).unwrap_or(&("B", 1));
        write!(formatter, "{}{unit}", self.bytes / factor)
    }
}

impl FromStr for ByteSize {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let Some((number, unit)) = number_and_unit(text) else {
            return Err(fraction(text).unwrap_or_else(|| {
                BadScalar::new(format!(
                    "`{text}` is no size: write a number and a unit, such as `512MiB` or `10GB`"
                ))
            }));
        };
        let factor = match unit {
            "" => 1,
            unit => match UNITS.iter().find(|(word, _)| *word == unit) {
                Some((_, factor)) => *factor,
                None => {
                    return Err(fraction(text).unwrap_or_else(|| wrong_unit(text, number, unit)));
                }
            },
        };
        let bytes = number
            .checked_mul(factor)
            .ok_or_else(|| BadScalar::new(format!("`{text}` is more than 2^64 bytes")))?;
        Ok(Self {
            bytes,
            spelling: Some(text.into()),
        })
    }
}

fn wrong_unit(text: &str, number: u64, unit: &str) -> BadScalar {
    let squeezed = unit.trim().to_lowercase();
    let binary = squeezed.contains('i');
    let meant = squeezed.chars().next().and_then(|letter| {
        "kmgtpe".contains(letter).then(|| {
            let big = if letter == 'k' && !binary {
                'k'
            } else {
                letter.to_ascii_uppercase()
            };
            format!("{number}{big}{}", if binary { "iB" } else { "B" })
        })
    });
    match meant {
        // `512M` says neither 10^6 nor 2^20: both are offered.
        Some(meant) if squeezed.len() == 1 => BadScalar::new(format!(
            "`{unit}` is no unit of size; did you mean `{number}{}iB` (powers of 1024) or `{meant}` (powers of 1000)?",
            squeezed.to_uppercase()
        )),
        Some(meant) => BadScalar::meant(format_args!("`{unit}` is no unit of size"), meant),
        None => BadScalar::new(format!(
            "`{text}` is no size: the units are B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"
        )),
    }
}

/// `1.5GiB` is refused, as Incus does, with the whole number that it stands for.
fn fraction(text: &str) -> Option<BadScalar> {
    let (whole, rest) = text.split_once('.')?;
    let digits = rest.chars().take_while(char::is_ascii_digit).count();
    let (tenths, unit) = (rest.get(..digits)?, rest.get(digits..)?);
    let (_, factor) = UNITS.iter().find(|(word, _)| *word == unit)?;
    let step: u64 = if unit.ends_with("iB") { 1024 } else { 1000 };
    let (smaller, small) = UNITS.iter().find(|(word, size)| {
        size.checked_mul(step) == Some(*factor) && word.ends_with("iB") == unit.ends_with("iB")
    })?;
    let scale = 10u64.checked_pow(u32::try_from(digits).ok()?)?;
    let bytes = whole
        .parse::<u64>()
        .ok()?
        .checked_mul(*factor)?
        .checked_add(tenths.parse::<u64>().ok()?.checked_mul(*factor)? / scale)?;
    Some(BadScalar::meant(
        format_args!("`{text}` is no size: fractions are not taken"),
        format_args!("{}{smaller}", bytes / small),
    ))
}

crate::text_scalar!(ByteSize, "a size such as `512MiB`", {
    "type": ["string", "integer"],
    "minimum": 0,
    "pattern": "^[0-9]+([kKMGTPE]B|[KMGTPE]iB|B)?$",
    "examples": ["512MiB", "10GB"],
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_those_of_incus() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("512MB", 512_000_000),
            ("1kB", 1000),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("0", 0),
            ("17", 17),
            ("17B", 17),
        ] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!(size.bytes(), bytes);
            assert_eq!(size.to_string(), text, "kept as spelled");
        }
        assert_eq!("1GiB".parse::<ByteSize>(), "1024MiB".parse());
        assert_eq!(ByteSize::from_bytes(512 << 20).to_string(), "512MiB");
        assert_eq!(ByteSize::from_bytes(1000).to_string(), "1kB");
    }

    #[test]
    fn wrong_sizes_say_what_was_meant() {
        for (text, message) in [
            ("512Mi", "`Mi` is no unit of size; did you mean `512MiB`?"),
            (
                "512 MiB",
                "` MiB` is no unit of size; did you mean `512MiB`?",
            ),
            ("512mib", "`mib` is no unit of size; did you mean `512MiB`?"),
            (
                "512M",
                "`M` is no unit of size; did you mean `512MiB` (powers of 1024) or `512MB` (powers of 1000)?",
            ),
            (
                "1.5GiB",
                "`1.5GiB` is no size: fractions are not taken; did you mean `1536MiB`?",
            ),
            ("99999999999EiB", "`99999999999EiB` is more than 2^64 bytes"),
            (
                "lots",
                "`lots` is no size: write a number and a unit, such as `512MiB` or `10GB`",
            ),
            (
                "-1",
                "`-1` is no size: write a number and a unit, such as `512MiB` or `10GB`",
            ),
        ] {
            assert_eq!(
                text.parse::<ByteSize>().expect_err(text).to_string(),
                message
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes: u64) {
            prop_assert_eq!(ByteSize::from_bytes(bytes).to_string().parse::<ByteSize>(), Ok(ByteSize::from_bytes(bytes)));
        }

        #[test]
        fn any_text_gives_an_answer(text: String) {
            let _ = text.parse::<ByteSize>();
        }
    }
}
