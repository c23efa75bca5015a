//! The words of a step's reason.

use manifests::change::{Cause, FieldChange};
use manifests::diagnostic::Origin;
use manifests::observed::Trashed;

/// Why an object is made.
pub(super) fn missing(was_there: bool) -> String {
    if was_there {
        "declared; it was there and is gone".to_owned()
    } else {
        "declared and not there".to_owned()
    }
}

/// Why something is taken out of the trash, and what comes with it.
pub(super) fn restored(trashed: &Trashed, now: jiff::Timestamp) -> String {
    let with = match trashed.holds.snapshots {
        0 => String::new(),
        1 => ", with 1 snapshot".to_owned(),
        count => format!(", with {count} snapshots"),
    };
    let when = ago(trashed.deleted_at, now);
    format!("restore from trash, deleted {when}{with}")
}

/// How long ago something was, in its largest unit: `2 h ago`.
pub(super) fn ago(then: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
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
