//! Who is told what happens: the targets of messages.

use super::source::Token;
use super::web_url::WebUrl;
use crate::scalar::duration::Duration;
use crate::scalar::path::AbsolutePath;

crate::words! {
    /// What there may be to tell.
    pub enum Trigger {
        /// Something cannot be done, or an object failed.
        Failed "failed",
        /// What was told is over.
        Recovered "recovered",
        /// The world had moved and was put back.
        Drift "drift",
        /// A plan waits until somebody answers for it.
        Waiting "waiting",
        /// A field is left alone, because somebody else changes it back each time.
        Fight "fight",
        /// A source cannot be followed, or says what is not taken over.
        Source "source",
        /// Snapshots that were due were not made, or the trash was not emptied.
        Snapshots "snapshots",
        /// Backups that were due were not made.
        Backups "backups",
        /// A new revision is done.
        Deployed "deployed",
    }
}

crate::fields! {
    /// One target of messages: it has one of `webhook`, `slack`, `matrix`, `mail` and `exec`.
    pub struct Notification {
        /// What it is called here.
        name: String = String::new(),
        /// What is told. Absent: all but `deployed`.
        events: Vec<Trigger> = Vec::new(),
        /// Of which sources. Absent: of all, and what belongs to the host.
        sources: Vec<String> = Vec::new(),
        /// After how long it is told again that something is not over; `0s`: not at all.
        repeat: Duration = Duration::from_seconds(4 * 3600),
        /// JSON by POST.
        webhook: Option<WebhookTarget> = None,
        /// A webhook of Slack, or of what understands its messages: Mattermost, Rocket.Chat, Discord with `/slack`.
        slack: Option<SlackTarget> = None,
        /// A room of Matrix.
        matrix: Option<MatrixTarget> = None,
        /// A letter.
        mail: Option<MailTarget> = None,
        /// A program of this host.
        exec: Option<ExecTarget> = None,
    }
}

impl Notification {
    /// Whether it wants to be told of this.
    pub fn wants(&self, trigger: Trigger) -> bool {
        match self.events.as_slice() {
            [] => trigger != Trigger::Deployed,
            events => events.contains(&trigger),
        }
    }
}

crate::fields! {
    /// JSON by POST: the event as Flux sends it, and more.
    pub struct WebhookTarget {
        /// Where to.
        url: Option<WebUrl> = None,
        /// Where the address is, if it must not be read here.
        url_from: Option<Token> = None,
        /// Where a token is that is sent as `Bearer`.
        token: Option<Token> = None,
        /// Where a key is that signs the body: `X-Signature: sha256=…` is its HMAC.
        secret: Option<Token> = None,
        /// A file with certificates (PEM) that are trusted besides those of the host.
        authority: Option<AbsolutePath> = None,
        /// The proxy on the way: `http://proxy.example.org:3128`. None is taken from the environment.
        proxy: Option<String> = None,
    }
}

crate::fields! {
    /// A webhook that takes messages as Slack has them.
    pub struct SlackTarget {
        /// Where to.
        url: Option<WebUrl> = None,
        /// Where the address is: who knows it may write there.
        url_from: Option<Token> = None,
        /// A file with certificates (PEM) that are trusted besides those of the host.
        authority: Option<AbsolutePath> = None,
        /// The proxy on the way: `http://proxy.example.org:3128`. None is taken from the environment.
        proxy: Option<String> = None,
    }
}

crate::fields! {
    /// A room of Matrix, which is not encrypted.
    pub struct MatrixTarget {
        /// The server of the account: `https://matrix.example.org`.
        server: Option<WebUrl> = None,
        /// The room: `!abc:example.org`.
        room: String = String::new(),
        /// Where the access token of the account is.
        token: Option<Token> = None,
        /// A file with certificates (PEM) that are trusted besides those of the host.
        authority: Option<AbsolutePath> = None,
        /// The proxy on the way: `http://proxy.example.org:3128`. None is taken from the environment.
        proxy: Option<String> = None,
    }
}

crate::fields! {
    /// A letter by the host's `sendmail`.
    pub struct MailTarget {
        /// To whom.
        to: Vec<String> = Vec::new(),
        /// From whom. Absent: as `sendmail` says.
        from: Option<String> = None,
        /// The program. Absent: `/usr/sbin/sendmail`.
        sendmail: Option<AbsolutePath> = None,
    }
}

crate::fields! {
    /// A program of this host, which gets the event as JSON on its standard input. It is killed after 30 seconds.
    pub struct ExecTarget {
        /// The program, by its whole path, and its arguments. No shell reads them.
        command: Vec<String> = Vec::new(),
    }
}
