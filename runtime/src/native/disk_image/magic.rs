//! What a file that is no raw or qcow2 disk is, by its first and last bytes.

/// How many of the first bytes [`what`] wants.
pub(super) const HEAD: usize = 512;

/// Offset, bytes there, and what has them.
const MAGICS: &[(usize, &[u8], &str)] = &[
    (0, b"KDMV", "a vmdk disk"),
    (0, b"COWD", "a vmdk disk"),
    (0, b"# Disk DescriptorFile", "the descriptor of a vmdk disk"),
    (0x40, b"\x7f\x10\xda\xbe", "a vdi disk"),
    (0, b"vhdxfile", "a vhdx disk"),
    (0, b"conectix", "a vhd disk"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0, b"QED\0", "a qed disk"),
    (0, b"WithoutFreeSpace", "a Parallels disk"),
    (0, b"WithouFreSpacExt", "a Parallels disk"),
    (0, b"Bochs Virtual HD Image", "a Bochs disk"),
    (0, b"hsqs", "a squashfs"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1f\x8b", "packed by gzip"),
    (0, b"\xfd7zXZ\0", "packed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "packed by zstd"),
    (0, b"BZh", "packed by bzip2"),
    (0, b"\x04\x22\x4d\x18", "packed by lz4"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"070701", "a cpio archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"#!", "a script"),
    (0, b"-----BEGIN", "a text"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
];

/// What has a trailer of 512 bytes instead.
const TRAILERS: &[(&[u8], &str)] = &[(b"conectix", "a vhd disk"), (b"koly", "a dmg disk")];

/// What the file is, if that is known; `tail` are its last 512 bytes.
pub(super) fn what(head: &[u8], tail: &[u8]) -> Option<&'static str> {
    let at_the_start = MAGICS
        .iter()
        .find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
        .map(|(_, _, what)| *what);
    let at_the_end = || {
        TRAILERS
            .iter()
            .find(|(magic, _)| tail.starts_with(magic))
            .map(|(_, what)| *what)
    };
    at_the_start.or_else(at_the_end)
}
