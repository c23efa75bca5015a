//! Git's protocol as far as fetching one commit needs it, in its versions 2 (gitprotocol-v2) and 0 (gitprotocol-pack).
//!
//! libgit2 has a client of its own. It keeps every reference of a server in memory and knows no version 2, in which a
//! server tells only those that are asked for; and its transports cannot be given settings without global ones.

use std::io::{self, Write};

use git2::Oid;

use super::choosing::{Offered, object};
use super::packet::{DELIMITER, FLUSH, Packet, Packets, invalid, put, text};
use super::wire::{Wire, failed};
use crate::source::failure::SourceError;

/// The most bytes that a list of references may have: some millions. They are looked at one by one.
const MOST_OF_REFERENCES: u64 = 512 << 20;

/// Which protocol a server speaks, and what it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Version 2: questions and answers.
    Two {
        /// It can leave objects out.
        can_filter: bool,
        /// What it says of the names of objects is said back to it.
        tells_format: bool,
    },
    /// Version 0 or 1: its references, then one question.
    Zero {
        /// What it can.
        features: Vec<String>,
    },
}

impl Speaks {
    /// Whether it can leave objects out.
    pub(super) fn can_filter(&self) -> bool {
        match self {
            Self::Two { can_filter, .. } => *can_filter,
            Self::Zero { features } => features.iter().any(|one| one == "filter"),
        }
    }
}

/// What is fetched.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    /// What is wanted, with what it is made of.
    pub(super) want: Oid,
    /// So many commits of its history.
    pub(super) depth: u32,
    /// What is here already, with what it is made of.
    pub(super) have: &'a [Oid],
    /// Commits that are here without their parents.
    pub(super) shallow: &'a [Oid],
    /// What is left out, where the server can do that: `blob:limit=…`, `tree:0`.
    pub(super) leave_out: &'a str,
    /// The most bytes that come.
    pub(super) most: u64,
}

/// Connects, and offers the references of the server.
///
/// # Errors
/// It cannot be reached, or answers something else than git.
pub(super) fn choose(
    wire: &mut dyn Wire,
    url: &str,
    offered: &mut dyn Offered,
) -> Result<Speaks, SourceError> {
    let begun = wire.begin()?;
    let speaks = match greeting(Packets::new(begun, MOST_OF_REFERENCES), offered) {
        Ok(answer) => answer,
        Err(error) => return Err(failed(wire, url, error)),
    };
    let Speaks::Two { tells_format, .. } = speaks else {
        return Ok(speaks);
    };
    if offered.is_known() {
        return Ok(speaks);
    }
    let mut question = command("ls-refs", tells_format);
    put(&mut question, "peel");
    put(&mut question, &format!("ref-prefix {}", offered.prefix()));
    question.extend(FLUSH);
    let answer = wire.ask(&question)?;
    match listed(Packets::new(answer, MOST_OF_REFERENCES), offered) {
        Ok(()) => Ok(speaks),
        Err(error) => Err(failed(wire, url, error)),
    }
}

