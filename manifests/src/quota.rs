//! What counts in the limits of a Project on disks.

use crate::kind::Spec;
use crate::pointer::Pointer;
use crate::scalar::byte_size::ByteSize;

/// The disk that an object is, or that its root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOf<'a> {
    /// The pool that it is in; empty: none is named.
    pub pool: &'a str,
    /// Bytes; `None`: it does not say.
    pub size: Option<u64>,
    /// Where it says so.
    pub at: Pointer,
}

/// The disk of an instance or volume; `None`: it has none.
pub fn disk_of(spec: &Spec) -> Option<DiskOf<'_>> {
    match spec {
        Spec::Instance(instance) => {
            let (name, disk) = instance.root()?;
            Some(DiskOf {
                pool: disk.pool.as_deref().unwrap_or_default(),
                size: disk.size.as_ref().map(ByteSize::bytes),
                at: Pointer::new("/spec/devices").field(name).field("size"),
            })
        }
        Spec::Volume(volume) => Some(DiskOf {
            pool: &volume.pool,
            size: volume.size.as_ref().map(ByteSize::bytes),
            at: Pointer::new("/spec/size"),
        }),
        _ => None,
    }
}
