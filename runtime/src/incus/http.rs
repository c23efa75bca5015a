//! HTTP/1.1 (RFC 9112) over one stream, as much of it as the REST API of Incus speaks: answers with a length, in chunks,
//! or up to the end of the stream. One request at a time.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// No head of an answer is longer.
const MOST_HEAD: usize = 64 << 10;
/// No document of the API is longer: 48 000 snapshots are about 40 MB.
const MOST_BODY: u64 = 512 << 20;

/// A connection to a server, of whatever kind.
pub(super) trait Stream: Read + Write + Send {
    /// How long one read or write may take; none: as long as it does.
    fn patience(&mut self, patience: Option<Duration>) -> io::Result<()>;

    /// What can be waited for. What was read of it already lies within.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// With its query.
    pub(super) path: &'a str,
    pub(super) headers: Vec<(&'a str, String)>,
    pub(super) body: Body<'a>,
}

/// What goes with a request.
pub(super) enum Body<'a> {
    None,
    Json(Vec<u8>),
    /// So many bytes of a file.
    Bytes(u64, &'a mut dyn Read),
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// A header, by its name in small letters.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Not a byte of an answer came: a connection that was kept may have been closed meanwhile.
    #[error("there is no answer")]
    NoAnswer(#[source] io::Error),
    /// It ended within the answer.
    #[error("the answer was cut short")]
    CutShort(#[source] io::Error),
    /// What came is no HTTP, or more than is read.
    #[error("the answer is not understood: {0}")]
    NotUnderstood(&'static str),
}

/// One connection, with what was read of it and not yet used.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Whether another request can follow.
    pub(super) goes_on: bool,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            goes_on: true,
        }
    }

    /// Asks, and reads the whole answer.
    pub(super) fn ask(
        &mut self,
        request: Request<'_>,
        patience: Duration,
    ) -> Result<Response, HttpError> {
        self.goes_on = false;
        self.stream
            .patience(Some(patience))
            .map_err(HttpError::NoAnswer)?;
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: incus\r\n",
            request.method, request.path
        );
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = match &request.body {
            Body::None => None,
            Body::Json(bytes) => Some(bytes.len() as u64),
            Body::Bytes(length, _) => Some(*length),
        };
        match (length, request.method) {
            (Some(length), _) => head.push_str(&format!("Content-Length: {length}\r\n")),
            (None, "GET" | "HEAD") => {}
            (None, _) => head.push_str("Content-Length: 0\r\n"),
        }
        if matches!(request.body, Body::Json(_)) {
            head.push_str("Content-Type: application/json\r\n");
        }
        head.push_str("\r\n");
        let sent = self.send(head.into_bytes(), request.body);
        // A server that refuses may answer before all was sent.
        match (self.answer(request.method), sent) {
            (Ok(response), _) => Ok(response),
            (Err(HttpError::NoAnswer(_)), Err(error)) => Err(HttpError::NoAnswer(error)),
            (Err(error), _) => Err(error),
        }
    }

    fn send(&mut self, mut head: Vec<u8>, body: Body<'_>) -> io::Result<()> {
        match body {
            Body::None => self.stream.write_all(&head)?,
            Body::Json(bytes) => {
                head.extend_from_slice(&bytes);
                self.stream.write_all(&head)?;
            }
            Body::Bytes(length, from) => {
                self.stream.write_all(&head)?;
                let copied = io::copy(&mut from.take(length), &mut self.stream)?;
                if copied != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        self.stream.flush()
    }

    fn answer(&mut self, method: &str) -> Result<Response, HttpError> {
        loop {
            let (status, headers) = self.head()?;
            // Something of which the answer is still to come (RFC 9110, 15.2).
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let mut response = Response {
                status,
                headers,
                body: Vec::new(),
            };
            if method == "HEAD" || status == 204 || status == 304 || status == 101 {
                self.goes_on = status != 101 && !closes(&response);
                return Ok(response);
            }
            let chunked = response
                .header("transfer-encoding")
                .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
            if chunked {
                response.body = self.chunks()?;
            } else if let Some(length) = response.header("content-length") {
                let length = length.trim().parse::<u64>();
                let length =
                    length.map_err(|_| HttpError::NotUnderstood("a length that is none"))?;
                response.body = self.take(length)?;
            } else {
                response.body = self.rest()?;
                return Ok(response);
            }
            self.goes_on = !closes(&response);
            return Ok(response);
        }
    }

    fn head(&mut self) -> Result<(u16, Vec<(String, String)>), HttpError> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if self.buffer.len() > MOST_HEAD {
                return Err(HttpError::NotUnderstood("its head has no end"));
            }
            let is_empty = self.buffer.is_empty();
            self.fill().map_err(|error| match is_empty {
                true => HttpError::NoAnswer(error),
                false => HttpError::CutShort(error),
            })?;
        };
        let rest = self.buffer.split_off(end + 4);
        let head = std::mem::replace(&mut self.buffer, rest);
        let head = std::str::from_utf8(&head[..end])
            .map_err(|_| HttpError::NotUnderstood("its head is no text"))?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
            .ok_or(HttpError::NotUnderstood("it is no HTTP"))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok((status, headers))
    }

