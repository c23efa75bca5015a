//! What texts mean to whoever plans: resolved, and looked through for what resolving does not know.

use manifests::diagnostic::{Diagnostics, Severity};
use manifests::read::Texts;
use manifests::repository::Repository;
use manifests::resolve::{Resolved, resolve};
use manifests::support::{Engine, settle_for, unsupported_by};

use crate::policy;

/// What does the work of this process. It is said once, with the command, and decides what of the language is put in
/// force; whoever says nothing means this host.
static ENGINE: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();

/// Says what does the work of this process; the first word counts.
pub fn work_with(engine: Engine) {
    let _ = ENGINE.set(engine);
}

/// What texts mean. What the engine cannot do is a finding; policies that are none are errors.
pub fn meaning(
    texts: &Texts,
    revision: Option<String>,
    repository: Option<Repository>,
) -> Resolved {
    let mut resolved = resolve(texts, revision);
    if let Some(desired) = &mut resolved.desired {
        desired.source.repository = repository;
    }
    examine(&mut resolved);
    resolved
}

/// The engine of this process.
fn engine() -> Engine {
    ENGINE.get().copied().unwrap_or_default()
}

/// Looks for what the engine cannot do, and for policies that are none.
pub fn examine(resolved: &mut Resolved) {
    let Some(desired) = &resolved.desired else {
        return;
    };
    resolved.found.extend(unsupported_by(engine(), desired));
    let wrong = policy::check(desired.declared());
    if wrong.has_errors() {
        resolved.desired = None;
    }
    resolved.found.extend(wrong);
}

/// Makes an error of what this engine cannot do: what is left can be done.
#[must_use]
pub fn strict(mut resolved: Resolved) -> Resolved {
    let mut found = Diagnostics::default();
    let mut wrong = false;
    for diagnostic in resolved.found.sorted() {
        let mut diagnostic = diagnostic.clone();
        if diagnostic.code.0.starts_with('U') {
            diagnostic.severity = Severity::Error;
            wrong = true;
        }
        found.push(diagnostic);
    }
    resolved.found = found;
    if wrong {
        resolved.desired = None;
    } else if let Some(desired) = &mut resolved.desired {
        settle_for(engine(), desired);
    }
    resolved
}
