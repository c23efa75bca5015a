//! `keel adopt` and `keel forget`.

use manifests::id::{Address, SourceName};
use manifests::read::SOURCE_FILE;

use super::HumanOrJson;
use super::asked::carry_out;
use super::decide::session;
use super::destroy::source_of_path;
use super::engine;
use super::global::address;
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::session::Asked;

/// Take over objects that nobody owns any more; what they should be is said by the next apply.
#[derive(Debug, clap::Args)]
pub(super) struct Adopt {
    /// The objects.
    #[arg(required = true, value_name = "KIND/NAME", value_parser = address)]
    objects: Vec<Address>,
    /// The source that owns them from now on; absent: that of this folder.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Adopt {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let source = match &self.source {
            Some(name) if is_a_name(name) => SourceName::new(name.clone()),
            Some(name) => {
                let message = format!("`{name}` can be no name of a source");
                return Err(CliError::usage(message)
                    .hint("letters, digits, `-` and `.`, at most 63 characters"));
            }
            None => {
                let source = source_of_path(None)?;
                // A folder without a keel.yaml is the source `default`: too little to own things by.
                if !source.root.join(SOURCE_FILE).is_file() {
                    let message = format!("this folder is no source: there is no {SOURCE_FILE}");
                    return Err(CliError::usage(message)
                        .hint("say which source takes it over: --source NAME"));
                }
                source.name
            }
        };
        let opened = engine::open(invocation)?;
        let asked = Asked::Adopt { source };
        let plan = session(invocation, &opened).asked(&self.objects, &asked)?;
        carry_out(invocation, &opened, plan, self.output)
    }
}

/// The rule for names of sources.
fn is_a_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

/// Let go of objects and leave them as they are: no source owns them any more.
#[derive(Debug, clap::Args)]
pub(super) struct Forget {
    /// The objects.
    #[arg(required = true, value_name = "KIND/NAME", value_parser = address)]
    objects: Vec<Address>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Forget {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        let plan = session(invocation, &opened).asked(&self.objects, &Asked::Forget)?;
        carry_out(invocation, &opened, plan, self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_the_names_that_keel_yaml_allows() {
        for (name, is) in [
            ("edge", true),
            ("edge-1.eu", true),
            ("", false),
            ("a:b", false),
            ("a/b", false),
            ("a b", false),
        ] {
            assert_eq!(is_a_name(name), is, "{name}");
        }
        assert!(!is_a_name(&"x".repeat(64)));
    }
}
