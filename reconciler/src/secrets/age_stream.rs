//! Streams that age encrypts to X25519 recipients: a backup is bigger than memory. Source: <https://age-encryption.org/v1>.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{aead, hmac};
use runtime::native::backup::Sink;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::age::{
    AgeError, CHUNK, FILE_KEY, Identity, LONGEST_HEADER, PUBLIC_KEY, TAG, VERSION, WRAP, derive,
    header, nonce, open,
};

/// Whom a stream is encrypted to.
#[derive(Debug, Clone)]
pub struct Recipient(PublicKey);

impl std::str::FromStr for Recipient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no recipient of age (age1…)");
        let (prefix, bytes) = bech32::decode(text.trim()).map_err(|_| wrong())?;
        if prefix.to_lowercase() != PUBLIC_KEY {
            return Err(wrong());
        }
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| wrong())?;
        Ok(Self(PublicKey::from(bytes)))
    }
}

fn random<const N: usize>() -> io::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new()
        .fill(bytes.as_mut_slice())
        .map_err(|_| io::Error::other("the kernel gives no random numbers"))?;
    Ok(bytes)
}

/// ChaCha20-Poly1305 in place; the tag comes behind.
fn seal(key: &[u8; 32], nonce: [u8; 12], plain: &mut Vec<u8>) -> io::Result<()> {
    let failed = |_| io::Error::other("encryption failed");
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).map_err(failed)?;
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    aead::LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, aead::Aad::empty(), plain)
        .map_err(failed)
}

/// Encrypts what is written.
pub struct Sealer {
    file: File,
    key: Zeroizing<[u8; 32]>,
    counter: u64,
    chunk: Vec<u8>,
}

impl Sealer {
    /// Begins a file for these recipients.
    ///
    /// # Errors
    /// There is no randomness, or the file cannot be written.
    pub fn new(mut file: File, recipients: &[Recipient]) -> io::Result<Self> {
        let file_key = random::<FILE_KEY>()?;
        let mut text = VERSION.to_vec();
        for Recipient(public) in recipients {
            let secret = StaticSecret::from(*random::<32>()?);
            let share = PublicKey::from(&secret);
            let shared = secret.diffie_hellman(public);
            if !shared.was_contributory() {
                return Err(io::Error::other("a recipient is no key"));
            }
            let salt = [share.as_bytes().as_slice(), public.as_bytes()].concat();
            let key = derive(&salt, shared.as_bytes(), WRAP);
            let mut body = file_key.to_vec();
            seal(&key, [0; 12], &mut body)?;
            let share = STANDARD_NO_PAD.encode(share.as_bytes());
            let body = STANDARD_NO_PAD.encode(body);
            text.extend_from_slice(format!("-> X25519 {share}\n{body}\n").as_bytes());
        }
        text.extend_from_slice(b"---");
        let header_key = derive(&[], file_key.as_slice(), b"header");
        let header_key = hmac::Key::new(hmac::HMAC_SHA256, header_key.as_slice());
        let mac = STANDARD_NO_PAD.encode(hmac::sign(&header_key, &text));
        text.extend_from_slice(format!(" {mac}\n").as_bytes());
        let salt = random::<16>()?;
        text.extend_from_slice(salt.as_slice());
        file.write_all(&text)?;
        Ok(Self {
            file,
            key: derive(salt.as_slice(), file_key.as_slice(), b"payload"),
            counter: 0,
            chunk: Vec::with_capacity(CHUNK + TAG),
        })
    }

    fn put(&mut self, is_last: bool) -> io::Result<()> {
        seal(&self.key, nonce(self.counter, is_last), &mut self.chunk)?;
        self.file.write_all(&self.chunk)?;
        self.chunk.clear();
        self.counter += 1;
        Ok(())
    }
}

impl Write for Sealer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // A full chunk may be the last one: only more shows that it is not.
        if self.chunk.len() == CHUNK {
            self.put(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for Sealer {
    fn end(mut self: Box<Self>) -> io::Result<()> {
        self.put(true)?;
        self.file.sync_all()
    }
}

/// Decrypts a stream that is encrypted; any other is passed on as it is.
///
/// # Errors
/// None of the keys opens it, or it cannot be read.
pub fn unseal<'r>(
    stream: Box<dyn Read + 'r>,
    identities: &[Identity],
) -> io::Result<Box<dyn Read + 'r>> {
    let mut stream = BufReader::with_capacity(CHUNK, stream);
    if !stream.fill_buf()?.starts_with(VERSION) {
        return Ok(Box::new(stream));
    }
    let failed = |error: AgeError| io::Error::other(error);
    let mut text = Vec::new();
    loop {
        let begin = text.len();
        let mut line = Read::take(&mut stream, LONGEST_HEADER as u64);
        let got = line.read_until(b'\n', &mut text)?;
        if got == 0 || text.len() > LONGEST_HEADER {
            return Err(failed(AgeError::Format("its header is cut short")));
        }
        if text
            .get(begin..)
            .is_some_and(|line| line.starts_with(b"--- "))
        {
            break;
        }
    }
    let (file_key, _) = header(&text, identities).map_err(failed)?;
    let mut salt = [0; 16];
    stream
        .read_exact(&mut salt)
        .map_err(|_| failed(AgeError::Format("its content is cut short")))?;
    Ok(Box::new(Opener {
        stream,
        key: derive(&salt, file_key.as_slice(), b"payload"),
        counter: 0,
        plain: Zeroizing::new(Vec::new()),
        at: 0,
        ended: false,
    }))
}

