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
        ContentType::Iso => say(
            "/spec/contentType",
            "this engine keeps no images of CDs in pools yet; a machine takes one as `source: /path/to.iso`"
                .to_owned(),
        ),
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
