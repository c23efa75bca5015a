//! [`FileMode`]: `"0644"`, always octal.

use std::fmt;
use std::str::FromStr;

use super::BadScalar;

/// Permission bits of a file. Digits are octal, quoted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o7777 && digits.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Self(mode))
            }
            _ => Err(BadScalar::new(format!(
                "`{text}` is no file mode: write octal digits such as `\"0644\"`"
            ))),
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04o}", self.0)
    }
}

crate::text_scalar!(FileMode, "a file mode such as `\"0644\"`", {
    "type": ["string", "integer"],
    "pattern": "^(0o)?[0-7]{1,5}$",
    "examples": ["0644"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_octal() {
        for (text, mode) in [
            ("0644", 0o644),
            ("644", 0o644),
            ("0o755", 0o755),
            ("01777", 0o1777),
        ] {
            assert_eq!(text.parse(), Ok(FileMode(mode)));
        }
        assert_eq!(FileMode(0o644).to_string(), "0644");
        for wrong in ["", "0888", "rw", "-1", "+7", "77777"] {
            assert!(wrong.parse::<FileMode>().is_err(), "{wrong}");
        }
    }
}
