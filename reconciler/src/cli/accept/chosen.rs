//! Which fields of the object are meant, and in plain words why one cannot be.

use manifests::desired::{DesiredSet, Resource};
use manifests::diagnostic::Origin;
use manifests::edit::Draft;
use manifests::id::Address;
use manifests::near_miss::nearest;
use manifests::pointer::Pointer;
use manifests::read::Texts;

use crate::error::{CliError, Exit};
use crate::session::{Drift, DriftedField};
use crate::view::accept::Refused;

const NAME: &str = "/metadata/name";

/// The object that is named, or why it is none of this source.
pub(super) fn resource<'a>(
    desired: &'a DesiredSet,
    drift: &Drift,
    object: &Address,
) -> Result<&'a Resource, CliError> {
    if let Some(resource) = desired.resources.get(object) {
        return Ok(resource);
    }
    let fail = |words: String| CliError::usage(format!("{object} {words}"));
    let alike = |other: &Address| other.kind == object.kind && other.project == object.project;
    let renamed = drift.fields.iter().find(|field| {
        field.path.as_str() == NAME
            && alike(&field.address)
            && field.live.as_str() == Some(&object.name)
    });
    if let Some(field) = renamed {
        let words = format!(
            "is declared as {}: it was renamed outside git",
            field.address
        );
        return Err(fail(words).hint(format!("keel drift accept {}", field.address)));
    }
    let mut declared = desired.resources.values();
    if let Some(now) = declared.find(|one| one.previous.contains(object)) {
        return Err(fail(format!("is declared as {} by now", now.address)));
    }
    if desired.others.contains_key(object) {
        return Err(fail(
            "is declared outside of the part that is meant".to_owned(),
        ));
    }
    let is_policy = desired.policies.iter().any(|one| one.address == *object);
    if is_policy || desired.secrets.contains_key(object) {
        return Err(fail(
            "is for keel alone: nothing of it lives in the world".to_owned(),
        ));
    }
    if desired.external.contains(object) {
        return Err(fail(
            "is only referred to here: no manifest of this source declares it".to_owned(),
        ));
    }
    let names = desired.resources.keys().filter(|other| alike(other));
    let names: Vec<&str> = names.map(|other| other.name.as_str()).collect();
    let report = fail("is not declared here".to_owned());
    Err(match nearest(&object.name, &names) {
        Some(near) => report.hint(format!("did you mean `{near}`?")),
        None => report.hint("keel render lists what is"),
    })
}

/// The fields that are meant and may be accepted; the others are refused.
pub(super) fn fields(
    drift: Drift,
    resource: &Resource,
    field: Option<&str>,
    texts: &Texts,
    refused: &mut Vec<Refused>,
) -> Result<Vec<DriftedField>, CliError> {
    let object = &resource.address;
    let is_meant = |path: &Pointer| field.is_none_or(|field| means(field, path));
    let mut chosen = Vec::new();
    for found in drift.fields {
        // Of an object that is gone, so are all fields.
        let is_whole = found.path == Pointer::root();
        // What a schedule missed is no field that a manifest could have.
        let told = Pointer::new("/status").covers(&found.path);
        if found.address != *object || told || !(is_whole || is_meant(&found.path)) {
            continue;
        }
        match why_not(&found, resource, texts) {
            Some((source, why)) => refused.push(Refused {
                path: found.path,
                why,
                source,
            }),
            None => chosen.push(found),
        }
    }
    if !chosen.is_empty() || !refused.is_empty() {
        return Ok(chosen);
    }
    let fail = |words: String| Err(CliError::new(Exit::Unexpected, words));
    let mut unseen = drift.unseen.iter().filter(|one| one.address == *object);
    let mut unseen = unseen.by_ref().flat_map(|one| &one.unseen);
    if let Some(unseen) = unseen.find(|unseen| is_meant(&unseen.path)) {
        let path = unseen.path.dotted();
        return fail(format!(
            "{path} of {object} could not be read: {}",
            unseen.why
        ));
    }
    let mut ignored = drift.ignored.get(object).into_iter().flatten();
    if let Some(path) = ignored.find(|path| is_meant(path)) {
        let path = path.dotted();
        let words =
            format!("{path} of {object} differs, and a rule of its lifecycle leaves that alone");
        return fail(words);
    }
    let words = match field {
        Some(field) => format!("{field} of {object} has not drifted"),
        None => format!("nothing of {object} has drifted"),
    };
    fail(words).map_err(|error| error.hint("keel drift says what did"))
}

/// Whether a person means a field: `limits.memory`, `spec.limits.memory` or `/spec/limits/memory`.
fn means(field: &str, path: &Pointer) -> bool {
    let dotted = path.dotted();
    dotted == field || path.as_str() == field || format!("spec.{dotted}") == field
}

/// Why a field cannot be accepted at all, and where that is declared.
fn why_not(field: &DriftedField, resource: &Resource, texts: &Texts) -> Option<(Origin, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    if field.gone {
        let why = "it is gone from the world, and what is not there has no values to take over: \
                   keel apply makes it again; if it shall stay away, take its document out";
        return Some((resource.origin.clone(), why.to_owned()));
    }
    if field.path == Pointer::root() {
        let why = "it is there only in part, which no manifest can say: keel apply completes it";
        return Some((resource.origin.clone(), why.to_owned()));
    }
    if field.path.as_str() == NAME {
        let (live, name) = (text(&field.live), text(&field.desired));
        let why = format!(
            "it was renamed to `{live}` outside git, and others may name it: keel apply calls it `{name}` again; \
             if the new name shall stay, write `name: {live}` and `previousNames: [{name}]`"
        );
        return Some((place_of_name(resource, texts), why));
    }
    if field.secret {
        let why = "its value comes from a secret, of which keel knows a digest and no text, and no secret is written \
                   into a manifest: change it where the secret is kept, or keel apply puts it back";
        return Some((field.origin.clone(), why.to_owned()));
    }
    None
}

fn place_of_name(resource: &Resource, texts: &Texts) -> Origin {
    let file = &resource.origin.file;
    let mut files = texts.files.iter();
    let name = files
        .find(|(name, _)| **name == **file)
        .and_then(|(_, text)| {
            let draft = Draft::of(text).ok()?;
            let mut spot = draft.document(resource.origin.bytes)?;
            spot.at = Pointer::new(NAME);
            Some(draft.node(&spot)?.place.origin())
        });
    let mut origin = name.unwrap_or_else(|| resource.origin.clone());
    origin.file = file.clone();
    origin
}
