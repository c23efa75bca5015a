//! How a controller is reached: by its socket on this host, or over the network by TLS 1.3, with a token or a certificate.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use manifests::path_io::{self, PathError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::web::access::Hidden;

/// How long a server may take until it is connected to.
const CONNECT: Duration = Duration::from_secs(10);
/// Whom this host trusts, on Debian.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A controller cannot be asked that way.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The address is none.
    #[error("`{address}` is no address of a controller: {why}")]
    Address {
        /// As it was said.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] PathError),
    /// A file is not what it should be.
    #[error("{} holds no {what} in PEM", path.display())]
    NoPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// One of two files is missing.
    #[error("a certificate needs its private key, and a key its certificate")]
    Half,
    /// The token cannot be sent.
    #[error("the token is none: it is empty, or has blanks or other characters that no token has")]
    Token,
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("use {what}")]
    Tls {
        /// Which files.
        what: String,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

/// What lets somebody in, and whom they trust.
#[derive(Debug, Default)]
pub struct Access {
    /// Whoever signed the controller's certificate; absent: whom this host trusts.
    pub authority: Option<PathBuf>,
    /// The certificate that says who asks.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// A token.
    pub token: Option<Hidden>,
}

/// How a controller is reached.
#[derive(Debug, Clone)]
pub enum Way {
    /// By its socket.
    Socket(PathBuf),
    /// Over the network.
    Network(Box<Network>),
}

/// How a controller is reached over the network.
#[derive(Debug, Clone)]
pub struct Network {
    host: String,
    port: u16,
    server: ServerName<'static>,
    token: Option<Hidden>,
    config: Arc<ClientConfig>,
}

/// Both directions of a connection.
pub(super) trait Line: Read + Write + Send {}

impl<T: Read + Write + Send> Line for T {}

/// As [`Line`], for those who do not wait.
pub(super) trait AsyncLine: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> AsyncLine for T {}

impl Way {
    /// `https://HOST:PORT`, or `unix:PATH`.
    ///
    /// # Errors
    /// It is neither, or what lets somebody in cannot be used.
    pub fn of(address: &str, access: &Access) -> Result<Self, WayError> {
        let wrong = |why| WayError::Address {
            address: address.to_owned(),
            why,
        };
        if let Some(path) = address.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Self::Socket(PathBuf::from(path))),
                false => Err(wrong("`unix:` wants the whole path of its socket")),
            };
        }
        let rest = address
            .strip_prefix("https://")
            .ok_or_else(|| wrong("write https://HOST:PORT or unix:PATH"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'))
            .ok_or_else(|| wrong("it names no port: https://HOST:PORT"))?;
        let port = port
            .parse()
            .map_err(|_| wrong("its port is no number up to 65535"))?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let server = ServerName::try_from(bare.to_owned())
            .map_err(|_| wrong("its host is no name and no address"))?;
        let token = access.token.clone();
        let is_sent = |Hidden(text): &Hidden| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !token.iter().all(is_sent) {
            return Err(WayError::Token);
        }
        Ok(Self::Network(Box::new(Network {
            host: bare.to_owned(),
            port,
            server,
            token,
            config: Arc::new(config(access)?),
        })))
    }

    /// For people.
    pub fn place(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Network(network) => format!("https://{}", network.host()),
        }
    }

    /// What a question begins with: `question` is `GET /v1/status`, each line of `more` ends as lines of HTTP do.
    pub(super) fn head(&self, question: &str, more: &str) -> String {
        let (host, token) = match self {
            Self::Socket(_) => ("localhost".to_owned(), None),
            Self::Network(network) => (network.host(), network.token.as_ref()),
        };
        let token = token.map_or_else(String::new, |Hidden(token)| {
            format!("Authorization: Bearer {token}\r\n")
        });
        format!("{question} HTTP/1.0\r\nHost: {host}\r\n{token}{more}\r\n")
    }

    /// The address of a web socket, and the token that lets somebody in.
    pub(super) fn socket(&self, path: &str) -> (String, Option<&str>) {
        match self {
            Self::Socket(_) => (format!("ws://localhost{path}"), None),
            Self::Network(network) => {
                let token = network.token.as_ref().map(|Hidden(token)| token.as_str());
                (format!("wss://{}{path}", network.host()), token)
            }
        }
    }

    /// Connects. Nobody is waited for longer than this at a time.
    pub(super) fn connect(&self, patience: Duration) -> io::Result<Box<dyn Line>> {
        match self {
            Self::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Ok(Box::new(stream))
            }
            Self::Network(network) => {
                let stream = network.connect()?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                let (config, server) = (Arc::clone(&network.config), network.server.clone());
                let connection = ClientConnection::new(config, server).map_err(io::Error::other)?;
                Ok(Box::new(StreamOwned::new(connection, stream)))
            }
        }
    }

    /// Connects, for those who do not wait.
    pub(super) async fn open(&self) -> io::Result<Box<dyn AsyncLine>> {
        match self {
            Self::Socket(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
            Self::Network(network) => {
                let stream = network.connect()?;
                stream.set_nonblocking(true)?;
                let stream = tokio::net::TcpStream::from_std(stream)?;
                let connector = TlsConnector::from(Arc::clone(&network.config));
                let greeting = connector.connect(network.server.clone(), stream);
                let greeted = tokio::time::timeout(CONNECT, greeting).await;
                let greeted = greeted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
                Ok(Box::new(greeted?))
            }
        }
    }
}

