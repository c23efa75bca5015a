//! Processors: [`CpuLimit`] (a count, a set, or a machine's topology) and [`CpuAllowance`] (a share or a quota).

use std::fmt;
use std::str::FromStr;

use serde::de::{self, MapAccess, Visitor};

use super::BadScalar;
use crate::near_miss;

/// Sets of processor numbers: `0-3,5`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet {
    /// First and last of each run, ascending, apart from each other.
    ranges: Vec<(u32, u32)>,
}

impl CpuSet {
    /// The numbers, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// First and last of each run, ascending.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self::of(numbers.into_iter().map(|number| (number, number)).collect())
    }
}

impl CpuSet {
    fn of(mut runs: Vec<(u32, u32)>) -> Self {
        runs.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(runs.len());
        for (first, last) in runs {
            match ranges.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            if first == last {
                write!(formatter, "{first}")?;
            } else {
                write!(formatter, "{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// More processors than Linux can have (`CONFIG_NR_CPUS` is at most 8192).
const MOST: u32 = 8192;

impl FromStr for CpuSet {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || BadScalar::new(format!("`{text}` is no set of processors: write `0-3,5`"));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < MOST);
        let mut runs = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => runs.push((first, last)),
                _ => return Err(wrong()),
            }
        }
        Ok(Self::of(runs))
    }
}

crate::text_scalar!(CpuSet, "a set of processors such as `0-3,5`", {
    "type": ["string", "integer"],
    "minimum": 0,
    "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$",
    "examples": ["0-3,5"],
});

/// What `limits.cpu` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuLimit {
    /// So many processors, balanced over those that the host has.
    Count(u32),
    /// These processors. `"2-2"` is processor 2 alone.
    Set(CpuSet),
    /// What a virtual machine sees.
    Topology {
        /// Sockets.
        sockets: u32,
        /// Cores of each socket.
        cores: u32,
        /// Threads of each core.
        threads: u32,
    },
}

impl FromStr for CpuLimit {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        if text.contains(['-', ',']) {
            return text.parse().map(Self::Set);
        }
        match text.parse::<u32>() {
            Ok(0) => Err(BadScalar::new(
                "a number of processors is at least 1; did you mean the first processor, `\"0-0\"`?",
            )),
            Ok(count) if count <= MOST => Ok(Self::Count(count)),
            _ => {
                let wrong =
                    format!("`{text}` is neither a number of processors nor a set such as `0-3,5`");
                // As Kubernetes counts them.
                let thousandths = text
                    .strip_suffix('m')
                    .and_then(|digits| digits.parse::<u32>().ok());
                Err(BadScalar::new(match thousandths {
                    Some(some) => format!("{wrong}; {}", near_miss::cpu_share(f64::from(some))),
                    None => wrong,
                }))
            }
        }
    }
}

impl fmt::Display for CpuLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(formatter, "{count}"),
            Self::Set(set) => match set.ranges() {
                // A lone number would read as a count.
                [(first, last)] if first == last => write!(formatter, "{first}-{last}"),
                _ => set.fmt(formatter),
            },
            Self::Topology {
                sockets,
                cores,
                threads,
            } => {
                write!(
                    formatter,
                    "sockets={sockets},cores={cores},threads={threads}"
                )
            }
        }
    }
}

impl serde::Serialize for CpuLimit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Set(_) => serializer.collect_str(self),
            Self::Topology {
                sockets,
                cores,
                threads,
            } => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry("sockets", sockets)?;
                map.serialize_entry("cores", cores)?;
                map.serialize_entry("threads", threads)?;
                map.end()
            }
        }
    }
}

struct CpuVisitor;

impl<'de> Visitor<'de> for CpuVisitor {
    type Value = CpuLimit;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "a number of processors, a set such as `\"0-3,5\"`, or {sockets, cores, threads}",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<CpuLimit, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<CpuLimit, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<CpuLimit, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CpuLimit, A::Error> {
        let topology: Topology =
            serde::Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let Topology {
            sockets,
            cores,
            threads,
        } = topology;
        if sockets == 0 || cores == 0 || threads == 0 {
            return Err(de::Error::custom(
                "an instance needs at least one processor",
            ));
        }
        Ok(CpuLimit::Topology {
            sockets,
            cores,
            threads,
        })
    }
}

impl<'de> serde::Deserialize<'de> for CpuLimit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CpuVisitor)
    }
}

