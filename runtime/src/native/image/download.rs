//! `url`: an archive from a server that is not trusted, by an address that a manifest chose.
//!
//! A manifest must not make this host speak to what only this host can reach (LXD's CVE-2026-28385). So every name is
//! resolved by us, only the addresses that are allowed are handed to the connection (what is checked is what is
//! connected to), at every redirect anew; proxies of the environment are not used, and nothing but HTTP and HTTPS is.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use manifests::path_io::AtPath as _;
use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use super::error::ImageError;
use super::limits::Limits;

/// More redirects are a loop.
const REDIRECTS: usize = 5;
/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a whole download may take.
const WHOLE: Duration = Duration::from_secs(3600);

/// Which addresses may be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedAddresses {
    /// Networks that are allowed although they are not of the public Internet.
    pub also: Vec<IpNet>,
}

impl AllowedAddresses {
    fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.also.iter().any(|network| network.contains(&address))
    }
}

/// Whether an address is one of the public Internet (the registries of RFC 6890 and its successors).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        // Carrier-grade NAT, IETF protocol assignments, 6to4 relays, benchmarks, reserved.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // An IPv4 address in another dress reaches the same host: mapped, compatible, NAT64, 6to4, Teredo.
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, c, d, ..] = address.segments();
    let [.., high, low] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    if (a, b, c, d) == (0x64, 0xff9b, 0, 0) {
        return is_public_v4(v4(high, low));
    }
    if a == 0x2002 {
        return is_public_v4(v4(b, c));
    }
    // Only 2000::/3 is given out; in it, documentation, Teredo and other protocol assignments are not.
    (a & 0xe000) == 0x2000
        && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8))
        && !(a == 0x3fff && b < 0x1000)
}

/// An address that must not be asked. Its own type, so that it is found again in the error of the client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// The name server's answer without what is not allowed.
struct Guard(Arc<AllowedAddresses>);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            // Blocking here holds up nobody: the runtime behind a blocking client serves this one request.
            let found = (name.as_str(), 0).to_socket_addrs()?;
            let kept: Vec<SocketAddr> = found
                .filter(|address| allowed.allows(address.ip()))
                .collect();
            if kept.is_empty() {
                return Err(Refused(forbidden(name.as_str())).into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

fn forbidden(host: &str) -> String {
    format!("{host} is not on the public Internet, and its network is not allowed")
}

/// Checks what no resolver sees: the scheme, and addresses written as such.
fn check(url: &Url, allowed: &AllowedAddresses) -> Result<(), String> {
    if !["https", "http"].contains(&url.scheme()) {
        return Err(format!("{} is neither https nor http", url.scheme()));
    }
    let host = url.host_str().ok_or("it names no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) if !allowed.allows(address) => Err(forbidden(host)),
        _ => Ok(()),
    }
}

/// The address as it may be shown: without user, password and query, which may be secrets.
pub(super) fn shown(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return "an address that is none".to_owned();
    };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Fetches a file. Its hash is checked by whoever reads it.
pub(super) fn fetch(
    url: &str,
    into: &Path,
    allowed: &AllowedAddresses,
    limits: &Limits,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), ImageError> {
    let failed = |problem: String| ImageError::Download {
        url: shown(url),
        problem,
    };
    let parsed = Url::parse(url).map_err(|error| failed(error.to_string()))?;
    let forbidden_url = |problem: String| ImageError::Forbidden {
        url: shown(url),
        problem,
    };
    check(&parsed, allowed).map_err(forbidden_url)?;
    let client = client(allowed).map_err(|error| failed(causes(&error)))?;
    let mut answer = client
        .get(parsed)
        .send()
        .and_then(reqwest::blocking::Response::error_for_status)
        .map_err(|error| match refused(&error) {
            Some(problem) => forbidden_url(problem),
            None => failed(causes(&error.without_url())),
        })?;
    // A redirect that is not followed is no error to the client, and no image either.
    if answer.status() != reqwest::StatusCode::OK {
        return Err(failed(format!("the server answers {}", answer.status())));
    }
    let too_big = || ImageError::TooBig {
        limit: limits.archive_bytes,
        of: "bytes in the archive",
    };
    if answer
        .content_length()
        .is_some_and(|length| length > limits.archive_bytes)
    {
        return Err(too_big());
    }
    let mut file = File::create_new(into).at("create", into)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut sum = 0_u64;
    loop {
        let got = match answer.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(causes(&error))),
        };
        sum += got as u64;
        if sum > limits.archive_bytes {
            return Err(too_big());
        }
        if !go_on(sum) {
            return Err(ImageError::Interrupted);
        }
        file.write_all(buffer.get(..got).unwrap_or_default())
            .at("write to", into)?;
    }
}

fn client(allowed: &AllowedAddresses) -> Result<Client, reqwest::Error> {
    // Whoever was first has set the same; there is one provider in this program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let allowed = Arc::new(allowed.clone());
    let at_redirects = Arc::clone(&allowed);
    Client::builder()
        .dns_resolver(Arc::new(Guard(allowed)))
        .no_proxy()
        .referer(false)
        .user_agent("evenkeel")
        .connect_timeout(SILENCE)
        .timeout(WHOLE)
        .redirect(Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS {
                return attempt.error("too many redirects");
            }
            // What began encrypted stays so.
            let began = attempt.previous().first().map(Url::scheme);
            if began == Some("https") && attempt.url().scheme() != "https" {
                return attempt.error("a redirect from https to http");
            }
            match check(attempt.url(), &at_redirects) {
                Ok(()) => attempt.follow(),
                Err(problem) => attempt.error(problem),
            }
        }))
        .build()
}

