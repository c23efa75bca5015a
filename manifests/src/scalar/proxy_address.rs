//! [`ProxyAddress`]: one end of a proxy device: `tcp:0.0.0.0:80`, `udp:[::1]:53`, `unix:/run/app.sock`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::BadScalar;
use super::ports::PortList;

/// One end of a proxy device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyAddress {
    /// Ports of an address, over TCP.
    Tcp(IpAddr, PortList),
    /// Ports of an address, over UDP.
    Udp(IpAddr, PortList),
    /// A socket in the file system; a name that begins with `@` is an abstract one.
    Unix(String),
}

impl FromStr for ProxyAddress {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            let tcp = format!("tcp:{text}");
            // The protocol was left out.
            if !text.starts_with("tcp:") && tcp.parse::<Self>().is_ok() {
                return BadScalar::meant(format_args!("`{text}` is no proxy address"), tcp);
            }
            BadScalar::new(format!(
                "`{text}` is no proxy address: write `tcp:0.0.0.0:80`, `udp:[::1]:53` or `unix:/run/app.sock`"
            ))
        };
        let (protocol, rest) = text.split_once(':').ok_or_else(wrong)?;
        if protocol == "unix" {
            // sun_path has 108 bytes with the NUL (unix(7)).
            return match rest.starts_with(['/', '@']) && rest.len() < 108 {
                true => Ok(Self::Unix(rest.to_owned())),
                false => Err(wrong()),
            };
        }
        let (address, ports) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let address = match address
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
        {
            Some(inner) => IpAddr::V6(inner.parse().map_err(|_| wrong())?),
            None => IpAddr::V4(address.parse().map_err(|_| wrong())?),
        };
        let ports = ports.parse()?;
        match protocol {
            "tcp" => Ok(Self::Tcp(address, ports)),
            "udp" => Ok(Self::Udp(address, ports)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, address, ports) = match self {
            Self::Unix(path) => return write!(formatter, "unix:{path}"),
            Self::Tcp(address, ports) => ("tcp", address, ports),
            Self::Udp(address, ports) => ("udp", address, ports),
        };
        match address {
            IpAddr::V4(address) => write!(formatter, "{word}:{address}:{ports}"),
            IpAddr::V6(address) => write!(formatter, "{word}:[{address}]:{ports}"),
        }
    }
}

crate::text_scalar!(ProxyAddress, "an address such as `tcp:0.0.0.0:80`", {
    "type": "string",
    "pattern": "^(tcp:|udp:|unix:)",
    "examples": ["tcp:0.0.0.0:80", "unix:/run/app.sock"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_protocols() {
        for text in [
            "tcp:0.0.0.0:80",
            "udp:[::1]:53-55",
            "unix:/run/a.sock",
            "unix:@abstract",
        ] {
            assert_eq!(text.parse::<ProxyAddress>().expect(text).to_string(), text);
        }
        for wrong in [
            "",
            "tcp:80",
            "tcp:localhost:80",
            "unix:run",
            "sctp:0.0.0.0:1",
            "tcp:::1:80",
        ] {
            assert!(wrong.parse::<ProxyAddress>().is_err(), "{wrong}");
        }
    }
}
