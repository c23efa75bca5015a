//! Who owns the user namespace of a container: the host's user that is root in it.
//!
//! Inotify and fanotify instances, watches and namespaces are counted by the kernel for the owner of the namespace in
//! which they were made, and in turn for the owner of that (`inc_ucount` of `kernel/ucount.c`). All containers owned
//! by root would share its 128 inotify instances with the host itself: one that takes them all ends the others' and the
//! host's. The owner has every capability over the namespace (`cap_capable`), but only from outside of it, where nobody
//! is that user.

use rustix::fs::Uid;
use rustix::thread::{
    CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits,
    set_thread_res_uid,
};

use super::failure::{Doing as _, Failure};
use super::messages::Start;
use crate::sys::clone3::Cloned;
use crate::sys::process;

/// Clones as the host's user that is root of the container, and is root again in the parent.
///
/// # Errors
/// Those of `clone`, and the host's refusal to change the user.
pub fn clone_owned(
    start: &Start,
    clone: impl FnOnce() -> Result<Cloned, Failure>,
) -> Result<Cloned, Failure> {
    let mut ranges = start.uid_map.iter();
    let Some(root) = ranges.find(|range| range.inside == 0) else {
        return clone();
    };
    let owner = Uid::from_raw(root.outside);
    let before = capabilities_secure_bits().named("read the secure bits")?;
    // Without it the change of the user would take the capabilities away.
    set_capabilities_secure_bits(before | CapabilitiesSecureBits::NO_SETUID_FIXUP)
        .named("keep the capabilities")?;
    set_thread_res_uid(Uid::ROOT, owner, Uid::ROOT).named("become the owner")?;
    // What init opens until it is root inside, it opens as before.
    process::use_files_as(Uid::ROOT);
    let cloned = clone();
    // In the child ids have no meaning yet, and a new user namespace comes with fresh secure bits.
    if !matches!(cloned, Ok(Cloned::Child)) {
        let back = set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT);
        back.and_then(|()| set_capabilities_secure_bits(before))
            .named("become root again")?;
    }
    cloned
}
