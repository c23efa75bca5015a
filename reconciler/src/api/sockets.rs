//! Web sockets: a command in an instance, its console, and what it writes there from now on.
//!
//! A command begins with one message of text, an [`ExecStart`]. From then on bytes from the client are its input, and bytes to
//! the client begin with one byte that says where they come from: 1 output, 2 errors. Of a console they are the bytes
//! themselves. What else the client says is text, a [`Said`]: `{"end":true}` ends the input, `{"resize":{"columns":80,"rows":24}}`
//! sizes the terminal. The last message is a text: an [`ExecEnd`].

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use manifests::id::Address;
use runtime::error::RuntimeError;
use runtime::runtime::{ExecRequest, ExitStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{interval, sleep, timeout};

use super::near::{Near, Size};
use super::power::{In, managed};
use super::who::Caller;
use super::{Api, Problem};
use crate::error::chain;
use crate::view::console::overlap;

/// So many commands and consoles at once.
pub(super) const SESSIONS: usize = 16;
/// A message has so many bytes at most.
const MESSAGE: usize = 256 * 1024;
/// So many bytes are read at once.
const PART: usize = 16 * 1024;
/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(10);
/// How often the other end is asked whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How often a console is looked at that is followed.
const LOOK: Duration = Duration::from_millis(300);
/// How long what was typed last into a console may take until it is read there.
const LINGER: Duration = Duration::from_millis(500);
/// So much of a console is compared.
const TAIL: usize = 256 * 1024;

/// What is run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecStart {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables besides those that the instance has.
    #[serde(default)]
    pub environment: std::collections::BTreeMap<String, String>,
    /// The folder in which it runs.
    #[serde(default)]
    pub directory: Option<String>,
    /// The user inside.
    #[serde(default)]
    pub uid: u32,
    /// The group inside.
    #[serde(default)]
    pub gid: u32,
    /// Whether it gets a terminal of the instance's own; its errors are among its output then.
    #[serde(default)]
    pub terminal: bool,
    /// The size of that.
    #[serde(default)]
    pub size: Option<Size>,
}

/// What a client says while a command or a console is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// The input ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    /// The terminal has another size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Size>,
}

/// How it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecEnd {
    /// Its code, where it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// Why it could not be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The number of that for the kernel, where it has one: 2 where there is no such program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
}

impl From<Result<ExitStatus, RuntimeError>> for ExecEnd {
    fn from(ended: Result<ExitStatus, RuntimeError>) -> Self {
        let mut this = Self::default();
        match ended {
            Ok(ExitStatus::Code(code)) => this.code = Some(code),
            Ok(ExitStatus::Signal(signal)) => this.signal = Some(signal),
            Err(error) => {
                this.errno = errno(&error);
                this.error = Some(chain(&error));
            }
        }
        this
    }
}

/// The kernel's answer among the causes of an error.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = cause.source();
    }
    None
}

pub(super) async fn exec(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(project): Query<In>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let (address, place) = admitted(&api, &caller, name, project)?;
    Ok(bounded(upgrade).on_upgrade(async move |mut socket| {
        let told = timeout(FIRST, socket.recv()).await;
        let start = match told {
            Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str::<ExecStart>(&text)
                .map_err(|error| error.to_string()),
            _ => Err("the first message says what is run, in text".to_owned()),
        };
        let start = match start {
            Ok(start) if !start.command.is_empty() => start,
            Ok(_) => return refuse(socket, "no command is named".to_owned()).await,
            Err(why) => return refuse(socket, why).await,
        };
        if start.size.is_some() && !start.terminal {
            return refuse(socket, "`size` is that of a `terminal`".to_owned()).await;
        }
        tracing::info!(by = caller.name, instance = %address, command = ?start.command, "a command is run");
        let request = ExecRequest {
            command: start.command,
            environment: start.environment.into_iter().collect(),
            directory: start.directory,
            uid: start.uid,
            gid: start.gid,
            terminal: start.terminal,
        };
        let terminal = start.terminal.then_some(start.size);
        let begun = begin(&api, place, terminal, move |api, [far, errors]| {
            ExecEnd::from(api.desk.exec(&address, &request, [far, far, errors]))
        });
        carry(socket, begun, false).await;
    }))
}

