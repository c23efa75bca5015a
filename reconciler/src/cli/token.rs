//! `keel token`: secrets by which somebody may ask the controller over the network.

use manifests::controller::Role;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::author::author;
use super::engine;
use super::invocation::Invocation;
use super::suspend::{Moment, moment};
use crate::api::remote;
use crate::error::{CliError, Exit};
use crate::store::Token as Kept;
use crate::view::history::when;
use crate::view::text::{table, visible};

/// Make, list and revoke tokens, by which somebody may ask the controller over the network.
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, clap::Subcommand)]
enum Deed {
    /// Make one. It is written to stdout this once: only what it hashes to is kept.
    Create {
        /// What it is called.
        name: String,
        /// What whoever has it may: look (`viewer`), steer (`operator`), or everything (`admin`).
        #[arg(long, value_name = "ROLE", default_value = "viewer", value_parser = role)]
        role: Role,
        /// Only in this project; may be given several times. Absent: in all, and what belongs to the host.
        #[arg(long = "in", value_name = "PROJECT")]
        projects: Vec<String>,
        /// For how long it counts (`12h`), or until when (`2027-01-01T08:00:00Z`).
        #[arg(long, value_name = "WHEN", default_value = "90d", value_parser = moment)]
        expires: Moment,
    },
    /// List those that there are.
    List,
    /// Let one count no longer.
    Revoke {
        /// What it is called.
        name: String,
    },
}

fn role(text: &str) -> Result<Role, String> {
    let all = [Role::Viewer, Role::Operator, Role::Admin];
    let found = all.into_iter().find(|role| role.word() == text);
    found.ok_or_else(|| format!("`{text}` is no role: viewer, operator, admin"))
}

/// So many random bytes are in a token.
const BYTES: usize = 32;

fn secret() -> Result<String, CliError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CliError::new(Exit::Unexpected, "the kernel gives no random numbers"))?;
    Ok(format!("{}{}", remote::TOKEN, hex::encode(bytes)))
}

impl Token {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let store = engine::store(&engine::folder(invocation)?)?;
        let now = invocation.now();
        match &self.deed {
            Deed::Create {
                name,
                role,
                projects,
                expires,
            } => {
                let token = Kept {
                    name: name.clone(),
                    role: *role,
                    projects: projects.clone(),
                    created_at: now,
                    expires_at: Some(expires.after(now, "--expires")?),
                    by: author(),
                };
                let secret = secret()?;
                if !store.add_token(&token, &remote::hash(&secret))? {
                    let error = CliError::usage(format!("there is a token `{name}` already"));
                    return Err(error.hint(format!("keel token revoke {name}")));
                }
                invocation.print_plain(&format!("{secret}\n"))?;
            }
            Deed::List => {
                let all = store.tokens()?;
                let rows: Vec<Vec<String>> = all.iter().map(|one| row(one, now)).collect();
                invocation.print(&table(
                    &["NAME", "ROLE", "PROJECTS", "CREATED", "EXPIRES", "BY"],
                    &rows,
                ))?;
            }
            Deed::Revoke { name } => {
                if !store.revoke_token(name)? {
                    let error = format!("there is no token `{name}`");
                    return Err(CliError::new(Exit::Unexpected, error).hint("keel token list"));
                }
            }
        }
        Ok(Exit::Done)
    }
}

fn row(token: &Kept, now: jiff::Timestamp) -> Vec<String> {
    let projects = match token.projects.is_empty() {
        true => "all".to_owned(),
        false => visible(&token.projects.join(", ")),
    };
    let expires = match token.expires_at {
        None => "-".to_owned(),
        Some(at) if token.is_over(now) => format!("{}, over", when(at)),
        Some(at) => when(at),
    };
    vec![
        visible(&token.name),
        token.role.to_string(),
        projects,
        when(token.created_at),
        expires,
        visible(token.by.as_deref().unwrap_or("-")),
    ]
}