    fn chunks(&mut self) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16)
                .map_err(|_| HttpError::NotUnderstood("a chunk without a length"))?;
            if length == 0 {
                // Trailers, up to an empty line.
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            if body.len() as u64 + length > MOST_BODY {
                return Err(HttpError::NotUnderstood("it is too long"));
            }
            body.extend(self.take(length)?);
            if !self.line()?.is_empty() {
                return Err(HttpError::NotUnderstood("a chunk that does not end"));
            }
        }
    }

    fn line(&mut self) -> Result<String, HttpError> {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            if self.buffer.len() > MOST_HEAD {
                return Err(HttpError::NotUnderstood("a line without an end"));
            }
            self.fill().map_err(HttpError::CutShort)?;
        };
        let rest = self.buffer.split_off(end + 2);
        let line = std::mem::replace(&mut self.buffer, rest);
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>, HttpError> {
        if length > MOST_BODY {
            return Err(HttpError::NotUnderstood("it is too long"));
        }
        let length =
            usize::try_from(length).map_err(|_| HttpError::NotUnderstood("it is too long"))?;
        while self.buffer.len() < length {
            self.fill().map_err(HttpError::CutShort)?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn rest(&mut self) -> Result<Vec<u8>, HttpError> {
        let limit = MOST_BODY - self.buffer.len() as u64;
        let mut body = std::mem::take(&mut self.buffer);
        (&mut self.stream)
            .take(limit)
            .read_to_end(&mut body)
            .map_err(HttpError::CutShort)?;
        Ok(body)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut some = [0; 32 << 10];
        loop {
            match self.stream.read(&mut some) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.buffer.extend_from_slice(&some[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn closes(response: &Response) -> bool {
    response
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Gives what it has piece by piece, and keeps what is sent.
    struct Script(VecDeque<&'static [u8]>);

    impl Read for Script {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.pop_front() else {
                return Ok(0);
            };
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Script {
        fn patience(&mut self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }

        fn descriptor(&self) -> BorrowedFd<'_> {
            panic!("nobody waits for a script")
        }
    }

    fn ask(pieces: &[&'static [u8]]) -> (Result<Response, HttpError>, bool) {
        let mut connection = Connection::new(Box::new(Script(pieces.iter().copied().collect())));
        let request = Request {
            method: "GET",
            path: "/",
            headers: Vec::new(),
            body: Body::None,
        };
        let answer = connection.ask(request, Duration::from_secs(1));
        (answer, connection.goes_on)
    }

    #[test]
    fn answers_come_with_a_length_in_chunks_or_to_the_end() {
        for (pieces, body, goes_on) in [
            (&[&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"[..], b"lo"][..], "hello", true),
            (
                &[
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r",
                    b"\n2;x=y\r\nlo\r\n0\r\n",
                    b"\r\n",
                ],
                "hello",
                true,
            ),
            (&[b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"], "hello", false),
            (
                &[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"],
                "",
                false,
            ),
        ] {
            let (answer, goes) = ask(pieces);
            let answer = answer.expect("an answer");
            assert_eq!((String::from_utf8_lossy(&answer.body).as_ref(), goes), (body, goes_on));
        }
    }

    #[test]
    fn what_is_no_answer_is_told_from_one_that_was_cut_short() {
        let kind = |pieces: &[&'static [u8]]| match ask(pieces).0.expect_err("an error") {
            HttpError::NoAnswer(_) => "none",
            HttpError::CutShort(_) => "cut",
            HttpError::NotUnderstood(why) => why,
        };
        assert_eq!(kind(&[]), "none");
        assert_eq!(kind(&[b"HTTP/1.1 20"]), "cut");
        assert_eq!(
            kind(&[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"]),
            "cut"
        );
        assert_eq!(kind(&[b"SSH-2.0-OpenSSH\r\n\r\n"]), "it is no HTTP");
        assert_eq!(
            kind(&[b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"]),
            "it is too long"
        );
    }
}
