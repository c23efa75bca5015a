//! What the types of the settings do not say: what belongs together, and names that lead somewhere.

mod incoming;
mod notification;

use std::collections::BTreeMap;

use super::source::{GitSource, SourceSettings, Token, Verify, VerifyMode};
use super::{Controller, RepositoryUrl, SocketSettings, TlsSettings};
use crate::decode::{BAD_VALUE, MISSING_FIELD};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::envelope::wrong_name;
use crate::kind::Kind;
use crate::near_miss::nearest;
use crate::pointer::Pointer;
use crate::resolve::{BAD_NAME, DANGLING, TWICE};
use crate::rules::cycle_free::CYCLE;
use crate::scalar::duration::Duration;
use crate::tree::Node;

/// Nothing is asked more often than this.
const SHORTEST: Duration = Duration::from_seconds(1);
/// No question takes longer than this.
const LONGEST: Duration = Duration::from_seconds(3600);

/// The document, to name places in it.
struct Checking<'a> {
    node: &'a Node,
    found: &'a mut Diagnostics,
}

/// Checks the settings as a whole.
pub(super) fn check(controller: &Controller, node: &Node, found: &mut Diagnostics) {
    let mut checking = Checking { node, found };
    let Controller {
        sources,
        interval,
        api,
        notifications,
        traces,
        webhooks,
    } = controller;
    checking.not_too_short(interval, &Pointer::new("/interval"));
    let mut names: BTreeMap<&str, Pointer> = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        let at = Pointer::new("/sources").index(index);
        checking.source(source, &at);
        checking.named(&source.name, &at, "source", &mut names);
    }
    for (index, source) in sources.iter().enumerate() {
        let at = Pointer::new("/sources").index(index).field("dependsOn");
        checking.leads_to(&source.depends_on, &at, &names);
    }
    checking.no_circle(sources);
    checking.socket(&api.socket, &Pointer::new("/api/socket"));
    if let Some(tls) = &api.tls {
        checking.tls(tls, &Pointer::new("/api/tls"));
    }
    let mut targets: BTreeMap<&str, Pointer> = BTreeMap::new();
    for (index, one) in notifications.iter().enumerate() {
        let at = Pointer::new("/notifications").index(index);
        checking.named(&one.name, &at, "target", &mut targets);
        checking.notification(one, &at);
        checking.leads_to(&one.sources, &at.field("sources"), &names);
    }
    if let Some(traces) = traces {
        checking.traces(traces, &Pointer::new("/traces"));
    }
    checking.webhooks(sources, webhooks);
}

