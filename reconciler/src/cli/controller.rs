//! The controller that runs on a state folder, as the command line finds it.

use rustls::CertificateError;

use super::elsewhere;
use super::engine;
use super::invocation::Invocation;
use crate::api::client::{ClientError, Controller};
use crate::api::documents::{SourceDocument, StatusDocument};
use crate::error::{CliError, Exit};
use crate::state_folder::StateFolder;

/// The controller elsewhere that is named, else that of the state folder, if one runs there.
///
/// # Errors
/// It cannot be asked that way, or there is no state folder that can be used.
pub(super) fn found(invocation: &Invocation) -> Result<Option<Controller>, CliError> {
    match elsewhere::controller(invocation)? {
        Some(controller) => Ok(Some(controller)),
        None => Ok(Controller::at(&engine::folder(invocation)?.run())),
    }
}

/// As [`found`], where there must be one.
///
/// # Errors
/// There is none.
pub(super) fn running(invocation: &Invocation) -> Result<Controller, CliError> {
    found(invocation)?.ok_or_else(|| {
        CliError::new(Exit::Unexpected, "no controller runs on this state folder")
            .hint("keel apply does it once, keel run --config FILE again and again")
    })
}

/// How the controller stands; none: there is none, or it does not answer.
pub(super) fn status(folder: &StateFolder) -> Option<StatusDocument> {
    let controller = Controller::at(&folder.run())?;
    match controller.get("/v1/status") {
        Ok(status) => Some(status),
        Err(error) => {
            tracing::warn!("{}", crate::error::chain(&error));
            None
        }
    }
}

/// Refuses to change by hand what a controller follows: it would put it back at once.
///
/// # Errors
/// A controller follows the source, and is not suspended.
pub(super) fn not_followed(folder: &StateFolder, source: &str) -> Result<(), CliError> {
    let status = status(folder);
    let followed = status
        .iter()
        .flat_map(|status| &status.sources)
        .find(|one| is(one, source));
    match followed {
        Some(one) if one.suspended.is_none() => Err(CliError::new(
            Exit::Refused,
            format!(
                "a controller follows the source {source}: what is applied by hand is put back"
            ),
        )
        .hint("push the change")
        .hint(format!(
            "or suspend it: keel suspend source/{} --reason …",
            one.name
        ))),
        _ => Ok(()),
    }
}

/// Whether it is the source of this name; before the first look only its name in the settings is known.
fn is(one: &SourceDocument, source: &str) -> bool {
    one.owner.as_ref().unwrap_or(&one.name) == source
}

/// What helps whom nobody knows.
const WHO: &str = "show who you are: --controller-token FILE or KEEL_TOKEN, or --controller-certificate and --controller-key";

/// What helps where a certificate does not count.
fn by_certificate(error: &std::io::Error) -> Option<&'static str> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match inner {
        // An authority of the same name with another key is another one, too.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Some("name who signed its certificate: --controller-authority FILE"),
        rustls::Error::InvalidCertificate(_) => Some(
            "its certificate names for whom it counts, and until when: openssl s_client shows it",
        ),
        rustls::Error::AlertReceived(_) => Some(
            "it takes certificates that the authority of its `api.tls` signed, and TLS 1.3 alone",
        ),
        _ => None,
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let (exit, code, hints) = match &error {
            ClientError::Refused(problem) => {
                let exit = match problem.r#type.as_str() {
                    "keel:bad" => Exit::Usage,
                    "keel:invalid" => Exit::Invalid,
                    "keel:refused" | "keel:conflict" | "keel:forbidden" => Exit::Refused,
                    "keel:stale" => Exit::Stale,
                    "keel:locked" => Exit::Locked,
                    "keel:partly" => Exit::Partly,
                    _ => Exit::Unexpected,
                };
                let mut hints = problem.hints.clone();
                if problem.r#type == "keel:nobody" {
                    hints.push(WHO.to_owned());
                }
                (exit, problem.code.clone(), hints)
            }
            ClientError::Unreachable { source, .. } => {
                let hint = by_certificate(source).map(str::to_owned);
                (Exit::Unexpected, None, hint.into_iter().collect())
            }
            ClientError::NotUnderstood(_) => (Exit::Unexpected, None, Vec::new()),
        };
        Self {
            code,
            hints,
            ..Self::new(exit, error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Problem;

    #[test]
    fn what_the_controller_refuses_has_the_exit_code_of_the_command_line() {
        for (problem, exit) in [
            (Problem::bad("x"), Exit::Usage),
            (Problem::conflict("x"), Exit::Refused),
            (Problem::not_there("x"), Exit::Unexpected),
            (
                Problem::from(CliError::new(Exit::Locked, "x")),
                Exit::Locked,
            ),
        ] {
            let error = CliError::from(ClientError::Refused(Box::new(problem.hint("y"))));
            assert_eq!((error.exit, error.hints), (exit, vec!["y".to_owned()]));
        }
    }
}
