//! [`KernelLimit`]: a resource limit of processes (getrlimit(2)): `65536`, `1024:65536`, `unlimited`.

use std::fmt;
use std::str::FromStr;

use super::BadScalar;

/// Soft and hard limit; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelLimit {
    /// What counts; a process may raise it up to the hard limit.
    pub soft: Option<u64>,
    /// The most that a process may give itself.
    pub hard: Option<u64>,
}

impl FromStr for KernelLimit {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` is no limit: write a number, `SOFT:HARD` or `unlimited`"
            ))
        };
        let one = |text: &str| match text.trim() {
            "unlimited" => Ok(None),
            number => number.parse::<u64>().map(Some).map_err(|_| wrong()),
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let limit = Self {
            soft: one(soft)?,
            hard: one(hard)?,
        };
        match (limit.soft, limit.hard) {
            (None, Some(_)) => Err(BadScalar::new(format!(
                "`{text}`: the soft limit is above the hard one"
            ))),
            (Some(soft), Some(hard)) if soft > hard => Err(BadScalar::new(format!(
                "`{text}`: the soft limit is above the hard one"
            ))),
            _ => Ok(limit),
        }
    }
}

impl fmt::Display for KernelLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |limit: Option<u64>| {
            limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
        };
        formatter.write_str(&one(self.soft))?;
        if self.soft != self.hard {
            write!(formatter, ":{}", one(self.hard))?;
        }
        Ok(())
    }
}

crate::text_scalar!(KernelLimit, "a limit such as `65536`, `1024:65536` or `unlimited`", {
    "type": ["string", "integer"],
    "minimum": 0,
    "pattern": "^([0-9]+|unlimited)(:([0-9]+|unlimited))?$",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_and_hard() {
        for text in ["65536", "1024:65536", "unlimited", "5:unlimited"] {
            assert_eq!(text.parse::<KernelLimit>().expect(text).to_string(), text);
        }
        for wrong in ["", "a", "5:1", "unlimited:5", "-1"] {
            assert!(wrong.parse::<KernelLimit>().is_err(), "{wrong}");
        }
    }
}
