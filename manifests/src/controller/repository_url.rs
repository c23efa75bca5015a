//! [`RepositoryUrl`]: where a repository is. Only what can do nothing but hand out commits.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::scalar::BadScalar;

/// Where a repository is. Each part was checked so far that no program and no server takes it for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// By https.
    Https {
        /// The server, with its port where that is another one than 443.
        host: String,
        /// The path, with its first slash.
        path: String,
    },
    /// By ssh.
    Ssh {
        /// Whom to log in as; none: as ssh is set up.
        user: Option<String>,
        /// The server.
        host: String,
        /// Its port; none: as ssh is set up.
        port: Option<u16>,
        /// The path as the server gets it.
        path: String,
    },
    /// A repository of this host.
    Local(PathBuf),
}

/// Schemes that git knows and that are not taken, and why.
const REFUSED: [(&str, &str); 3] = [
    (
        "http",
        "nobody vouches for what comes by http: write `https://…`",
    ),
    (
        "git",
        "nobody vouches for what comes by git://: write `https://…` or `ssh://…`",
    ),
    ("ftp", "git does not fetch by ftp any more"),
];

impl FromStr for RepositoryUrl {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(BadScalar::new("an address has no blanks and no line ends"));
        }
        if text.starts_with('/') {
            return local(text);
        }
        // `ext::sh -c …` and the like run programs.
        if let Some((helper, _)) = text.split_once("::")
            && !helper.contains(['/', '[', '@'])
        {
            return Err(BadScalar::new(format!(
                "`{helper}::` would run a program: write `https://…`, `ssh://…` or a path"
            )));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return short_ssh(text);
        };
        match scheme {
            "https" => https(rest),
            "ssh" | "git+ssh" | "ssh+git" => ssh(rest),
            "file" => match rest.starts_with('/') {
                true => local(rest),
                false => Err(BadScalar::new(
                    "a path of this host begins with `/`: `file:///srv/git/edge.git`",
                )),
            },
            other => Err(BadScalar::new(
                REFUSED
                    .iter()
                    .find(|(scheme, _)| *scheme == other)
                    .map_or_else(
                        || format!("`{other}://` is not followed: write `https://…`, `ssh://…` or a path"),
                        |(_, why)| (*why).to_owned(),
                    ),
            )),
        }
    }
}

fn local(path: &str) -> Result<RepositoryUrl, BadScalar> {
    if path.split('/').any(|step| step == "..") {
        return Err(BadScalar::new(
            "a path does not lead upwards: `..` is not taken",
        ));
    }
    Ok(RepositoryUrl::Local(Path::new(path).components().collect()))
}

fn https(rest: &str) -> Result<RepositoryUrl, BadScalar> {
    let (host, path) = parts(rest)?;
    if host.contains('@') {
        return Err(BadScalar::new(
            "an address has no user and no password, which would be seen in messages; write `https: { token: … }`",
        ));
    }
    let (name, port) = host_and_port(host)?;
    if path.contains(['?', '#', '\\']) {
        return Err(BadScalar::new(
            "an address of a repository has no `?`, `#` and `\\`",
        ));
    }
    let port = port.filter(|port| *port != 443);
    Ok(RepositoryUrl::Https {
        host: port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}")),
        path: format!("/{path}"),
    })
}

fn ssh(rest: &str) -> Result<RepositoryUrl, BadScalar> {
    let (authority, path) = parts(rest)?;
    let (user, host) = user_and_host(authority)?;
    let (host, port) = host_and_port(host)?;
    // `/~git/edge.git` is meant from a home, as git has it.
    let path = if path.starts_with('~') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Ok(RepositoryUrl::Ssh {
        user,
        host: bare(host).to_owned(),
        port,
        path: remote_path(&path)?,
    })
}

/// `git@host:team/edge.git`.
fn short_ssh(text: &str) -> Result<RepositoryUrl, BadScalar> {
    let Some((authority, path)) = text.split_once(':') else {
        return Err(BadScalar::new(format!(
            "`{}` is no address of a repository: write `https://…`, `ssh://…`, `git@host:path` or an absolute path",
            text.escape_debug()
        )));
    };
    let (user, host) = user_and_host(authority)?;
    let (host, _) = host_and_port(host)?;
    Ok(RepositoryUrl::Ssh {
        user,
        host: host.to_owned(),
        port: None,
        path: remote_path(path)?,
    })
}

/// The server and the path, without the slash between them.
fn parts(rest: &str) -> Result<(&str, &str), BadScalar> {
    rest.split_once('/')
        .filter(|(_, path)| !path.is_empty())
        .ok_or_else(|| BadScalar::new("the path of the repository is missing"))
}

