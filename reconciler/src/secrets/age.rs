//! Decrypting what age encrypted to X25519 recipients. Source: <https://age-encryption.org/v1>.
//!
//! Only this kind of recipient: the library for all of age brings ninety crates along. Primitives are those of ring and
//! x25519-dalek. What is bigger than memory, and what is written, is in [`age_stream`](super::age_stream).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::{aead, hkdf, hmac};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

pub(super) const VERSION: &[u8] = b"age-encryption.org/v1\n";
const ARMOR_BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const ARMOR_END: &str = "-----END AGE ENCRYPTED FILE-----";
const SECRET_KEY: &str = "age-secret-key-";
pub(super) const PUBLIC_KEY: &str = "age";
/// Bytes of a chunk without its tag.
pub(super) const CHUNK: usize = 64 * 1024;
pub(super) const TAG: usize = 16;
pub(super) const FILE_KEY: usize = 16;
/// A header has a few hundred bytes for each recipient.
pub(super) const LONGEST_HEADER: usize = 1 << 20;
/// What the key is derived for that wraps the one of a file.
pub(super) const WRAP: &[u8] = b"age-encryption.org/v1/X25519";

/// Why a file is not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// It is no file of age, or cut short.
    #[error("it is no file of age: {0}")]
    Format(&'static str),
    /// None of the keys is one of its recipients.
    #[error("{}", if *.0 == 0 { "this host has no age key".to_owned() } else { format!("none of the {0} age keys of this host opens it", .0) })]
    NoKey(usize),
    /// Somebody changed it.
    #[error("it was changed after it was encrypted")]
    Forged,
    /// A line of a file of keys is no key.
    #[error("line {0} is no age key (AGE-SECRET-KEY-1…)")]
    Identity(usize),
}

/// A key that opens files.
pub struct Identity {
    secret: StaticSecret,
    public: PublicKey,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.recipient())
    }
}

impl Identity {
    /// Reads the lines of a file of keys; comments and empty lines are passed over.
    ///
    /// # Errors
    /// A line is no key.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, AgeError> {
        let lines = text.lines().enumerate();
        lines
            .map(|(number, line)| (number + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(number, line)| Self::parse(line).ok_or(AgeError::Identity(number)))
            .collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let (prefix, bytes) = bech32::decode(line).ok()?;
        let bytes = Zeroizing::new(bytes);
        if prefix.to_lowercase() != SECRET_KEY {
            return None;
        }
        let key: [u8; 32] = bytes.as_slice().try_into().ok()?;
        let secret = StaticSecret::from(key);
        let public = PublicKey::from(&secret);
        Some(Self { secret, public })
    }

    /// The recipient that others encrypt to: `age1…`.
    pub fn recipient(&self) -> String {
        let prefix = bech32::Hrp::parse(PUBLIC_KEY);
        let text = prefix.map(|prefix| {
            bech32::encode::<bech32::Bech32>(prefix, self.public.as_bytes()).unwrap_or_default()
        });
        text.unwrap_or_default()
    }

    /// The key of a file from the words that are meant for this recipient.
    fn unwrap(&self, share: [u8; 32], body: &[u8]) -> Option<Zeroizing<[u8; FILE_KEY]>> {
        let share = PublicKey::from(share);
        let shared = self.secret.diffie_hellman(&share);
        // A share of low order makes a key that everybody knows.
        if !shared.was_contributory() {
            return None;
        }
        let salt = [share.as_bytes().as_slice(), self.public.as_bytes()].concat();
        let key = derive(&salt, shared.as_bytes(), WRAP);
        let mut sealed = body.to_vec();
        let opened = open(&key, [0; 12], &mut sealed)?;
        Some(Zeroizing::new(opened.try_into().ok()?))
    }
}

/// HKDF with SHA-256 to 32 bytes.
pub(super) fn derive(salt: &[u8], secret: &[u8], words: &'static [u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let words = [words];
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    // 32 bytes are never too many.
    if let Ok(expanded) = extracted.expand(&words, hkdf::HKDF_SHA256) {
        let _ = expanded.fill(key.as_mut_slice());
    }
    key
}

/// ChaCha20-Poly1305 in place.
pub(super) fn open<'a>(
    key: &[u8; 32],
    nonce: [u8; 12],
    sealed: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).ok()?;
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    aead::LessSafeKey::new(key)
        .open_in_place(nonce, aead::Aad::empty(), sealed)
        .ok()
}

