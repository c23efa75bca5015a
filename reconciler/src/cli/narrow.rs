//! `--only`, `--exclude` and `-l`: a part of what a source wants. A part never deletes.

use manifests::desired::DesiredSet;

use super::global::GlobalOptions;
use crate::error::CliError;
use crate::labels::{NotASelector, Selector};

/// Reads `tier=web,env!=test,owner,!legacy`.
fn selector_of(text: &str) -> Result<Selector, CliError> {
    text.parse().map_err(|error: NotASelector| {
        CliError::usage(error.to_string())
            .hint("write tier=web, env!=test, owner or !legacy, with commas between")
    })
}

/// Leaves in the part that is meant what the flags select, and says that it is a part.
///
/// # Errors
/// `--only` names an object that is not declared, or the selector is none.
pub(super) fn narrow(desired: &mut DesiredSet, global: &GlobalOptions) -> Result<(), CliError> {
    let mut words = Vec::new();
    if !global.only.is_empty() {
        for address in &global.only {
            if !desired.resources.contains_key(address) {
                return Err(CliError::usage(format!("{address} is not declared here"))
                    .hint("what is declared: keel render"));
            }
        }
        desired.keep(|resource| global.only.contains(&resource.address));
        let names: Vec<String> = global.only.iter().map(ToString::to_string).collect();
        words.push(format!("only {}", names.join(", ")));
    }
    if !global.exclude.is_empty() {
        desired.keep(|resource| !global.exclude.contains(&resource.address));
        let names: Vec<String> = global.exclude.iter().map(ToString::to_string).collect();
        words.push(format!("all but {}", names.join(", ")));
    }
    if let Some(selector) = &global.selector {
        let selects = selector_of(selector)?;
        desired.keep(|resource| selects.selects(&resource.labels));
        words.push(format!("only what has the labels {selector}"));
    }
    if !words.is_empty() {
        words.extend(desired.source.partial.take());
        desired.source.partial = Some(words.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn selectors_are_those_of_kubernetes() {
        let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
        for (selector, holds) in [
            ("tier=web", true),
            ("tier==web", true),
            ("tier=db", false),
            ("tier!=db", true),
            ("tier", true),
            ("!tier", false),
            ("owner", false),
            ("tier=web,!owner", true),
            ("env!=test", true),
        ] {
            let all = selector_of(selector).expect(selector);
            assert_eq!(all.selects(&labels), holds, "{selector}");
        }
        for selector in ["", "=x", "a,,b", "!"] {
            assert!(selector_of(selector).is_err(), "{selector}");
        }
    }
}
