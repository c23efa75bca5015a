//! Where traces go.

use super::source::Token;
use super::web_url::WebUrl;
use crate::scalar::path::AbsolutePath;

crate::fields! {
    /// A collector of OpenTelemetry, which takes OTLP by HTTP as JSON.
    pub struct TracesSettings {
        /// Its address: `https://otel.example.org:4318`; `/v1/traces` is added where it has no path.
        endpoint: Option<WebUrl> = None,
        /// Where a token is that is sent as `Bearer`.
        token: Option<Token> = None,
        /// A file with certificates (PEM) that are trusted besides those of the host.
        authority: Option<AbsolutePath> = None,
        /// The proxy on the way: `http://proxy.example.org:3128`. None is taken from the environment.
        proxy: Option<String> = None,
    }
}
