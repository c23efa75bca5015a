//! Documents that SOPS encrypted: values in place, `ENC[AES256_GCM,…]`, under a key that is encrypted to recipients.
//!
//! YAML and JSON with age recipients are decrypted here; what is encrypted otherwise by the program `sops`, where it is
//! installed. Source: `aes/cipher.go` and `sops.go` of github.com/getsops/sops.

use std::collections::BTreeMap;

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{AeadInPlace as _, KeyInit as _};
use aes_gcm::{AesGcm, aes::Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::parse::parse;
use manifests::secret::SecretValue;
use manifests::tree::{Node, Value};
use runtime::sys::command;
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use super::age::{self, AgeError, Identity};

/// Why a document is not decrypted.
#[derive(Debug, thiserror::Error)]
pub enum SopsError {
    /// It is no document of SOPS.
    #[error("it is no document of SOPS: {0}")]
    Format(String),
    /// No key of this host is one of its recipients.
    #[error("it is encrypted for {recipients}, and this host has the key of none of them")]
    NoKey {
        /// The recipients in it.
        recipients: String,
    },
    /// It is encrypted for something else than age, and the program is not here.
    #[error("it is encrypted for {what}, which takes the program `sops`, and that cannot be run")]
    NoProgram {
        /// The kinds of recipients.
        what: String,
        /// Why not.
        source: command::CommandError,
    },
    /// The key in it cannot be opened.
    #[error("open its key")]
    Key(#[from] AgeError),
    /// Somebody changed it.
    #[error("{0} was changed after it was encrypted")]
    Forged(String),
}

/// Values by their keys; those of maps within maps with dots between.
pub type Values = BTreeMap<String, SecretValue>;

type Cipher = AesGcm<Aes256, U32>;

/// Decrypts a document.
///
/// # Errors
/// It is none, was changed, or is for keys that this host does not have.
pub fn decrypt(name: &str, text: &str, identities: &[Identity]) -> Result<Values, SopsError> {
    let (documents, _) = parse(name, text);
    let [document] = documents.as_slice() else {
        let message = format!("it has {} documents and not one", documents.len());
        return Err(SopsError::Format(message));
    };
    let metadata = document
        .get("sops")
        .ok_or_else(|| SopsError::Format("it has no `sops`".to_owned()))?;
    match data_key(metadata, identities)? {
        Some(key) => tree(document, metadata, &key),
        None => by_program(name, text, metadata),
    }
}

/// The key of the document; none where it has no recipients of age.
fn data_key(
    metadata: &Node,
    identities: &[Identity],
) -> Result<Option<Zeroizing<Vec<u8>>>, SopsError> {
    let Some(Value::List(recipients)) = metadata.get("age").map(|list| &list.value) else {
        return Ok(None);
    };
    // Parts of a key that only several groups together open.
    if recipients.is_empty() || metadata.get("key_groups").is_some() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for recipient in recipients {
        let text = |key| recipient.get(key).and_then(Node::text).unwrap_or_default();
        match age::decrypt(text("enc").as_bytes(), identities) {
            Ok(key) if key.len() == 32 => return Ok(Some(key)),
            Ok(_) => return Err(SopsError::Format("its key has another length".to_owned())),
            Err(AgeError::NoKey(_)) => names.push(text("recipient").to_owned()),
            Err(error) => return Err(error.into()),
        }
    }
    let others = others(metadata);
    if !others.is_empty() {
        // The program may have another way.
        return Ok(None);
    }
    Err(SopsError::NoKey {
        recipients: names.join(", "),
    })
}

/// Kinds of recipients besides age.
fn others(metadata: &Node) -> Vec<&'static str> {
    const KINDS: [&str; 6] = [
        "kms",
        "gcp_kms",
        "azure_kv",
        "hc_vault",
        "pgp",
        "key_groups",
    ];
    let is_used = |kind: &&str| {
        let list = metadata.get(kind).map(|node| &node.value);
        matches!(list, Some(Value::List(items)) if !items.is_empty())
    };
    KINDS.into_iter().filter(is_used).collect()
}

fn by_program(name: &str, text: &str, metadata: &Node) -> Result<Values, SopsError> {
    let kind = if std::path::Path::new(name)
        .extension()
        .is_some_and(|end| end == "json")
    {
        "json"
    } else {
        "yaml"
    };
    let arguments = [
        "decrypt",
        "--input-type",
        kind,
        "--output-type",
        "json",
        "/dev/stdin",
    ];
    let output = command::run("sops", arguments, Some(text.as_bytes())).map_err(|source| {
        SopsError::NoProgram {
            what: match others(metadata) {
                none if none.is_empty() => "nobody".to_owned(),
                some => some.join(", "),
            },
            source,
        }
    })?;
    let output = Zeroizing::new(output);
    let text = String::from_utf8_lossy(&output);
    let (documents, _) = parse(name, &text);
    let mut values = Values::new();
    for leaf in documents.iter().flat_map(leaves) {
        if let Some(text) = plain(leaf.node) {
            values.insert(leaf.name, SecretValue::new(text));
        }
    }
    Ok(values)
}

/// One value of a document.
struct Leaf<'a> {
    /// The keys above it. SOPS gives the items of a list the keys of the list.
    path: Vec<&'a str>,
    /// The same with the places in lists, and with dots between: `hosts.0`.
    name: String,
    node: &'a Node,
}