/// The lines of a header one by one.
struct Lines<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, AgeError> {
        let rest = &self.all[self.at..];
        let window = &rest[..rest.len().min(LONGEST_HEADER)];
        let end = window
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(AgeError::Format("its header is cut short"))?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| AgeError::Format("its header is no text"))
    }
}

/// Takes the armor off, where there is one.
fn bytes_of(text: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, AgeError> {
    let Some(armored) = std::str::from_utf8(text)
        .ok()
        .map(str::trim)
        .and_then(|text| text.strip_prefix(ARMOR_BEGIN))
    else {
        return Ok(text.into());
    };
    let inner = armored
        .strip_suffix(ARMOR_END)
        .ok_or(AgeError::Format("its armor has no end"))?;
    let inner: String = inner.split_ascii_whitespace().collect();
    STANDARD
        .decode(inner)
        .map(Into::into)
        .map_err(|_| AgeError::Format("its armor is no base64"))
}

/// Decrypts a file, armored or not.
///
/// # Errors
/// It is no such file, was changed, or is for other keys.
pub fn decrypt(file: &[u8], identities: &[Identity]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let file = bytes_of(file)?;
    let (key, at) = header(&file, identities)?;
    payload(&key, &file[at..])
}

/// The key of a file by its header, and where that ends.
pub(super) fn header(
    file: &[u8],
    identities: &[Identity],
) -> Result<(Zeroizing<[u8; FILE_KEY]>, usize), AgeError> {
    if !file.starts_with(VERSION) {
        return Err(AgeError::Format("it does not begin with its version"));
    }
    let mut lines = Lines {
        all: file,
        at: VERSION.len(),
    };
    let mut key = None;
    let (header, mac) = loop {
        let begin = lines.at;
        let line = lines.next()?;
        if let Some(mac) = line.strip_prefix("--- ") {
            break (&file[..begin + 3], mac);
        }
        let words = line
            .strip_prefix("-> ")
            .ok_or(AgeError::Format("its header has a line of another kind"))?;
        let mut body = String::new();
        loop {
            let part = lines.next()?;
            body.push_str(part);
            // A full line is followed by another, an empty one in the end.
            if part.len() < 64 {
                break;
            }
        }
        let mut words = words.split(' ');
        if words.next() == Some("X25519") && key.is_none() {
            let wrong = AgeError::Format("one of its recipients is not understood");
            let decoded = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| wrong.clone());
            let share = decoded(words.next().ok_or_else(|| wrong.clone())?)?;
            let share: [u8; 32] = share.try_into().map_err(|_| wrong.clone())?;
            let body = decoded(&body)?;
            key = identities
                .iter()
                .find_map(|identity| identity.unwrap(share, &body));
        }
    };
    let key = key.ok_or(AgeError::NoKey(identities.len()))?;
    let header_key = derive(&[], key.as_slice(), b"header");
    let mac = STANDARD_NO_PAD.decode(mac).map_err(|_| AgeError::Forged)?;
    let header_key = hmac::Key::new(hmac::HMAC_SHA256, header_key.as_slice());
    hmac::verify(&header_key, header, &mac).map_err(|_| AgeError::Forged)?;
    Ok((key, lines.at))
}

/// Of a chunk: eleven bytes of a counter, and whether it is the last: a file that is cut between chunks does not open.
pub(super) fn nonce(counter: u64, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&counter.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}

/// The chunks after the header.
fn payload(key: &[u8; FILE_KEY], rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let cut_short = AgeError::Format("its content is cut short");
    let (salt, mut rest) = rest.split_at_checked(16).ok_or_else(|| cut_short.clone())?;
    let key = derive(salt, key, b"payload");
    let mut plain = Zeroizing::new(Vec::with_capacity(rest.len()));
    let mut counter: u64 = 0;
    loop {
        let take = rest.len().min(CHUNK + TAG);
        let (chunk, after) = rest.split_at(take);
        let is_last = after.is_empty();
        let mut sealed = Zeroizing::new(chunk.to_vec());
        let nonce = nonce(counter, is_last);
        let opened = open(&key, nonce, &mut sealed).ok_or(AgeError::Forged)?;
        if opened.is_empty() && counter > 0 {
            return Err(AgeError::Forged);
        }
        plain.extend_from_slice(opened);
        if is_last {
            return Ok(plain);
        }
        rest = after;
        counter += 1;
    }
}

#[cfg(test)]
#[path = "age_tests.rs"]
mod tests;
