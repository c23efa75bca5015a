//! What the suites of single drivers have in common.

use std::path::{Path, PathBuf};

use manifests::path_io;

use super::conformance::{Bench, bench};
use super::*;
use crate::sys::loop_device;

/// A pool that is made.
pub(super) fn ready(kind: DriverKind) -> Bench {
    let bench = bench(kind);
    bench.driver.ensure_pool(true).unwrap();
    bench
}

/// Where the files of a volume are.
pub(super) fn data_of(bench: &Bench, plan: &VolumePlan) -> PathBuf {
    match bench.driver.place(&plan.id).unwrap() {
        Placed::Custom { folder } => folder,
        Placed::Root { upper, .. } => upper,
        disk @ Placed::Disk { .. } => panic!("{disk:?}"),
    }
}

/// What is told of a snapshot.
pub(super) fn kept(word: &str) -> KeptTree {
    KeptTree {
        created_at: jiff::Timestamp::UNIX_EPOCH,
        description: word.to_owned(),
        made_by: None,
        expires_at: None,
        about: serde_json::Value::Null,
    }
}

pub(super) fn text(path: impl AsRef<Path>) -> String {
    path_io::read_to_string(path).unwrap()
}

/// A file of so many bytes that is shown as a device.
pub(super) fn device(bench: &Bench, name: &str, bytes: u64) -> loop_device::LoopDevice {
    let file = bench.keep.path().join(name);
    let open = std::fs::File::create_new(&file).unwrap();
    open.set_len(bytes).unwrap();
    let open = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&file);
    loop_device::attach(&open.unwrap()).unwrap()
}
