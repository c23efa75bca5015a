//! Web sockets of a server, over the same connections as its requests.

use std::io;
use std::time::Duration;

use tungstenite::{HandshakeError, Message, WebSocket};

use super::client::{Client, ClientError};
use super::http::Stream;

/// How long a server may take to open one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a read waits for more. Whoever has time waits for the descriptor.
const MOMENT: Duration = Duration::from_millis(10);

/// One web socket.
pub(super) struct Socket {
    socket: WebSocket<Box<dyn Stream>>,
    path: String,
}

impl Client {
    /// Opens the web socket at a path of the API.
    pub(super) fn socket(&self, path: &str) -> Result<Socket, ClientError> {
        let mut stream = self.call()?;
        let failed = |source: tungstenite::Error| ClientError::Socket {
            path: path.to_owned(),
            source: Box::new(source),
        };
        stream
            .patience(Some(PATIENCE))
            .map_err(|error| failed(error.into()))?;
        let (mut socket, _) = match tungstenite::client(format!("ws://incus{path}"), stream) {
            Ok(opened) => opened,
            Err(HandshakeError::Interrupted(_)) => return Err(ClientError::TooSlow(PATIENCE)),
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                let said = answer.body().as_deref().unwrap_or_default();
                return Err(ClientError::Refused {
                    status: answer.status().as_u16(),
                    message: String::from_utf8_lossy(said).into_owned(),
                });
            }
            Err(HandshakeError::Failure(error)) => return Err(failed(error)),
        };
        socket
            .get_mut()
            .patience(Some(MOMENT))
            .map_err(|error| failed(error.into()))?;
        Ok(Socket {
            socket,
            path: path.to_owned(),
        })
    }
}

impl Socket {
    /// The next message of text; none: there is no more just now. What the other side asks to be sure that somebody is
    /// there is answered by the way.
    pub(super) fn next_text(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(text.as_str().to_owned())),
                Ok(Message::Close(_)) => return Err(self.failed(closed())),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// What there is to wait for.
    pub(super) fn stream(&self) -> &dyn Stream {
        self.socket.get_ref().as_ref()
    }

    fn failed(&self, source: tungstenite::Error) -> ClientError {
        ClientError::Socket {
            path: self.path.clone(),
            source: Box::new(source),
        }
    }
}

fn closed() -> tungstenite::Error {
    tungstenite::Error::ConnectionClosed
}
