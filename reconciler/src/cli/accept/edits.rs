//! From the fields that drifted to texts in which the manifests say what lives.

use std::collections::BTreeMap;

use manifests::desired::Resource;
use manifests::diagnostic::Origin;
use manifests::edit::{Draft, EditError, Spot};
use manifests::folder;
use manifests::pointer::Pointer;
use manifests::read::{SOURCE_FILE, Texts};
use manifests::tree::{Node, Value as Written};
use serde_json::Value;

use crate::session::DriftedField;
use crate::view::accept::{Change, Refused};

/// Puts all live values into the texts; what cannot be put there is refused, all of it.
pub(super) fn edit_all(
    texts: &Texts,
    resource: &Resource,
    fields: &[DriftedField],
    refused: &mut Vec<Refused>,
) -> (Texts, Vec<Change>) {
    let mut desk = Desk {
        texts,
        resource,
        drafts: BTreeMap::new(),
    };
    let mut edits = Vec::new();
    // All places are looked up before any of them moves.
    for field in fields {
        let mut leaves = Vec::new();
        desk.leaves(&field.path, &field.desired, &field.live, &mut leaves);
        for (path, was, is) in leaves {
            match desk.locate(&path, is) {
                Ok(target) => edits.push((path, was.clone(), is.clone(), target)),
                Err(why) => refused.push(desk.refusal(path, why.to_string())),
            }
        }
    }
    let mut done = Vec::new();
    for (path, was, is, target) in edits {
        let changed = desk
            .draft(&target.file)
            .and_then(|draft| match &target.keys {
                None => draft.change(&target.spot, &was, &is),
                Some(keys) => draft.insert(&target.spot, keys, &is),
            });
        match changed {
            Ok(()) => done.push((path, was, is, target)),
            Err(why) => refused.push(desk.refusal(path, why.to_string())),
        }
    }
    let change = |(path, was, is, target): (Pointer, Value, Value, Target)| Change {
        source: desk.place(&path, &target),
        path,
        was,
        is,
    };
    let changes = done.into_iter().map(change).collect();
    let mut after = texts.clone();
    for (name, text) in &mut after.files {
        if let Some(draft) = desk.drafts.get(name) {
            draft.text().clone_into(text);
        }
    }
    (after, changes)
}

/// Where a value is put.
struct Target {
    file: String,
    spot: Spot,
    /// The keys below the spot that are new; none where the value is in its place already.
    keys: Option<Vec<String>>,
}

struct Desk<'a> {
    texts: &'a Texts,
    resource: &'a Resource,
    drafts: BTreeMap<String, Draft>,
}

