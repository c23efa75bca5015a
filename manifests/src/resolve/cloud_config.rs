//! What cloud-init would not understand is found here, where it stands: also in a file that a manifest takes in.

use super::*;
use crate::attached::{self, Attached};
use crate::parse::SYNTAX;

/// What a text for cloud-init is.
#[derive(Clone, Copy)]
enum Kind {
    /// A person's: whatever its beginning says.
    Document,
    /// The network's: always YAML.
    Network,
}

/// Looks at what cloud-init would be given.
pub(super) fn check(spec: &Node, texts: &Texts, found: &mut Diagnostics) {
    let Some(given) = spec.get("cloudInit") else {
        return;
    };
    let at = Pointer::new("/spec/cloudInit");
    for (field, kind) in [
        ("userData", Kind::Document),
        ("vendorData", Kind::Document),
        ("networkConfig", Kind::Network),
    ] {
        if let Some(node) = given.get(field) {
            one(node, &at.field(field), kind, texts, found);
        }
    }
    if let Some(Value::Map(parts)) = given.get("parts").map(|parts| &parts.value) {
        for (key, node) in parts {
            let at = at.field("parts").field(&key.name);
            one(node, &at, Kind::Document, texts, found);
        }
    }
}

fn one(node: &Node, at: &Pointer, kind: Kind, texts: &Texts, found: &mut Diagnostics) {
    let entries = match &node.value {
        Value::Text(text) => return text_of(text, node, at, kind, texts, found),
        Value::List(_) => {
            found.push(
                Diagnostic::error(
                    WRONG_TYPE,
                    node.place.origin(),
                    format!("{} is a list, expected a text or a map", at.dotted()),
                )
                .at(at.clone()),
            );
            return;
        }
        Value::Map(entries) => entries,
        // That is for its type to say.
        _ => return,
    };
    if let [(key, below)] = entries.as_slice()
        && let Some(text) = below.text()
    {
        match key.name.as_str() {
            // Nobody knows yet what stands in the place of the secret.
            "template" if text.contains("${secret.") => return,
            "template" => return text_of(text, below, at, kind, texts, found),
            "file" => {
                let name = attached::name_of(&texts.root, &node.place.file, text);
                if let Some(name) = name
                    && let Some(Attached::Text(content)) = texts.attached.get(&name)
                {
                    let mut wrong = wrong_in(&name, content, at, kind);
                    wrong.each(|one| one.related.push((node.place.origin(), TAKEN_IN.to_owned())));
                    found.extend(wrong);
                }
                return;
            }
            _ => {}
        }
    }
    if !matches!(entries.as_slice(), [(key, _)] if key.name == "secretRef") {
        for (key, below) in entries {
            no_secrets(below, &at.field(&key.name), found);
        }
    }
}

/// Said of the place in the manifest, where the mistake is in the file.
const TAKEN_IN: &str = "taken in here";

/// In a map that is cloud-init's a secret would be handed on as the words by which it is named.
fn no_secrets(node: &Node, at: &Pointer, found: &mut Diagnostics) {
    match &node.value {
        Value::Map(entries) => {
            let named = matches!(entries.as_slice(), [(key, below)]
                if key.name == "secretRef" && below.get("name").is_some() && below.get("key").is_some());
            if named {
                let message = "a secret within a map is not looked up".to_owned();
                found.push(
                    Diagnostic::error(NOT_TAKEN, node.place.origin(), message)
                        .at(at.clone())
                        .hint("write the whole document as `{ template: \"… ${secret.NAME.KEY} …\" }`"),
                );
                return;
            }
            for (key, below) in entries {
                no_secrets(below, &at.field(&key.name), found);
            }
        }
        Value::List(items) => {
            for (index, below) in items.iter().enumerate() {
                no_secrets(below, &at.index(index), found);
            }
        }
        _ => {}
    }
}

/// A text that stands in the manifest.
fn text_of(
    text: &str,
    node: &Node,
    at: &Pointer,
    kind: Kind,
    texts: &Texts,
    found: &mut Diagnostics,
) {
    let mut wrong = wrong_in("", text, at, kind);
    let block = texts
        .files
        .iter()
        .find(|(file, _)| **file == *node.place.file)
        .and_then(|(_, manifest)| Block::of(manifest, &node.place));
    wrong.each(|one| {
        one.origin = match &block {
            Some(block) => block.origin(&one.origin, &node.place),
            None => {
                let (line, column) = (one.origin.line, one.origin.column);
                one.message += &format!(" (line {line} of it, column {column})");
                node.place.origin()
            }
        };
    });
    found.extend(wrong);
}

