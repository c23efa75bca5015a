//! A server in the test's own process, which hears questions and answers as it is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A question as it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// `POST`.
    pub(crate) method: String,
    /// The path with the query.
    pub(crate) path: String,
    /// Each header as a line, its name in small letters.
    pub(crate) headers: Vec<String>,
    /// What was sent.
    pub(crate) body: Vec<u8>,
}

impl Heard {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.headers
            .iter()
            .find_map(|line| line.strip_prefix(&start))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// How a question is answered; none: never.
pub(crate) type Answer = Option<(u16, String)>;

/// The server. It ends with the test.
pub(crate) struct Server {
    /// `http://127.0.0.1:port`.
    pub(crate) url: String,
    heard: Receiver<Heard>,
}

impl Server {
    /// Begins to answer, each question on a thread of its own.
    pub(crate) fn begin(answer: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (tell, heard) = channel();
        let answer = std::sync::Arc::new(answer);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (answer, tell) = (std::sync::Arc::clone(&answer), tell.clone());
                std::thread::spawn(move || {
                    let question = hear(&connection);
                    let answer = answer(&question);
                    let _ = tell.send(question);
                    let Some((status, body)) = answer else {
                        // Until the test is over.
                        let _ = channel::<()>().1.recv_timeout(Duration::from_secs(60));
                        std::mem::forget(connection);
                        return;
                    };
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                    );
                    let _ = (&connection).write_all(format!("{head}{body}").as_bytes());
                });
            }
        });
        Self { url, heard }
    }

    /// The next question.
    pub(crate) fn next(&self) -> Heard {
        let heard = self.heard.recv_timeout(Duration::from_secs(20));
        heard.expect("a question within 20 s")
    }

    /// Whether nobody asks for a while.
    pub(crate) fn is_quiet(&self) -> bool {
        self.heard.recv_timeout(Duration::from_millis(200)).is_err()
    }
}

fn hear(connection: &TcpStream) -> Heard {
    let mut from = BufReader::new(connection);
    let mut line = || {
        let mut line = String::new();
        let _ = from.read_line(&mut line);
        line.trim_end().to_owned()
    };
    let first = line();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let mut headers = Vec::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.push(format!("{}: {value}", name.to_lowercase()));
    }
    let mut heard = Heard {
        method: method.unwrap_or_default(),
        path: path.unwrap_or_default(),
        headers,
        body: Vec::new(),
    };
    let length = heard.header("content-length");
    let length = length.map_or(0, |length| length.parse().expect("a length"));
    heard.body = vec![0; length];
    let _ = from.read_exact(&mut heard.body);
    heard
}
