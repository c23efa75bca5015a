//! Addresses of networks ([`Subnet4`], [`Subnet6`]) and of network interfaces ([`NicIpv4`], [`NicIpv6`]).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::BadScalar;
use super::prefix::{Prefix4, Prefix6};

macro_rules! family {
    ($subnet:ident, $net:ty, $prefix:ident, $nic:ident, $full:ident, $choice:ident, $address:ty, $word:literal, $example:literal, $nic_example:literal, $prefixes:expr) => {
        #[doc = concat!("The ", $word, " address of a network.")]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub enum $subnet {
            /// A free one is picked once and kept.
            #[default]
            Auto,
            /// None.
            None,
            /// The address of the host in the network, and the length of the prefix.
            Net($net),
        }

        impl $subnet {
            /// The address and prefix, where they are written.
            pub const fn net(&self) -> Option<$net> {
                match self {
                    Self::Net(net) => Some(*net),
                    Self::Auto | Self::None => None,
                }
            }
        }

        impl FromStr for $subnet {
            type Err = BadScalar;

            fn from_str(text: &str) -> Result<Self, BadScalar> {
                match text {
                    "auto" => return Ok(Self::Auto),
                    "none" => return Ok(Self::None),
                    _ => {}
                }
                let wrong = || {
                    BadScalar::new(format!(concat!("`{}` is no ", $word, " address of a network: write `", $example, "`, `auto` or `none`"), text))
                };
                if text.parse::<$address>().is_ok() {
                    return Err(BadScalar::meant(
                        format_args!("`{text}` lacks the length of the prefix"),
                        format_args!("{text}/{}", if $word == "IPv4" { 24 } else { 64 }),
                    ));
                }
                let net: $net = text.parse().map_err(|_| wrong())?;
                if !$prefixes.contains(&net.prefix_len()) {
                    return Err(BadScalar::new(format!(
                        "`{text}`: the prefix has {} to {} bits",
                        $prefixes.start(),
                        $prefixes.end()
                    )));
                }
                if net.addr() == net.network() {
                    return Err(match net.hosts().next() {
                        Some(first) => BadScalar::meant(
                            format_args!("`{text}` is the network itself; the address of the host in it is wanted"),
                            format_args!("{first}/{}", net.prefix_len()),
                        ),
                        None => wrong(),
                    });
                }
                Ok(Self::Net(net))
            }
        }

        impl fmt::Display for $subnet {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Auto => formatter.write_str("auto"),
                    Self::None => formatter.write_str("none"),
                    Self::Net(net) => net.fmt(formatter),
                }
            }
        }

        crate::text_scalar!($subnet, "an address with the length of its prefix, `auto` or `none`", {
            "type": "string",
            "pattern": "^(auto|none|[0-9A-Fa-f.:]+/[0-9]+)$",
            "examples": [$example, "auto", "none"],
        });

        #[doc = concat!("Which ", $word, " address an interface has.")]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub enum $choice {
            /// What the network gives it: a reservation that is kept.
            #[default]
            Dynamic,
            /// None.
            None,
            /// This one.
            Static($address),
        }

        impl $choice {
            /// The address, where one is written.
            pub const fn address(&self) -> Option<$address> {
                match self {
                    Self::Static(address) => Some(*address),
                    Self::Dynamic | Self::None => None,
                }
            }
        }

        impl FromStr for $choice {
            type Err = BadScalar;

            fn from_str(text: &str) -> Result<Self, BadScalar> {
                match text {
                    "none" => Ok(Self::None),
                    "dynamic" => Ok(Self::Dynamic),
                    _ => match (text.parse::<$address>(), text.split_once('/')) {
                        (Ok(address), _) => Ok(Self::Static(address)),
                        (Err(_), Some((address, _))) if address.parse::<$address>().is_ok() => Err(BadScalar::meant(
                            "the address of an interface has no prefix: that of its network counts",
                            address,
                        )),
                        _ => Err(BadScalar::new(format!(concat!("`{}` is no ", $word, " address: write `", $nic_example, "` or `none`"), text))),
                    },
                }
            }
        }

        impl fmt::Display for $choice {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Dynamic => formatter.write_str("dynamic"),
                    Self::None => formatter.write_str("none"),
                    Self::Static(address) => address.fmt(formatter),
                }
            }
        }

        crate::text_scalar!($choice, "an address or `none`", {
            "type": "string",
            "pattern": "^(none|dynamic|[0-9A-Fa-f.:]+)$",
            "examples": [$nic_example, "none"],
        });

        #[doc = concat!("The ", $word, " side of a network interface. An address alone stands for `{address: …}`.")]
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $nic(pub $full);

        impl std::ops::Deref for $nic {
            type Target = $full;

            fn deref(&self) -> &$full {
                &self.0
            }
        }

        crate::fields! {
            #[doc = concat!(" The ", $word, " side of a network interface, in full.")]
            pub struct $full {
                /// The address, or `none`; absent: by DHCP, with a reservation.
                address: $choice = $choice::Dynamic,
                /// The gateway that the interface gets, or `none`; absent: that of the network.
                gateway: Option<$choice> = None,
                /// Prefixes that are led to this interface.
                routes: Vec<$prefix> = Vec::new(),
                /// The address of the host's end (`routed`).
                host_address: Option<$address> = None,
                /// Routing tables of the host that get the routes (`routed`, `ipvlan`).
                host_tables: Vec<u32> = Vec::new(),
            }
        }

        impl serde::Serialize for $nic {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let alone = $full { address: self.address, ..$full::default() };
                match (self.0 == alone, self.address) {
                    (true, $choice::Dynamic) => serializer.serialize_none(),
                    (true, address) => address.serialize(serializer),
                    (false, _) => self.0.serialize(serializer),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $nic {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> serde::de::Visitor<'de> for Either {
                    type Value = $nic;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str(concat!("an ", $word, " address, `none` or {address, gateway, routes}"))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$nic, E> {
                        let address = text.parse().map_err(E::custom)?;
                        Ok($nic($full { address, ..$full::default() }))
                    }

                    fn visit_unit<E: serde::de::Error>(self) -> Result<$nic, E> {
                        Ok($nic::default())
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$nic, A::Error> {
                        serde::Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map($nic)
                    }
                }
                deserializer.deserialize_any(Either)
            }
        }

        impl schemars::JsonSchema for $nic {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($nic).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let short = generator.subschema_for::<$choice>();
                let full = generator.subschema_for::<$full>();
                schemars::json_schema!({
                    "anyOf": [short, full],
                    "errorMessage": concat!("expected an ", $word, " address, `none` or {address, gateway, routes}"),
                })
            }
        }

        impl crate::change::Compare for $nic {
            fn compare(&self, seen: &Self, at: &crate::pointer::Pointer, out: &mut crate::change::Comparison) {
                if self != seen {
                    out.differs(at.clone(), crate::change::shown(seen), crate::change::shown(self));
                }
            }
        }
    };
}

