//! Whoever comes over the network: real TLS, real certificates, real tokens.

use std::net::TcpStream;

use manifests::controller::{CertificateAccess, Role, TlsSettings};
use manifests::scalar::path::AbsolutePath;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::*;
use crate::api::remote::{self, Remote};
use crate::store::Token;

/// Somebody who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate with its key.
struct Shown {
    chain: CertificateDer<'static>,
    key: Vec<u8>,
    pem: (String, String),
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn signs(&self, name: &str) -> Shown {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Shown {
            chain: certificate.der().clone(),
            key: key.serialize_der(),
            pem: (certificate.pem(), key.serialize_pem()),
        }
    }
}

/// A controller that is offered over the network, and who signs for it.
struct Far {
    bench: Bench,
    _serving: Serving,
    folder: PathBuf,
    address: std::net::SocketAddr,
    authority: Authority,
}

impl Far {
    fn new(access: Vec<CertificateAccess>) -> Self {
        let bench = Bench::new(&[("one.yaml", &instance("one", "64MiB"))]);
        let authority = Authority::new();
        let folder = bench.place.path().to_path_buf();
        let server = authority.signs("server");
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let file = |name: &str, text: &str| -> Option<AbsolutePath> {
            path_io::write(path(name), text).expect("written");
            Some(path(name).parse().expect("a path"))
        };
        let settings = TlsSettings {
            listen: "127.0.0.1:0".to_owned(),
            certificate: file("server.pem", &server.pem.0),
            key: file("server.key", &server.pem.1),
            authority: file("authority.pem", &authority.certificate.pem()),
            access,
        };
        let remote = Remote::open(&settings).expect("it listens");
        let address = remote.listener.local_addr().expect("an address");
        let socket = folder.join("second.sock");
        let (host, handle) = (bench.host.clone(), bench.handle.clone());
        let serving = serve(&socket, door(), Some(remote), host, handle).expect("it is offered");
        Self {
            bench,
            _serving: serving,
            folder,
            address,
            authority,
        }
    }

