//! Memory that only work needs goes back to the kernel: what was allocated and freed, and the program's own code.
#![expect(
    unsafe_code,
    reason = "malloc_trim(3) is a function of C, and madvise(2) takes addresses"
)]

use std::ops::Range;

use manifests::path_io;

/// What is larger is mapped by itself and goes back when it is freed.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 128 << 10;

/// For a process that lives long, before it has threads: all of them share two heaps. glibc gives each thread its own, up to
/// eight a core (mallopt(3), `M_ARENA_MAX`), and lets large blocks into them once one was freed (`M_MMAP_THRESHOLD`); what lives
/// on is spread over pages that are otherwise empty, which nothing can give back. So a controller of a thousand instances
/// rests in three quarters of the memory.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only sets how many heaps there may be, and what is put into them.
    unsafe {
        let _ = libc::mallopt(libc::M_ARENA_MAX, 2);
        let _ = libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Gives back what is free. glibc keeps it for later, in a heap for each thread that ever allocated (mallopt(3), `M_ARENA_MAX`):
/// of a process that works for a second and rests for minutes that is most of what it has. Takes some milliseconds.
/// Another C library gives back by itself.
///
/// The code that work went through stays mapped as well, tens of megabytes of it, and nothing unmaps it where memory is not
/// short. It is let go of here; what is called again is mapped again, from the page cache, 64 KiB at a time.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time by any thread (malloc_trim(3), "MT-Safe"), and takes nothing that somebody holds.
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = path_io::read_to_string("/proc/self/maps") else {
        return;
    };
    for code in maps.lines().filter_map(code_in) {
        // SAFETY: the pages are of a private mapping that nobody can write to, so each is what its file says and is read from
        // there again when it is next used (madvise(2), MADV_DONTNEED); pages that the loader has written to are in other
        // mappings. Where another thread has unmapped it in between nothing happens: nothing unmaps code in this program.
        let _ = unsafe {
            libc::madvise(
                code.start as *mut libc::c_void,
                code.len(),
                libc::MADV_DONTNEED,
            )
        };
    }
}

/// The addresses of a line of `/proc/self/maps` (`proc_pid_maps(5)`) that is code of a file: executable, private, never written.
fn code_in(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (rights, _offset, _device, inode) =
        (words.next()?, words.next()?, words.next()?, words.next()?);
    if rights != "r-xp" || inode == "0" {
        return None;
    }
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_a_file_is_let_go_of() {
        let code = "5600867de000-56008871a000 r-xp 00637000 fe:00 10027155                   /usr/bin/keel";
        assert_eq!(code_in(code), Some(0x5600_867d_e000..0x5600_8871_a000));
        for other in [
            "560088b00000-560088b96000 r--p 02571000 fe:00 10027155                   /usr/bin/keel",
            "560088b96000-560088b9a000 rw-p 02607000 fe:00 10027155                   /usr/bin/keel",
            "7ffd63bd1000-7ffd63bd3000 r-xp 00000000 00:00 0                          [vdso]",
            "7f0468000000-7f0468df6000 rw-p 00000000 00:00 0 ",
            "",
        ] {
            assert_eq!(code_in(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_given_back_works_on() {
        let before = vec![7_u8; 1 << 20];
        give_back();
        assert!(before.iter().all(|byte| *byte == 7));
        assert_eq!(
            "1,2"
                .split(',')
                .map(str::parse)
                .collect::<Result<Vec<u8>, _>>(),
            Ok(vec![1, 2])
        );
    }
}
