//! Texts that stand elsewhere: `{ file: ./motd }` becomes the text of the file, `{ template: … }` without a secret its
//! own text. Who takes a text from a secret gets it when it is used, and not here.

use super::*;
use crate::attached::{self, Attached};
use crate::scalar::text::SEALED;

/// A file that cannot be taken in.
pub const NOT_TAKEN: Code = Code("E0119");

/// Where a spec has texts that may stand elsewhere; `*` is any key.
pub const PLACES: [&[&str]; 10] = [
    &["environment", "*"],
    &["user", "*"],
    &["credentials", "*"],
    &["sysctl", "*"],
    &["config", "*"],
    &["files", "*", "content"],
    &["cloudInit", "userData"],
    &["cloudInit", "vendorData"],
    &["cloudInit", "networkConfig"],
    &["cloudInit", "parts", "*"],
];

/// Puts texts in the place of where they come from.
pub(super) fn take_in(spec: &mut Node, texts: &Texts, found: &mut Diagnostics) {
    for place in PLACES {
        each_at(spec, place, &Pointer::new("/spec"), &mut |node, at| {
            let Value::Map(entries) = &node.value else {
                return;
            };
            let [(key, below)] = entries.as_slice() else {
                return;
            };
            if key.name == SEALED {
                // It would be taken for the value of a secret that somebody looked up.
                let message = format!("unknown field `{SEALED}`");
                let one = Diagnostic::error(UNKNOWN_FIELD, key.place.origin(), message);
                found.push(
                    one.at(at.clone())
                        .hint("known fields: secretRef, template, file"),
                );
                node.value = Value::Text(String::new().into());
                return;
            }
            let Some(text) = below.text() else { return };
            let taken = match key.name.as_str() {
                "template" if !text.contains("${secret.") => text.to_owned(),
                "file" => match file(&node.place.file, text, texts) {
                    Ok(taken) => taken.to_owned(),
                    Err(why) => {
                        let short: String = text.chars().take(60).collect();
                        let message = format!("`{}` {why}", short.escape_debug());
                        let one = Diagnostic::error(NOT_TAKEN, below.place.origin(), message);
                        found.push(one.at(at.clone()));
                        String::new()
                    }
                },
                _ => return,
            };
            node.value = Value::Text(taken.into());
        });
    }
}

fn each_at(
    node: &mut Node,
    place: &[&str],
    at: &Pointer,
    visit: &mut dyn FnMut(&mut Node, &Pointer),
) {
    let Some((step, rest)) = place.split_first() else {
        visit(node, at);
        return;
    };
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    for (key, below) in entries {
        if *step == "*" || key.name == *step {
            // Most texts are just texts.
            if matches!(below.value, Value::Map(_)) {
                each_at(below, rest, &at.field(&key.name), visit);
            }
        }
    }
}

/// The text of a file that a manifest names, or why there is none.
fn file<'a>(manifest: &str, path: &str, texts: &'a Texts) -> Result<&'a str, String> {
    let name = attached::name_of(&texts.root, manifest, path).ok_or(attached::OUTSIDE)?;
    match texts.attached.get(&name) {
        Some(Attached::Text(text)) => Ok(text),
        Some(Attached::Refused(why)) => Err(why.clone()),
        None => Err("was not read: the name of a file has no variables in it".to_owned()),
    }
}