    /// What somebody is answered; none: TLS refused.
    fn ask(
        &self,
        shown: Option<&Shown>,
        versions: &[&'static SupportedProtocolVersion],
        question: &str,
    ) -> Option<(u16, String)> {
        let mut roots = RootCertStore::empty();
        let der = self.authority.certificate.der().clone();
        roots.add(der).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::try_from(shown.key.clone()).expect("a key");
                let chain = vec![shown.chain.clone()];
                config.with_client_auth_cert(chain, key).expect("fits")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut stream = StreamOwned::new(connection, stream);
        // A refused certificate is told by the first read.
        stream.write_all(question.as_bytes()).ok()?;
        let mut answer = Vec::new();
        // It may end without the farewell of TLS.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer))
    }

    fn get(&self, shown: Option<&Shown>, path: &str, token: Option<&str>) -> Option<(u16, String)> {
        let token = token.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        let question = format!(
            "GET {path} HTTP/1.1\r\nHost: edge.example.org:8443\r\n{token}Connection: close\r\n\r\n"
        );
        self.ask(shown, &[&rustls::version::TLS13], &question)
    }
}

fn of(subject: &str, role: Role, projects: &[&str]) -> CertificateAccess {
    CertificateAccess {
        subject: Some(subject.to_owned()),
        role,
        projects: projects.iter().map(|one| (*one).to_owned()).collect(),
        ..CertificateAccess::default()
    }
}

#[test]
fn a_certificate_says_who_somebody_is_and_what_they_may() {
    let far = Far::new(vec![
        of("alice", Role::Operator, &[]),
        of("bob", Role::Viewer, &["shop"]),
    ]);
    let alice = far.authority.signs("alice");
    let (status, answer) = far.get(Some(&alice), "/v1/status", None).expect("answered");
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer.contains(r#""you":{"name":"alice","role":"operator"}"#),
        "{answer}"
    );
    let bob = far.authority.signs("bob");
    for (shown, path, status) in [
        (Some(&bob), "/v1/status", 200),
        (Some(&bob), "/v1/objects/instance/one", 404),
        (Some(&bob), "/metrics", 403),
        (Some(&far.authority.signs("carol")), "/v1/status", 401),
        (None, "/v1/status", 401),
        (None, "/healthz", 200),
        (None, "/", 200),
    ] {
        let answered = far.get(shown, path, None).expect("answered");
        assert_eq!(answered.0, status, "{path}: {}", answered.1);
    }
    // Signed by somebody else it is none.
    let stranger = Authority::new().signs("alice");
    assert_eq!(far.get(Some(&stranger), "/v1/status", None), None);
    let old = far.ask(
        Some(&alice),
        &[&rustls::version::TLS12],
        "GET / HTTP/1.1\r\n\r\n",
    );
    assert_eq!(old, None, "nothing older than TLS 1.3");
    let post = "POST /v1/reconcile HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
                Connection: close\r\n\r\n{}";
    for (shown, status) in [(&alice, 202), (&bob, 403)] {
        let answered = far.ask(Some(shown), &[&rustls::version::TLS13], post);
        assert_eq!(answered.expect("answered").0, status);
    }

    // A new certificate of the server is taken up; one that is none is not.
    let renewed = far.authority.signs("renewed");
    path_io::write(far.folder.join("server.pem"), "nonsense").expect("written");
    assert_eq!(far.get(None, "/healthz", None).expect("as before").0, 200);
    path_io::write(far.folder.join("server.key"), renewed.pem.1).expect("written");
    path_io::write(far.folder.join("server.pem"), renewed.pem.0).expect("written");
    assert_eq!(far.get(None, "/healthz", None).expect("answered").0, 200);
}

#[test]
fn who_connects_and_says_nothing_or_half_of_it_keeps_nobody_out() {
    let far = Far::new(vec![of("alice", Role::Operator, &[])]);
    let alice = far.authority.signs("alice");
    let silent: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(far.address).expect("it listens");
            if number % 2 == 1 {
                // A greeting of TLS that does not come to its end.
                stream.write_all(b"\x16\x03\x01\x02\x00").expect("sent");
            }
            stream
        })
        .collect();
    let began = HostClock.instant();
    for _ in 0..20 {
        let (status, answer) = far.get(Some(&alice), "/v1/status", None).expect("answered");
        assert_eq!(status, 200, "{answer}");
    }
    // They wait for none of those, whose greeting is waited for 10 s.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    drop(silent);
}