/// Why an address was refused, where that is what an error comes from.
fn refused(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(Refused(problem)) = cause.downcast_ref() {
            return Some(problem.clone());
        }
        next = cause.source();
    }
    None
}

/// An error with what caused it, in one line: the outer ones say little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead as _;
    use std::net::TcpListener;

    #[test]
    fn which_addresses_are_public() {
        let private = [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "100::1",
            "3fff::1",
        ];
        for address in private {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        let public = [
            "1.1.1.1",
            "9.9.9.9",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        let allowed = AllowedAddresses {
            also: vec!["10.1.0.0/16".parse().unwrap()],
        };
        assert!(allowed.allows("10.1.2.3".parse().unwrap()));
        assert!(!allowed.allows("10.2.2.3".parse().unwrap()));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(
            shown("https://user:pass@host/a?token=x#y"),
            "https://host/a"
        );
        assert_eq!(shown("nonsense"), "an address that is none");
    }

    /// Answers one request after the other with these texts; returns its port and, at the end, the requests.
    fn server(answers: Vec<String>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap_or_default();
                while lines
                    .next()
                    .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
                {}
                requests.push(first);
                let _ = stream.write_all(answer.replace("PORT", &port.to_string()).as_bytes());
            }
            requests
        });
        (port, serving)
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn redirect(to: &str) -> String {
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    }

    fn get(url: &str, also: &[&str], limits: &Limits) -> Result<Vec<u8>, ImageError> {
        let keep = tempfile::tempdir().unwrap();
        let into = keep.path().join("download");
        let allowed = AllowedAddresses {
            also: also.iter().map(|net| net.parse().unwrap()).collect(),
        };
        fetch(url, &into, &allowed, limits, &mut |_| true)?;
        Ok(manifests::path_io::read(&into).unwrap())
    }

    #[test]
    fn what_only_this_host_reaches_is_not_asked() {
        let limits = Limits::default();
        // A listener that would be seen to be connected to.
        let decoy = TcpListener::bind("127.0.0.1:0").unwrap();
        decoy.set_nonblocking(true).unwrap();
        let port = decoy.local_addr().unwrap().port();
        for url in [
            format!("http://127.0.0.1:{port}/"),
            format!("http://localhost:{port}/"),
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            // The WHATWG parser reads all of these as 127.0.0.1.
            format!("http://2130706433:{port}/"),
            format!("http://0x7f.1:{port}/"),
            format!("http://127.1:{port}/"),
            "http://169.254.169.254/latest/meta-data".to_owned(),
            "file:///etc/passwd".to_owned(),
            "ftp://host/x".to_owned(),
            "unix:/run/x".to_owned(),
        ] {
            let got = get(&url, &[], &limits);
            assert!(
                matches!(got, Err(ImageError::Forbidden { .. })),
                "{url}: {got:?}"
            );
        }
        assert!(decoy.accept().is_err(), "somebody was asked");
    }

    #[test]
    fn redirects_are_judged_as_the_first_address() {
        let limits = Limits::default();
        let (port, serving) = server(vec![redirect("http://127.0.0.1:PORT/end"), ok("content")]);
        let url = format!("http://127.0.0.1:{port}/start");
        assert_eq!(get(&url, &["127.0.0.1/32"], &limits).unwrap(), b"content");
        assert_eq!(
            serving.join().unwrap(),
            ["GET /start HTTP/1.1", "GET /end HTTP/1.1"]
        );
        // Only 127.0.0.1 is allowed.
        for to in [
            "http://127.0.0.2:PORT/x",
            "http://[::1]:PORT/",
            "http://2130706434:PORT/",
            "file:///etc/passwd",
            "http://169.254.169.254/",
        ] {
            let (port, serving) = server(vec![redirect(to)]);
            let result = get(
                &format!("http://127.0.0.1:{port}/"),
                &["127.0.0.1/32"],
                &limits,
            );
            assert!(
                matches!(result, Err(ImageError::Download { .. })),
                "{to}: {result:?}"
            );
            assert_eq!(serving.join().unwrap().len(), 1);
        }
        let (port, serving) = server(vec![redirect("/again"); REDIRECTS + 1]);
        let url = format!("http://127.0.0.1:{port}/");
        assert!(matches!(
            get(&url, &["127.0.0.1/32"], &limits),
            Err(ImageError::Download { .. })
        ));
        assert_eq!(serving.join().unwrap().len(), REDIRECTS + 1);
    }

    #[test]
    fn answers_that_are_too_long_broken_or_errors() {
        let limits = Limits {
            archive_bytes: 10,
            ..Limits::default()
        };
        let endless = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789abc".to_owned();
        let short =
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n012".to_owned();
        let missing =
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned();
        for (answer, too_big) in [
            (ok("0123456789abc"), true),
            (endless, true),
            (short, false),
            (missing, false),
        ] {
            let (port, serving) = server(vec![answer]);
            match get(
                &format!("http://127.0.0.1:{port}/"),
                &["127.0.0.0/8"],
                &limits,
            ) {
                Err(ImageError::TooBig { .. }) => assert!(too_big),
                Err(ImageError::Download { .. }) => assert!(!too_big),
                other => panic!("{other:?}"),
            }
            serving.join().unwrap();
        }
    }
}
