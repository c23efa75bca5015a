//! A server of git by https: a real TLS, and the answers of the program git.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use runtime::sys::command::run;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How a server answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    /// It knows only the old protocol.
    pub(super) is_old: bool,
    /// It can leave nothing out.
    pub(super) sends_all: bool,
    /// It wants this header.
    pub(super) authorization: Option<String>,
    /// The first question is sent on to here.
    pub(super) redirect: Option<String>,
    /// It says nothing after the head of its answer.
    pub(super) hangs: bool,
    /// It answers every question with these bytes.
    pub(super) says: Option<Vec<u8>>,
    /// It answers with this state.
    pub(super) status: Option<&'static str>,
}

/// A server that answers until it is dropped: its threads end with the test.
pub(super) struct Server {
    pub(super) address: String,
    /// Its certificate, PEM.
    pub(super) certificate: String,
    pub(super) manner: Arc<Mutex<Manner>>,
    /// The questions: their first line.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn of(repository: PathBuf) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let this = Self {
            address: format!("https://localhost:{port}/team/edge.git"),
            certificate: cert.pem(),
            manner: Arc::default(),
            asked: Arc::default(),
        };
        let (manner, asked) = (Arc::clone(&this.manner), Arc::clone(&this.asked));
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
                let mut stream = StreamOwned::new(connection, stream);
                let manner = manner.lock().expect("a manner").clone();
                let (asked, repository) = (Arc::clone(&asked), repository.clone());
                std::thread::spawn(move || {
                    let _ = answer(&mut stream, &manner, &asked, &repository);
                });
            }
        });
        this
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Manner)) {
        let mut manner = Manner::default();
        change(&mut manner);
        *self.manner.lock().expect("a manner") = manner;
        self.asked.lock().expect("questions").clear();
    }

    pub(super) fn questions(&self) -> Vec<String> {
        self.asked.lock().expect("questions").clone()
    }
}

type Stream = StreamOwned<ServerConnection, std::net::TcpStream>;

/// Answers one question and ends the connection.
fn answer(
    stream: &mut Stream,
    manner: &Manner,
    asked: &Mutex<Vec<String>>,
    repository: &std::path::Path,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let field = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name));
        line.and_then(|line| Some(line.split_once(": ")?.1.to_owned()))
    };
    let length = field("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    asked.lock().expect("questions").push(line.clone());
    let mut send = |status: &str, kind: &str, more: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        if manner.hangs {
            stream.flush()?;
            // Until the client goes.
            return stream.read(&mut [0]).map(drop);
        }
        stream.write_all(body)?;
        stream.flush()
    };
    if manner.authorization.is_some() && field("authorization") != manner.authorization {
        return send("401 Unauthorized", "text/plain", "", b"");
    }
    if let Some(to) = &manner.redirect
        && !line.contains("/moved/")
    {
        return send(
            "302 Found",
            "text/plain",
            &format!("Location: {to}\r\n"),
            b"",
        );
    }
    if let Some(status) = manner.status {
        return send(status, "text/html", "", b"<html>");
    }
    let of_git = |kind: &str| format!("application/x-git-upload-pack-{kind}");
    // What git says when it fails is an answer as well.
    let mut command: Vec<String> = ["-c", "\"$@\" || :", "sh", "env"]
        .map(str::to_owned)
        .to_vec();
    if !manner.is_old {
        command.push("GIT_PROTOCOL=version=2".to_owned());
    }
    let git = [
        "git",
        "-c",
        "safe.directory=*",
        "-c",
        match manner.sends_all {
            true => "uploadpack.allowFilter=false",
            false => "uploadpack.allowFilter=true",
        },
        "upload-pack",
        "--stateless-rpc",
    ];
    command.extend(git.map(str::to_owned));
    let is_first = line.starts_with("GET ");
    if is_first {
        command.push("--advertise-refs".to_owned());
    }
    command.push(repository.display().to_string());
    let said = match &manner.says {
        Some(said) => said.clone(),
        None => run("sh", command, Some(&body)).expect("an answer"),
    };
    if is_first {
        let mut all = Vec::new();
        if manner.is_old {
            all.extend(b"001e# service=git-upload-pack\n0000");
        }
        all.extend(said);
        return send("200 OK", &of_git("advertisement"), "", &all);
    }
    send("200 OK", &of_git("result"), "", &said)
}
