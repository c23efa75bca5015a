//! [`TimeZoneName`]: `Europe/Berlin`, `UTC`.

use std::fmt;
use std::str::FromStr;

use super::BadScalar;

/// The IANA name of a time zone. Checked against the zones of this host, where it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZoneName(Box<str>);

impl TimeZoneName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TimeZoneName {
    fn default() -> Self {
        Self("UTC".into())
    }
}

impl FromStr for TimeZoneName {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let known = jiff::tz::db();
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
        if text == "UTC" || (plain && (known.is_definitively_empty() || known.get(text).is_ok())) {
            return Ok(Self(text.into()));
        }
        let near = known
            .available()
            .map(|name| {
                (
                    strsim::jaro_winkler(&text.to_lowercase(), &name.as_str().to_lowercase()),
                    name,
                )
            })
            .filter(|(score, _)| *score > 0.85)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        Err(match near {
            Some((_, name)) => BadScalar::meant(format_args!("`{text}` is no time zone"), name),
            None => BadScalar::new(format!(
                "`{text}` is no time zone: write its IANA name, such as `Europe/Berlin` or `UTC`"
            )),
        })
    }
}

impl fmt::Display for TimeZoneName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

crate::text_scalar!(TimeZoneName, "a time zone such as `Europe/Berlin`", {
    "type": "string",
    "pattern": "^[A-Za-z0-9/_+-]+$",
    "examples": ["UTC", "Europe/Berlin"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_names() {
        assert!("UTC".parse::<TimeZoneName>().is_ok());
        for wrong in ["", "../etc/passwd", "Europe/Berlin\n"] {
            assert!(wrong.parse::<TimeZoneName>().is_err(), "{wrong}");
        }
        if !jiff::tz::db().is_definitively_empty() {
            assert_eq!(
                "Europe/Berln"
                    .parse::<TimeZoneName>()
                    .expect_err("a slip")
                    .to_string(),
                "`Europe/Berln` is no time zone; did you mean `Europe/Berlin`?"
            );
        }
    }
}
