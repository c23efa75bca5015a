//! [`TestWorld`]: a host of its own for one test, with manifests, a state folder and a `keel` that works on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manifests::path_io;
use serde_json::Value;

pub(crate) use crate::ended::{Ended, ended, of_output, program};
use crate::footprint::{self, Footprint};

/// How long a test waits for something that is about to be.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A host for one test: `manifests/`, `state/`, `claims/` and `treasure/`, a folder of the host with something in it.
pub(crate) struct TestWorld {
    folder: tempfile::TempDir,
    before: Footprint,
}

impl TestWorld {
    /// Nothing is applied yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("keel-host-")
            .tempdir()
            .expect("a folder");
        for name in ["home", "manifests", "treasure/deep"] {
            path_io::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        // Beside others, as a state folder may be.
        for (name, text) in [
            ("treasure/gold", "precious\n"),
            ("treasure/deep/ring", "my own\n"),
        ] {
            path_io::write(folder.path().join(name), text).expect("a treasure");
        }
        let before = Footprint::of(folder.path());
        Self { folder, before }
    }

    /// The usual source: a pool, a bridge, an image and two instances: `one` with a bind mount, an enforced file and
    /// limits, `two` with a root of limited size.
    pub(crate) fn furnished() -> Self {
        let world = Self::new();
        world.write(
            "keel.yaml",
            "apiVersion: evenkeel/v1\nkind: Source\nname: crash\n",
        );
        world.write("host.yaml", HOST);
        world.write("one.yaml", &world.one());
        world.write("two.yaml", TWO);
        world
    }

    /// The manifest of `one`.
    pub(crate) fn one(&self) -> String {
        ONE.replace("TREASURE", self.treasure().to_str().expect("UTF-8"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// The folder of the host that `one` has mounted.
    pub(crate) fn treasure(&self) -> PathBuf {
        self.path().join("treasure")
    }

    /// Writes a manifest.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join("manifests").join(name);
        path_io::write(path, text).expect("a manifest");
    }

    /// Takes a manifest away.
    pub(crate) fn unwrite(&self, name: &str) {
        path_io::remove_file(self.path().join("manifests").join(name)).expect("a manifest");
    }

    /// The line of a manifest that has these words, from 1.
    #[track_caller]
    pub(crate) fn line(&self, name: &str, words: &str) -> u64 {
        let text =
            path_io::read_to_string(self.path().join("manifests").join(name)).expect("a manifest");
        let at = text.lines().position(|line| line.contains(words));
        at.unwrap_or_else(|| panic!("{words:?} is in {name}")) as u64 + 1
    }

    /// A `keel` in the folder of manifests.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_on("state", arguments)
    }

    /// A `keel` that works on another state folder.
    pub(crate) fn command_on(&self, state: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.path().join("manifests"))
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.path().join("home"))
            .env("KEEL_STATE_DIR", self.path().join(state))
            .env("KEEL_CLAIMS", self.path().join("claims"))
            .env("KEEL_TIMEOUT", "30s")
            .stdin(Stdio::null());
        command
    }

    /// Runs a `keel` to its end.
    pub(crate) fn keel(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// Starts a `keel` that is waited for or killed later.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("keel starts")
    }

    /// Applies, which must succeed, and demands that a plan then has nothing to do.
    #[track_caller]
    pub(crate) fn converge(&self) {
        self.keel(&["apply", "--yes"]).with(0);
        self.nothing_to_do();
    }

    /// Demands that a plan has nothing to do and a drift report nothing to tell.
    #[track_caller]
    pub(crate) fn nothing_to_do(&self) {
        self.keel(&["plan", "--detailed-exitcode"]).with(0);
        let report = self.keel(&["drift", "-o", "json"]).with(0).json();
        // What a schedule missed is nothing that somebody did: tests have clocks of their own.
        let fields = report["drift"].as_array().expect("a list").iter();
        let is_status = |field: &&Value| {
            let path = field["path"].as_str();
            path.is_some_and(|path| path.starts_with("/status"))
        };
        let drifted: Vec<&Value> = fields.filter(|field| !is_status(field)).collect();
        assert!(drifted.is_empty(), "{drifted:#?}");
    }

    /// Destroys all without a trash and demands that nothing of ours is left and the treasure is untouched.
    #[track_caller]
    pub(crate) fn destroy(&self) {
        self.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        self.nothing_left();
    }

    /// Demands that the world is as it was before the first `keel`, but for the state folder's own files.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = Footprint::of(self.path()).since(&self.before);
            if left.is_empty() {
                break;
            }
            // Processes that were killed are collected by others in their own time.
            assert!(Instant::now() < deadline, "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.treasure_is_untouched();
    }

    /// Demands that the bound folder of the host is as it was, byte for byte.
    #[track_caller]
    pub(crate) fn treasure_is_untouched(&self) {
        let here = self.treasure();
        let files: BTreeSet<PathBuf> = footprint::below(&here).into_iter().collect();
        let expected = ["deep", "deep/ring", "gold"].map(|name| here.join(name));
        assert_eq!(files, expected.into_iter().collect());
        let read = |name: &str| path_io::read_to_string(here.join(name)).expect("still there");
        assert_eq!(read("gold"), "precious\n");
        assert_eq!(read("deep/ring"), "my own\n");
    }

    /// One object as `keel get` sees it.
    #[track_caller]
    pub(crate) fn get(&self, object: &str) -> Value {
        let (kind, name) = object.split_once('/').expect("kind and name");
        self.keel(&["get", kind, name, "-o", "json"]).with(0).json()
    }

    /// Waits until an instance is seen in a state.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, name: &str, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.get(&format!("instance/{name}"));
            if seen["status"]["state"] == state {
                return;
            }
            assert!(Instant::now() < deadline, "not {state}: {seen:#}");
        }
    }

    /// The process that is init of an instance, in the host's view.
    #[track_caller]
    pub(crate) fn init(&self, name: &str) -> u32 {
        let seen = self.get(&format!("instance/{name}"));
        let pid = seen["status"]["pid"].as_u64();
        let pid = pid.unwrap_or_else(|| panic!("{name} runs: {seen:#}"));
        u32::try_from(pid).expect("a pid")
    }
}

