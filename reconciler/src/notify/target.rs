//! Bringing a message to its target, once.

use std::time::Duration;

use manifests::controller::{MailTarget, MatrixTarget, Notification};
use manifests::scalar::path::AbsolutePath;
use manifests::visible::visible;
use reqwest::Method;
use runtime::sys::command::{CommandError, run_within};

use super::form::{chat, event, mail};
use super::message::Message;
use crate::web::access::{AccessError, Hidden, TokenPlace, Variable};
use crate::web::client::{Question, Reach, WebError, ask, server};

/// How long a server may take.
const SERVER: Duration = Duration::from_secs(10);
/// How long a program may take.
const PROGRAM: Duration = Duration::from_secs(30);
/// Characters of an answer that are told.
const ANSWER: usize = 200;

/// A message did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// No answer.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The server does not take it.
    #[error("{server} answers {status}: {answer}")]
    Refused {
        /// Which one.
        server: String,
        /// `403`.
        status: u16,
        /// What it said, as far as it is told.
        answer: String,
        /// Whether it may take it later.
        may_pass: bool,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// The program failed.
    #[error(transparent)]
    Program(#[from] CommandError),
    /// What an address should be is none.
    #[error("what `urlFrom` names is no address")]
    NoAddress(#[source] manifests::scalar::BadScalar),
}

impl NotSent {
    /// Whether trying again may help.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Web(WebError::Access(_)) | Self::NoAddress(_) => false,
            Self::Web(_) => true,
            Self::Refused { may_pass, .. } => *may_pass,
            // A program that failed once has its reasons; one that hung may hang again.
            Self::Program(CommandError::Failed { .. }) => true,
            Self::Program(_) => false,
        }
    }

    /// How long the server wants to be left alone.
    pub const fn after(&self) -> Option<Duration> {
        match self {
            Self::Refused { after, .. } => *after,
            _ => None,
        }
    }
}

/// Where an address is.
#[derive(Debug)]
enum Place {
    Here(String),
    There(TokenPlace),
}

impl Place {
    fn read(&self) -> Result<Hidden, NotSent> {
        match self {
            Self::Here(url) => Ok(Hidden(url.clone())),
            Self::There(place) => {
                let url = place.read().map_err(WebError::from)?;
                let checked = url.0.parse::<manifests::controller::WebUrl>();
                checked.map_err(NotSent::NoAddress)?;
                Ok(url)
            }
        }
    }
}

/// Where messages go.
#[derive(Debug)]
pub enum Target {
    /// JSON by POST.
    Webhook(Hook),
    /// As Slack has it.
    Slack(Hook),
    /// A room of Matrix.
    Matrix(Room),
    /// A letter.
    Mail(MailTarget),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// A server that takes messages by POST.
#[derive(Debug)]
pub struct Hook {
    url: Place,
    token: Option<TokenPlace>,
    secret: Option<TokenPlace>,
    reach: Reach,
}

/// A room of Matrix.
#[derive(Debug)]
pub struct Room {
    server: String,
    room: String,
    token: TokenPlace,
    reach: Reach,
}

fn reach(authority: Option<&AbsolutePath>, proxy: Option<&String>) -> Reach {
    Reach {
        authority: authority.map(|path| path.as_path().to_path_buf()),
        proxy: proxy.cloned(),
    }
}

impl Target {
    /// The target of settings that were checked.
    ///
    /// # Errors
    /// A token is not where it should be.
    pub fn of(settings: &Notification, variable: Variable<'_>) -> Result<Self, AccessError> {
        let place = |url: Option<&manifests::controller::WebUrl>,
                     from: Option<&manifests::controller::Token>| {
            match (url, from) {
                (_, Some(from)) => TokenPlace::of(from, variable).map(Place::There),
                (Some(url), None) => Ok(Place::Here(url.to_string())),
                (None, None) => Err(nothing(settings)),
            }
        };
        let token = |token: Option<&manifests::controller::Token>| {
            token
                .map(|token| TokenPlace::of(token, variable))
                .transpose()
        };
        if let Some(hook) = &settings.webhook {
            return Ok(Self::Webhook(Hook {
                url: place(hook.url.as_ref(), hook.url_from.as_ref())?,
                token: token(hook.token.as_ref())?,
                secret: token(hook.secret.as_ref())?,
                reach: reach(hook.authority.as_ref(), hook.proxy.as_ref()),
            }));
        }
        if let Some(slack) = &settings.slack {
            return Ok(Self::Slack(Hook {
                url: place(slack.url.as_ref(), slack.url_from.as_ref())?,
                token: None,
                secret: None,
                reach: reach(slack.authority.as_ref(), slack.proxy.as_ref()),
            }));
        }
        if let Some(MatrixTarget {
            server: Some(server),
            room,
            token: Some(token),
            authority,
            proxy,
        }) = &settings.matrix
        {
            return Ok(Self::Matrix(Room {
                server: server.as_str().trim_end_matches('/').to_owned(),
                room: room.clone(),
                token: TokenPlace::of(token, variable)?,
                reach: reach(authority.as_ref(), proxy.as_ref()),
            }));
        }
        if let Some(mail) = &settings.mail {
            return Ok(Self::Mail(mail.clone()));
        }
        match &settings.exec {
            Some(exec) => Ok(Self::Exec(exec.command.clone())),
            None => Err(nothing(settings)),
        }
    }

