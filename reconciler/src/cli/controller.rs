//! The controller that runs on a state folder, as the command line finds it.

use crate::api::client::{ClientError, Controller};
use crate::api::documents::{SourceDocument, StatusDocument};
use crate::error::{CliError, Exit};
use crate::state_folder::StateFolder;

/// The controller of a state folder.
///
/// # Errors
/// There is none.
pub(super) fn running(folder: &StateFolder) -> Result<Controller, CliError> {
    Controller::at(&folder.run()).ok_or_else(|| {
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
                (exit, problem.code.clone(), problem.hints.clone())
            }
            ClientError::Unreachable { .. } | ClientError::NotUnderstood(_) => {
                (Exit::Unexpected, None, Vec::new())
            }
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