pub(super) async fn console(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(project): Query<In>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let (address, place) = admitted(&api, &caller, name, project)?;
    Ok(bounded(upgrade).on_upgrade(async move |socket| {
        tracing::info!(by = caller.name, instance = %address, "its console is used");
        let begun = begin(&api, place, Some(None), move |api, [far, _]| {
            let ended = api.desk.attach(&address, [far, far]);
            ExecEnd::from(ended.map(|()| ExitStatus::Code(0)))
        });
        carry(socket, begun, true).await;
    }))
}

pub(super) async fn follow(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(project): Query<In>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let (address, place) = admitted(&api, &caller, name, project)?;
    Ok(bounded(upgrade).on_upgrade(async move |mut socket| {
        let _place = place;
        let mut seen: Vec<u8> = Vec::new();
        let mut look = interval(LOOK);
        let mut alive = interval(HEARTBEAT);
        loop {
            let sent = tokio::select! {
                _ = look.tick() => {
                    let instance = address.clone();
                    let now = api.block(move |desk| Ok(desk.console(&instance, TAIL))).await;
                    let Ok(Ok(now)) = now else { break };
                    let fresh = now[overlap(&seen, &now)..].to_vec();
                    seen = now;
                    match fresh.is_empty() {
                        true => Ok(()),
                        false => socket.send(Message::Binary(fresh.into())).await,
                    }
                }
                _ = alive.tick() => socket.send(Message::Ping(Bytes::new())).await,
                heard = socket.recv() => match heard {
                    Some(Ok(_)) => Ok(()),
                    _ => break,
                },
            };
            if sent.is_err() {
                break;
            }
        }
    }))
}

fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.max_message_size(MESSAGE).max_frame_size(MESSAGE)
}

/// The instance that is meant, and a place among the sessions.
fn admitted(
    api: &Api,
    caller: &Caller,
    name: String,
    project: In,
) -> Result<(Address, OwnedSemaphorePermit), Problem> {
    let address = managed(api, caller, name, project)?;
    let place = Arc::clone(&api.sessions).try_acquire_owned();
    let place = place.map_err(|_| {
        Problem::conflict(format!("{SESSIONS} commands and consoles are open already"))
    })?;
    Ok((address, place))
}

async fn refuse(mut socket: WebSocket, why: String) {
    let end = ExecEnd {
        error: Some(why),
        ..ExecEnd::default()
    };
    finish(&mut socket, &end).await;
}

/// The last message. Who does not want to hear it is gone.
async fn finish(socket: &mut WebSocket, end: &ExecEnd) {
    let text = serde_json::to_string(end).unwrap_or_default();
    let _ = socket.send(Message::Text(text.into())).await;
    let _ = socket.send(Message::Close(None)).await;
}

/// Something that runs in an instance, and our ends of its streams.
struct Running {
    streams: Arc<Near>,
    errors: Option<Near>,
    ended: oneshot::Receiver<ExecEnd>,
}

