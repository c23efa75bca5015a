//! Reading the manifests that a command works on.

use std::path::{Path, PathBuf};

use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use manifests::read::{Texts, read};
use manifests::resolve::resolve;

use super::invocation::{Invocation, environment, say};
use crate::error::{CliError, Exit};
use crate::source::git;
use crate::view::diagnostics;

/// What was read.
pub(super) struct Loaded {
    pub(super) texts: Texts,
    pub(super) desired: Option<DesiredSet>,
    pub(super) found: Diagnostics,
    pub(super) documents: usize,
}

/// Reads and resolves a path; the working folder where none is given.
///
/// # Errors
/// A file cannot be read.
pub(super) fn load(path: Option<&PathBuf>) -> Result<Loaded, CliError> {
    let path = path.map_or_else(|| Path::new("."), PathBuf::as_path);
    let texts = read(path).map_err(|error| {
        CliError::new(Exit::Invalid, error).hint("name a folder or file of manifests")
    })?;
    let revision = git::revision(&texts.root, environment("SUDO_UID").as_deref());
    let resolved = resolve(&texts, revision);
    Ok(Loaded {
        texts,
        desired: resolved.desired,
        found: resolved.found,
        documents: resolved.documents,
    })
}

/// As [`load`], for commands that need manifests without errors: findings go to stderr.
///
/// # Errors
/// A file cannot be read, or something is wrong in one.
pub(super) fn desired(
    invocation: &Invocation,
    path: Option<&PathBuf>,
) -> Result<DesiredSet, CliError> {
    let loaded = load(path)?;
    let text = diagnostics::page(&loaded.found, &loaded.texts.files);
    if !text.is_empty() {
        say(&text);
    }
    let unsupported = loaded.desired.as_ref().map(manifests::support::unsupported);
    if let Some(unsupported) = unsupported.filter(|found| !found.is_empty()) {
        say(&diagnostics::page(&unsupported, &loaded.texts.files));
        return Err(CliError::new(
            Exit::Invalid,
            "the manifests ask for what this engine cannot do",
        ));
    }
    let Some(mut desired) = loaded.desired else {
        return Err(CliError::said(Exit::Invalid));
    };
    if desired.resources.is_empty() && loaded.documents == 0 {
        invocation.note("no manifests here\n");
    }
    narrow(invocation, &mut desired);
    Ok(desired)
}

/// Leaves what `--only`, `--exclude` and `-l` leave: a partial run, which deletes nothing.
fn narrow(invocation: &Invocation, desired: &mut DesiredSet) {
    let global = &invocation.global;
    let selector = global.selector.as_deref().unwrap_or_default();
    if global.only.is_empty() && global.exclude.is_empty() && selector.is_empty() {
        return;
    }
    let wanted = |labels: &std::collections::BTreeMap<String, String>| {
        selector
            .split(',')
            .filter(|part| !part.is_empty())
            .all(|part| {
                if let Some((key, value)) = part.split_once("!=") {
                    labels
                        .get(key.trim())
                        .is_none_or(|found| found != value.trim())
                } else if let Some((key, value)) = part.split_once('=') {
                    labels
                        .get(key.trim())
                        .is_some_and(|found| found == value.trim())
                } else {
                    labels.contains_key(part.trim())
                }
            })
    };
    let before = desired.resources.len();
    desired.resources.retain(|address, resource| {
        (global.only.is_empty() || global.only.contains(address))
            && !global.exclude.contains(address)
            && wanted(&resource.labels)
    });
    let words = format!("{} of {before} objects, as asked", desired.resources.len());
    desired.source.partial = Some(words);
}
