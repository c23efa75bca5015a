//! One whole disk out of the layers of one: by `qemu-img`, which knows every form that a cluster has.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::error::ImageError;
use crate::native::disk_image::{Format, inspect_overlay};
use crate::sys::command::{self, CommandError};

/// A file of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::native) struct Layer {
    /// Where it lies.
    pub(in crate::native) path: PathBuf,
    /// How its bytes lie.
    pub(in crate::native) format: Format,
}

/// No disk takes longer.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// Makes a qcow2 disk that has all that a guest sees in these layers, the highest first. What their headers say of files below
/// them does not count. Nobody may write to them meanwhile. `go_on` is asked ten times a second.
///
/// # Errors
/// One leads outside or is broken, there is no `qemu-img`, the disk of the host is full, or nobody wants it any more: what there
/// is of the new one is the caller's to remove.
pub(in crate::native) fn make_whole(
    layers: &[Layer],
    to: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), ImageError> {
    for layer in layers {
        if layer.format == Format::Qcow2 {
            // A file of data beside it would be one that a header names.
            inspect_overlay(&layer.path)?;
        }
    }
    let from = format!("json:{}", stacked(layers));
    // What a running machine has open below its disk has its locks, and nobody writes to it.
    let words = ["convert", "-U", "-q", "-O", "qcow2", &from];
    let words = words.iter().map(AsRef::as_ref).chain([to.as_os_str()]);
    match command::run_while("qemu-img", words, go_on, LONGEST) {
        Ok(_) => Ok(()),
        Err(CommandError::Interrupted { .. }) => Err(ImageError::Interrupted),
        Err(CommandError::Start { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Err(ImageError::NoProgram("qemu-img (qemu-utils)"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Layers in QEMU's words, each on the next.
fn stacked(layers: &[Layer]) -> Value {
    let Some((layer, below)) = layers.split_first() else {
        return Value::Null;
    };
    let mut node = json!({
        "driver": layer.format.word(),
        "file": { "driver": "file", "filename": layer.path },
    });
    if layer.format == Format::Qcow2 {
        node["backing"] = stacked(below);
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_is_told_what_is_below_it_whatever_its_header_says() {
        let layer = |path: &str, format| Layer {
            path: path.into(),
            format,
        };
        let qcow2 = |path| layer(path, Format::Qcow2);
        let layers = [qcow2("/top"), qcow2("/disk"), layer("/image", Format::Raw)];
        let file = |path: &str| json!({"driver": "file", "filename": path});
        assert_eq!(
            stacked(&layers),
            json!({"driver": "qcow2", "file": file("/top"), "backing": {
                "driver": "qcow2", "file": file("/disk"), "backing": {"driver": "raw", "file": file("/image")}}})
        );
        let alone = json!({"driver": "qcow2", "file": file("/top"), "backing": null});
        assert_eq!(stacked(&[qcow2("/top")]), alone);
    }
}
