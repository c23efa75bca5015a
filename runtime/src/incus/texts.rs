//! Texts that may come from secrets: revealed in the request that needs them, sealed again in what is read back.

use manifests::scalar::text::{SEALED, Sealed, Text};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::native::SecretStore;

/// What cloud-init wants before a map.
const HEADER: &str = "#cloud-config\n";

/// What is known of secrets.
pub(super) struct Texts<'a>(pub(super) &'a SecretStore);

impl Texts<'_> {
    /// A text for the server. Where it comes from a secret, that is noted under its key.
    pub(super) fn reveal(
        &self,
        value: &Value,
        key: &str,
        secrets: &mut Map<String, Value>,
    ) -> Result<String, String> {
        let text = Text::deserialize(value).map_err(|error| error.to_string())?;
        if let Text::Sealed(sealed) = &text {
            secrets.insert(key.to_owned(), manifests::change::shown(&sealed.written()));
        }
        let revealed = self.0.revealed(&text).map_err(|error| error.to_string())?;
        match revealed {
            Text::Plain(text) => Ok(text),
            _ => Err(format!("{key}: nobody looked up what it says")),
        }
    }

    /// What was read back, as a text of ours.
    pub(super) fn seal(&self, text: &str, key: &str, secrets: &Map<String, Value>) -> Value {
        let Some(written) = secrets.get(key) else {
            return Value::from(text);
        };
        let digest = self.0.digest(text.as_bytes()).unwrap_or_default();
        let sealed = match Text::deserialize(written) {
            Ok(Text::Secret(secret)) => Sealed {
                digest,
                secret_ref: Some(secret),
                template: None,
            },
            Ok(Text::Template(template)) => Sealed {
                digest,
                secret_ref: None,
                template: Some(template),
            },
            _ => Sealed {
                digest,
                secret_ref: None,
                template: None,
            },
        };
        manifests::change::shown(&Text::Sealed(sealed))
    }

    /// A text or a map for cloud-init. JSON is YAML.
    pub(super) fn document(
        &self,
        value: &Value,
        header: bool,
        key: &str,
        secrets: &mut Map<String, Value>,
    ) -> Result<String, String> {
        match value {
            Value::Object(map) if !map.contains_key(SEALED) => {
                let begin = if header { HEADER } else { "" };
                Ok(format!("{begin}{value}"))
            }
            text => self.reveal(text, key, secrets),
        }
    }

    /// The same back.
    pub(super) fn read_document(
        &self,
        text: &str,
        header: bool,
        key: &str,
        secrets: &Map<String, Value>,
    ) -> Value {
        let body = if header {
            text.strip_prefix(HEADER)
        } else {
            Some(text)
        };
        match body.and_then(|body| serde_json::from_str(body).ok()) {
            // A text that is JSON by chance is not as a map is written here.
            Some(map @ Value::Object(_)) if body == Some(map.to_string().as_str()) => map,
            _ => self.seal(text, key, secrets),
        }
    }
}
