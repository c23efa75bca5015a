//! What every limit has in common: raw values of the kernel's files, their meaning, and the writes between two of them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::hierarchies::Controller;
use super::instance::InstanceCgroups;
use super::limits::{Change, FileWrite, How, LimitError, LimitPart, Seen};
use super::snapshot::{Host, Snapshot, View};

/// One part of the limits. To add one: a file with an implementation, a field in [`super::limits::Limits`] and
/// [`super::limits::LimitsSeen`], a name in [`LimitPart`], a line in `super::{files, seen, changes}`.
pub(super) trait Part {
    /// What people mean.
    type Meaning: PartialEq + Serialize + DeserializeOwned + Default;
    /// What the kernel's files hold, the same for both generations where possible.
    type Raw: PartialEq;

    const PART: LimitPart;
    const CONTROLLER: Controller;

    /// The files of this part: those of the container's folder and those of the instance's.
    fn files(view: &View<'_>) -> Vec<std::path::PathBuf>;

    /// What the files hold.
    fn read(view: &View<'_>) -> Result<Self::Raw, String>;

    /// What the files must hold for this meaning, given what they hold now; `Err` says what the host lacks.
    fn encode(
        view: &View<'_>,
        meaning: &Self::Meaning,
        now: &Self::Raw,
    ) -> Result<Self::Raw, String>;

    /// What a person would have to write to get these files.
    fn decode(view: &View<'_>, raw: &Self::Raw) -> Seen<Self::Meaning>;

    /// From one state of the files to another, in the order the kernel needs.
    fn writes(view: &View<'_>, from: &Self::Raw, to: &Self::Raw) -> Vec<FileWrite>;
}

/// What is in force of a part.
pub(super) fn seen<P: Part>(
    cgroups: &InstanceCgroups,
    snapshot: &Snapshot,
    host: &Host,
) -> Seen<P::Meaning> {
    // No controller, no limit: that much is known.
    let Some(place) = cgroups.place(P::CONTROLLER) else {
        return Seen::Known(P::Meaning::default());
    };
    let view = View {
        place,
        snapshot,
        host,
    };
    let raw = match P::read(&view) {
        Ok(raw) => raw,
        Err(why) => return Seen::Unknown(why),
    };
    let meant = snapshot
        .meant
        .get(&P::PART)
        .and_then(|text| serde_json::from_str::<P::Meaning>(text).ok())
        .filter(|meant| P::encode(&view, meant, &raw).is_ok_and(|expected| expected == raw));
    match meant {
        Some(meant) => Seen::Known(meant),
        None => P::decode(&view, &raw),
    }
}

/// What must be written so that a part means what is wanted; `None` if it already does.
pub(super) fn change<P: Part>(
    cgroups: &InstanceCgroups,
    snapshot: &Snapshot,
    host: &Host,
    wanted: &P::Meaning,
) -> Result<Option<Change>, LimitError> {
    let unsupported = |why| LimitError::Unsupported { part: P::PART, why };
    if seen::<P>(cgroups, snapshot, host).known() == Some(wanted) {
        return Ok(None);
    }
    let Some(place) = cgroups.place(P::CONTROLLER) else {
        return Err(unsupported(format!(
            "this host has no {} controller in any writable cgroup hierarchy",
            P::CONTROLLER
        )));
    };
    let view = View {
        place,
        snapshot,
        host,
    };
    let raw = P::read(&view).map_err(unsupported)?;
    let expected = P::encode(&view, wanted, &raw).map_err(unsupported)?;
    let mut writes = P::writes(&view, &raw, &expected);
    if let (Some(home), Ok(value)) = (cgroups.home(), serde_json::to_string(wanted)) {
        // Last: a crash before it leaves files that are taken at their word, never a meaning that is not in force.
        writes.push(FileWrite {
            path: home.to_path_buf(),
            value,
            how: How::Attribute(P::PART.attribute()),
            undo: None,
        });
    }
    Ok(Some(Change {
        part: P::PART,
        writes,
    }))
}
