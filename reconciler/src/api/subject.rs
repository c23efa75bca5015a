//! The names in a certificate. Its own words are read here after rustls found it good: nothing is decided by their form.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const IDENTIFIER: u8 = 0x06;
/// Texts of which every byte sequence that they allow is UTF-8: UTF8String and PrintableString.
const TEXTS: [u8; 2] = [0x0c, 0x13];

/// The common names of a certificate, then its DNS names.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let mut names = common_names(certificate.subject());
    names.extend(certificate.valid_dns_names().map(str::to_owned));
    names
}

/// One value of DER with its tag, and what comes after it.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_at_checked(2)?;
            let length = u16::from_be_bytes([length[0], length[1]]);
            (usize::from(length), rest)
        }
        _ => return None,
    };
    let (inside, after) = rest.split_at_checked(length)?;
    Some((tag, inside, after))
}

/// Those of a name: sets of sequences of what it is and its text.
fn common_names(mut subject: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((SET, mut set, after)) = value(subject) {
        subject = after;
        while let Some((SEQUENCE, one, after)) = value(set) {
            set = after;
            let Some((IDENTIFIER, identifier, rest)) = value(one) else {
                continue;
            };
            if identifier != COMMON_NAME {
                continue;
            }
            if let Some((tag, text, _)) = value(rest)
                && TEXTS.contains(&tag)
                && let Ok(text) = std::str::from_utf8(text)
            {
                names.push(text.to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn names_are_read_and_nothing_else_is_one() {
        let key = KeyPair::generate().expect("a key");
        let dns = vec!["edge.example.org".to_owned()];
        let mut params = CertificateParams::new(dns).expect("parameters");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "alice");
        params.distinguished_name.push(DnType::CommonName, "bøb");
        let certificate = params.self_signed(&key).expect("a certificate");
        let names = names(certificate.der());
        assert_eq!(names, ["bøb", "edge.example.org"]);
        for wrong in [
            &[][..],
            &[SET],
            &[SET, 0x85],
            &[SET, 5, SEQUENCE, 9],
            &[SET, 2, SEQUENCE, 0],
            &[0x82, 0xff, 0xff],
        ] {
            assert!(common_names(wrong).is_empty(), "{wrong:?}");
        }
    }
}