/// What a text claims to be, and is not.
fn wrong_in(file: &str, text: &str, at: &Pointer, kind: Kind) -> Diagnostics {
    let mut out = Diagnostics::default();
    let begin: String = text.trim_start().chars().take(24).collect();
    let begin = begin.to_ascii_lowercase();
    let (claim, is_right, expected): (_, fn(&Value) -> bool, _) = match kind {
        Kind::Network => (
            String::new(),
            |value| matches!(value, Value::Map(_)),
            "a map",
        ),
        Kind::Document if begin.starts_with("#cloud-config-jsonp") => return out,
        Kind::Document if begin.starts_with("#cloud-config-archive") => (
            ", though it begins with `#cloud-config-archive`".to_owned(),
            |value| matches!(value, Value::List(_)),
            "a list",
        ),
        Kind::Document if begin.starts_with("#cloud-config") => (
            ", though it begins with `#cloud-config`".to_owned(),
            |value| matches!(value, Value::Map(_)),
            "a map",
        ),
        Kind::Document => return out,
    };
    let what = at.dotted();
    let (documents, found) = parse(file, text);
    // It has words of YAML that manifests have not: those are cloud-init's business.
    let no_yaml = found.sorted().into_iter().find(|one| one.code == SYNTAX);
    if let Some(one) = no_yaml {
        let message = format!("{what} is no YAML{claim}: {}", one.message);
        out.push(Diagnostic::error(SYNTAX, one.origin.clone(), message).at(at.clone()));
    } else if let Some(second) = documents.get(1) {
        let message = format!("{what} is more than one document{claim}");
        out.push(Diagnostic::error(SYNTAX, second.place.origin(), message).at(at.clone()));
    } else if let Some(only) = documents.first().filter(|only| !is_right(&only.value)) {
        let message = format!(
            "{what} is {}{claim}, expected {expected}",
            only.value.noun()
        );
        out.push(Diagnostic::error(WRONG_TYPE, only.place.origin(), message).at(at.clone()));
    }
    out
}

/// A text that is written line by line, so that its places are places of the manifest.
struct Block<'a> {
    manifest: &'a str,
    /// Lines of the manifest before its first one.
    above: u32,
    /// Columns that are not of the text.
    indent: u32,
}

impl<'a> Block<'a> {
    /// None for what is quoted or folded. The place of a block is that of its first line, below the one that ends in `|`.
    fn of(manifest: &'a str, place: &Place) -> Option<Self> {
        let above = manifest.get(..usize::try_from(place.bytes.0).ok()?)?;
        let indent = above.rsplit('\n').next()?;
        let (head, _) = above
            .rmatch_indices('\n')
            .map(|(at, _)| above.split_at(at))
            .find(|(before, _)| {
                !before
                    .rsplit('\n')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .is_empty()
            })?;
        let head_line = head.rsplit('\n').next()?;
        let begin = head_line.split(" #").next()?.trim_end();
        let begin =
            begin.trim_end_matches(|sign: char| sign.is_ascii_digit() || "+-".contains(sign));
        if !indent.trim().is_empty() || !begin.ends_with('|') {
            return None;
        }
        Some(Self {
            manifest,
            above: u32::try_from(head.matches('\n').count() + 1).ok()?,
            indent: place.column.saturating_sub(1),
        })
    }

    fn origin(&self, inside: &Origin, place: &Place) -> Origin {
        let (line, column) = (inside.line + self.above, inside.column + self.indent);
        let skipped = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        let before: usize = self
            .manifest
            .split_inclusive('\n')
            .take(skipped)
            .map(str::len)
            .sum();
        let of_line = self.manifest.get(before..).unwrap_or_default();
        let columns = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
        let within: usize = of_line.chars().take(columns).map(char::len_utf8).sum();
        let byte = u32::try_from(before + within).unwrap_or(u32::MAX);
        let length = inside.bytes.1.saturating_sub(inside.bytes.0);
        // What goes on over lines has other bytes here.
        let length = if length > 80 { 1 } else { length };
        Origin {
            file: place.file.clone().into(),
            line,
            column,
            bytes: (byte, byte + length),
        }
    }
}