/// What is in a document, in its order, without what SOPS wrote.
fn leaves(document: &Node) -> Vec<Leaf<'_>> {
    fn walk<'a>(node: &'a Node, path: &[&'a str], name: &str, out: &mut Vec<Leaf<'a>>) {
        let below = |step: &str| match name {
            "" => step.to_owned(),
            name => format!("{name}.{step}"),
        };
        match &node.value {
            Value::Map(entries) => {
                for (key, node) in entries {
                    if !(path.is_empty() && key.name == "sops") {
                        let path = [path, &[key.name.as_str()]].concat();
                        walk(node, &path, &below(&key.name), out);
                    }
                }
            }
            Value::List(items) => {
                for (index, node) in items.iter().enumerate() {
                    walk(node, path, &below(&index.to_string()), out);
                }
            }
            _ => out.push(Leaf {
                path: path.to_vec(),
                name: name.to_owned(),
                node,
            }),
        }
    }
    let mut out = Vec::new();
    walk(document, &[], "", &mut out);
    out
}

/// A value that is not encrypted, as SOPS turns it into bytes.
fn plain(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) | Value::Integer(text) | Value::Float(text) => Some(text.to_string()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// Decrypts all values, and sees that none was changed, taken away or added.
fn tree(document: &Node, metadata: &Node, key: &[u8]) -> Result<Values, SopsError> {
    let text = |key: &str| metadata.get(key).and_then(Node::text).unwrap_or_default();
    let only_encrypted = matches!(
        metadata.get("mac_only_encrypted").map(|node| &node.value),
        Some(Value::Bool(true))
    );
    let cipher = Cipher::new_from_slice(key)
        .map_err(|_| SopsError::Format("its key has another length".to_owned()))?;
    let mut hash = Sha512::new();
    if only_encrypted {
        // What SOPS begins with then (`MACOnlyEncryptedInitialization`).
        hash.update(Sha256::digest(b"sops"));
    }
    let mut values = Values::new();
    for Leaf { path, name, node } in leaves(document) {
        let written = node.text().filter(|text| text.starts_with("ENC["));
        let value = match written {
            Some(written) => {
                let opened = open(&cipher, written, &format!("{}:", path.join(":")));
                Some(opened.ok_or_else(|| SopsError::Forged(format!("`{name}`")))?)
            }
            None => plain(node),
        };
        if let Some(value) = value {
            if written.is_some() || !only_encrypted {
                hash.update(value.as_bytes());
            }
            values.insert(name, SecretValue::new(value));
        }
    }
    let forged = || SopsError::Forged("it".to_owned());
    let mac = open(&cipher, text("mac"), text("lastmodified")).ok_or_else(forged)?;
    if mac != hex::encode_upper(hash.finalize()) {
        return Err(forged());
    }
    Ok(values)
}

/// One `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.
fn open(cipher: &Cipher, written: &str, additional: &str) -> Option<String> {
    let inner = written.strip_prefix("ENC[AES256_GCM,")?.strip_suffix(']')?;
    let mut parts = BTreeMap::new();
    for part in inner.split(',') {
        let (name, value) = part.split_once(':')?;
        parts.insert(name, value);
    }
    let bytes = |name| STANDARD.decode(parts.get(name)?).ok();
    let mut data = bytes("data")?;
    let (nonce, tag) = (bytes("iv")?, bytes("tag")?);
    if nonce.len() != 32 || tag.len() != 16 {
        return None;
    }
    cipher
        .decrypt_in_place_detached(
            nonce.as_slice().into(),
            additional.as_bytes(),
            &mut data,
            tag.as_slice().into(),
        )
        .ok()?;
    String::from_utf8(data).ok()
}

#[cfg(test)]
#[path = "sops_tests.rs"]
mod tests;