/// What a server says first: of version 2 what it can, of version 0 that with its references.
fn greeting(mut packets: Packets<'_>, offered: &mut dyn Offered) -> io::Result<Speaks> {
    let mut features: Option<Vec<String>> = None;
    let mut is_two = false;
    let (mut can_filter, mut tells_format) = (false, false);
    let mut is_first = true;
    loop {
        let line = match packets.next()? {
            Packet::Line(line) => line,
            // Behind `# service=git-upload-pack`, which comes by https.
            Packet::Flush if is_first => {
                is_first = false;
                continue;
            }
            _ => break,
        };
        let line = match line.iter().position(|byte| *byte == 0) {
            Some(end) => {
                let (line, told) = line.split_at(end);
                let told = text(told.get(1..).unwrap_or_default())?;
                features = Some(told.split(' ').map(str::to_owned).collect());
                text(line)?
            }
            None => text(line)?,
        };
        if line.starts_with("# service=") {
            continue;
        }
        is_first = false;
        match line {
            "version 2" => is_two = true,
            "version 1" => {}
            _ if is_two => match line.split_once('=') {
                Some(("fetch", can)) => can_filter = can.split(' ').any(|one| one == "filter"),
                Some(("object-format", "sha1")) => tells_format = true,
                Some(("object-format", _)) => return Err(invalid(SHA256)),
                _ => {}
            },
            _ => {
                let (id, name) = line
                    .split_once(' ')
                    .ok_or_else(|| invalid("it is not the protocol of git"))?;
                match id.len() {
                    40 => offered.offer(name, id),
                    64 => return Err(invalid(SHA256)),
                    _ => return Err(invalid("it is not the protocol of git")),
                }
            }
        }
    }
    if is_two {
        let two = Speaks::Two {
            can_filter,
            tells_format,
        };
        return Ok(two);
    }
    let features = features.ok_or_else(|| invalid("it tells nothing of what it can"))?;
    Ok(Speaks::Zero { features })
}

const SHA256: &str = "its objects are named by SHA-256, which keel does not read";

fn command(name: &str, tells_format: bool) -> Vec<u8> {
    let mut question = Vec::new();
    put(&mut question, &format!("command={name}"));
    put(&mut question, AGENT);
    if tells_format {
        put(&mut question, "object-format=sha1");
    }
    question.extend(DELIMITER);
    question
}

const AGENT: &str = concat!("agent=evenkeel/", env!("CARGO_PKG_VERSION"));

/// The references that were asked for.
fn listed(mut packets: Packets<'_>, offered: &mut dyn Offered) -> io::Result<()> {
    loop {
        let Packet::Line(line) = packets.next()? else {
            return Ok(());
        };
        let mut words = text(line)?.split(' ');
        if let (Some(id), Some(name)) = (words.next(), words.next()) {
            offered.offer(name, id);
            if let Some(peeled) = words.find_map(|word| word.strip_prefix("peeled:")) {
                offered.offer(&format!("{name}^{{}}"), peeled);
            }
        }
    }
}

/// Fetches. The pack goes into `pack`; the answer are the commits whose parents were cut off.
///
/// # Errors
/// As [`choose`]; it does not have what is wanted; it is too much; it cannot be written.
pub(super) fn fetch(
    wire: &mut dyn Wire,
    url: &str,
    speaks: &Speaks,
    request: &Request<'_>,
    pack: &mut dyn Write,
) -> Result<Vec<Oid>, SourceError> {
    let question = match speaks {
        Speaks::Two {
            can_filter,
            tells_format,
        } => question_two(request, *can_filter, *tells_format),
        Speaks::Zero { features } => {
            question_zero(request, features).map_err(|error| failed(wire, url, error))?
        }
    };
    let answer = wire.ask(&question)?;
    let taken = take(Packets::new(answer, request.most), pack);
    taken.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData if error.to_string().contains("not our ref") => {
            SourceError::NoSuchReference {
                url: url.to_owned(),
                wanted: format!("commit {}", request.want),
            }
        }
        _ => failed(wire, url, error),
    })
}

fn question_two(request: &Request<'_>, can_filter: bool, tells_format: bool) -> Vec<u8> {
    let mut question = command("fetch", tells_format);
    for word in ["thin-pack", "no-progress", "ofs-delta"] {
        put(&mut question, word);
    }
    details(&mut question, request, can_filter, "");
    for have in request.have {
        put(&mut question, &format!("have {have}"));
    }
    put(&mut question, "done");
    question.extend(FLUSH);
    question
}

