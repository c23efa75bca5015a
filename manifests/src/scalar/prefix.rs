//! [`Prefix`], [`Prefix4`], [`Prefix6`]: the addresses of a network, `10.9.0.0/24`.

use std::fmt;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::BadScalar;

macro_rules! prefix {
    ($name:ident, $net:ty, $example:literal) => {
        /// The addresses of a network.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $net);

        impl FromStr for $name {
            type Err = BadScalar;

            fn from_str(text: &str) -> Result<Self, BadScalar> {
                let net: $net = text.parse().map_err(|_| {
                    BadScalar::new(format!(concat!("`{}` is no prefix: write `", $example, "`"), text))
                })?;
                if net.addr() != net.network() {
                    return Err(BadScalar::meant(
                        format_args!("`{text}` is an address in a network and no prefix"),
                        net.trunc(),
                    ));
                }
                Ok(Self(net))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        crate::text_scalar!($name, "a prefix", {
            "type": "string",
            "pattern": "^[0-9A-Fa-f.:]+/[0-9]+$",
            "examples": [$example],
        });
    };
}

prefix!(Prefix, IpNet, "10.9.0.0/24");
prefix!(Prefix4, Ipv4Net, "10.9.0.0/24");
prefix!(Prefix6, Ipv6Net, "fd42:9::/64");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_a_mistake() {
        assert_eq!(
            "10.9.0.0/24".parse::<Prefix>().map(|p| p.to_string()),
            Ok("10.9.0.0/24".to_owned())
        );
        assert_eq!(
            "10.9.0.5/24"
                .parse::<Prefix4>()
                .expect_err("host bits")
                .to_string(),
            "`10.9.0.5/24` is an address in a network and no prefix; did you mean `10.9.0.0/24`?"
        );
        assert!("10.9.0.0".parse::<Prefix>().is_err());
        assert!("10.9.0.0/24".parse::<Prefix6>().is_err());
    }
}
