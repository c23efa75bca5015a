//! The other end of a web socket: a command in an instance or its console, with the terminal of whoever runs keel.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use runtime::native::container::relay;
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Message};

use super::client::{ClientError, Controller, understood};
use super::near::Size;
use super::problem::Problem;
use super::sockets::{ExecEnd, ExecStart, Said};
use super::way::AsyncLine;

/// So many bytes of the input are sent at once.
const PART: usize = 16 * 1024;
/// How often the size of the terminal is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Ended as the kernel ends what writes to nobody.
const NOBODY_READS: u8 = 13;

/// What goes through a web socket.
pub enum Kind<'a> {
    /// A command: what is run.
    Exec(Box<ExecStart>),
    /// A console.
    Console,
    /// What is written to a console: shown by this.
    Log(&'a mut dyn FnMut(&[u8]) -> io::Result<()>),
}

type Socket = WebSocketStream<Box<dyn AsyncLine>>;

impl Controller {
    /// Carries bytes between this process and an instance until that ends.
    ///
    /// # Errors
    /// The controller cannot be reached, or refuses.
    pub fn carry(&self, path: &str, kind: Kind<'_>) -> Result<ExecEnd, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.unreachable(error))?;
        let ended = runtime.block_on(self.talk(path, kind));
        // A thread that reads the input may wait for a person: nobody waits for it.
        runtime.shutdown_background();
        ended
    }

    async fn talk(&self, path: &str, kind: Kind<'_>) -> Result<ExecEnd, ClientError> {
        let failed = |error| self.unreachable(error);
        let socket = self.opened(path).await?;
        let (mut say, hear) = socket.split();
        let has_terminal = match &kind {
            Kind::Exec(start) => {
                let text = serde_json::to_string(start)
                    .map_err(|error| ClientError::NotUnderstood(error.into()))?;
                let said = say.send(Message::text(text)).await;
                said.map_err(|error| failed(io_error(error)))?;
                start.terminal
            }
            Kind::Console | Kind::Log(_) => true,
        };
        if matches!(kind, Kind::Log(_)) {
            return self.show(hear, kind).await;
        }
        let typed = typed().map_err(failed)?;
        // Beside what is heard: a program that reads only when it has written must not be waited for.
        let sends = tokio::spawn(send(say, typed, has_terminal));
        let ended = self.show(hear, kind).await;
        sends.abort();
        ended
    }

    async fn opened(&self, path: &str) -> Result<Socket, ClientError> {
        let failed = |error| self.unreachable(error);
        let (address, token) = self.way.socket(path);
        let uri: Uri = address
            .parse()
            .map_err(|_| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let mut request = ClientRequestBuilder::new(uri);
        if let Some(token) = token {
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        let line = self.way.open().await.map_err(failed)?;
        match client_async(request, line).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(answer)) => Err(ClientError::Refused(Box::new(refusal(
                answer.status().as_u16(),
                answer.body().as_deref(),
            )))),
            Err(error) => Err(failed(io_error(error))),
        }
    }

    /// Shows what comes, until the last message.
    async fn show(
        &self,
        mut hear: SplitStream<Socket>,
        mut kind: Kind<'_>,
    ) -> Result<ExecEnd, ClientError> {
        while let Some(message) = hear.next().await {
            let message = message.map_err(|error| self.unreachable(io_error(error)))?;
            let shown = match message {
                Message::Binary(bytes) => match (&mut kind, bytes.split_first()) {
                    (Kind::Log(show), _) => (*show)(&bytes),
                    (Kind::Exec(_), Some((2, rest))) => write(io::stderr(), rest),
                    (Kind::Exec(_), Some((_, rest))) => write(io::stdout(), rest),
                    (Kind::Exec(_), None) => Ok(()),
                    (Kind::Console, _) => write(io::stdout(), &bytes),
                },
                Message::Text(text) => return understood(&text),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
            };
            match shown {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(ExecEnd {
                        signal: Some(NOBODY_READS),
                        ..ExecEnd::default()
                    });
                }
                Err(error) => return Err(self.unreachable(error)),
            }
        }
        match kind {
            // It is followed as long as there is a controller.
            Kind::Log(_) => Ok(ExecEnd::default()),
            Kind::Exec(_) | Kind::Console => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up");
                Err(self.unreachable(error))
            }
        }
    }
}

/// What a server says that refuses a web socket.
fn refusal(status: u16, body: Option<&[u8]>) -> Problem {
    let told = body.and_then(|body| serde_json::from_slice::<Problem>(body).ok());
    told.unwrap_or_else(|| match status {
        401 => Problem::nobody(),
        403 => Problem::forbidden("you may not do that with this instance"),
        404 => Problem::not_there("no source has such an instance"),
        409 => Problem::conflict("too many commands and consoles are open"),
        other => Problem::bad(format!("the controller answers {other}")),
    })
}

fn io_error(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

fn write(mut to: impl io::Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// What is typed, until that ends.
fn typed() -> io::Result<mpsc::Receiver<Vec<u8>>> {
    let (give, typed) = mpsc::channel(4);
    std::thread::Builder::new()
        .name("keel-input".to_owned())
        .spawn(move || {
            let input = io::stdin();
            let mut buffer = [0; PART];
            loop {
                match rustix::io::read(input.as_fd(), &mut buffer) {
                    Err(Errno::INTR) => {}
                    Ok(0) | Err(_) => return,
                    Ok(length) => {
                        if give.blocking_send(buffer[..length].to_vec()).is_err() {
                            return;
                        }
                    }
                }
            }
        })?;
    Ok(typed)
}

/// Sends what is typed and how large the terminal is. Where it cannot be sent, whoever hears has heard why.
async fn send(
    mut say: SplitSink<Socket, Message>,
    mut typed: mpsc::Receiver<Vec<u8>>,
    has_terminal: bool,
) {
    let mut look = interval(LOOK);
    let mut last = None;
    let mut is_open = true;
    loop {
        let message = tokio::select! {
            bytes = typed.recv(), if is_open => match bytes {
                Some(bytes) => Message::binary(bytes),
                None => {
                    is_open = false;
                    said(&Said { end: true, ..Said::default() })
                }
            },
            _ = look.tick(), if has_terminal => {
                let now = size();
                if now == last || now.is_none() {
                    continue;
                }
                last = now;
                said(&Said { resize: now, ..Said::default() })
            }
            else => return,
        };
        if say.send(message).await.is_err() {
            return;
        }
    }
}

fn said(said: &Said) -> Message {
    Message::text(serde_json::to_string(said).unwrap_or_default())
}

/// The size of the terminal of whoever runs keel.
pub fn size() -> Option<Size> {
    let (rows, columns) = relay::size(io::stdin().as_fd())?;
    Some(Size {
        columns: columns.try_into().ok()?,
        rows: rows.try_into().ok()?,
    })
}
