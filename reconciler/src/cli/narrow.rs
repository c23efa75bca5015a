//! `--only`, `--exclude` and `-l`: a part of what a source wants. A part never deletes.

use std::collections::BTreeMap;

use manifests::desired::DesiredSet;

use super::global::GlobalOptions;
use crate::error::CliError;

/// One requirement on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Is(key, value) => labels.get(key) == Some(value),
            Self::IsNot(key, value) => labels.get(key) != Some(value),
            Self::Has(key) => labels.contains_key(key),
            Self::HasNot(key) => !labels.contains_key(key),
        }
    }
}

/// Reads `tier=web,env!=test,owner,!legacy`.
fn requirements(selector: &str) -> Result<Vec<Requirement>, CliError> {
    let mut all = Vec::new();
    for part in selector.split(',').map(str::trim) {
        let one = if let Some((key, value)) = part.split_once("!=") {
            Requirement::IsNot(key.trim().to_owned(), value.trim().to_owned())
        } else if let Some((key, value)) = part.split_once('=') {
            let value = value.strip_prefix('=').unwrap_or(value);
            Requirement::Is(key.trim().to_owned(), value.trim().to_owned())
        } else if let Some(key) = part.strip_prefix('!') {
            Requirement::HasNot(key.to_owned())
        } else {
            Requirement::Has(part.to_owned())
        };
        let (Requirement::Is(key, _)
        | Requirement::IsNot(key, _)
        | Requirement::Has(key)
        | Requirement::HasNot(key)) = &one;
        if key.is_empty() {
            return Err(CliError::usage(format!("`{selector}` selects no labels"))
                .hint("write tier=web, env!=test, owner or !legacy, with commas between"));
        }
        all.push(one);
    }
    Ok(all)
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
        let requirements = requirements(selector)?;
        desired.keep(|resource| requirements.iter().all(|one| one.holds(&resource.labels)));
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
            let all = requirements(selector).expect(selector);
            assert_eq!(
                all.iter().all(|one| one.holds(&labels)),
                holds,
                "{selector}"
            );
        }
        for selector in ["", "=x", "a,,b", "!"] {
            assert!(requirements(selector).is_err(), "{selector}");
        }
    }
}
