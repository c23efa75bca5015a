//! The words of a step's reason.

use manifests::change::{Cause, FieldChange};
use manifests::diagnostic::Origin;

/// Why an object is made.
pub(super) fn missing(was_there: bool) -> String {
    if was_there {
        "declared; it was there and is gone".to_owned()
    } else {
        "declared and not there".to_owned()
    }
}

/// Why fields are changed.
pub(super) fn changed(changes: &[FieldChange]) -> String {
    let count = |cause| {
        changes
            .iter()
            .filter(|change| change.cause == cause)
            .count()
    };
    let said: Vec<String> = [
        (Cause::Edited, "edited"),
        (Cause::Drifted, "drifted"),
        (Cause::Image, "moved with the image"),
        (Cause::Dependency, "needed by another change"),
    ]
    .into_iter()
    .filter_map(|(cause, word)| match count(cause) {
        0 => None,
        1 => Some(format!("1 field {word}")),
        n => Some(format!("{n} fields {word}")),
    })
    .collect();
    said.join(", ")
}

/// Why an object goes.
pub(super) fn orphaned(origin: Option<&Origin>) -> String {
    match origin {
        Some(origin) if !origin.file.is_empty() => format!("no longer in {}", origin.file),
        _ => "no longer declared".to_owned(),
    }
}
