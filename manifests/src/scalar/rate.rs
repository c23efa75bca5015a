//! Rates: [`BitRate`] of a network interface (`100Mbit`) and [`DiskRate`] of a disk (`100MB`, `500iops`).

use std::fmt;
use std::str::FromStr;

use super::byte_size::ByteSize;
use super::{BadScalar, number_and_unit};

/// Bits a second.
#[derive(Debug, Clone)]
pub struct BitRate {
    bits: u64,
    spelling: Option<Box<str>>,
}

const UNITS: &[(&str, u64)] = &[
    ("Tbit", 1_000_000_000_000),
    ("Gbit", 1_000_000_000),
    ("Mbit", 1_000_000),
    ("kbit", 1000),
    ("Tibit", 1 << 40),
    ("Gibit", 1 << 30),
    ("Mibit", 1 << 20),
    ("Kibit", 1 << 10),
    ("bit", 1),
];

impl BitRate {
    /// A rate that nobody spelled.
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            bits,
            spelling: None,
        }
    }

    /// Bits a second.
    pub const fn bits(&self) -> u64 {
        self.bits
    }
}

impl PartialEq for BitRate {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl Eq for BitRate {}

impl FromStr for BitRate {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` is no rate: write a number of bits a second, such as `100Mbit`"
            ))
        };
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let Some((_, factor)) = UNITS.iter().find(|(word, _)| *word == unit) else {
            let squeezed = unit.trim().to_lowercase();
            let near = UNITS.iter().find(|(word, _)| {
                let word = word.to_lowercase();
                squeezed == word
                    || squeezed == word.replace("it", "")
                    || squeezed == word.replace("it", "ps")
                    || squeezed == word.replace("bit", "")
            });
            return Err(match near {
                Some((word, _)) if number > 0 => BadScalar::meant(
                    format_args!("`{unit}` is no unit of bits a second"),
                    format_args!("{number}{word}"),
                ),
                _ => wrong(),
            });
        };
        let bits = number
            .checked_mul(*factor)
            .filter(|bits| *bits > 0)
            .ok_or_else(wrong)?;
        Ok(Self {
            bits,
            spelling: Some(text.into()),
        })
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spelling) = &self.spelling {
            return formatter.write_str(spelling);
        }
        let (unit, factor) = UNITS
            .iter()
            .find(|(unit, factor)| !unit.contains("ibit") && self.bits.is_multiple_of(*factor))
            .unwrap_or(&("bit", 1));
        write!(formatter, "{}{unit}", self.bits / factor)
    }
}

crate::text_scalar!(BitRate, "a rate such as `100Mbit`", {
    "type": "string",
    "pattern": "^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?bit$",
    "examples": ["100Mbit"],
});

/// Bytes or operations a second, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRate {
    /// Bytes a second.
    pub bytes: Option<ByteSize>,
    /// Operations a second.
    pub operations: Option<u64>,
}

impl FromStr for DiskRate {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let mut rate = Self {
            bytes: None,
            operations: None,
        };
        for part in text.split(',').map(str::trim) {
            match part.strip_suffix("iops") {
                Some(number) if rate.operations.is_none() => {
                    let number = number.parse().ok().filter(|number| *number > 0);
                    rate.operations = Some(number.ok_or_else(|| {
                        BadScalar::new(format!("`{part}` is no rate: write a number of operations a second, such as `500iops`"))
                    })?);
                }
                None if rate.bytes.is_none() => {
                    let size: ByteSize = part.strip_suffix("/s").unwrap_or(part).parse()?;
                    rate.bytes = Some(size);
                }
                _ => {
                    return Err(BadScalar::new(format!(
                        "`{text}` says the same thing twice"
                    )));
                }
            }
        }
        Ok(rate)
    }
}

impl fmt::Display for DiskRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.bytes, self.operations) {
            (Some(bytes), Some(operations)) => write!(formatter, "{bytes},{operations}iops"),
            (Some(bytes), None) => write!(formatter, "{bytes}"),
            (None, operations) => write!(formatter, "{}iops", operations.unwrap_or_default()),
        }
    }
}

crate::text_scalar!(DiskRate, "a rate such as `100MB`, `500iops` or both with a comma between", {
    "type": ["string", "integer"],
    "minimum": 0,
    "pattern": "^[0-9]+(iops|([kKMGTPE]B|[KMGTPE]iB|B)?(/s)?)(,\\s*[0-9]+(iops|([kKMGTPE]B|[KMGTPE]iB|B)?(/s)?))?$",
    "examples": ["100MB", "500iops", "30MB,500iops"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_a_second() {
        assert_eq!(
            "100Mbit".parse::<BitRate>().map(|r| r.bits()),
            Ok(100_000_000)
        );
        assert_eq!(BitRate::from_bits(100_000_000).to_string(), "100Mbit");
        for (wrong, meant) in [
            ("100Mb", "100Mbit"),
            ("100mbps", "100Mbit"),
            ("1g", "1Gbit"),
        ] {
            let error = wrong.parse::<BitRate>().expect_err(wrong).to_string();
            assert!(
                error.ends_with(&format!("did you mean `{meant}`?")),
                "{error}"
            );
        }
        for wrong in ["", "0bit", "fast", "-1Mbit"] {
            assert!(wrong.parse::<BitRate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn disks() {
        for text in ["100MB", "500iops", "30MB,500iops"] {
            assert_eq!(text.parse::<DiskRate>().expect(text).to_string(), text);
        }
        for wrong in ["", "iops", "1MB,2MB", "0iops"] {
            assert!(wrong.parse::<DiskRate>().is_err(), "{wrong}");
        }
    }
}
