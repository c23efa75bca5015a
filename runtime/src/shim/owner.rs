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
use crate::sys::process;

/// This thread is the owner of a container's namespace until it leaves or ends.
#[derive(Debug)]
pub struct Owner(Option<CapabilitiesSecureBits>);

impl Owner {
    /// Becomes the host's user that is root of the container, with all capabilities and the files of root; nobody else
    /// for a container without ids of its own.
    ///
    /// # Errors
    /// The host's refusal to change the user.
    pub fn become_of(start: &Start) -> Result<Self, Failure> {
        let mut ranges = start.uid_map.iter();
        let Some(root) = ranges.find(|range| range.inside == 0) else {
            return Ok(Self(None));
        };
        let owner = Uid::from_raw(root.outside);
        let before = capabilities_secure_bits().named("read the secure bits")?;
        // Without it the change of the user would take the capabilities away.
        set_capabilities_secure_bits(before | CapabilitiesSecureBits::NO_SETUID_FIXUP)
            .named("keep the capabilities")?;
        set_thread_res_uid(Uid::ROOT, owner, Uid::ROOT).named("become the owner")?;
        // What init opens until it is root inside, it opens as before.
        process::use_files_as(Uid::ROOT);
        Ok(Self(Some(before)))
    }

    /// Becomes root again. Not for the child of a clone into a new user namespace: ids have no meaning there yet, and
    /// its secure bits are fresh.
    ///
    /// # Errors
    /// The host's refusal.
    pub fn leave(self) -> Result<(), Failure> {
        let Some(before) = self.0 else {
            return Ok(());
        };
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
            .and_then(|()| set_capabilities_secure_bits(before))
            .named("become root again")
    }
}
