//! `keel version`.

use serde_json::json;

use super::invocation::Invocation;
use crate::error::{CliError, Exit};

/// Print the version.
#[derive(Debug, clap::Args)]
pub(super) struct Version {
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: super::HumanOrJson,
}

impl Version {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let version = env!("CARGO_PKG_VERSION");
        invocation.print(&match self.output {
            super::HumanOrJson::Human => format!("keel {version}\n"),
            super::HumanOrJson::Json => {
                let value = json!({
                    "version": version,
                    "apiVersion": "evenkeel/v1",
                    "planFormat": "1.0",
                    "architecture": std::env::consts::ARCH,
                });
                format!("{value:#}\n")
            }
        })?;
        Ok(Exit::Done)
    }
}
