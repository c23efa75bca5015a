//! [`Footprint`]: all that keel may leave on a host, as a list of lines, so that before and after can be compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use manifests::path_io;

/// What is there, one line a thing.
#[derive(Debug)]
pub(crate) struct Footprint(BTreeSet<String>);

impl Footprint {
    /// What is on this host now. `folder` is the test's own: below it are state folders and claims.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut lines = BTreeSet::new();
        let mut note = |what: &str, which: String| lines.insert(format!("{what}: {which}"));
        for line in read("/proc/self/mountinfo").lines() {
            // Number, parent and device differ from mount to mount; what is mounted where does not.
            let fields: Vec<&str> = line.split(' ').skip(3).collect();
            note("mount", fields.join(" "));
        }
        for link in path_io::list("/sys/class/net").expect("links") {
            note("link", link.display().to_string());
        }
        for line in text("ip", &["-o", "address"]).lines() {
            // The loopback's address has no lifetime that counts down; a bridge's would.
            note(
                "address",
                line.split_whitespace()
                    .skip(1)
                    .take(3)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
        }
        for line in text("ip", &["route", "show", "table", "all"]).lines() {
            note("route", line.to_owned());
        }
        for line in text("nft", &["list", "tables"]).lines() {
            note("table", line.to_owned());
        }
        for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            note(
                "sysctl",
                format!("{name} = {}", read(&format!("/proc/sys/{name}")).trim()),
            );
        }
        for process in processes() {
            note("process", format!("{process} {}", command_line(process)));
        }
        for path in below(Path::new("/run")) {
            note("run", path.display().to_string());
        }
        for (device, file) in loop_devices() {
            if Path::new(&file).starts_with(folder) {
                note("loop device", format!("{} of {file}", device.display()));
            }
        }
        for path in cgroups(folder) {
            note("cgroup", path.display().to_string());
        }
        for path in below(&folder.join("claims")) {
            note("claim", path.display().to_string());
        }
        for state in states(folder) {
            for path in below(&state) {
                note("state", path.display().to_string());
            }
        }
        Self(lines)
    }

    /// What is there now and was not before, and the other way round; without a state folder's own files.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        let new = self
            .0
            .difference(&before.0)
            .filter(|line| !of_the_house(line));
        let gone = before
            .0
            .difference(&self.0)
            .filter(|line| !of_somebody_else(line));
        new.map(|line| format!("+ {line}"))
            .chain(gone.map(|line| format!("- {line}")))
            .collect()
    }
}

/// Whether a line is about a mount that went with its folder: the host has others who make and remove such, and a folder
/// that is removed takes the mounts on it in all namespaces along.
fn of_somebody_else(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next() == Some("mount:") && words.nth(1).is_some_and(|point| !Path::new(point).exists())
}

/// Whether a line is about what a state folder has for its whole life. Of its folders only themselves: what is in them
/// has lines of its own.
fn of_the_house(line: &str) -> bool {
    let Some((what, path)) = line.split_once(": ") else {
        return false;
    };
    let parts: Vec<&str> = path.split('/').collect();
    match (what, parts.as_slice()) {
        // Gone when the host goes down; opened again by the next look.
        (
            "run",
            ["", "run", "keel"]
            | ["", "run", "keel", _]
            | ["", "run", "keel", _, "instances" | "network"],
        ) => true,
        ("state", [.., "images", "aliases"] | [.., "filters", _] | [.., "controller", _]) => true,
        // What became of revisions is told also after the objects are gone.
        ("state", [.., "controller", "revisions", _] | [.., "revisions", _, _]) => true,
        ("state", [.., name]) => [
            "keel.db",
            "keel.db-wal",
            "keel.db-shm",
            "id",
            "lock",
            "controller.lock",
            "controller",
            "sources",
            "reserve",
            "secrets.key",
            "images",
            "pools",
            "instances",
            "trash",
            "networks",
            "network",
            "image-documents",
            "storage-pools",
            "snapshot-schedules",
            "backups",
            "volumes",
            "filters",
        ]
        .contains(name),
        _ => false,
    }
}

/// State folders below a test's folder.
fn states(folder: &Path) -> Vec<PathBuf> {
    path_io::list(folder)
        .unwrap_or_default()
        .into_iter()
        .filter(|path| path.join("id").is_file())
        .collect()
}

/// The cgroups that bear the identity of a state folder of this test.
fn cgroups(folder: &Path) -> Vec<PathBuf> {
    let ids: Vec<String> = states(folder)
        .iter()
        .map(|state| {
            read(state.join("id").to_str().expect("UTF-8"))
                .trim()
                .to_owned()
        })
        .collect();
    if ids.is_empty() {
        return Vec::new();
    }
    folders(Path::new("/sys/fs/cgroup"))
        .into_iter()
        .filter(|path| {
            let text = path.to_string_lossy();
            ids.iter().any(|id| text.contains(id))
        })
        .collect()
}

/// Everything below a folder, without following links or crossing into other file systems by them.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for path in path_io::list(&folder).unwrap_or_default() {
            if path.symlink_metadata().is_ok_and(|facts| facts.is_dir()) {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut all = below(folder);
    all.retain(|path| path.symlink_metadata().is_ok_and(|facts| facts.is_dir()));
    all
}

fn read(path: &str) -> String {
    path_io::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

fn text(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("it starts");
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All processes of the test's namespace but the test and its init, those that wait to be collected among them.
pub(crate) fn processes() -> Vec<u32> {
    path_io::list("/proc")
        .expect("processes")
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .filter(|pid| *pid != 1 && *pid != std::process::id())
        .collect()
}

/// What a process was called with, its arguments by spaces.
pub(crate) fn command_line(pid: u32) -> String {
    let line = read(&format!("/proc/{pid}/cmdline")).replace('\0', " ");
    if line.is_empty() {
        read(&format!("/proc/{pid}/comm")).trim().to_owned()
    } else {
        line.trim_end().to_owned()
    }
}

/// Loop devices in use and the files behind them.
pub(crate) fn loop_devices() -> Vec<(PathBuf, String)> {
    path_io::list("/sys/block")
        .unwrap_or_default()
        .into_iter()
        .filter_map(|block| {
            let file = path_io::read_to_string(block.join("loop/backing_file")).ok()?;
            Some((block, file.trim().to_owned()))
        })
        .collect()
}

/// Ends every process of the test's own namespace.
pub(crate) fn kill_all() {
    for _ in 0..100 {
        let all = processes();
        if all.is_empty() {
            return;
        }
        for pid in all {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Removes the cgroups of the state folders of a test, the innermost first.
pub(crate) fn remove_cgroups(folder: &Path) {
    for _ in 0..50 {
        let mut all = cgroups(folder);
        if all.is_empty() {
            return;
        }
        all.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for path in all {
            let _ = rustix::fs::rmdir(&path);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Unmounts what is mounted below a folder, the newest first.
pub(crate) fn unmount_all(folder: &Path) {
    let mounts = read("/proc/self/mountinfo");
    for line in mounts.lines().rev() {
        if let Some(at) = line
            .split(' ')
            .nth(4)
            .filter(|at| Path::new(at).starts_with(folder))
        {
            let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
        }
    }
}