struct Opener<R> {
    stream: BufReader<R>,
    key: Zeroizing<[u8; 32]>,
    counter: u64,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    ended: bool,
}

impl<R: Read> Opener<R> {
    fn next(&mut self) -> io::Result<()> {
        let failed = |error: AgeError| io::Error::other(error);
        let mut sealed = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        Read::take(&mut self.stream, (CHUNK + TAG) as u64).read_to_end(&mut sealed)?;
        // The last chunk says so: a stream that is cut between chunks does not open.
        let is_last = self.stream.fill_buf()?.is_empty();
        let nonce = nonce(self.counter, is_last);
        let opened = open(&self.key, nonce, &mut sealed).ok_or_else(|| failed(AgeError::Forged))?;
        if opened.is_empty() && self.counter > 0 {
            return Err(failed(AgeError::Forged));
        }
        self.plain = Zeroizing::new(opened.to_vec());
        self.at = 0;
        self.counter += 1;
        self.ended = is_last;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.plain.len() {
            if self.ended {
                return Ok(0);
            }
            self.next()?;
        }
        let rest = self.plain.get(self.at..).unwrap_or_default();
        let taken = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::age::decrypt;
    use super::*;

    const KEY: &str = include_str!("vectors/key.txt");
    const OTHER: &str = include_str!("vectors/other.txt");

    fn keys(text: &str) -> Vec<Identity> {
        Identity::parse_all(text).expect("keys")
    }

    fn sealed(plain: &[u8], to: &[&str]) -> Vec<u8> {
        let to: Vec<Recipient> = to
            .iter()
            .map(|key| keys(key)[0].recipient().parse().expect("a recipient"))
            .collect();
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut sealer = Box::new(Sealer::new(file.reopen().expect("open"), &to).expect("begun"));
        sealer.write_all(plain).expect("written");
        sealer.end().expect("ended");
        manifests::path_io::read(file.path()).expect("read")
    }

    fn opened(sealed: &[u8], key: &str) -> Result<Vec<u8>, String> {
        let told = |error: io::Error| error.to_string();
        let mut stream = unseal(Box::new(sealed), &keys(key)).map_err(told)?;
        let mut plain = Vec::new();
        stream.read_to_end(&mut plain).map_err(told)?;
        Ok(plain)
    }

    #[test]
    fn what_is_sealed_is_opened_by_each_of_its_recipients_and_by_nobody_else() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let plain = vec![7; length];
            let sealed = sealed(&plain, &[KEY, OTHER]);
            // Read by the other reader too, which reads what `age` writes.
            assert_eq!(*decrypt(&sealed, &keys(OTHER)).expect("it opens"), plain);
            assert_eq!(opened(&sealed, KEY), Ok(plain.clone()), "{length}");
        }
        let mine = sealed(b"x", &[KEY]);
        let told = opened(&mine, OTHER).expect_err("not for it");
        assert_eq!(told, "none of the 1 age keys of this host opens it");
        assert_eq!(opened(b"plain", KEY), Ok(b"plain".to_vec()));
    }

    #[test]
    fn what_is_altered_or_cut_short_does_not_open() {
        let whole = sealed(&vec![7; 2 * CHUNK], &[KEY]);
        for cut in [30, 150, whole.len() - 1, whole.len() - CHUNK - TAG] {
            assert!(opened(&whole[..cut], KEY).is_err(), "{cut}");
        }
        for at in (0..whole.len()).step_by(4099).filter(|at| *at > 22) {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            assert!(opened(&altered, KEY).is_err(), "{at}");
        }
    }

    #[test]
    fn recipients_of_other_kinds_are_refused() {
        for text in ["", "age1", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1QQ"] {
            assert!(text.parse::<Recipient>().is_err(), "{text}");
        }
    }
}
