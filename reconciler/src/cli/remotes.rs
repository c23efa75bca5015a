//! Servers of Incus by the names that its own client knows them by (`incus remote list`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::decode::Decoder;
use manifests::parse::parse;
use manifests::path_io;
use runtime::incus::Endpoint;
use serde::Deserialize as _;

use super::invocation::environment;
use crate::error::{CliError, Exit};

/// Where the socket of a server of this host is, first to last.
const SOCKETS: &[&str] = &["/run/incus/unix.socket", "/var/lib/incus/unix.socket"];

/// What of `config.yml` is used.
#[derive(Debug, Default, serde::Deserialize)]
struct Config {
    #[serde(default)]
    remotes: BTreeMap<String, Remote>,
}

#[derive(Debug, serde::Deserialize)]
struct Remote {
    #[serde(default)]
    addr: String,
    #[serde(default)]
    protocol: String,
}

/// Where a server is that was said as `local`, `NAME`, `unix:PATH` or `https://HOST:PORT`.
///
/// # Errors
/// There is no such remote, or it is none that keel can work on.
pub(super) fn endpoint(server: &str) -> Result<Endpoint, CliError> {
    if let Some(endpoint) = by_address(server, server)? {
        return Ok(endpoint);
    }
    let folder = folder();
    let file = folder.join("config.yml");
    let text = path_io::read_if_exists(&file)?.unwrap_or_default();
    let config = read(&file, &text)?;
    if let Some(remote) = config.remotes.get(server) {
        if !matches!(remote.protocol.as_str(), "" | "incus" | "lxd") {
            let why = format!("{server} is a server of images: nothing runs there");
            return Err(CliError::new(Exit::Invalid, why));
        }
        if let Some(endpoint) = by_address(server, &remote.addr)? {
            return Ok(endpoint);
        }
    }
    if server == "local" {
        return Ok(Endpoint::Unix(socket()));
    }
    let known: Vec<&str> = config.remotes.keys().map(String::as_str).collect();
    let why = format!("there is no remote `{server}` in {}", file.display());
    Err(
        CliError::new(Exit::Invalid, why).hint(match known.as_slice() {
            [] => "it has none: `incus remote add`, or say incus:unix:PATH".to_owned(),
            known => format!("there are: local, {}", known.join(", ")),
        }),
    )
}

fn read(file: &Path, text: &str) -> Result<Config, CliError> {
    let name = file.display().to_string();
    let (nodes, found) = parse(&name, text);
    if let Some(wrong) = found.sorted().first() {
        let why = format!("{}: {}", wrong.origin, wrong.message);
        return Err(CliError::new(Exit::Invalid, why));
    }
    match nodes.first() {
        None => Ok(Config::default()),
        Some(node) => Config::deserialize(Decoder(node))
            .map_err(|error| CliError::new(Exit::Invalid, error.diagnostic().message)),
    }
}

/// An address as it stands in `addr` of a remote.
fn by_address(name: &str, address: &str) -> Result<Option<Endpoint>, CliError> {
    if let Some(path) = address.strip_prefix("unix:") {
        // Both `unix:/path` and `unix:///path`.
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = if path.is_empty() {
            socket()
        } else {
            PathBuf::from(path)
        };
        return Ok(Some(Endpoint::Unix(path)));
    }
    let Some(rest) = address.strip_prefix("https://") else {
        return Ok(None);
    };
    let host = rest.trim_end_matches('/');
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port {
        host.to_owned()
    } else {
        format!("{host}:8443")
    };
    let folder = folder();
    let own = (folder.join("client.crt"), folder.join("client.key"));
    // One that was said by its address is known by a certificate under its address.
    let named = if name.contains("://") { host } else { name };
    let server = folder.join("servercerts").join(format!("{named}.crt"));
    if !server.exists() {
        let why = format!(
            "nothing says by which certificate {named} is known: {} is not there",
            server.display()
        );
        return Err(CliError::new(Exit::Invalid, why)
            .hint("`incus remote add NAME ADDRESS` shows its fingerprint and keeps it"));
    }
    Ok(Some(Endpoint::Https {
        address,
        identity: own.0.exists().then_some(own),
        server,
    }))
}

/// The folder of the client's own configuration.
fn folder() -> PathBuf {
    let home = || environment("HOME").map_or_else(|| "/root".into(), PathBuf::from);
    let config =
        || environment("XDG_CONFIG_HOME").map_or_else(|| home().join(".config"), PathBuf::from);
    environment("INCUS_CONF").map_or_else(|| config().join("incus"), PathBuf::from)
}

fn socket() -> PathBuf {
    if let Some(path) = environment("INCUS_SOCKET") {
        return path.into();
    }
    if let Some(folder) = environment("INCUS_DIR") {
        return Path::new(&folder).join("unix.socket");
    }
    let found = SOCKETS.iter().map(Path::new).find(|path| path.exists());
    found.unwrap_or_else(|| Path::new(SOCKETS[1])).to_path_buf()
}