fn user_and_host(authority: &str) -> Result<(Option<String>, &str), BadScalar> {
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Ok((None, authority));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if user.is_empty() || user.starts_with('-') || !user.chars().all(plain) {
        return Err(BadScalar::new(
            "a user of ssh has letters, digits, `.`, `_`, `-` and `+`, and no password",
        ));
    }
    Ok((Some(user.to_owned()), host))
}

/// The name of a server and its port. A name that begins with a dash would be an option of the ssh client.
fn host_and_port(text: &str) -> Result<(&str, Option<u16>), BadScalar> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest
                .split_once(']')
                .ok_or_else(|| BadScalar::new("the `[` of an IPv6 address has no `]`"))?;
            if inside.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(BadScalar::new(format!("`{inside}` is no IPv6 address")));
            }
            (
                text.get(..inside.len() + 2).unwrap_or(text),
                after.strip_prefix(':'),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let is_name = !host.is_empty() && !host.starts_with(['-', '.']) && host.chars().all(plain);
    if !host.starts_with('[') && !is_name {
        return Err(BadScalar::new(format!(
            "`{}` is no name of a server",
            host.escape_debug()
        )));
    }
    let port = port
        .map(|port| {
            port.parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| BadScalar::new(format!("`{}` is no port", port.escape_debug())))
        })
        .transpose()?;
    Ok((host, port))
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A path that a shell of the server gets between single quotes.
fn remote_path(path: &str) -> Result<String, BadScalar> {
    if path.is_empty() || path.starts_with('-') {
        return Err(BadScalar::new(
            "a path on a server does not begin with a dash",
        ));
    }
    if path.contains(['\'', '\\', '!', '"', '`', '$']) {
        return Err(BadScalar::new(
            "a path on a server has no quotes, `\\`, `!` and `$`",
        ));
    }
    Ok(path.to_owned())
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https { host, path } => write!(formatter, "https://{host}{path}"),
            Self::Ssh {
                user,
                host,
                port,
                path,
            } => {
                formatter.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(formatter, "{user}@")?;
                }
                match host.contains(':') {
                    true => write!(formatter, "[{host}]")?,
                    false => formatter.write_str(host)?,
                }
                if let Some(port) = port {
                    write!(formatter, ":{port}")?;
                }
                let slash = if path.starts_with('/') { "" } else { "/" };
                write!(formatter, "{slash}{path}")
            }
            Self::Local(path) => write!(formatter, "{}", path.display()),
        }
    }
}

crate::text_scalar!(RepositoryUrl, "an address of a repository such as `https://git.example.org/team/edge.git`", { "type": "string", "minLength": 1 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, shown) in [
            (
                "https://git.example.org/team/edge.git",
                "https://git.example.org/team/edge.git",
            ),
            ("https://git.example.org:443/e", "https://git.example.org/e"),
            (
                "https://git.example.org:8443/e",
                "https://git.example.org:8443/e",
            ),
            ("https://[::1]:8443/e", "https://[::1]:8443/e"),
            (
                "ssh://git@git.example.org/team/edge.git",
                "ssh://git@git.example.org/team/edge.git",
            ),
            ("ssh://git@[fd00::1]:22/e", "ssh://git@[fd00::1]:22/e"),
            (
                "git@git.example.org:team/edge.git",
                "ssh://git@git.example.org/team/edge.git",
            ),
            ("edge:edge.git", "ssh://edge/edge.git"),
            ("/srv/git/edge.git/", "/srv/git/edge.git"),
            ("file:///srv/git/edge.git", "/srv/git/edge.git"),
        ] {
            let url: RepositoryUrl = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_could_be_something_else_is_refused() {
        for text in [
            "",
            "edge",
            "edge.git",
            "./edge",
            "../edge",
            "/srv/../etc",
            "http://a/b",
            "git://a/b",
            "ftp://a/b",
            "ext::sh -c id",
            "ext::id",
            "fd::3",
            "transport::address",
            "file://host/srv",
            "file://../x",
            "https://",
            "https://a",
            "https://a/",
            "https://user@a/b",
            "https://user:secret@a/b",
            "https://a/b?c",
            "https://a/b#c",
            "https://-a/b",
            "https://a b/c",
            "https://a:0/b",
            "https://a:99999/b",
            "https://[x]/b",
            "ssh://-oProxyCommand=id/x",
            "ssh://git@-oProxyCommand=id/x",
            "ssh://-l@a/x",
            "ssh://a/x'y",
            "ssh://a/x$(id)",
            "ssh://a/x`id`",
            "ssh://a/x\\y",
            "ssh://u:p@a/x",
            "-oProxyCommand=id:x",
            "a:-x",
            "a:x'y",
            "git@a:",
            "ssh://a/",
            "ssh://a\n/x",
            "https://a/b\nHost: c",
            "ssh://a;id/x",
            "javascript://a/b",
        ] {
            assert!(text.parse::<RepositoryUrl>().is_err(), "{text:?}");
        }
    }
}
