//! [`Mac`]: a hardware address, `10:66:6a:00:00:01`.

use std::fmt;
use std::str::FromStr;

use super::BadScalar;

/// A hardware address of six bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` is no hardware address: write `10:66:6a:00:00:01`"
            ))
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(wrong)?;
            *byte = part
                .bytes()
                .all(|b| b.is_ascii_hexdigit())
                .then(|| u8::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or_else(wrong)?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        // The lowest bit of the first byte means "to a group" (IEEE 802); no interface may have such an address.
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(BadScalar::new(format!(
                "`{text}` cannot be the address of an interface: it names a group or nobody"
            )));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

crate::text_scalar!(Mac, "a hardware address such as `10:66:6a:00:00:01`", {
    "type": "string",
    "pattern": "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bytes_of_one_interface() {
        assert_eq!(
            "10:66:6A:00:00:01".parse::<Mac>().map(|m| m.to_string()),
            Ok("10:66:6a:00:00:01".to_owned())
        );
        for wrong in [
            "",
            "10:66:6a:00:00",
            "10:66:6a:00:00:01:02",
            "01:00:5e:00:00:01",
            "1:2:3:4:5:6",
            "+1:00:00:00:00:00",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
