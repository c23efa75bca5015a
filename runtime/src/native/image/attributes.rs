//! Which attributes of a stranger's file are taken over: owners in range, and the few extended ones that are harmless.

use super::error::Refusal;

/// Owner, mode, time and extended attributes of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::native) struct Attributes {
    pub(in crate::native) mode: u32,
    pub(in crate::native) uid: u32,
    pub(in crate::native) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(in crate::native) modified: (i64, u32),
    /// Already filtered by [`kept_xattr`].
    pub(in crate::native) xattrs: Vec<(String, Vec<u8>)>,
}

impl Attributes {
    /// What a folder gets that the archive does not mention.
    pub(in crate::native) fn of_implied_folder() -> Self {
        Self {
            mode: 0o755,
            ..Self::default()
        }
    }
}

/// An id as it may be on disk: containers map 65 536 of them.
pub(in crate::native) fn owner(id: u64) -> Result<u32, Refusal> {
    u16::try_from(id)
        .map(u32::from)
        .map_err(|_| Refusal::Owner(id))
}

/// The value under which an extended attribute is kept, `None` if it is dropped.
///
/// `user.overlay.*` would be obeyed by the overlay that is mounted with `userxattr` (kernel
/// Documentation/filesystems/overlayfs.rst); `trusted.*` and `security.*` belong to the host. File capabilities are
/// kept without the root id of version 3: inside the container they mean the container's root (`capabilities(7)`).
pub(in crate::native) fn kept_xattr(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    if name.len() > 255 || value.len() > 64 * 1024 || name.contains('\0') {
        return None;
    }
    if let Some(rest) = name.strip_prefix("user.") {
        let ours = rest.is_empty() || rest == "overlay" || rest.starts_with("overlay.");
        return (!ours).then(|| value.to_vec());
    }
    match name {
        "system.posix_acl_access" | "system.posix_acl_default" => Some(value.to_vec()),
        "security.capability" => capability(value),
        _ => None,
    }
}

/// `struct vfs_cap_data`, linux/capability.h: magic and revision, two pairs of words, in version 3 the root id.
fn capability(value: &[u8]) -> Option<Vec<u8>> {
    const VERSION_2: u32 = 0x0200_0000;
    const VERSION_3: u32 = 0x0300_0000;
    const VERSION_MASK: u32 = 0xff00_0000;
    let (magic, rest) = value.split_first_chunk::<4>()?;
    let magic = u32::from_le_bytes(*magic);
    let data = match (magic & VERSION_MASK, rest.len()) {
        (VERSION_2, 16) => rest,
        (VERSION_3, 20) => &rest[..16],
        _ => return None,
    };
    let magic = (magic & !VERSION_MASK) | VERSION_2;
    Some([&magic.to_le_bytes(), data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::type_complexity, reason = "a table")]
    fn only_harmless_attributes_are_kept() {
        let v2 = [&[1, 0, 0, 2][..], &[7; 16]].concat();
        let v3 = [&[1, 0, 0, 3][..], &[7; 16], &[1, 2, 3, 4]].concat();
        let table: &[(&str, &[u8], Option<&[u8]>)] = &[
            ("user.mime", b"x", Some(b"x")),
            ("user.", b"x", None),
            ("user.overlay.opaque", b"y", None),
            ("user.overlay.redirect", b"/x", None),
            ("trusted.overlay.opaque", b"y", None),
            ("security.selinux", b"x", None),
            ("security.ima", b"x", None),
            ("security.capability", &v2, Some(&v2)),
            ("security.capability", &v3, Some(&v2)),
            ("security.capability", b"", None),
            ("security.capability", b"\x01\0\0\x02x", None),
            ("system.posix_acl_access", b"a", Some(b"a")),
            ("system.nfs4_acl", b"a", None),
            ("nonsense", b"a", None),
        ];
        for (name, value, kept) in table {
            assert_eq!(kept_xattr(name, value).as_deref(), *kept, "{name}");
        }
        assert_eq!(kept_xattr(&format!("user.{}", "x".repeat(300)), b""), None);
    }

    #[test]
    fn owners_are_within_the_map() {
        assert_eq!(owner(0), Ok(0));
        assert_eq!(owner(65535), Ok(65535));
        assert_eq!(owner(65536), Err(Refusal::Owner(65536)));
    }
}
