//! Connections to a server: by its unix socket, or by TLS with the certificate that it is known by.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use manifests::path_io::{self, PathError};
use rustix::net::sockopt;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::http::Stream;

/// How long a server may take to take a call.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how long of silence the kernel asks whether a server is still there.
const STILL: Duration = Duration::from_secs(30);

/// Where a server is and how it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket of this host.
    Unix(PathBuf),
    /// By TLS.
    Https {
        /// `HOST:PORT`.
        address: String,
        /// Who calls: a certificate that the server trusts, and its key, both PEM.
        identity: Option<(PathBuf, PathBuf)>,
        /// The certificate by which the server is known, PEM: it and no other. Servers sign theirs themselves.
        server: PathBuf,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Https { address, .. } => write!(formatter, "https://{address}"),
        }
    }
}

/// A server could not be called.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nobody answers there.
    #[error("call {to}")]
    Call {
        /// Where.
        to: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate or key cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file is no certificate or key in PEM.
    #[error("{} is no {what} in PEM", path.display())]
    NoPem {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// TLS does not take it.
    #[error("TLS to {to}")]
    Tls {
        /// Where.
        to: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The address is none.
    #[error("`{0}` is no address of a server: write HOST:PORT")]
    NoAddress(String),
}

/// Calls servers at one endpoint.
pub(super) struct Caller {
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
}

impl Caller {
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, TransportError> {
        let tls = match &endpoint {
            Endpoint::Unix(_) => None,
            Endpoint::Https {
                identity,
                server,
                address,
            } => Some(tls_config(address, identity.as_ref(), server)?),
        };
        Ok(Self { endpoint, tls })
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn call(&self) -> Result<Box<dyn Stream>, TransportError> {
        let failed = |source| TransportError::Call {
            to: self.endpoint.to_string(),
            source,
        };
        match (&self.endpoint, &self.tls) {
            (Endpoint::Unix(path), _) => {
                let stream = UnixStream::connect(path).map_err(failed)?;
                Ok(Box::new(stream))
            }
            (Endpoint::Https { address, .. }, Some(config)) => {
                let stream = by_tcp(address).map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
                stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
                let host = address
                    .rsplit_once(':')
                    .map_or(address.as_str(), |(host, _)| host);
                let host = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                let name = ServerName::try_from(host)
                    .map_err(|_| TransportError::NoAddress(address.clone()))?;
                let tls = ClientConnection::new(Arc::clone(config), name).map_err(|source| {
                    TransportError::Tls {
                        to: self.endpoint.to_string(),
                        source,
                    }
                })?;
                Ok(Box::new(Tls(StreamOwned::new(tls, stream))))
            }
            (Endpoint::Https { address, .. }, None) => {
                Err(TransportError::NoAddress(address.clone()))
            }
        }
    }
}

fn by_tcp(address: &str) -> io::Result<TcpStream> {
    use std::net::ToSocketAddrs as _;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for one in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&one, PATIENCE) {
            Ok(stream) => {
                // Whoever only listens learns by it that nobody is there any more.
                sockopt::set_socket_keepalive(&stream, true)?;
                sockopt::set_tcp_keepidle(&stream, STILL)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Stream for UnixStream {
    fn patience(&mut self, patience: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(patience)?;
        self.set_write_timeout(patience)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl io::Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl io::Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Tls {
    fn patience(&mut self, patience: Option<Duration>) -> io::Result<()> {
        self.0.sock.set_read_timeout(patience)?;
        self.0.sock.set_write_timeout(patience)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.sock.as_fd()
    }
}

fn tls_config(
    address: &str,
    identity: Option<&(PathBuf, PathBuf)>,
    server: &Path,
) -> Result<Arc<ClientConfig>, TransportError> {
    let failed = |source| TransportError::Tls {
        to: format!("https://{address}"),
        source,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let known = certificates(server)?;
    let pinned = known
        .into_iter()
        .next()
        .ok_or_else(|| TransportError::NoPem {
            path: server.to_path_buf(),
            what: "certificate",
        })?;
    let verifier = Pinned {
        certificate: pinned,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let text = path_io::read(key)?;
            let secret =
                PrivateKeyDer::from_pem_slice(&text).map_err(|_| TransportError::NoPem {
                    path: key.clone(),
                    what: "private key",
                })?;
            config
                .with_client_auth_cert(certificates(certificate)?, secret)
                .map_err(failed)?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let text = path_io::read(path)?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TransportError::NoPem {
            path: path.to_path_buf(),
            what: "certificate",
        })
}

/// Takes one certificate and no other: servers of Incus sign their own, so that no authority says anything of them.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == self.certificate.as_ref() {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(
            "the server shows another certificate than the one by which it is known".to_owned(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