    /// Brings it there, or says why not.
    ///
    /// # Errors
    /// It did not arrive, or nobody said that it did.
    pub fn send(&self, message: &Message) -> Result<(), NotSent> {
        match self {
            Self::Webhook(hook) => hook.post(event::event(message).to_string().into_bytes()),
            Self::Slack(hook) => hook.post(chat::slack(message).to_string().into_bytes()),
            Self::Matrix(room) => room.put(message),
            Self::Mail(settings) => mail(settings, message),
            Self::Exec(command) => {
                let (program, arguments) = match command.split_first() {
                    Some((program, arguments)) => (program.as_str(), arguments),
                    None => ("", [].as_slice()),
                };
                let input = event::event(message).to_string();
                run_within(program, arguments, Some(input.as_bytes()), PROGRAM)?;
                Ok(())
            }
        }
    }
}

fn nothing(settings: &Notification) -> AccessError {
    AccessError::new(format!("tell {}", settings.name), "it says nowhere")
}

fn mail(settings: &MailTarget, message: &Message) -> Result<(), NotSent> {
    let program = settings.sendmail.as_ref().map(ToString::to_string);
    let program = program.unwrap_or_else(|| "/usr/sbin/sendmail".to_owned());
    // A line with a single dot is no end, and addresses are never options.
    let mut arguments = vec!["-i".to_owned()];
    if let Some(from) = &settings.from {
        arguments.extend(["-f".to_owned(), from.clone()]);
    }
    arguments.push("--".to_owned());
    arguments.extend(settings.to.iter().cloned());
    let letter = mail::letter(message, settings.from.as_deref(), &settings.to);
    run_within(&program, arguments, Some(letter.as_bytes()), PROGRAM)?;
    Ok(())
}

fn asked(question: Question, reach: &Reach) -> Result<(), NotSent> {
    let server = server(&question.url.0).to_owned();
    let answer = ask(question, reach, SERVER)?;
    if answer.is_good() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body);
    Err(NotSent::Refused {
        server,
        status: answer.status,
        answer: visible(&text.chars().take(ANSWER).collect::<String>()),
        may_pass: answer.may_pass(),
        after: answer.retry_after,
    })
}

fn json() -> (&'static str, Hidden) {
    ("content-type", Hidden("application/json".to_owned()))
}

impl Hook {
    fn post(&self, body: Vec<u8>) -> Result<(), NotSent> {
        let read = |place: Option<&TokenPlace>| {
            place
                .map(TokenPlace::read)
                .transpose()
                .map_err(WebError::from)
        };
        let mut headers = vec![json()];
        if let Some(Hidden(key)) = read(self.secret.as_ref())? {
            let signature = event::signature(key.as_bytes(), &body);
            headers.push(("x-signature", Hidden(signature)));
        }
        let question = Question {
            method: Method::POST,
            url: self.url.read()?,
            bearer: read(self.token.as_ref())?,
            headers,
            body,
        };
        asked(question, &self.reach)
    }
}

impl Room {
    fn put(&self, message: &Message) -> Result<(), NotSent> {
        let path = chat::matrix_path(&self.room, &message.id);
        let question = Question {
            method: Method::PUT,
            url: Hidden(format!("{}{path}", self.server)),
            bearer: Some(self.token.read().map_err(WebError::from)?),
            headers: vec![json()],
            body: chat::matrix(message).to_string().into_bytes(),
        };
        asked(question, &self.reach)
    }
}
