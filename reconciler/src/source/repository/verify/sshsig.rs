//! Signatures by SSH keys: the format of OpenSSH's `PROTOCOL.sshsig`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{self, SHA256, SHA512};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG";
const CHANGED: &str = "what was signed was changed since";
const BROKEN: &str = "it is broken off or has too much";

/// A run of length-prefixed parts.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BROKEN)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, &'static str> {
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| BROKEN)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn next(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| BROKEN)?)
    }

    fn end(&self) -> Result<(), &'static str> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(BROKEN),
        }
    }
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend(part);
}

/// A number without the zeros before it.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// A number of a fixed width.
fn padded(bytes: &[u8], width: usize) -> Result<Vec<u8>, &'static str> {
    let bytes = without_zeros(bytes);
    let zeros = width.checked_sub(bytes.len()).ok_or(BROKEN)?;
    let mut out = vec![0; zeros];
    out.extend(bytes);
    Ok(out)
}

/// Checks a signature; answers the public key that made it, in its wire form. Whether that key counts is another question.
///
/// # Errors
/// It is none of that content and namespace, in words.
pub(super) fn verify(
    armoured: &str,
    namespace: &str,
    content: &[u8],
) -> Result<Vec<u8>, &'static str> {
    let inside = armoured
        .trim()
        .strip_prefix(BEGIN)
        .and_then(|text| text.strip_suffix(END))
        .ok_or(BROKEN)?;
    let digits: String = inside.split_ascii_whitespace().collect();
    let bytes = BASE64_STANDARD.decode(digits).map_err(|_| BROKEN)?;
    let mut parts = Parts(&bytes);
    if parts.take(MAGIC.len())? != MAGIC || parts.number()? != 1 {
        return Err("it is of a version that is not known");
    }
    let (key, for_what, reserved) = (parts.next()?, parts.next()?, parts.next()?);
    let (hash, signature) = (parts.next()?, parts.next()?);
    parts.end()?;
    if for_what != namespace.as_bytes() {
        return Err("it was made for something else than git");
    }
    let hashed = match hash {
        b"sha512" => digest::digest(&SHA512, content),
        b"sha256" => digest::digest(&SHA256, content),
        _ => return Err("its hash is neither SHA-256 nor SHA-512"),
    };
    let mut signed = MAGIC.to_vec();
    for part in [for_what, reserved, hash, hashed.as_ref()] {
        put(&mut signed, part);
    }
    by_key(key, signature, &signed)?;
    Ok(key.to_vec())
}

fn by_key(key: &[u8], signature: &[u8], signed: &[u8]) -> Result<(), &'static str> {
    let (mut key, mut made) = (Parts(key), Parts(signature));
    let (kind, made_as) = (key.next()?, made.next()?);
    let check =
        |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], content: &[u8], made: &[u8]| {
            UnparsedPublicKey::new(algorithm, key)
                .verify(content, made)
                .map_err(|_| CHANGED)
        };
    match kind {
        b"ssh-ed25519" if made_as == kind => {
            check(&ED25519, key.next()?, signed, made.next()?)?;
        }
        // A key in a token: it signs a hash with what the token says of the deed, not what it is given.
        b"sk-ssh-ed25519@openssh.com" if made_as == kind => {
            let (public, application) = (key.next()?, key.next()?);
            let raw = made.next()?;
            let told = made.take(5)?;
            if told.first().is_none_or(|flags| flags & 1 == 0) {
                return Err("nobody touched the token that made it");
            }
            let mut content = digest::digest(&SHA256, application).as_ref().to_vec();
            content.extend(told);
            content.extend(digest::digest(&SHA256, signed).as_ref());
            check(&ED25519, public, &content, raw)?;
        }
        b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" if made_as == kind => {
            let curve = key.next()?;
            let (algorithm, width): (&'static dyn VerificationAlgorithm, usize) = match curve {
                b"nistp256" if kind.ends_with(curve) => (&ECDSA_P256_SHA256_FIXED, 32),
                b"nistp384" if kind.ends_with(curve) => (&ECDSA_P384_SHA384_FIXED, 48),
                _ => return Err(BROKEN),
            };
            let public = key.next()?;
            let mut numbers = Parts(made.next()?);
            let mut fixed = padded(numbers.next()?, width)?;
            fixed.extend(padded(numbers.next()?, width)?);
            numbers.end()?;
            check(algorithm, public, signed, &fixed)?;
        }
        b"ssh-rsa" => {
            let (e, n) = (without_zeros(key.next()?), without_zeros(key.next()?));
            let algorithm = match made_as {
                b"rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                b"rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                _ => return Err("its hash is neither SHA-256 nor SHA-512"),
            };
            RsaPublicKeyComponents { n, e }
                .verify(algorithm, signed, made.next()?)
                .map_err(|_| CHANGED)?;
        }
        kind if kind.ends_with(b"-cert-v01@openssh.com") => {
            return Err(
                "its key has a certificate, which keel does not check: sign by the key itself",
            );
        }
        _ => return Err("its key is of a kind that keel does not check"),
    }
    key.end()?;
    made.end()
}
