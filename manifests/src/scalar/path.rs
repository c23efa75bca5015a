//! [`AbsolutePath`]: a path from the root that stays where it says.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::BadScalar;

/// An absolute path without `..`, NUL or newline. A slash at the end is dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsolutePath(Box<str>);

impl AbsolutePath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the standard library has it.
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl FromStr for AbsolutePath {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        if !text.starts_with('/') {
            return Err(BadScalar::new(format!(
                "`{text}` is not an absolute path: it does not begin with `/`"
            )));
        }
        if text.contains(['\0', '\n']) {
            return Err(BadScalar::new("a path holds no newline and no NUL"));
        }
        // PATH_MAX of Linux counts the NUL at the end.
        if text.len() > 4095 {
            return Err(BadScalar::new("a path has at most 4095 bytes"));
        }
        if text.split('/').any(|step| step == "..") {
            return Err(BadScalar::new(format!(
                "`{text}` leads upwards: `..` is not taken"
            )));
        }
        let trimmed = text.trim_end_matches('/');
        Ok(Self(if trimmed.is_empty() { "/" } else { trimmed }.into()))
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

crate::text_scalar!(AbsolutePath, "an absolute path", { "type": "string", "pattern": "^/" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_where_they_say() {
        assert_eq!(
            "/srv/src/".parse::<AbsolutePath>().map(|p| p.to_string()),
            Ok("/srv/src".to_owned())
        );
        assert_eq!(
            "/".parse::<AbsolutePath>().map(|p| p.to_string()),
            Ok("/".to_owned())
        );
        for wrong in ["", "srv", "/a/../b", "/a\nb", "/a\0b", "/.."] {
            assert!(wrong.parse::<AbsolutePath>().is_err(), "{wrong}");
        }
    }
}