impl Drop for TestWorld {
    /// Takes down what a failed test left: its processes end with their namespace, its cgroups do not.
    fn drop(&mut self) {
        footprint::kill_all();
        footprint::remove_cgroups(self.path());
        footprint::unmount_all(self.path());
    }
}

/// Demands that a document is as its published schema says.
#[track_caller]
pub(crate) fn as_published(name: &str, document: &Value) {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas");
    let schema = path_io::read_to_string(schemas.join(name).join("v1.json")).expect("a schema");
    let schema = serde_json::from_str(&schema).expect("JSON");
    let schema = jsonschema::draft202012::new(&schema).expect("a schema");
    let wrong: Vec<String> = schema
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?} in {document:#}");
}

/// Runs a line of shell, which must succeed, and returns its output.
#[track_caller]
pub(crate) fn shell(line: &str) -> String {
    ended(Command::new("sh").args(["-ec", line])).with(0).stdout
}

pub(crate) const HOST: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata:
  name: fast
spec:
  driver: dir
lifecycle:
  prune: delete
---
apiVersion: evenkeel/v1
kind: Network
metadata:
  name: lan
spec:
  ipv4:
    address: 10.77.0.1/24
    nat: true
    dhcp:
      enabled: true
  ipv6:
    address: none
---
apiVersion: evenkeel/v1
kind: Image
metadata:
  name: busybox
spec:
  source: { builtin: busybox }
";

const ONE: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata:
  name: one
spec:
  image: busybox
  state: Running
  limits:
    memory: 64MiB
    processes: 100
    cpuAllowance: 50ms/100ms
  files:
    /etc/motd:
      content: \"hello\\n\"
      enforce: true
  devices:
    root: { type: disk, path: /, pool: fast }
    data: { type: disk, source: TREASURE, path: /data, shift: true }
    eth0:
      type: nic
      network: lan
      ipv4: 10.77.0.10
";

/// The manifest of `two`.
pub(crate) const TWO: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata:
  name: two
spec:
  image: busybox
  state: Running
  devices:
    root: { type: disk, path: /, pool: fast, size: 32MiB }
    eth0: { type: nic, network: lan, ipv4: 10.77.0.11 }
";
