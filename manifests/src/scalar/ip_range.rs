//! [`IpRange4`], [`IpRange6`]: `10.20.0.100-10.20.0.200`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::BadScalar;

macro_rules! range {
    ($name:ident, $address:ty, $example:literal) => {
        /// Addresses from the first to the last, both in it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name {
            /// The first.
            pub first: $address,
            /// The last.
            pub last: $address,
        }

        impl FromStr for $name {
            type Err = BadScalar;

            fn from_str(text: &str) -> Result<Self, BadScalar> {
                let wrong = || BadScalar::new(format!(concat!("`{}` is no range of addresses: write `", $example, "`"), text));
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let first: $address = first.trim().parse().map_err(|_| wrong())?;
                let last: $address = last.trim().parse().map_err(|_| wrong())?;
                if first > last {
                    return Err(BadScalar::meant(
                        format_args!("`{text}` ends before it begins"),
                        format_args!("{last}-{first}"),
                    ));
                }
                Ok(Self { first, last })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}-{}", self.first, self.last)
            }
        }

        crate::text_scalar!($name, "a range of addresses", {
            "type": "string",
            "examples": [$example],
        });
    };
}

range!(IpRange4, Ipv4Addr, "10.20.0.100-10.20.0.200");
range!(IpRange6, Ipv6Addr, "fd42::100-fd42::200");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_first_to_last() {
        let range: IpRange4 = "10.0.0.1-10.0.0.9".parse().expect("range");
        assert_eq!(range.to_string(), "10.0.0.1-10.0.0.9");
        for wrong in ["", "10.0.0.9-10.0.0.1", "a-b", "10.0.0.1-"] {
            assert!(wrong.parse::<IpRange4>().is_err(), "{wrong}");
        }
    }
}