fn question_zero(request: &Request<'_>, features: &[String]) -> io::Result<Vec<u8>> {
    let can = |feature: &str| features.iter().any(|one| one == feature);
    if !can("side-band-64k") || !can("shallow") {
        return Err(invalid("it is a server of git before 1.5"));
    }
    let wished = [
        "thin-pack",
        "no-progress",
        "ofs-delta",
        "side-band-64k",
        "shallow",
        "filter",
    ];
    let mut told: Vec<&str> = wished.into_iter().filter(|one| can(one)).collect();
    told.push(AGENT);
    let mut question = Vec::new();
    let told = format!(" {}", told.join(" "));
    details(&mut question, request, can("filter"), &told);
    question.extend(FLUSH);
    for have in request.have {
        put(&mut question, &format!("have {have}"));
    }
    put(&mut question, "done");
    Ok(question)
}

/// What both versions say alike.
fn details(question: &mut Vec<u8>, request: &Request<'_>, can_filter: bool, told: &str) {
    put(question, &format!("want {}{told}", request.want));
    for shallow in request.shallow {
        put(question, &format!("shallow {shallow}"));
    }
    put(question, &format!("deepen {}", request.depth));
    if can_filter {
        put(question, &format!("filter {}", request.leave_out));
    }
}

/// Takes the answer: in both versions lines that tell something, then the pack in pieces.
fn take(mut packets: Packets<'_>, pack: &mut dyn Write) -> io::Result<Vec<Oid>> {
    let mut shallow = Vec::new();
    let mut has_begun = false;
    loop {
        let line = match packets.next()? {
            Packet::Line(line) => line,
            Packet::Flush | Packet::End if has_begun => return Ok(shallow),
            _ => continue,
        };
        match line.split_first() {
            Some((1, piece)) => {
                has_begun = true;
                pack.write_all(piece)?;
            }
            Some((2, _)) => has_begun = true,
            Some((3, why)) => return Err(invalid(String::from_utf8_lossy(why).trim())),
            _ if has_begun => return Err(invalid("the pack is broken off")),
            _ => {
                if let Some(id) = text(line)?.strip_prefix("shallow ") {
                    shallow.extend(object(id));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use manifests::controller::Wanted;
    use proptest::prelude::*;

    use super::*;
    use crate::source::repository::choosing::Choosing;
    use crate::source::repository::examined::Examined;

    /// Lines as a server sends them, and bytes that are none.
    fn sent() -> impl Strategy<Value = Vec<u8>> {
        let line = |body: Vec<u8>| [format!("{:04x}", body.len() + 4).into_bytes(), body].concat();
        let id = "0123456789012345678901234567890123456789";
        let known = prop::sample::select(vec![
            b"0000".to_vec(),
            b"0001".to_vec(),
            b"0002".to_vec(),
            line(b"version 2\n".to_vec()),
            line(b"fetch=shallow filter\n".to_vec()),
            line(format!("{id} HEAD\0side-band-64k shallow\n").into_bytes()),
            line(format!("{id} refs/tags/v1 peeled:{id}\n").into_bytes()),
            line(format!("shallow {id}\n").into_bytes()),
            line(b"packfile\n".to_vec()),
            line(b"NAK\n".to_vec()),
            line(b"\x01PACK\0\0\0\x02\0\0\0\x01\x30x\x9c".to_vec()),
            line(b"\x02counting\n".to_vec()),
            line(b"\x03broken\n".to_vec()),
            line(b"ERR no\n".to_vec()),
        ]);
        let bytes = prop::collection::vec(any::<u8>(), 0..20);
        let piece = prop_oneof![8 => known, 1 => bytes.clone(), 1 => bytes.prop_map(line)];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_ends_in_an_answer_or_an_error(sent in sent()) {
            let packets = || Packets::new(Box::new(sent.as_slice()), 1 << 20);
            let mut choosing = Choosing::new(&Wanted::Head, None);
            let _ = greeting(packets(), &mut choosing);
            let _ = listed(packets(), &mut choosing);
            let mut into = Vec::new();
            let _ = take(packets(), &mut Examined::new(&mut into));
            prop_assert!(into.len() <= sent.len());
        }
    }
}
