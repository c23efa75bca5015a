//! `keel console`.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::id::Address;
use manifests::path_io;
use runtime::native::container::relay::Raw;

use super::asked::catch_signals;
use super::elsewhere::{self, of_instance, only_here};
use super::engine::{self, Opened};
use super::invocation::Invocation;
use crate::api::client::Controller;
use crate::api::session::Kind;
use crate::error::{CliError, Exit};

/// Connect to the console of an instance; Ctrl-A q leaves it.
#[derive(Debug, clap::Args)]
pub(super) struct Console {
    /// The instance.
    instance: String,
    /// Its terminal, or the screen of a machine: then a socket is made for VNC viewers, until Ctrl-C.
    #[arg(long = "type", value_name = "TYPE", default_value = "console")]
    what: What,
    /// Where the socket of the screen is made; without this in a folder that only root can enter.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Its terminal.
    Console,
    /// The screen of a machine.
    Vga,
}

/// How often is looked whether a person wants to leave.
const PERIOD: Duration = Duration::from_millis(100);

impl Console {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let instance = invocation.instance(&self.instance)?;
        if let Some(controller) = elsewhere::controller(invocation)? {
            only_here("--type vga", self.what == What::Vga)?;
            only_here("--socket", self.socket.is_some())?;
            return talk(invocation, &controller, &instance);
        }
        let engine = engine::open(invocation)?;
        if self.what == What::Vga {
            return self.screen(invocation, &engine, &instance);
        }
        if self.socket.is_some() {
            return Err(CliError::usage("--socket is for the screen: --type vga"));
        }
        invocation.note("Ctrl-A q leaves the console\n");
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let raw = Raw::set(stdin.as_fd());
        let ended = engine
            .runtime
            .console(&instance, [stdin.as_fd(), stdout.as_fd()]);
        drop(raw);
        invocation.note("\n");
        ended?;
        Ok(Exit::Done)
    }

    /// Hands each viewer that comes to the machine, until a person leaves. Viewers that are there stay.
    fn screen(
        &self,
        invocation: &Invocation,
        engine: &Opened,
        instance: &Address,
    ) -> Result<Exit, CliError> {
        catch_signals(invocation)?;
        let default = engine.runtime.screen_socket(instance)?;
        let path = self.socket.as_ref().unwrap_or(&default);
        let listener = listen(path)?;
        let shown = path.display();
        invocation.note(&format!(
            "the screen of {instance} is at {shown} until Ctrl-C:\n  vncviewer {shown}\n  ssh -L 5900:{shown} root@HOST, and a \
             viewer at localhost:5900\n"
        ));
        let mut result = Ok(Exit::Done);
        while !invocation.cancelled() {
            match listener.accept() {
                Ok((client, _)) => {
                    // It is QEMU's from now on, which waits for no client.
                    if let Err(error) = engine.runtime.show_screen(instance, client.as_fd()) {
                        result = Err(error.into());
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => invocation.pause(PERIOD),
                Err(error) => {
                    let message = format!("wait for a viewer at {shown}: {error}");
                    result = Err(CliError::new(Exit::Unexpected, message));
                    break;
                }
            }
        }
        path_io::remove_file(path).map_err(failed)?;
        result
    }
}

/// Over the network; Ctrl-A q is heard by the other end.
fn talk(
    invocation: &Invocation,
    controller: &Controller,
    instance: &Address,
) -> Result<Exit, CliError> {
    invocation.note("Ctrl-A q leaves the console\n");
    let stdin = io::stdin();
    let raw = Raw::set(stdin.as_fd());
    let ended = controller.carry(&of_instance(instance, "console"), Kind::Console);
    drop(raw);
    invocation.note("\n");
    match ended?.error {
        None => Ok(Exit::Done),
        Some(why) => Err(failed(why)),
    }
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::new(Exit::Unexpected, error.to_string())
}

/// A socket that only its owner can connect to. What a keel that was killed left at the path is taken over; what
/// somebody listens on is not.
fn listen(path: &Path) -> Result<UnixListener, CliError> {
    let refused = |why: &str| {
        CliError::new(
            Exit::Refused,
            format!("make the socket {}: {why}", path.display()),
        )
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(refused("somebody listens there already"));
    }
    if let Ok(found) = path.symlink_metadata() {
        if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) {
            return Err(refused("there is a file of that name"));
        }
        path_io::remove_file(path).map_err(failed)?;
    }
    // Born closed to others: between its birth and a change of its mode somebody could connect.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.map_err(|error| refused(&error.to_string()))?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
