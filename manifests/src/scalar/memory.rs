//! [`MemoryLimit`] (a size or a share of the host) and [`Swap`] (whether, or how much).

use std::fmt;
use std::str::FromStr;

use super::BadScalar;
use super::byte_size::ByteSize;

/// What `limits.memory` says; a percentage stays one in the desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryLimit {
    /// So many bytes.
    Size(ByteSize),
    /// So many percent of the host's memory.
    Percent(u8),
}

impl MemoryLimit {
    /// The bytes, on a host that has so many.
    pub fn bytes(&self, of_host: u64) -> u64 {
        match self {
            Self::Size(size) => size.bytes(),
            // Divided first: no overflow, and at most 99 bytes off.
            Self::Percent(percent) => of_host / 100 * u64::from(*percent),
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse::<u8>() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                Err(_) if percent.trim_end() != percent => Err(BadScalar::meant(
                    format_args!("`{text}` is no share"),
                    format_args!("{}%", percent.trim_end()),
                )),
                _ => Err(BadScalar::new(format!(
                    "`{text}` is no share: write `1%` to `100%`"
                ))),
            },
            None => text.parse().map(Self::Size),
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(formatter),
            Self::Percent(percent) => write!(formatter, "{percent}%"),
        }
    }
}

crate::text_scalar!(MemoryLimit, "a size such as `512MiB` or a share of the host such as `25%`", {
    "type": ["string", "integer"],
    "minimum": 0,
    "pattern": "^([0-9]+([kKMGTPE]B|[KMGTPE]iB|B)?|[0-9]{1,3}%)$",
    "examples": ["512MiB", "25%"],
});

/// A switch, or a size that bounds what it switches on: `memorySwap`, `memoryHotplug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// On without a bound of its own, or off.
    Switch(bool),
    /// On, up to this size.
    Size(ByteSize),
}

impl serde::Serialize for Swap {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Switch(on) => serializer.serialize_bool(*on),
            Self::Size(size) => size.serialize(serializer),
        }
    }
}

struct SwapVisitor;

impl serde::de::Visitor<'_> for SwapVisitor {
    type Value = Swap;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("true, false or a size such as `512MiB`")
    }

    fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Swap, E> {
        Ok(Swap::Switch(on))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Swap, E> {
        text.parse().map(Swap::Size).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Swap, E> {
        Ok(Swap::Size(ByteSize::from_bytes(number)))
    }
}

impl<'de> serde::Deserialize<'de> for Swap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SwapVisitor)
    }
}

crate::scalar_schema!(Swap, "true, false or a size such as `512MiB`", {
    "type": ["boolean", "string", "integer"],
    "minimum": 0,
    "pattern": "^[0-9]+([kKMGTPE]B|[KMGTPE]iB|B)?$",
});
crate::compare_as_one!(Swap);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares() {
        assert_eq!(
            "25%".parse::<MemoryLimit>().map(|m| m.bytes(8 << 30)),
            Ok((8u64 << 30) / 100 * 25)
        );
        assert_eq!(
            "1GiB".parse::<MemoryLimit>().map(|m| m.bytes(1)),
            Ok(1 << 30)
        );
        for wrong in ["0%", "101%", "%", "512Mi"] {
            assert!(wrong.parse::<MemoryLimit>().is_err(), "{wrong}");
        }
    }
}
