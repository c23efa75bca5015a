//! A controller elsewhere: how it is named, and who may be asked what.

use std::path::{Path, PathBuf};

use manifests::id::Address;
use manifests::path_io;

use super::Command;
use super::invocation::{Invocation, absolute, environment};
use crate::api::client::Controller;
use crate::api::way::{Access, Way};
use crate::error::{CliError, Exit};
use crate::web::access::Hidden;

/// The controller that is asked instead of this host.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Elsewhere {
    /// Ask this controller instead of this host: `https://HOST:PORT` as its `api.tls` listens, or `unix:PATH`, its socket.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub(super) controller: Option<String>,

    /// Who must have signed the certificate of that controller, in PEM; absent: whom this host trusts.
    #[arg(long, value_name = "FILE", global = true)]
    controller_authority: Option<PathBuf>,

    /// A file with a token for that controller (`keel token create`); the token itself may stand in `KEEL_TOKEN`.
    #[arg(long, value_name = "FILE", global = true)]
    controller_token: Option<PathBuf>,

    /// A certificate that says who asks that controller, in PEM.
    #[arg(long, value_name = "FILE", global = true)]
    controller_certificate: Option<PathBuf>,

    /// The private key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", global = true)]
    controller_key: Option<PathBuf>,
}

/// The variable that may hold a token.
const TOKEN: &str = "KEEL_TOKEN";

impl Elsewhere {
    /// The controller that is named.
    ///
    /// # Errors
    /// It cannot be asked that way.
    pub(super) fn controller(&self) -> Result<Option<Controller>, CliError> {
        let Some(address) = &self.controller else {
            return Ok(None);
        };
        let file = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let token = match &self.controller_token {
            Some(path) => Some(read(path)?),
            None => environment(TOKEN),
        };
        let access = Access {
            authority: file(&self.controller_authority)?,
            certificate: file(&self.controller_certificate)?,
            key: file(&self.controller_key)?,
            token: token.map(|token| Hidden(token.trim().to_owned())),
        };
        let way = Way::of(address, &access);
        Ok(Some(Controller::by(
            way.map_err(|error| CliError::new(Exit::Usage, error))?,
        )))
    }
}

fn read(path: &Path) -> Result<String, CliError> {
    path_io::read_to_string(path).map_err(|error| CliError::new(Exit::Usage, error))
}

impl Command {
    /// Whether a controller elsewhere answers it.
    const fn is_answered_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Approve(_)
                | Self::Console(_)
                | Self::Describe(_)
                | Self::Events(_)
                | Self::Exec(_)
                | Self::Freeze(_)
                | Self::Get(_)
                | Self::History(_)
                | Self::Logs(_)
                | Self::Plan(_)
                | Self::Reconcile(_)
                | Self::Restart(_)
                | Self::Resume(_)
                | Self::Rollback(_)
                | Self::Start(_)
                | Self::Status(_)
                | Self::Stop(_)
                | Self::Suspend(_)
                | Self::Unfreeze(_)
                | Self::Unpin(_)
                // What asks no host and no controller at all.
                | Self::Completion(_)
                | Self::Diff(_)
                | Self::Init(_)
                | Self::Render(_)
                | Self::Schema(_)
                | Self::Validate(_)
                | Self::Man(_)
                | Self::Version(_)
        )
    }

    /// Refuses what would be done on this host though another one is meant.
    ///
    /// # Errors
    /// A controller elsewhere is named, and does not answer this.
    pub(super) fn is_meant_here(&self, invocation: &Invocation) -> Result<(), CliError> {
        match &invocation.global.elsewhere.controller {
            Some(address) if !self.is_answered_elsewhere() => Err(CliError::usage(format!(
                "this is done on the host itself, and not by the controller at {address}"
            ))
            .hint("without --controller (KEEL_CONTROLLER) it is done on this host")
            .hint("a controller answers get, describe, status, history, events, logs, plan, exec, console, start, stop, \
                   restart, freeze, unfreeze, reconcile, suspend, resume, approve, rollback, unpin")),
            _ => Ok(()),
        }
    }
}

/// The controller elsewhere that is named.
///
/// # Errors
/// It cannot be asked that way.
pub(super) fn controller(invocation: &Invocation) -> Result<Option<Controller>, CliError> {
    invocation.global.elsewhere.controller()
}

/// Refuses a flag that says nothing to a controller.
///
/// # Errors
/// It was given.
pub(super) fn only_here(flag: &str, is_given: bool) -> Result<(), CliError> {
    match is_given {
        true => Err(CliError::usage(format!(
            "{flag} is for this host, and a controller elsewhere is asked"
        ))),
        false => Ok(()),
    }
}

/// Where something of an instance is asked for: `/v1/instances/web/exec?project=shop`.
pub(super) fn of_instance(instance: &Address, what: &str) -> String {
    let name = encoded(&instance.name);
    let project = match &instance.project {
        Some(project) => format!("?project={}", encoded(project)),
        None => String::new(),
    };
    format!("/v1/instances/{name}/{what}{project}")
}

/// Where an object is asked for.
pub(super) fn of_object(object: &Address) -> String {
    let id = object.to_string();
    let parts: Vec<String> = id.split('/').map(encoded).collect();
    format!("/v1/objects/{}", parts.join("/"))
}

/// As it stands in an address.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_addresses() {
        let address = |text: &str| -> Address { text.parse().expect("an address") };
        assert_eq!(
            of_instance(&address("instance/web"), "exec"),
            "/v1/instances/web/exec"
        );
        assert_eq!(
            of_instance(&address("instance/shop/web-1"), "logs"),
            "/v1/instances/web-1/logs?project=shop"
        );
        assert_eq!(
            of_object(&address("instance/shop/web")),
            "/v1/objects/instance/shop/web"
        );
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
    }
}
