//! Who asks over the network: TLS 1.3 and nothing older, certificates of clients, and tokens.

use std::fmt::Write as _;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use manifests::controller::{CertificateAccess, TlsSettings};
use manifests::path_io::{self, PathError};
use manifests::scalar::path::AbsolutePath;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};

use super::subject;
use super::who::Caller;
use super::{Api, Problem, store};
use crate::error::{CliError, chain};

/// How long somebody with a wrong token waits for the answer.
const WRONG: Duration = Duration::from_millis(300);
/// What each token begins with, by which it is recognised where it should not be.
pub const TOKEN: &str = "keel_";

/// It cannot be offered over the network.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The address is not free, or not one of this host.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("read what the settings name in api.tls")]
    File(#[from] PathError),
    /// A file is not what it should be.
    #[error("{path} holds no {what} in PEM")]
    NoPem {
        /// The file.
        path: String,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("use what the settings name in api.tls")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a secret hashes to. It has 256 random bits: nothing is gained by a slow one.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The door to the network.
#[derive(Debug)]
pub struct Remote {
    pub(super) listener: StdListener,
    pub(super) identity: Identity,
    /// Who may what.
    access: Vec<CertificateAccess>,
}

impl Remote {
    /// Listens as settings say.
    ///
    /// # Errors
    /// The address is not free, or what they name cannot be used.
    pub fn open(settings: &TlsSettings) -> Result<Self, RemoteError> {
        let identity = Identity::new(settings.clone())?;
        let listen = || {
            let listener = StdListener::bind(&settings.listen)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = listen().map_err(|source| RemoteError::Listen {
            address: settings.listen.clone(),
            source,
        })?;
        Ok(Self {
            listener,
            identity,
            access: settings.access.clone(),
        })
    }

    /// Who somebody with this certificate is; none: they may nothing. It was found good.
    pub(super) fn admits(&self, certificate: &CertificateDer<'_>) -> Option<Caller> {
        let fingerprint = hex(&Sha256::digest(certificate));
        let names = subject::names(certificate);
        let fits = |line: &&CertificateAccess| match (&line.subject, line.digits()) {
            (Some(subject), _) => names.contains(subject),
            (None, Some(digits)) => digits == fingerprint,
            (None, None) => false,
        };
        let line = self.access.iter().find(fits)?;
        let name = line.subject.clone().or_else(|| names.first().cloned());
        Some(Caller {
            name: name.unwrap_or_else(|| format!("certificate {}", &fingerprint[..12])),
            role: line.role,
            projects: line.projects.iter().cloned().collect(),
        })
    }
}

/// When files were changed last, by which new ones are seen.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// By what the server shows who it is: read anew when its files change.
#[derive(Debug)]
pub(super) struct Identity {
    settings: TlsSettings,
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Identity {
    fn new(settings: TlsSettings) -> Result<Self, RemoteError> {
        let current = Mutex::new((stamp(&settings), Arc::new(config(&settings)?)));
        Ok(Self { settings, current })
    }

    /// As its files say now; as they said before where they cannot be used.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let now = stamp(&self.settings);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != now {
            match config(&self.settings) {
                Ok(config) => {
                    tracing::info!("the certificate of the API is renewed");
                    current.1 = Arc::new(config);
                }
                // It is told once.
                Err(error) => tracing::error!("{}", chain(&error)),
            }
            current.0 = now;
        }
        Arc::clone(&current.1)
    }
}

fn files(settings: &TlsSettings) -> impl Iterator<Item = &AbsolutePath> {
    let all = [&settings.certificate, &settings.key, &settings.authority];
    all.into_iter().flatten()
}

fn stamp(settings: &TlsSettings) -> Stamp {
    let of = |path: &AbsolutePath| {
        let path: &std::path::Path = path.as_ref();
        let metadata = path.metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files(settings).map(of).collect()
}

fn certificates(path: Option<&AbsolutePath>) -> Result<Vec<CertificateDer<'static>>, RemoteError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let text = path_io::read(path)?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| RemoteError::NoPem {
            path: path.to_string(),
            what: "certificate",
        })
}

fn config(settings: &TlsSettings) -> Result<ServerConfig, RemoteError> {
    fn wrong(error: impl std::error::Error + Send + Sync + 'static) -> RemoteError {
        RemoteError::Tls(Box::new(error))
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(wrong)?;
    let trusted = certificates(settings.authority.as_ref())?;
    let builder = if trusted.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for one in trusted {
            roots.add(one).map_err(wrong)?;
        }
        // Whoever shows none may have a token.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(wrong)?;
        builder.with_client_cert_verifier(verifier)
    };
    let own = certificates(settings.certificate.as_ref())?;
    let key = settings.key.as_ref();
    let no_key = || RemoteError::NoPem {
        path: key.map(ToString::to_string).unwrap_or_default(),
        what: "private key",
    };
    let text = path_io::read(key.ok_or_else(no_key)?)?;
    let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|_| no_key())?;
    let mut config = builder.with_single_cert(own, secret).map_err(wrong)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(secret.trim())
}

/// Whoever sends a token is whom it was made for.
pub(super) async fn by_token(
    api: Api,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(secret) = bearer(request.headers()) {
        let hash = hash(secret);
        let found = api.block(move |desk| {
            let now = desk.session().clock.now();
            let found = store(desk)?.token_of(&hash);
            let found = found.map_err(|error| Problem::from(CliError::from(error)))?;
            Ok(found.filter(|token| !token.is_over(now)))
        });
        let Some(token) = found.await? else {
            tokio::time::sleep(WRONG).await;
            return Err(Problem::nobody());
        };
        request.extensions_mut().insert(Caller {
            name: format!("token {}", token.name),
            role: token.role,
            projects: token.projects.into_iter().collect(),
        });
    }
    Ok(next.run(request).await)
}
