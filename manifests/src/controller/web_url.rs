//! [`WebUrl`]: an address of the web that something is sent to.

use std::fmt;
use std::str::FromStr;

use crate::scalar::BadScalar;

/// An address of the web: `https://…`, or `http://…` of this host. It has no user and no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebUrl {
    whole: String,
    /// Where the path begins.
    path: usize,
}

impl WebUrl {
    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// The address of the server, without path and query: those may be what lets somebody in.
    pub fn server(&self) -> &str {
        self.whole.get(..self.path).unwrap_or_default()
    }
}

/// Servers of which nobody but this host hears.
fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn is_host(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.starts_with(['-', '.']) && host.chars().all(plain),
    }
}

impl FromStr for WebUrl {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let printable = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}#".contains(c);
        if !text.chars().all(printable) {
            return Err(BadScalar::new(
                "an address of the web has no blanks, no `#` and no quotes: write them as `%20` and the like",
            ));
        }
        let (scheme, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => ("https://", rest),
            (_, Some(rest)) => ("http://", rest),
            (None, None) => {
                return Err(BadScalar::new(format!(
                    "`{text}` is no address of the web: write `https://…`"
                )));
            }
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, _) = rest.split_at(end);
        if authority.contains('@') {
            return Err(BadScalar::new(
                "an address has no user and no password, which would be seen in messages; write a `token`",
            ));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        if !is_host(host) {
            return Err(BadScalar::new(format!("`{host}` is no name of a server")));
        }
        if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            return Err(BadScalar::new(format!(
                "`{}` is no port",
                port.unwrap_or_default()
            )));
        }
        if scheme == "http://" && !is_here(host) {
            return Err(BadScalar::new(
                "what goes by http is read on the way: write `https://…` (http is for servers of this host)",
            ));
        }
        Ok(Self {
            path: scheme.len() + end,
            whole: text.to_owned(),
        })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.whole)
    }
}

crate::text_scalar!(WebUrl, "an address of the web such as `https://chat.example.org/hooks/keel`", { "type": "string", "minLength": 1 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_without_what_lets_in() {
        for (text, server) in [
            ("https://h.example.org/a/b?c=d", "https://h.example.org"),
            ("https://h.example.org:8443", "https://h.example.org:8443"),
            ("https://h.example.org?c", "https://h.example.org"),
            ("http://127.0.0.1:9093/api", "http://127.0.0.1:9093"),
            ("http://[::1]:80/", "http://[::1]:80"),
            ("http://localhost/", "http://localhost"),
        ] {
            let url: WebUrl = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((url.server(), url.as_str()), (server, text));
        }
    }

    #[test]
    fn what_would_be_read_on_the_way_is_refused() {
        for (text, why) in [
            ("http://h.example.org/a", "read on the way"),
            ("http://127.0.0.1.example.org/", "read on the way"),
            ("https://me:pass@h.example.org/", "no user and no password"),
            ("ftp://h.example.org/", "no address of the web"),
            ("https:///a", "no name of a server"),
            ("https://-x/", "no name of a server"),
            ("https://h:0/", "no port"),
            ("https://h:x/", "no port"),
            ("https://h/a b", "no blanks"),
            ("https://h/a#b", "no blanks"),
        ] {
            let error = text.parse::<WebUrl>().map(|url| url.to_string());
            let error = error.expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