crate::fields! {
    /// What a virtual machine sees of processors.
    pub struct Topology {
        /// Sockets.
        sockets: u32 = 1,
        /// Cores of each socket.
        cores: u32 = 1,
        /// Threads of each core.
        threads: u32 = 1,
    }
}

crate::scalar_schema!(CpuLimit, "a number of processors, a set such as `\"0-3,5\"`, or {sockets, cores, threads}", {
    "anyOf": [
        { "type": "integer", "minimum": 1 },
        { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$" },
        {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "sockets": { "type": "integer", "minimum": 1, "default": 1, "description": "Sockets." },
                "cores": { "type": "integer", "minimum": 1, "default": 1, "description": "Cores of each socket." },
                "threads": { "type": "integer", "minimum": 1, "default": 1, "description": "Threads of each core." },
            },
        },
    ],
});
crate::compare_as_one!(CpuLimit);

/// What `limits.cpuAllowance` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuAllowance {
    /// A soft share, in percent: counts only when processors are scarce.
    Share(u32),
    /// A hard quota.
    Quota {
        /// Microseconds of processor time …
        quota: u64,
        /// … in each period of so many microseconds.
        period: u64,
    },
}

impl FromStr for CpuAllowance {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` is no allowance: write a soft share such as `50%` or a hard quota such as `25ms/100ms`"
            ))
        };
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse::<u32>() {
                Ok(percent) if (1..=1_000_000).contains(&percent) => Ok(Self::Share(percent)),
                _ => Err(wrong()),
            };
        }
        let micros = |text: &str| {
            let (number, factor) = match text.trim() {
                text if text.ends_with("ms") => (text.trim_end_matches("ms"), 1000),
                text => (text.trim_end_matches("us"), 1),
            };
            number.parse::<u64>().ok()?.checked_mul(factor)
        };
        if !text.contains("ms/") && !text.contains("us/") {
            return Err(wrong());
        }
        let (quota, period) = text.split_once('/').ok_or_else(wrong)?;
        match (micros(quota), micros(period)) {
            // The kernel takes periods of 1 ms to 1 s and quotas from 1 ms (kernel/sched/core.c: tg_set_cfs_bandwidth).
            (Some(quota), Some(period))
                if (1000..=1_000_000).contains(&period) && quota >= 1000 =>
            {
                Ok(Self::Quota { quota, period })
            }
            (Some(_), Some(_)) => Err(BadScalar::new(format!(
                "`{text}`: the kernel takes periods of 1ms to 1000ms and quotas from 1ms"
            ))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for CpuAllowance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |micros: u64| match micros.is_multiple_of(1000) {
            true => format!("{}ms", micros / 1000),
            false => format!("{micros}us"),
        };
        match self {
            Self::Share(percent) => write!(formatter, "{percent}%"),
            Self::Quota { quota, period } => {
                write!(formatter, "{}/{}", time(*quota), time(*period))
            }
        }
    }
}

crate::text_scalar!(CpuAllowance, "a share such as `50%` or a quota such as `25ms/100ms`", {
    "type": "string",
    "pattern": "^([0-9]+%|[0-9]+[mu]s/[0-9]+[mu]s)$",
    "examples": ["50%", "25ms/100ms"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sets() {
        assert_eq!("2".parse(), Ok(CpuLimit::Count(2)));
        assert_eq!("2-2".parse(), Ok(CpuLimit::Set(CpuSet::from_iter([2]))));
        assert_eq!(
            "2-2".parse::<CpuLimit>().map(|l| l.to_string()),
            Ok("2-2".to_owned())
        );
        assert_eq!(
            "5,0-3,2".parse::<CpuSet>().map(|s| s.to_string()),
            Ok("0-3,5".to_owned())
        );
        assert_eq!("0-3".parse::<CpuSet>().map(|s| s.numbers().count()), Ok(4));
        for wrong in ["0", "", "a", "3-1", "1,", "0-99999999", "1-2-3"] {
            assert!(wrong.parse::<CpuLimit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn allowances() {
        assert_eq!("50%".parse(), Ok(CpuAllowance::Share(50)));
        assert_eq!(
            "25ms/100ms".parse(),
            Ok(CpuAllowance::Quota {
                quota: 25_000,
                period: 100_000
            })
        );
        for text in ["50%", "25ms/100ms", "1500us/100ms"] {
            assert_eq!(text.parse::<CpuAllowance>().expect(text).to_string(), text);
        }
        for wrong in ["50", "0%", "25/100", "25ms/", "25ms/2000ms", "-1%"] {
            assert!(wrong.parse::<CpuAllowance>().is_err(), "{wrong}");
        }
    }
}
