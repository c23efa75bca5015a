//! `builtin: busybox`: a small root file system made from the host's static busybox, so that a first run needs no network.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use manifests::path_io::{self, AtPath as _};
use sha2::{Digest as _, Sha256};

use super::attributes::Attributes;
use super::error::ImageError;
use super::record::ImageProperties;
use super::tree_writer::TreeWriter;
use crate::sys::command;

/// Part of the fingerprint: to be raised whenever a line below changes what the image contains.
const RECIPE: &str = "evenkeel builtin busybox, recipe 1";

/// Where Debian's busybox-static (`/bin` or, merged, `/usr/bin`) and other distributions put it.
const PLACES: &[&str] = &["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];

const FOLDERS: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("usr/share/udhcpc", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/spool/cron/crontabs", 0o755),
    ("var/tmp", 0o1777),
];

const FILES: &[(&str, u32, &str)] = &[
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\n\
         daemon:x:1:1:daemon:/:/bin/false\n\
         nobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    (
        "etc/group",
        0o644,
        "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n",
    ),
    // No password fits `*`: the only ways in are `keel exec` and the console.
    (
        "etc/shadow",
        0o600,
        "root:*:0:0:99999:7:::\ndaemon:*:0:0:99999:7:::\nnobody:*:0:0:99999:7:::\n",
    ),
    (
        "etc/profile",
        0o644,
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         export PS1='\\u@\\h:\\w\\$ '\n",
    ),
    ("etc/shells", 0o644, "/bin/sh\n/bin/ash\n"),
    (
        "etc/os-release",
        0o644,
        "ID=busybox\nNAME=BusyBox\nPRETTY_NAME=\"BusyBox, made by Evenkeel\"\n",
    ),
    (
        "etc/inittab",
        0o644,
        "::sysinit:/etc/init.d/rcS\n\
         ::once:/etc/init.d/network\n\
         console::askfirst:-/bin/sh\n\
         ::ctrlaltdel:/sbin/reboot\n\
         ::restart:/sbin/init\n",
    ),
    (
        "etc/init.d/rcS",
        0o755,
        "#!/bin/sh\n\
         # Programs of your own to run at the start go into /etc/rc.local.\n\
         [ -x /etc/rc.local ] && /etc/rc.local\n\
         exit 0\n",
    ),
    // An address that the host has put there is left alone.
    (
        "etc/init.d/network",
        0o755,
        "#!/bin/sh\n\
         ip link set lo up 2>/dev/null\n\
         [ -e /sys/class/net/eth0 ] || exit 0\n\
         [ -n \"$(ip -4 addr show dev eth0 | grep ' inet ')\" ] && exit 0\n\
         ip link set eth0 up\n\
         exec udhcpc -i eth0 -b -S -t 5 -T 1 -A 5 -F \"$(hostname)\" -s /usr/share/udhcpc/default.script\n",
    ),
    // The host may have put its own resolv.conf in place, read-only: then it stays.
    (
        "usr/share/udhcpc/default.script",
        0o755,
        "#!/bin/sh\n\
         case \"$1\" in\n\
         deconfig)\n\
         \tip -4 addr flush dev \"$interface\"\n\
         \tip link set \"$interface\" up\n\
         \t;;\n\
         bound|renew)\n\
         \tip -4 addr flush dev \"$interface\"\n\
         \tip addr add \"$ip/${mask:-24}\" ${broadcast:+broadcast \"$broadcast\"} dev \"$interface\"\n\
         \tfor gateway in $router; do\n\
         \t\tip route replace default via \"$gateway\" dev \"$interface\"\n\
         \t\tbreak\n\
         \tdone\n\
         \tif [ -n \"$dns\" ] && [ -w /etc/resolv.conf -o ! -e /etc/resolv.conf ]; then\n\
         \t\t{\n\
         \t\t\t[ -n \"$domain\" ] && echo \"search $domain\"\n\
         \t\t\tfor server in $dns; do echo \"nameserver $server\"; done\n\
         \t\t} > /etc/resolv.conf\n\
         \tfi\n\
         \t;;\n\
         esac\n\
         exit 0\n",
    ),
];

/// What the host's busybox makes.
pub(super) struct Builtin {
    busybox: PathBuf,
    pub(super) fingerprint: String,
}

/// Finds the busybox and the fingerprint of what it would make.
pub(super) fn find() -> Result<Builtin, ImageError> {
    PLACES
        .iter()
        .find_map(|place| look_at(Path::new(place)).transpose())
        .unwrap_or(Err(ImageError::NoBusybox))
}

fn look_at(path: &Path) -> Result<Option<Builtin>, ImageError> {
    let mut file = match File::open(path).at("open", path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut program = Vec::new();
    file.read_to_end(&mut program).at("read", path)?;
    if !is_static(&program) {
        return Ok(None);
    }
    let busybox = Sha256::digest(&program);
    let mut hash = Sha256::new();
    hash.update(RECIPE);
    hash.update(b"\n");
    hash.update(busybox);
    Ok(Some(Builtin {
        busybox: path.to_path_buf(),
        fingerprint: hex::encode(hash.finalize()),
    }))
}

/// A 64-bit little-endian ELF without a `PT_INTERP` header (`elf(5)`) needs no dynamic loader.
fn is_static(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| {
        program.get(at..at.checked_add(length)?).map(|bytes| {
            bytes
                .iter()
                .rev()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
        })
    };
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(start), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    (0..count).all(|index| {
        let at = index
            .checked_mul(size)
            .and_then(|offset| start.checked_add(offset));
        at.and_then(|at| number(at, 4))
            .is_some_and(|kind| kind != PT_INTERP as usize)
    })
}

impl Builtin {
    /// Fills an empty folder and tells what the image says about itself.
    pub(super) fn write(&self, writer: &mut TreeWriter) -> Result<ImageProperties, ImageError> {
        let attributes = |mode| Attributes {
            mode,
            ..Attributes::default()
        };
        for (path, mode) in FOLDERS {
            writer.folder(Some(Path::new(path)), &attributes(*mode))?;
        }
        for (path, mode, text) in FILES {
            let size = text.len() as u64;
            writer.file(
                Path::new(path),
                &attributes(*mode),
                size,
                None,
                &mut text.as_bytes(),
            )?;
        }
        let program = path_io::read(&self.busybox)?;
        let place = Path::new("bin/busybox");
        let size = program.len() as u64;
        writer.file(
            place,
            &attributes(0o755),
            size,
            None,
            &mut program.as_slice(),
        )?;
        let applets = command::run(&self.busybox.to_string_lossy(), ["--list-full"], None)?;
        for applet in applet_paths(&String::from_utf8_lossy(&applets)) {
            writer.symlink(Path::new(applet), b"/bin/busybox", &attributes(0o777))?;
        }
        // Not every build lists init, and its place differs.
        writer.symlink(Path::new("sbin/init"), b"/bin/busybox", &attributes(0o777))?;
        let words = [("description", "BusyBox of this host"), ("os", "busybox")];
        Ok(ImageProperties {
            architecture: Some(std::env::consts::ARCH.to_owned()),
            // busybox init powers off on SIGUSR2 (init/init.c, halt_reboot_pwoff).
            stop_signal: Some("SIGUSR2".to_owned()),
            words: words
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            ..ImageProperties::default()
        })
    }
}

/// The same as one archive for servers of Incus: `metadata.yaml` and `rootfs/`, packed by gzip. The same busybox makes the
/// same bytes.
///
/// # Errors
/// There is no busybox that fits, or it cannot be read.
pub(crate) fn busybox_archive() -> Result<Vec<u8>, ImageError> {
    let found = find()?;
    let program = path_io::read(&found.busybox)?;
    let applets = command::run(&found.busybox.to_string_lossy(), ["--list-full"], None)?;
    let applets = String::from_utf8_lossy(&applets).into_owned();
    pack(&program, &applets)
        .at("pack", &found.busybox)
        .map_err(ImageError::from)
}

fn pack(program: &[u8], applets: &str) -> std::io::Result<Vec<u8>> {
    use tar::{EntryType, Header};

    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(packed);
    let header = |kind: EntryType, mode: u32, size: usize| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header
    };
    let metadata = format!(
        "architecture: {}\ncreation_date: 1700000000\nproperties:\n  os: busybox\n  description: BusyBox of this host\n",
        std::env::consts::ARCH
    );
    let mut head = header(EntryType::Regular, 0o644, metadata.len());
    archive.append_data(&mut head, "metadata.yaml", metadata.as_bytes())?;
    let mut head = header(EntryType::Directory, 0o755, 0);
    archive.append_data(&mut head, "rootfs", std::io::empty())?;
    for (path, mode) in FOLDERS {
        let mut head = header(EntryType::Directory, *mode, 0);
        archive.append_data(&mut head, format!("rootfs/{path}"), std::io::empty())?;
    }
    let busybox = ("bin/busybox", 0o755, program);
    let files = FILES
        .iter()
        .map(|(path, mode, text)| (*path, *mode, text.as_bytes()));
    for (path, mode, content) in files.chain([busybox]) {
        let mut head = header(EntryType::Regular, mode, content.len());
        archive.append_data(&mut head, format!("rootfs/{path}"), content)?;
    }
    let links: std::collections::BTreeSet<&str> =
        applet_paths(applets).chain(["sbin/init"]).collect();
    for link in links {
        let mut head = header(EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut head, format!("rootfs/{link}"), "/bin/busybox")?;
    }
    archive.into_inner()?.finish()
}

/// The applets that are put beside busybox: relative, two or three components, and not busybox itself.
fn applet_paths(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter(|line| {
        let known = ["bin/", "sbin/", "usr/bin/", "usr/sbin/"];
        let name = known.iter().find_map(|folder| line.strip_prefix(folder));
        name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
            && *line != "bin/busybox"
            && !line.contains("..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets_stay_in_their_folders() {
        let list =
            "bin/sh\nbin/busybox\nusr/bin/[\nusr/sbin/x/y\n../bin/x\n/bin/abs\nlinuxrc\nsbin/..\n";
        let paths: Vec<&str> = applet_paths(list).collect();
        assert_eq!(paths, ["bin/sh", "usr/bin/["]);
    }

    #[test]
    fn static_programs_are_told_from_dynamic_ones() {
        let elf = |kind: u8| {
            let mut bytes = vec![0_u8; 64 + 56];
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, kind);
            bytes
        };
        assert!(is_static(&elf(1)));
        assert!(!is_static(&elf(3)));
        assert!(!is_static(b"\x7fELF\x02\x01"));
        assert!(!is_static(b"#!/bin/sh\n"));
        let mut cut = elf(1);
        cut[33] = 0xff;
        assert!(!is_static(&cut));
    }
}
