//! What the native engine cannot do yet of volumes.

use super::not_yet;
use crate::desired::Resource;
use crate::kinds::volume::{ContentType, Volume};

/// Fields of volumes that are not put in force yet, unless they are as by default.
const VOLUME: &[&str] = &["filesystem", "mountOptions", "snapshots/stateful", "config"];

/// Says what is not done of a volume.
pub(super) fn of(resource: &Resource, volume: &Volume, say: &mut dyn FnMut(&str, String)) {
    not_yet(resource, VOLUME, say);
    match volume.content_type {
        ContentType::Filesystem => {}
        ContentType::Block if volume.size.is_none() && volume.source.is_none() => say(
            "/spec/contentType",
            "a volume of blocks that is a copy of nothing needs a `size`".to_owned(),
        ),
        ContentType::Block => {}
        ContentType::Iso if volume.size.is_some() => say(
            "/spec/size",
            "the image of a CD is as big as it is".to_owned(),
        ),
        ContentType::Iso => {}
    }
    let file = volume
        .source
        .as_ref()
        .and_then(|source| source.file.as_ref());
    if file.is_some() && volume.content_type == ContentType::Filesystem {
        say(
            "/spec/source/file",
            "a volume of files is no copy of a single file; `keel file push` puts one there"
                .to_owned(),
        );
    }
    if volume.content_type != ContentType::Filesystem {
        for (field, written) in [
            ("shifted", volume.shifted),
            ("unmapped", volume.unmapped),
            ("initial", volume.initial.is_some()),
        ] {
            if written {
                say(
                    &format!("/spec/{field}"),
                    "this counts for volumes of files".to_owned(),
                );
            }
        }
    } else if volume.shared {
        say(
            "/spec/shared",
            "this counts for volumes of blocks; one of files can be shared always".to_owned(),
        );
    }
}
