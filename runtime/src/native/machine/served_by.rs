//! Which virtiofsd and swtpm this host has, and what they can: asked by their own words, never by their version.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io;
use serde::{Deserialize, Serialize};

use crate::sys::command;

/// Where each is looked for, the better one first. QEMU's own virtiofsd (up to 7.2) is in C and has other options than the
/// one in Rust that followed it.
const VIRTIOFSD: [&str; 4] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/bin/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
];
const SWTPM: [&str; 2] = ["/usr/bin/swtpm", "/usr/local/bin/swtpm"];
/// The file of what they answered.
const CACHE: &str = "served-by.json";
/// How long a program may take to say what it can: it takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const VIRTIOFSD_MEND: &str = "apt-get install qemu-system-common (Debian 12) or virtiofsd";
const SWTPM_MEND: &str = "apt-get install swtpm";

/// A program that serves a part of machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedBy {
    /// Where it is.
    pub path: PathBuf,
    /// Of virtiofsd: whether it has the options of the one in Rust.
    pub is_new: bool,
}

/// Why nothing on this host serves a part of machines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {mend}")]
pub struct Unserved {
    /// What is wrong.
    pub why: String,
    /// What would mend it.
    pub mend: &'static str,
}

/// Those of this host.
#[derive(Debug, Clone)]
pub struct Programs {
    /// For folders.
    pub virtiofsd: Result<ServedBy, Unserved>,
    /// For TPMs.
    pub swtpm: Result<ServedBy, Unserved>,
}

/// Finds virtiofsd and asks it what it can.
///
/// # Errors
/// There is none that can what is needed; what would mend that.
pub fn virtiofsd() -> Result<ServedBy, Unserved> {
    ask("virtiofsd", &VIRTIOFSD, &["--help"], judged, VIRTIOFSD_MEND)
}

/// Finds swtpm and asks it what it can.
///
/// # Errors
/// As [`virtiofsd`].
pub fn swtpm() -> Result<ServedBy, Unserved> {
    let needed = [
        "--tpm2",
        "clientfd=",
        "--tpmstate",
        "--seccomp",
        "--terminate",
    ];
    let judged = |help: &str| lacking(help, &needed).map(|()| false);
    ask("swtpm", &SWTPM, &["socket", "--help"], judged, SWTPM_MEND)
}

fn ask(
    name: &str,
    places: &[&str],
    arguments: &[&str],
    judge: impl FnOnce(&str) -> Result<bool, String>,
    mend: &'static str,
) -> Result<ServedBy, Unserved> {
    let unserved = |why| Unserved { why, mend };
    let path = find(places).ok_or_else(|| unserved(format!("there is no {name} on this host")))?;
    let shown = path.display().to_string();
    let help = command::run_within(&shown, arguments, None, PATIENCE).map_err(|error| {
        let why = crate::native::chain(&error);
        unserved(format!("{shown} does not say what it can: {why}"))
    })?;
    match judge(&String::from_utf8_lossy(&help)) {
        Ok(is_new) => Ok(ServedBy { path, is_new }),
        Err(lacking) => Err(unserved(format!("{shown} lacks {lacking}"))),
    }
}

/// Whether a virtiofsd with this help is the one in Rust, or what it lacks.
fn judged(help: &str) -> Result<bool, String> {
    let is_new = help.contains("--shared-dir");
    let needed: &[&str] = match is_new {
        true => &[
            "--fd",
            "--sandbox",
            "--announce-submounts",
            "--inode-file-handles",
            "--rlimit-nofile",
        ],
        false => &["--fd", "sandbox=", "announce_submounts", "--rlimit-nofile"],
    };
    lacking(help, needed).map(|()| is_new)
}

fn lacking(help: &str, needed: &[&str]) -> Result<(), String> {
    let absent = needed.iter().filter(|word| !help.contains(**word));
    let absent: Vec<&str> = absent.copied().collect();
    match absent.is_empty() {
        true => Ok(()),
        false => Err(absent.join(", ")),
    }
}

fn find(places: &[&str]) -> Option<PathBuf> {
    let mut places = places.iter().map(Path::new);
    places.find(|path| path.is_file()).map(Path::to_path_buf)
}

/// Which file was asked: another one at the same place is asked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    inode: u64,
    changed: (i64, i64),
    answer: ServedBy,
}

impl Asked {
    fn of(answer: &ServedBy) -> Option<Self> {
        let metadata = answer.path.metadata().ok()?;
        Some(Self {
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            answer: answer.clone(),
        })
    }
}

/// Finds both and asks them, once in a boot: what they answered is kept in a file in `folder`, a tmpfs, and may be lost. One
/// that is missing is looked for again.
pub fn programs_once(folder: &Path) -> Programs {
    let cache = &folder.join(CACHE);
    let kept = path_io::read(cache).unwrap_or_default();
    let kept: Vec<Asked> = serde_json::from_slice(&kept).unwrap_or_default();
    let known = |places: &[&str]| {
        let first = find(places)?;
        let asked = kept.iter().find(|asked| asked.answer.path == first)?;
        (Asked::of(&asked.answer).as_ref() == Some(asked)).then(|| asked.answer.clone())
    };
    let programs = Programs {
        virtiofsd: known(&VIRTIOFSD).map_or_else(virtiofsd, Ok),
        swtpm: known(&SWTPM).map_or_else(swtpm, Ok),
    };
    let found = [&programs.virtiofsd, &programs.swtpm];
    let found = found
        .into_iter()
        .filter_map(|one| Asked::of(one.as_ref().ok()?));
    let found: Vec<Asked> = found.collect();
    if found != kept
        && let Ok(text) = serde_json::to_string(&found)
    {
        // Without it they are asked again.
        let _ = path_io::write_atomically(cache, text);
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtiofsd_is_known_by_its_options() {
        let old =
            "-o sandbox=namespace|chroot\n-o announce_submounts\n--fd=FDNUM\n--rlimit-nofile=<num>";
        let new = "--fd <FD>\n--shared-dir <DIR>\n--sandbox <S>\n--announce-submounts\n--inode-file-handles <I>\n--rlimit-nofile <N>";
        assert_eq!(judged(old), Ok(false));
        assert_eq!(judged(new), Ok(true));
        let without = new.replace("--sandbox", "--sand");
        assert_eq!(judged(&without), Err("--sandbox".to_owned()));
        assert!(judged("usage: something else").is_err());
    }
}