/// Begins it in a thread of its own: it goes on as long as it likes, and has its place until then. A terminal may have a
/// size at once.
fn begin(
    api: &Api,
    place: OwnedSemaphorePermit,
    terminal: Option<Option<Size>>,
    run: impl FnOnce(&Api, [BorrowedFd<'_>; 2]) -> ExecEnd + Send + 'static,
) -> io::Result<Running> {
    let (streams, far) = Near::pair(terminal.is_some())?;
    if let Some(Some(size)) = terminal {
        streams.resize(size)?;
    }
    let (errors, far_errors) = Near::pair(false)?;
    let (tell, ended) = oneshot::channel();
    let api = api.clone();
    std::thread::Builder::new()
        .name("keel-session".to_owned())
        .spawn(move || {
            let _place = place;
            let end = run(&api, [far.as_fd(), far_errors.as_fd()]);
            // Whoever listened may be gone.
            let _ = tell.send(end);
        })?;
    Ok(Running {
        streams: Arc::new(streams),
        errors: Some(errors),
        ended,
    })
}

/// Carries bytes between both until it ends or the client goes: its streams are closed then.
///
/// A console that nobody types into any more is left, as with Ctrl-A q.
async fn carry(mut socket: WebSocket, running: io::Result<Running>, is_console: bool) {
    let running = match running {
        Ok(running) => running,
        Err(error) => return refuse(socket, error.to_string()).await,
    };
    let near = running.streams;
    let input = Arc::clone(&near);
    let gone = Arc::new(Notify::new());
    let tell_gone = Arc::clone(&gone);
    let (give, mut given) = mpsc::channel::<Bytes>(4);
    // Whoever does not read its input must not keep its output from the client.
    let writes = tokio::spawn(async move {
        while let Some(bytes) = given.recv().await {
            if input.write_all(&bytes).await.is_err() {
                break;
            }
        }
        input.end_input();
        if is_console {
            // A terminal cannot be told that its input has ended: what was typed last is taken by then.
            sleep(LINGER).await;
            tell_gone.notify_one();
        }
    });
    let mut give = Some(give);
    let mut waiting: Option<Bytes> = None;
    let mut errors = running.errors;
    let mut ended = running.ended;
    let mut is_open = true;
    let (mut out, mut err) = (vec![0; PART], vec![0; PART]);
    let mut alive = interval(HEARTBEAT);
    let frame = |stream: u8, bytes: &[u8]| {
        let mut all = Vec::with_capacity(bytes.len() + 1);
        if !is_console {
            all.push(stream);
        }
        all.extend_from_slice(bytes);
        Message::Binary(all.into())
    };
    loop {
        let sent = tokio::select! {
            biased;
            read = near.read(&mut out), if is_open => match read {
                Ok(0) | Err(_) => {
                    is_open = false;
                    Ok(())
                }
                Ok(length) => socket.send(frame(1, &out[..length])).await,
            },
            read = read_some(&mut errors, &mut err), if errors.is_some() => match read {
                Ok(0) | Err(_) => {
                    errors = None;
                    Ok(())
                }
                Ok(length) => socket.send(frame(2, &err[..length])).await,
            },
            end = &mut ended, if !is_open && errors.is_none() => {
                finish(&mut socket, &end.unwrap_or_default()).await;
                break;
            }
            () = gone.notified(), if is_console => {
                finish(&mut socket, &ExecEnd::from(Ok(ExitStatus::Code(0)))).await;
                break;
            }
            place = reserve(give.clone()), if waiting.is_some() => {
                match (place, waiting.take()) {
                    (Some(place), Some(bytes)) => drop(place.send(bytes)),
                    _ => give = None,
                }
                Ok(())
            }
            heard = socket.recv(), if waiting.is_none() => match heard {
                Some(Ok(Message::Binary(bytes))) => {
                    waiting = give.is_some().then_some(bytes);
                    Ok(())
                }
                Some(Ok(Message::Text(text))) => match hear(&text, &near) {
                    Ok(Said { end, .. }) => {
                        if end {
                            give = None;
                        }
                        Ok(())
                    }
                    Err(why) => {
                        refuse(socket, why).await;
                        return writes.abort();
                    }
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            },
            _ = alive.tick() => socket.send(Message::Ping(Bytes::new())).await,
        };
        if sent.is_err() {
            break;
        }
    }
    writes.abort();
}

/// Takes in what is said in text.
fn hear(text: &str, near: &Near) -> Result<Said, String> {
    let said: Said = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(size) = said.resize {
        near.resize(size).map_err(|error| error.to_string())?;
    }
    Ok(said)
}

async fn read_some(from: &mut Option<Near>, into: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(from) => from.read(into).await,
        None => std::future::pending().await,
    }
}

async fn reserve(give: Option<mpsc::Sender<Bytes>>) -> Option<mpsc::OwnedPermit<Bytes>> {
    give?.reserve_owned().await.ok()
}
