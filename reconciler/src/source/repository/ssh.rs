//! By the OpenSSH client: keys, certificates and jumps are as it has them. It never asks anything, and knows its servers.

use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use manifests::controller::SshAccess;
use runtime::sys::command::{CommandError, Conversation};

use super::wire::{Deadline, InTime, Wire};
use crate::source::failure::SourceError;

/// How long the client may take to end when it has nothing more to say.
const END: Duration = Duration::from_millis(500);

/// Where a repository is on a server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) path: String,
}

/// The way by ssh.
pub(super) struct Ssh {
    arguments: Vec<OsString>,
    url: String,
    limit: Duration,
    deadline: Deadline,
    open: Option<(Conversation, UnixStream)>,
}

impl Ssh {
    /// A way to a server, by this client.
    pub(super) fn new(
        client: &str,
        server: &Server,
        access: &SshAccess,
        url: &str,
        limit: Duration,
    ) -> Self {
        Self {
            arguments: arguments(client, server, access, limit),
            url: url.to_owned(),
            limit,
            deadline: Deadline::after(limit),
            open: None,
        }
    }

    fn unreachable(&self, error: CommandError) -> SourceError {
        SourceError::Unreachable {
            url: self.url.clone(),
            source: error.into(),
        }
    }

    /// Ends what is open.
    fn leave(&mut self) {
        if let Some((client, mut stream)) = self.open.take() {
            // Nothing more is wanted: a server that is left without a word notes a failure.
            let _ = stream.set_write_timeout(Some(END));
            let _ = stream.write_all(super::packet::FLUSH);
            drop(stream);
            let _ = client.end(END);
        }
    }

    /// What the client says comes in time.
    fn answer(&mut self) -> Result<Box<dyn Read + '_>, SourceError> {
        let deadline = self.deadline;
        let Some((_, stream)) = &mut self.open else {
            return Err(SourceError::Server {
                url: self.url.clone(),
                why: "it was asked before it was reached".to_owned(),
            });
        };
        Ok(Box::new(InTime {
            from: Patient { stream, deadline },
            deadline,
        }))
    }
}

/// Waits for each piece no longer than there is time for all of it.
struct Patient<'a> {
    stream: &'a mut UnixStream,
    deadline: Deadline,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left()?))?;
        self.stream.read(buffer)
    }
}

impl Wire for Ssh {
    fn begin(&mut self) -> Result<Box<dyn Read + '_>, SourceError> {
        self.deadline = Deadline::after(self.limit);
        self.leave();
        let begun = Conversation::begin_both("env", &self.arguments);
        let (client, socket) = begun.map_err(|error| self.unreachable(error))?;
        self.open = Some((client, UnixStream::from(socket)));
        self.answer()
    }

    fn ask(&mut self, question: &[u8]) -> Result<Box<dyn Read + '_>, SourceError> {
        self.deadline = Deadline::after(self.limit);
        if let Some((_, stream)) = &mut self.open {
            // A question is short, and the server waits for it: it is written at once, or not at all.
            let written = stream
                .set_write_timeout(Some(self.limit))
                .and_then(|()| stream.write_all(question));
            if let Err(error) = written {
                let url = self.url.clone();
                return Err(self.complaint().unwrap_or(SourceError::Unreachable {
                    url,
                    source: error.into(),
                }));
            }
        }
        self.answer()
    }

    fn complaint(&mut self) -> Option<SourceError> {
        let (client, stream) = self.open.take()?;
        drop(stream);
        let said = client.end(END);
        if said.is_empty() {
            return None;
        }
        let url = self.url.clone();
        let is_denied = [
            "Permission denied",
            "Host key verification failed",
            "Load key",
            "No ED25519 host key",
            "no such identity",
        ]
        .iter()
        .any(|words| said.contains(words));
        let why = last_lines(&said);
        Some(match is_denied {
            true => SourceError::Denied { url, why },
            false => SourceError::Unreachable {
                url,
                source: why.into(),
            },
        })
    }

    fn limit(&self) -> Duration {
        self.limit
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What a client said at last: it may begin with the greeting of a server.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// The whole command. Each word that comes from the settings was checked when they were read; none is read by a shell of
/// this host, and the shell of the server gets the path between quotes.
fn arguments(client: &str, server: &Server, access: &SshAccess, limit: Duration) -> Vec<OsString> {
    let mut all: Vec<OsString> = ["GIT_PROTOCOL=version=2", client]
        .map(OsString::from)
        .to_vec();
    let mut option = |text: String| all.extend([OsString::from("-o"), text.into()]);
    for text in [
        // It asks nobody anything.
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        // What a person set up for this host must not send more than git.
        "ForwardAgent=no",
        "ForwardX11=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "RequestTTY=no",
        "ServerAliveInterval=15",
        "SendEnv=GIT_PROTOCOL",
    ] {
        option(text.to_owned());
    }
    option(format!("ConnectTimeout={}", limit.as_secs().clamp(1, 30)));
    if let Some(known) = &access.known_hosts {
        option(format!("UserKnownHostsFile={}", quoted(known.as_str())));
        option("GlobalKnownHostsFile=/dev/null".to_owned());
    }
    if let Some(key) = &access.key {
        option("IdentitiesOnly=yes".to_owned());
        option(format!("IdentityFile={}", quoted(key.as_str())));
    }
    if let Some(port) = server.port {
        option(format!("Port={port}"));
    }
    if let Some(user) = &server.user {
        option(format!("User={user}"));
    }
    let path = &server.path;
    all.extend(["-T", "--", &server.host].map(OsString::from));
    all.push(format!("git-upload-pack '{path}'").into());
    all
}

/// A path as the settings of ssh have it: `%` and `$` stand for something there, and a blank ends it.
fn quoted(path: &str) -> String {
    let path = path.replace('%', "%%");
    match path.contains([' ', '\t', '#']) {
        true => format!("\"{path}\""),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_gets_nothing_that_it_takes_for_an_option() {
        let server = Server {
            user: Some("git".to_owned()),
            host: "git.example.org".to_owned(),
            port: Some(2222),
            path: "/team/my edge.git".to_owned(),
        };
        let access = SshAccess {
            key: Some("/etc/keel/id 1".parse().expect("a path")),
            known_hosts: Some("/etc/keel/100%".parse().expect("a path")),
        };
        let all = arguments("ssh", &server, &access, Duration::from_secs(60));
        let all: Vec<&str> = all.iter().filter_map(|word| word.to_str()).collect();
        let end = all
            .iter()
            .position(|word| *word == "--")
            .expect("an end of options");
        assert_eq!(
            all[end + 1..],
            ["git.example.org", "git-upload-pack '/team/my edge.git'"]
        );
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "UserKnownHostsFile=/etc/keel/100%%",
            "IdentityFile=\"/etc/keel/id 1\"",
            "User=git",
            "Port=2222",
        ] {
            let at = all.iter().position(|word| *word == option);
            assert_eq!(all.get(at.expect(option) - 1), Some(&"-o"), "{option}");
        }
    }
}