impl Network {
    /// As it stands in an address.
    fn host(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    // What is typed is sent at once.
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WayError> {
    let text = path_io::read(path)?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| WayError::NoPem {
            path: path.to_path_buf(),
            what: "certificate",
        })
}

fn config(access: &Access) -> Result<ClientConfig, WayError> {
    let tls = |what: &Path, source| WayError::Tls {
        what: what.display().to_string(),
        source,
    };
    let authority = access.authority.as_deref().unwrap_or(Path::new(TRUSTED));
    let mut roots = RootCertStore::empty();
    for one in certificates(authority)? {
        match roots.add(one) {
            Ok(()) => {}
            // Of all that a host trusts one may be of a kind that is not known.
            Err(_) if access.authority.is_none() => {}
            Err(source) => return Err(tls(authority, source)),
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| tls(authority, source))?
        .with_root_certificates(roots);
    match (&access.certificate, &access.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_slice(&path_io::read(key)?);
            let secret = secret.map_err(|_| WayError::NoPem {
                path: key.clone(),
                what: "private key",
            })?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|source| tls(certificate, source))
        }
        _ => Err(WayError::Half),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_whole_and_nothing_is_guessed() {
        let empty = || Access {
            // Nobody is trusted: none is asked here.
            authority: Some("/dev/null".into()),
            ..Access::default()
        };
        for (address, says) in [
            ("edge:8443", "https://HOST:PORT"),
            ("http://edge:8443", "https://HOST:PORT"),
            ("https://edge", "no port"),
            ("https://[::1]", "no port"),
            ("https://edge:x", "number"),
            ("https://edge:99999", "number"),
            ("https://ed ge:1", "no name"),
            ("https://a@edge:1", "no name"),
            ("https://edge:1/v1", "number"),
            ("unix:api.sock", "whole path"),
            ("", "https://HOST:PORT"),
        ] {
            let error = Way::of(address, &empty()).expect_err(address).to_string();
            assert!(error.contains(says), "{address}: {error}");
        }
        let way = Way::of("unix:/run/x", &empty()).expect("a way");
        assert_eq!(way.place(), "/run/x");
        let none = Way::of("https://edge:1", &empty()).expect_err("no certificate");
        assert_eq!(none.to_string(), "/dev/null holds no certificate in PEM");
        for token in ["", "a b", "a\r\nX: y", "ü"] {
            let access = Access {
                token: Some(Hidden(token.to_owned())),
                ..empty()
            };
            let error = Way::of("https://edge:1", &access).expect_err(token);
            assert!(matches!(error, WayError::Token), "{token}: {error}");
        }
    }
}