#[test]
fn a_token_counts_until_it_is_over_or_revoked_and_only_its_hash_is_kept() {
    let far = Far::new(Vec::new());
    let database = far.bench.host.session().folder.database();
    let store = SqliteStore::open(&database).expect("the database");
    let now = HostClock.now();
    let hour = Duration::from_secs(3600);
    let make = |name: &str, role, projects: &[&str], expires_at| {
        let token = Token {
            name: name.to_owned(),
            role,
            projects: projects.iter().map(|one| (*one).to_owned()).collect(),
            created_at: now,
            expires_at,
            by: None,
        };
        let secret = format!("{}{name}", remote::TOKEN);
        store
            .add_token(&token, &remote::hash(&secret))
            .expect("added");
        secret
    };
    let later = Some(now.checked_add(hour).expect("a time"));
    let over = Some(now.checked_sub(hour).expect("a time"));
    let sees = make("sees", Role::Viewer, &[], later);
    let shop = make("shop", Role::Operator, &["shop"], None);
    let old = make("old", Role::Admin, &[], over);
    for (token, path, status) in [
        (sees.as_str(), "/v1/status", 200),
        (&sees, "/metrics", 200),
        (&sees, "/v1/objects/instance/one", 200),
        (&shop, "/v1/objects/instance/one", 404),
        (&old, "/v1/status", 401),
        ("keel_guessed", "/v1/status", 401),
        ("", "/v1/status", 401),
    ] {
        let answered = far.get(None, path, Some(token)).expect("answered");
        assert_eq!(answered.0, status, "{token} {path}: {}", answered.1);
    }
    let (_, answer) = far.get(None, "/v1/status", Some(&sees)).expect("answered");
    assert!(answer.contains(r#""name":"token sees""#), "{answer}");
    store.revoke_token("sees").expect("revoked");
    let (status, answer) = far.get(None, "/v1/status", Some(&sees)).expect("answered");
    assert_eq!(status, 401);
    assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
    drop(store);
    let kept = path_io::read(&database).expect("the database");
    let hidden = !kept.windows(sees.len()).any(|part| part == sees.as_bytes());
    assert!(hidden, "no secret is in it");
    // By the socket nobody needs one, and none counts.
    let (status, answer) = far.bench.raw(
        "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n",
    );
    assert!(
        status == 200 && answer.contains(r#""role":"admin""#),
        "{answer}"
    );
}

#[test]
fn the_command_line_asks_over_the_network_and_trusts_whom_it_is_told() {
    use crate::api::session::Kind;
    use crate::api::way::{Access, Way};
    use crate::api::{ExecEnd, ExecStart};
    use crate::web::access::Hidden;
    let far = Far::new(vec![
        of("alice", Role::Admin, &[]),
        of("bob", Role::Viewer, &[]),
    ]);
    let file = |name: &str, text: &str| {
        let path = far.folder.join(name);
        path_io::write(&path, text).expect("written");
        path
    };
    let address = format!("https://localhost:{}", far.address.port());
    let client = |who: Option<&str>, authority: &Authority, token: Option<&str>| {
        let shown = who.map(|who| far.authority.signs(who));
        let pem = |of: fn(&(String, String)) -> &String, name: &str| {
            shown.as_ref().map(|shown| file(name, of(&shown.pem)))
        };
        let access = Access {
            authority: Some(file("trusted.pem", &authority.certificate.pem())),
            certificate: pem(|pem| &pem.0, "own.pem"),
            key: pem(|pem| &pem.1, "own.key"),
            token: token.map(|token| Hidden(token.to_owned())),
        };
        Client::by(Way::of(&address, &access).expect("a way"))
    };
    let alice = client(Some("alice"), &far.authority, None);
    let status: Value = alice.get("/v1/status").expect("answered");
    assert_eq!(status["you"]["name"], "alice");
    alice
        .post::<Value>("/v1/reconcile", &json!({}))
        .expect("asked for");
    let mut heard = Vec::new();
    alice
        .follow(Some(0), &mut |event| {
            heard.push(event.topic);
            false
        })
        .expect("followed");
    assert_eq!(heard.len(), 1);
    let start = ExecStart {
        command: vec!["true".to_owned()],
        environment: std::collections::BTreeMap::new(),
        directory: None,
        uid: 0,
        gid: 0,
        terminal: false,
        size: None,
    };
    let exec = || Kind::Exec(Box::new(start.clone()));
    let ended = alice
        .carry("/v1/instances/one/exec", exec())
        .expect("it ran");
    let seven = ExecEnd {
        code: Some(7),
        ..ExecEnd::default()
    };
    assert_eq!(ended, seven);
    let mut log = Vec::new();
    let mut show = |bytes: &[u8]| {
        log.extend_from_slice(bytes);
        Err(std::io::ErrorKind::BrokenPipe.into())
    };
    let followed = alice.carry("/v1/instances/one/logs/follow", Kind::Log(&mut show));
    followed.expect("followed");
    assert_eq!(log, b"\x1b[32mup\x1b[0m\r\n");

    let refused = |client: &Client| match client.carry("/v1/instances/one/exec", exec()) {
        Err(ClientError::Refused(problem)) => problem.status,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&client(Some("bob"), &far.authority, None)), 403);
    assert_eq!(refused(&client(None, &far.authority, None)), 401);
    assert_eq!(refused(&client(None, &far.authority, Some("keel_x"))), 401);
    let gone = alice.carry("/v1/instances/none/exec", exec());
    assert!(
        matches!(&gone, Err(ClientError::Refused(problem)) if problem.status == 404),
        "{gone:?}"
    );
    let other = client(Some("alice"), &Authority::new(), None);
    let wrong = [
        other.get::<Value>("/v1/status").map(drop),
        other.carry("/v1/instances/one/exec", exec()).map(drop),
    ];
    for error in wrong.map(|wrong| wrong.expect_err("it is not trusted")) {
        let words = crate::error::chain(&error);
        assert!(words.contains("invalid peer certificate"), "{words}");
        let hints = CliError::from(error).hints;
        assert!(hints[0].contains("--controller-authority"), "{hints:?}");
    }
}
