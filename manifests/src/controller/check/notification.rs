//! Targets of messages.

use super::Checking;
use crate::controller::notification::{
    ExecTarget, MailTarget, MatrixTarget, Notification, WebhookTarget,
};
use crate::controller::source::Token;
use crate::controller::web_url::WebUrl;
use crate::decode::BAD_VALUE;
use crate::pointer::Pointer;

/// Shorter than this nobody is reminded.
const SHORTEST_REPEAT: u64 = 60;

impl Checking<'_> {
    pub(super) fn notification(&mut self, one: &Notification, at: &Pointer) {
        let repeat = one.repeat.seconds();
        if one.repeat.milliseconds() != 0 && repeat < SHORTEST_REPEAT {
            self.tell(
                BAD_VALUE,
                &at.field("repeat"),
                format!("{} is too short to be reminded", one.repeat),
                "a minute at least, or `0s` for not at all",
            );
        }
        let ways = [
            ("webhook", one.webhook.is_some()),
            ("slack", one.slack.is_some()),
            ("matrix", one.matrix.is_some()),
            ("mail", one.mail.is_some()),
            ("exec", one.exec.is_some()),
        ];
        let mut written = ways.iter().filter(|(_, is_written)| *is_written);
        match (written.next(), written.next()) {
            (None, _) => self.missing(
                at,
                "webhook",
                "a target has `webhook`, `slack`, `matrix`, `mail` or `exec`",
            ),
            (Some(_), Some((second, _))) => self.tell(
                BAD_VALUE,
                &at.field(second),
                "a target is in one place",
                "make two targets of it",
            ),
            (Some(_), None) => {}
        }
        if let Some(webhook) = &one.webhook {
            let at = at.field("webhook");
            let WebhookTarget {
                url,
                url_from,
                token,
                secret,
                authority: _,
                proxy,
            } = webhook;
            self.address(url.as_ref(), url_from.as_ref(), &at);
            for (field, token) in [("token", token), ("secret", secret)] {
                if let Some(token) = token {
                    self.token(token, &at.field(field));
                }
            }
            self.proxy(proxy.as_deref(), &at);
        }
        if let Some(slack) = &one.slack {
            let at = at.field("slack");
            self.address(slack.url.as_ref(), slack.url_from.as_ref(), &at);
            self.proxy(slack.proxy.as_deref(), &at);
        }
        if let Some(matrix) = &one.matrix {
            self.matrix(matrix, &at.field("matrix"));
        }
        if let Some(mail) = &one.mail {
            self.mail(mail, &at.field("mail"));
        }
        if let Some(ExecTarget { command }) = &one.exec {
            let at = at.field("exec");
            match command.first() {
                None => self.missing(&at, "command", "write the program and its arguments"),
                Some(program) if !program.starts_with('/') => self.tell(
                    BAD_VALUE,
                    &at.field("command"),
                    format!("`{}` is no whole path", program.escape_debug()),
                    "write it as `/usr/local/bin/tell`",
                ),
                Some(_) => {}
            }
        }
    }

    /// An address stands here or elsewhere.
    fn address(&mut self, url: Option<&WebUrl>, from: Option<&Token>, at: &Pointer) {
        match (url, from) {
            (None, None) => self.missing(at, "url", "write where messages go: `url` or `urlFrom`"),
            (Some(_), Some(_)) => self.tell(
                BAD_VALUE,
                &at.field("urlFrom"),
                "both `url` and `urlFrom` say where messages go",
                "write one of them",
            ),
            (None, Some(from)) => self.token(from, &at.field("urlFrom")),
            (Some(_), None) => {}
        }
    }

    fn matrix(&mut self, matrix: &MatrixTarget, at: &Pointer) {
        let MatrixTarget {
            server,
            room,
            token,
            authority: _,
            proxy,
        } = matrix;
        if server.is_none() {
            self.missing(at, "server", "write the server of the account");
        }
        if room.is_empty() {
            self.missing(at, "room", "write the room, such as `!abc:example.org`");
        } else if !room.starts_with(['!', '#']) || room.chars().any(|c| !c.is_ascii_graphic()) {
            self.tell(
                BAD_VALUE,
                &at.field("room"),
                format!("`{}` is no room", room.escape_debug()),
                "its settings show it as `!abc:example.org`",
            );
        }
        match token {
            None => self.missing(at, "token", "write where the access token is"),
            Some(token) => self.token(token, &at.field("token")),
        }
        self.proxy(proxy.as_deref(), at);
    }

    fn mail(&mut self, mail: &MailTarget, at: &Pointer) {
        if mail.to.is_empty() {
            self.missing(at, "to", "write to whom");
        }
        let to = mail.to.iter().enumerate();
        let to = to.map(|(index, address)| (at.field("to").index(index), address));
        let from = mail.from.iter().map(|from| (at.field("from"), from));
        for (at, address) in to.chain(from) {
            // A name of the host is one as well: `root`.
            let plain = |c: char| c.is_ascii_graphic() && !"<>,;:\"\\()[]".contains(c);
            if address.is_empty() || address.starts_with('-') || !address.chars().all(plain) {
                self.tell(
                    BAD_VALUE,
                    &at,
                    format!("`{}` is no address of mail", address.escape_debug()),
                    "write it as `ops@example.org`",
                );
            }
        }
    }
}