family!(
    Subnet4,
    Ipv4Net,
    Prefix4,
    NicIpv4,
    NicIpv4Full,
    NicAddress4,
    Ipv4Addr,
    "IPv4",
    "10.20.0.1/24",
    "10.20.0.10",
    (8..=30)
);
family!(
    Subnet6,
    Ipv6Net,
    Prefix6,
    NicIpv6,
    NicIpv6Full,
    NicAddress6,
    Ipv6Addr,
    "IPv6",
    "fd42:20::1/64",
    "fd42:20::10",
    (16..=126)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for text in ["10.20.0.1/24", "auto", "none"] {
            assert_eq!(text.parse::<Subnet4>().expect(text).to_string(), text);
        }
        for (wrong, message) in [
            (
                "10.20.0.0/24",
                "`10.20.0.0/24` is the network itself; the address of the host in it is wanted; did you mean `10.20.0.1/24`?",
            ),
            (
                "10.20.0.1",
                "`10.20.0.1` lacks the length of the prefix; did you mean `10.20.0.1/24`?",
            ),
            (
                "10.20.0.1/31",
                "`10.20.0.1/31`: the prefix has 8 to 30 bits",
            ),
            (
                "10.20.0.300/24",
                "`10.20.0.300/24` is no IPv4 address of a network: write `10.20.0.1/24`, `auto` or `none`",
            ),
        ] {
            assert_eq!(
                wrong.parse::<Subnet4>().expect_err(wrong).to_string(),
                message
            );
        }
        assert!("fd42::1/64".parse::<Subnet6>().is_ok());
        assert!("10.0.0.1/24".parse::<Subnet6>().is_err());
    }

    #[test]
    fn interfaces_in_short_and_in_full() {
        let read = |text: &str| serde_json::from_str::<NicIpv4>(text);
        let short = read("\"10.20.0.10\"").expect("short");
        assert_eq!(short, read("{\"address\":\"10.20.0.10\"}").expect("full"));
        assert_eq!(
            serde_json::to_string(&short).expect("json"),
            "\"10.20.0.10\""
        );
        assert_eq!(read("{}").expect("empty"), NicIpv4::default());
        assert!(read("\"10.20.0.10/24\"").is_err());
        let full = "{\"address\":\"none\",\"routes\":[\"10.9.0.0/24\"]}";
        assert_eq!(
            serde_json::to_string(&read(full).expect("full")).expect("json"),
            full
        );
    }
}
