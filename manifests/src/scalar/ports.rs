//! [`PortList`]: `80`, `8000-8010,9000`.

use std::fmt;
use std::str::FromStr;

use super::BadScalar;

/// Port numbers in the order written, which forwards and proxies pair up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortList {
    ranges: Vec<(u16, u16)>,
}

impl PortList {
    /// First and last of each run, as written.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    /// How many ports.
    pub fn count(&self) -> usize {
        self.ranges
            .iter()
            .map(|(first, last)| usize::from(last - first) + 1)
            .sum()
    }

    /// The numbers, in the order written.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + '_ {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }
}

impl FromStr for PortList {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` is no list of ports: write `80` or `8000-8010,9000`"
            ))
        };
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (port(first), port(last)) {
                (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
                _ => return Err(wrong()),
            }
        }
        Ok(Self { ranges })
    }
}

impl fmt::Display for PortList {
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

crate::text_scalar!(PortList, "ports such as `80` or `8000-8010,9000`", {
    "type": ["string", "integer"],
    "minimum": 1,
    "maximum": 65535,
    "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_runs() {
        assert_eq!(
            "8000-8002,90"
                .parse::<PortList>()
                .map(|p| (p.count(), p.to_string())),
            Ok((4, "8000-8002,90".to_owned()))
        );
        for wrong in ["", "0", "65536", "9-1", "a", "80,"] {
            assert!(wrong.parse::<PortList>().is_err(), "{wrong}");
        }
    }
}
