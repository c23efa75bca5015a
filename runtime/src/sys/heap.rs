//! Memory that was allocated and freed goes back to the kernel.
#![expect(unsafe_code, reason = "malloc_trim(3) is a function of C")]

/// Gives back what is free. glibc keeps it for later, in a heap for each thread that ever allocated (mallopt(3), `M_ARENA_MAX`):
/// of a process that works for a second and rests for minutes that is most of what it has. Takes some milliseconds.
/// Another C library gives back by itself.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time by any thread (malloc_trim(3), "MT-Safe"), and takes nothing that somebody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}
