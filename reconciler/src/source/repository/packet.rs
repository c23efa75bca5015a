//! The lines of git's protocol (gitprotocol-common): four hexadecimal digits say how long one is, themselves included.

use std::io::{self, BufReader, Read};

/// What stands between two lines, or a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// `0000`: something is over.
    Flush,
    /// `0001`: the next part begins.
    Delimiter,
    /// `0002`: the answer is over.
    End,
    /// A line, without an end of line.
    Line(&'a [u8]),
}

/// Lines out of what a server sends.
pub(super) struct Packets<'a> {
    from: BufReader<Box<dyn Read + 'a>>,
    /// How many bytes may still come.
    left: u64,
    most: u64,
    line: Vec<u8>,
}

impl<'a> Packets<'a> {
    /// Reads at most so many bytes.
    pub(super) fn new(from: Box<dyn Read + 'a>, most: u64) -> Self {
        Self {
            // Nothing comes behind an answer before the next question.
            from: BufReader::with_capacity(64 << 10, from),
            left: most,
            most,
            line: Vec::new(),
        }
    }

    fn fill(&mut self, length: usize) -> io::Result<()> {
        let over = || {
            let most = format!("{} MiB", self.most >> 20);
            io::Error::new(io::ErrorKind::FileTooLarge, most)
        };
        self.left = self.left.checked_sub(length as u64).ok_or_else(over)?;
        self.line.resize(length, 0);
        self.from.read_exact(&mut self.line)
    }

    /// The next one.
    ///
    /// # Errors
    /// The server ended, or sends what is no line, or too much.
    pub(super) fn next(&mut self) -> io::Result<Packet<'_>> {
        self.fill(4)?;
        let length = std::str::from_utf8(&self.line)
            .ok()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        match length {
            Some(0) => Ok(Packet::Flush),
            Some(1) => Ok(Packet::Delimiter),
            Some(2) => Ok(Packet::End),
            Some(length) if length >= 4 => {
                self.fill(length - 4)?;
                if let Some(why) = self.line.strip_prefix(b"ERR ") {
                    let why = String::from_utf8_lossy(why).trim().to_owned();
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                Ok(Packet::Line(&self.line))
            }
            _ => Err(invalid("it is not the protocol of git")),
        }
    }
}

/// What a server must not say.
pub(super) fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A line as a text, without its end.
pub(super) fn text(line: &[u8]) -> io::Result<&str> {
    let text = std::str::from_utf8(line).map_err(|_| invalid("a line is not UTF-8"))?;
    Ok(text.trim_end_matches('\n'))
}

/// Adds a line to a question.
pub(super) fn put(question: &mut Vec<u8>, line: &str) {
    question.extend(format!("{:04x}{line}\n", line.len() + 5).into_bytes());
}

/// What ends a question.
pub(super) const FLUSH: &[u8] = b"0000";
/// What stands between the parts of a question.
pub(super) const DELIMITER: &[u8] = b"0001";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_length() {
        let mut sent = Vec::new();
        put(&mut sent, "want x");
        sent.extend(DELIMITER);
        sent.extend(b"0005a");
        sent.extend(FLUSH);
        let mut packets = Packets::new(Box::new(sent.as_slice()), 100);
        assert_eq!(packets.next().expect("a line"), Packet::Line(b"want x\n"));
        assert_eq!(packets.next().expect("one"), Packet::Delimiter);
        assert_eq!(packets.next().expect("a line"), Packet::Line(b"a"));
        assert_eq!(packets.next().expect("one"), Packet::Flush);
        let ended = packets.next().expect_err("over");
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
        for (sent, kind) in [
            (&b"0003"[..], io::ErrorKind::InvalidData),
            (b"+004", io::ErrorKind::InvalidData),
            (b"<htm", io::ErrorKind::InvalidData),
            (b"000dERR no way", io::ErrorKind::InvalidData),
            (b"fff0aaaa", io::ErrorKind::FileTooLarge),
            (b"0010aaaa", io::ErrorKind::UnexpectedEof),
        ] {
            let mut packets = Packets::new(Box::new(sent), 100);
            assert_eq!(packets.next().expect_err("wrong").kind(), kind, "{sent:?}");
        }
    }
}