impl Desk<'_> {
    fn draft(&mut self, file: &str) -> Result<&mut Draft, EditError> {
        if !self.drafts.contains_key(file) {
            let mut files = self.texts.files.iter();
            let (_, text) = files
                .find(|(name, _)| name == file)
                .ok_or(EditError::Changed)?;
            self.drafts.insert(file.to_owned(), Draft::of(text)?);
        }
        self.drafts.get_mut(file).ok_or(EditError::Changed)
    }

    fn refusal(&self, path: Pointer, why: String) -> Refused {
        Refused {
            source: self.resource.origin_of(&path),
            path,
            why,
        }
    }

    /// The written value of a field; none where it is a default or was made by a patch.
    fn written(&self, path: &Pointer) -> Option<&Node> {
        let below = Pointer::new(path.as_str().strip_prefix("/spec")?);
        let node = self.resource.provenance.written()?.at(&below)?;
        (node.place.line > 0).then_some(node)
    }

    /// The parts of a field that differ: each key of a map may be written in another layer.
    fn leaves<'v>(
        &self,
        path: &Pointer,
        was: &'v Value,
        is: &'v Value,
        out: &mut Vec<(Pointer, &'v Value, &'v Value)>,
    ) {
        let written = self.written(path).map(|node| &node.value);
        let is_map = matches!(written, None | Some(Written::Map(_)));
        match (was, is) {
            (Value::Object(old), Value::Object(new)) if is_map => {
                for key in old.keys().filter(|key| !new.contains_key(*key)) {
                    self.leaves(&path.field(key), &old[key], &Value::Null, out);
                }
                for (key, is) in new {
                    let was = old.get(key).unwrap_or(&Value::Null);
                    self.leaves(&path.field(key), was, is, out);
                }
            }
            _ if was == is => {}
            _ => out.push((path.clone(), was, is)),
        }
    }

    fn locate(&mut self, path: &Pointer, is: &Value) -> Result<Target, EditError> {
        if let Some(node) = self.written(path).cloned() {
            let file = node.place.file.to_string();
            let spot = self.draft(&file)?.find(&node)?;
            return Ok(Target {
                file,
                spot,
                keys: None,
            });
        }
        if is.is_null() {
            return Err(EditError::NotWritten);
        }
        self.home(path)
    }

    /// Where a value is written that no manifest has: in the document of the object; where that is of a base, in a patch
    /// of the source's own that changes the object there already.
    fn home(&mut self, path: &Pointer) -> Result<Target, EditError> {
        let steps: Vec<String> = path.steps().collect();
        let file = self.resource.origin.file.to_string();
        let bytes = self.resource.origin.bytes;
        let own = self.draft(&file)?;
        let document = own.document(bytes).ok_or(EditError::Changed)?;
        // A part of a device would replace all of it that comes from elsewhere.
        if let ["spec", "devices", name, _, ..] =
            steps.iter().map(String::as_str).collect::<Vec<_>>()[..]
        {
            let device = Pointer::new("/spec/devices").field(name);
            let spot = Spot {
                document: document.document,
                at: device.clone(),
            };
            if own.node(&spot).is_none()
                && let Some(node) = self.written(&device).cloned()
            {
                let file = node.place.file.to_string();
                let spot = self.draft(&file)?.find(&node)?;
                return Ok(Target {
                    file,
                    spot,
                    keys: Some(steps[3..].to_vec()),
                });
            }
        }
        let bases = &self.texts.bases;
        if bases.iter().any(|base| folder::holds(base, &file))
            && let Some(target) = self.in_a_patch(&steps)
        {
            return Ok(target);
        }
        Ok(Target {
            file,
            spot: document,
            keys: Some(steps),
        })
    }

    /// A map of a patch in the `keel.yaml` of the source that lies over the map of a value, or over one above that.
    fn in_a_patch(&mut self, steps: &[String]) -> Option<Target> {
        for depth in (1..steps.len()).rev() {
            let (above, keys) = steps.split_at(depth);
            let above = above
                .iter()
                .skip(1)
                .fold(Pointer::root(), |at, step| at.field(step));
            let mut found = Vec::new();
            let written = self.resource.provenance.written()?;
            let Some(map) = written.at(&above) else {
                continue;
            };
            map.walk(&Pointer::root(), &mut |at, node| {
                if &*node.place.file == SOURCE_FILE && node.place.line > 0 {
                    found.push((at.clone(), node.clone()));
                }
            });
            let draft = self.draft(SOURCE_FILE).ok()?;
            for (below, node) in found {
                let Ok(spot) = draft.find(&node) else {
                    continue;
                };
                let Some(at) = spot.at.as_str().strip_suffix(below.as_str()) else {
                    continue;
                };
                let at = Spot {
                    document: spot.document,
                    at: Pointer::new(at),
                };
                let is_map = |node: &Node| matches!(node.value, Written::Map(_));
                if at.at.as_str().starts_with("/patches/") && draft.node(&at).is_some_and(is_map) {
                    return Some(Target {
                        file: SOURCE_FILE.to_owned(),
                        spot: at,
                        keys: Some(keys.to_vec()),
                    });
                }
            }
        }
        None
    }

    /// Where a value was, or is by now where it was nowhere.
    fn place(&self, path: &Pointer, target: &Target) -> Origin {
        let Some(keys) = &target.keys else {
            let written = self.written(path);
            return written
                .map_or_else(|| self.resource.origin.clone(), |node| node.place.origin());
        };
        let at = keys
            .iter()
            .fold(target.spot.at.clone(), |at, key| at.field(key));
        let spot = Spot {
            document: target.spot.document,
            at,
        };
        let draft = self.drafts.get(&target.file);
        let node = draft.and_then(|draft| draft.node(&spot));
        let origin = node.map(|node| node.place.origin()).unwrap_or_default();
        Origin {
            file: target.file.as_str().into(),
            ..origin
        }
    }
}
