//! Paths in the repository are relative to the file that names them, and are taken relative to the root of the source.

use super::*;
use crate::folder;

/// Where a spec names files that are taken when it is applied.
const PLACES: [(Kind, &str); 8] = [
    (Kind::Image, "/spec/source/file"),
    (Kind::Image, "/spec/source/metadata"),
    (Kind::Image, "/spec/source/rootfs"),
    (Kind::Image, "/spec/kernel"),
    (Kind::Image, "/spec/initrd"),
    (Kind::Instance, "/spec/image/source/file"),
    (Kind::Instance, "/spec/image/source/metadata"),
    (Kind::Instance, "/spec/image/source/rootfs"),
];

/// Makes the paths of a document relative to the root.
pub(super) fn from_root(document: &mut Node, root: &std::path::Path) {
    let kind = document.get("kind").and_then(Node::text);
    let Some(kind) = Kind::ALL.iter().find(|known| Some(known.name()) == kind) else {
        return;
    };
    for (of, place) in PLACES {
        if of != *kind {
            continue;
        }
        let steps: Vec<String> = Pointer::new(place).steps().collect();
        let mut at = Some(&mut *document);
        for step in &steps {
            at = at.and_then(|node| node.get_mut(step));
        }
        let Some(node) = at else { continue };
        let folder = folder::of(&node.place.file).to_owned();
        let Some(text) = node.text().filter(|text| !text.contains("://")) else {
            continue;
        };
        if folder.is_empty() || text.starts_with('/') {
            continue;
        }
        if let Some(name) = folder::join(root, &folder, text) {
            node.value = Value::Text(name.into());
        }
    }
}
