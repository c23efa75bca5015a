//! Who may say that there is something new at a source.

use super::source::Token;

crate::words! {
    /// How a delivery is signed.
    pub enum Forge {
        /// GitHub: `X-Hub-Signature-256`.
        Github "github",
        /// GitLab: a signing token (`webhook-signature`), or the secret token as it is (`X-Gitlab-Token`).
        Gitlab "gitlab",
        /// Gitea: `X-Gitea-Signature`.
        Gitea "gitea",
        /// Forgejo: `X-Forgejo-Signature`.
        Forgejo "forgejo",
        /// Anybody: `X-Signature: sha256=…` (or `sha512=`) is the HMAC of the body, which differs each time; or as
        /// standardwebhooks.com has it.
        Generic "generic",
    }
}

crate::fields! {
    /// A webhook of one source: `POST /v1/webhooks/NAME`. It only causes a look.
    pub struct WebhookSettings {
        /// How deliveries are signed.
        forge: Forge = Forge::Generic,
        /// Where the secret is that both sides know.
        secret: Option<Token> = None,
    }
}

crate::fields! {
    /// Where webhooks come in.
    pub struct WebhooksSettings {
        /// An address of this host and a port, such as `127.0.0.1:9480`. It speaks plain HTTP: what comes from elsewhere
        /// comes by a proxy that speaks TLS. Absent: no webhooks.
        listen: Option<ListenAddress> = None,
    }
}

/// An address of this host with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub std::net::SocketAddr);

impl std::str::FromStr for ListenAddress {
    type Err = crate::scalar::BadScalar;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            let why = format!(
                "`{text}` is no address with a port: write `127.0.0.1:9480` or `[::1]:9480`"
            );
            crate::scalar::BadScalar::new(why)
        };
        let address: std::net::SocketAddr = text.parse().map_err(|_| wrong())?;
        match address.port() {
            0 => Err(wrong()),
            _ => Ok(Self(address)),
        }
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

crate::text_scalar!(ListenAddress, "an address with a port such as `127.0.0.1:9480`", { "type": "string", "minLength": 3 });