impl Checking<'_> {
    fn origin(&self, at: &Pointer) -> crate::diagnostic::Origin {
        // What is not written is told where it would stand.
        let mut at = Some(at.clone());
        while let Some(pointer) = at {
            if let Some(node) = self.node.at(&pointer) {
                return node.place.origin();
            }
            at = pointer.parent();
        }
        self.node.place.origin()
    }

    fn wrong(&self, code: Code, at: &Pointer, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.origin(at), message.into()).at(at.clone())
    }

    fn tell(&mut self, code: Code, at: &Pointer, message: impl Into<String>, hint: &str) {
        let one = self.wrong(code, at, message).hint(hint);
        self.found.push(one);
    }

    fn missing(&mut self, at: &Pointer, field: &str, hint: &str) {
        let message = format!("field `{field}` is missing in {}", at.dotted());
        self.tell(MISSING_FIELD, at, message, hint);
    }

    fn socket(&mut self, socket: &SocketSettings, at: &Pointer) {
        if socket.group.is_none() && !socket.access.is_empty() {
            let hint = "write the group of those who may open the socket: `group: keel`";
            self.missing(at, "group", hint);
        }
        for (index, access) in socket.access.iter().enumerate() {
            if access.user.is_some() == access.group.is_some() {
                self.tell(
                    BAD_VALUE,
                    &at.field("access").index(index),
                    "a line is about one user or one group",
                    "write either `user` or `group`",
                );
            }
        }
    }

    fn tls(&mut self, tls: &TlsSettings, at: &Pointer) {
        if tls.listen.is_empty() {
            self.missing(
                at,
                "listen",
                "write an address and a port: `listen: \"[::]:8443\"`",
            );
        } else if tls.listen.parse::<std::net::SocketAddr>().is_err() {
            self.tell(
                BAD_VALUE,
                &at.field("listen"),
                format!("`{}` is no address with a port", tls.listen),
                "write `192.0.2.7:8443`, or `[::]:8443` for all addresses",
            );
        }
        if tls.certificate.is_none() {
            self.missing(
                at,
                "certificate",
                "write the file of the server's certificate",
            );
        }
        if tls.key.is_none() {
            self.missing(at, "key", "write the file of the server's private key");
        }
        if tls.authority.is_none() && !tls.access.is_empty() {
            let hint = "write the file with the certificates of those who sign those of clients";
            self.missing(at, "authority", hint);
        }
        for (index, access) in tls.access.iter().enumerate() {
            let at = at.field("access").index(index);
            if access.subject.is_some() == access.fingerprint.is_some() {
                self.tell(
                    BAD_VALUE,
                    &at,
                    "a line is about one subject or one fingerprint",
                    "write either `subject` or `fingerprint`",
                );
            }
            let digits = access.digits();
            let is_one = |digits: &String| {
                digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            if digits.is_some_and(|digits| !is_one(&digits)) {
                self.tell(
                    BAD_VALUE,
                    &at.field("fingerprint"),
                    "a fingerprint has 64 hexadecimal digits",
                    "openssl x509 -noout -fingerprint -sha256 -in FILE tells it",
                );
            }
        }
    }

    /// Each of a list has a name of its own, which is good for a file.
    fn named<'a>(
        &mut self,
        name: &'a str,
        at: &Pointer,
        what: &str,
        names: &mut BTreeMap<&'a str, Pointer>,
    ) {
        if name.is_empty() {
            self.missing(at, "name", "write what it is called, such as `name: edge`");
            return;
        }
        if let Some(why) = wrong_name(Kind::StoragePool, name) {
            let name = name.escape_debug();
            let message = format!("`{name}` is no name here");
            self.tell(BAD_NAME, &at.field("name"), message, &why);
        }
        match names.get(name) {
            Some(first) => {
                let message = format!("two {what}s are called `{name}`");
                let twice = self.wrong(TWICE, &at.field("name"), message);
                let first = self.origin(&first.field("name"));
                self.found.push(twice.related(first, "the first one"));
            }
            None => {
                names.insert(name, at.clone());
            }
        }
    }

    /// Each of these is the name of a source.
    fn leads_to(&mut self, wanted: &[String], at: &Pointer, names: &BTreeMap<&str, Pointer>) {
        for (number, other) in wanted.iter().enumerate() {
            if names.contains_key(other.as_str()) {
                continue;
            }
            let known: Vec<&str> = names.keys().copied().collect();
            let message = format!("there is no source `{other}`");
            let one = self.wrong(DANGLING, &at.index(number), message);
            self.found.push(match nearest(other, &known) {
                Some(near) => one.hint(format!("did you mean `{near}`?")),
                None => one,
            });
        }
    }

    fn source(&mut self, source: &SourceSettings, at: &Pointer) {
        if let Some(pulls) = &source.pull_requests {
            let at = at.field("pullRequests");
            self.pull_requests(pulls, source.git.is_some(), &at);
        }
        if let Some(suspended) = &source.suspend
            && suspended.reason.is_empty()
        {
            let at = at.field("suspend");
            self.missing(&at, "reason", "write why, for whoever wonders");
        }
        match (&source.git, &source.directory) {
            (Some(git), None) => self.git(git, &at.field("git")),
            (None, Some(directory)) => {
                let at = at.field("directory");
                if directory.path.is_none() {
                    self.missing(&at, "path", "write the folder of the manifests");
                }
                self.not_too_short(&directory.interval, &at.field("interval"));
            }
            (None, None) => self.missing(at, "git", "a source has `git: …` or `directory: …`"),
            (Some(_), Some(_)) => self.tell(
                BAD_VALUE,
                &at.field("directory"),
                "a source is a repository or a directory, not both",
                "make two sources of it",
            ),
        }
    }

    fn git(&mut self, git: &GitSource, at: &Pointer) {
        let written = [
            ("branch", git.branch.is_some()),
            ("tag", git.tag.is_some()),
            ("semver", git.semver.is_some()),
            ("commit", git.commit.is_some()),
        ];
        let mut written = written.iter().filter(|(_, is_written)| *is_written);
        if let (Some((first, _)), Some((second, _))) = (written.next(), written.next()) {
            self.tell(
                BAD_VALUE,
                &at.field(second),
                format!("both `{first}` and `{second}` say what is followed"),
                "write one of them",
            );
        }
        let bad_step = |step: &str| matches!(step, ".." | "." | ".git");
        if git.path.starts_with('/') || git.path.split('/').any(bad_step) {
            self.tell(
                BAD_VALUE,
                &at.field("path"),
                format!("`{}` is no folder of a repository", git.path.escape_debug()),
                "write it from the top of the repository, such as `hosts/edge`",
            );
        }
        self.not_too_short(&git.interval, &at.field("interval"));
        self.not_too_short(&git.timeout, &at.field("timeout"));
        if git.timeout.milliseconds() > LONGEST.milliseconds() {
            self.tell(
                BAD_VALUE,
                &at.field("timeout"),
                format!("{} is too long to wait for a server", git.timeout),
                "an hour at most",
            );
        }
        match &git.url {
            None => self.missing(at, "url", "write where the repository is"),
            Some(url) => self.access(git, url, at),
        }
        if let Some(verify) = &git.verify {
            self.verify(git, verify, &at.field("verify"));
        }
    }

    fn access(&mut self, git: &GitSource, url: &RepositoryUrl, at: &Pointer) {
        let (is_ssh, is_https) = match url {
            RepositoryUrl::Ssh { .. } => (true, false),
            RepositoryUrl::Https { .. } => (false, true),
            RepositoryUrl::Local(_) => (false, false),
        };
        let unused = [
            ("ssh", git.ssh.is_some() && !is_ssh),
            ("https", git.https.is_some() && !is_https),
        ];
        for (field, is_unused) in unused {
            if is_unused {
                self.tell(
                    BAD_VALUE,
                    &at.field(field),
                    format!("{url} is not reached by {field}"),
                    "take it away, or write another `url`",
                );
            }
        }
        let Some(https) = &git.https else {
            return;
        };
        let at = at.field("https");
        if let Some(token) = &https.token {
            self.token(token, &at.field("token"));
        } else if https.user.is_some() {
            self.missing(&at, "token", "write where the password of this user is");
        }
        self.proxy(https.proxy.as_deref(), &at);
    }

    fn token(&mut self, token: &Token, at: &Pointer) {
        let Token {
            file,
            environment,
            credential,
        } = token;
        let places = [file.is_some(), environment.is_some(), credential.is_some()];
        if places.iter().filter(|written| **written).count() != 1 {
            self.tell(
                BAD_VALUE,
                at,
                "a token is in one place",
                "write one of `file`, `environment` and `credential`",
            );
        }
    }

    fn proxy(&mut self, proxy: Option<&str>, at: &Pointer) {
        if let Some(proxy) = proxy {
            let rest = ["http://", "https://"]
                .iter()
                .find_map(|scheme| proxy.strip_prefix(scheme));
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]/".contains(c);
            if rest.is_none_or(|rest| rest.is_empty() || !rest.chars().all(plain)) {
                self.tell(
                    BAD_VALUE,
                    &at.field("proxy"),
                    format!("`{}` is no proxy", proxy.escape_debug()),
                    "write it as `http://proxy.example.org:3128`",
                );
            }
        }
    }

    fn verify(&mut self, git: &GitSource, verify: &Verify, at: &Pointer) {
        if verify.allowed_signers.is_none() && verify.keyring.is_none() {
            self.missing(
                at,
                "allowedSigners",
                "write who may sign: `allowedSigners`, `keyring` or both",
            );
        }
        if verify.mode == VerifyMode::Tag && git.tag.is_none() && git.semver.is_none() {
            self.tell(
                BAD_VALUE,
                &at.field("mode"),
                "no tag is followed here",
                "write `tag` or `semver`, or `mode: head`",
            );
        }
    }

    fn not_too_short(&mut self, duration: &Duration, at: &Pointer) {
        if duration.milliseconds() < SHORTEST.milliseconds() {
            self.tell(
                BAD_VALUE,
                at,
                format!("{duration} is too short"),
                "a second at least",
            );
        }
    }

    /// Tells of sources that wait for each other.
    fn no_circle(&mut self, sources: &[SourceSettings]) {
        let mut done: Vec<&str> = Vec::new();
        loop {
            let is_done = |name: &String| done.contains(&name.as_str());
            let next = sources.iter().find(|source| {
                !done.contains(&source.name.as_str())
                    && source.depends_on.iter().all(|other| {
                        is_done(other) || !sources.iter().any(|source| source.name == *other)
                    })
            });
            match next {
                Some(source) => done.push(&source.name),
                None => break,
            }
        }
        let stuck = |source: &SourceSettings| !done.contains(&source.name.as_str());
        let names: Vec<&str> = sources
            .iter()
            .filter(|source| stuck(source))
            .map(|source| source.name.as_str())
            .collect();
        if let Some(index) = sources.iter().position(stuck) {
            let at = Pointer::new("/sources").index(index).field("dependsOn");
            let message = format!("these sources wait for each other: {}", names.join(", "));
            self.tell(CYCLE, &at, message, "take one of them out of `dependsOn`");
        }
    }
}
