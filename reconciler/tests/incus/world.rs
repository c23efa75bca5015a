//! [`Server`]: a folder of manifests with a `keel` that puts them in force on the server that `tests/incus.sh` started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use manifests::path_io;
use serde_json::Value;

use crate::ended::{Ended, ended, program};

/// A folder of manifests of one test, and a state folder.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    socket: PathBuf,
    /// Begins all its names.
    name: &'static str,
}

impl Server {
    /// With a pool, a bridge `NAME0` on `10.NET.0.1/24`, an image and the instances `NAME-one`, which runs with an address
    /// of its own, and `NAME-two`, which is stopped.
    pub(crate) fn furnished(name: &'static str, net: u8) -> Self {
        let server = Self::new(name);
        let fill = |text: &str| text.replace("NAME", name).replace("NET", &net.to_string());
        server.write("keel.yaml", &fill(SOURCE));
        server.write("host.yaml", &fill(HOST));
        server.write("one.yaml", &fill(ONE));
        server.write("two.yaml", &fill(TWO));
        server
    }

    pub(crate) fn new(name: &'static str) -> Self {
        let socket = runtime::testing::incus_socket();
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["home", "manifests"] {
            path_io::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        Self {
            folder,
            socket,
            name,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A manifest.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join("manifests").join(name);
        path_io::write(path, text).expect("a manifest");
    }

    pub(crate) fn unwrite(&self, name: &str) {
        path_io::remove_file(self.path().join("manifests").join(name)).expect("a manifest");
    }

    /// Changes words in a manifest.
    #[track_caller]
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.path().join("manifests").join(name);
        let text = path_io::read_to_string(&path).expect("a manifest");
        assert!(text.contains(from), "{from:?} is in {name}:\n{text}");
        path_io::write(path, text.replace(from, to)).expect("a manifest");
    }

    /// A `keel` in the folder of manifests.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.path().join("manifests"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path().join("home"))
            .env("KEEL_STATE_DIR", self.path().join("state"))
            .env(
                "KEEL_ENGINE",
                format!("incus:unix:{}", self.socket.display()),
            )
            .env("KEEL_TIMEOUT", "30s")
            .stdin(Stdio::null());
        command
    }

    /// Runs a `keel` to its end.
    pub(crate) fn keel(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// Runs the server's own client, which must succeed; its output. The words are split at spaces.
    #[track_caller]
    pub(crate) fn incus(&self, line: &str) -> String {
        self.client(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The same, word by word.
    #[track_caller]
    pub(crate) fn client(&self, words: &[&str]) -> String {
        let mut command = Command::new("incus");
        command
            .args(words)
            .env("HOME", self.path().join("home"))
            .env("INCUS_CONF", self.path().join("home/incus"))
            .stdin(Stdio::null());
        ended(&mut command).with(0).stdout
    }

    /// Applies, which must succeed, and demands that a plan then has nothing to do and a drift report nothing to tell.
    #[track_caller]
    pub(crate) fn converge(&self) {
        self.keel(&["apply", "--yes"]).with(0);
        self.nothing_to_do();
    }

    #[track_caller]
    pub(crate) fn nothing_to_do(&self) {
        self.keel(&["plan", "--detailed-exitcode"]).with(0);
        assert_eq!(self.drifted(), Vec::<String>::new());
    }

    /// The fields that drifted: `instance/web /spec/limits/memory`.
    #[track_caller]
    pub(crate) fn drifted(&self) -> Vec<String> {
        let report = self.keel(&["drift", "-o", "json"]).with(0).json();
        let fields = report["drift"].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        fields
            .map(|field| format!("{} {}", text(&field["id"]), text(&field["path"])))
            .collect()
    }

    /// One object as `keel get` sees it.
    #[track_caller]
    pub(crate) fn get(&self, object: &str) -> Value {
        let (kind, name) = object.split_once('/').expect("kind and name");
        self.keel(&["get", kind, name, "-o", "json"]).with(0).json()
    }

    /// A key of an instance as the server has it; empty where it has none.
    #[track_caller]
    pub(crate) fn key(&self, instance: &str, key: &str) -> String {
        let instance = format!("{}-{instance}", self.name);
        let value = self.client(&["config", "get", &instance, key]);
        value.trim_end().to_owned()
    }

    /// The names of all instances of this test, with how they are.
    #[track_caller]
    pub(crate) fn instances(&self) -> Vec<String> {
        let all = self.incus("list -f csv -c ns");
        let own = all.lines().filter(|line| line.starts_with(self.name));
        let mut own: Vec<String> = own.map(str::to_owned).collect();
        own.sort_unstable();
        own
    }

    /// Destroys all without a trash and demands that nothing of ours is left.
    #[track_caller]
    pub(crate) fn destroy(&self) {
        self.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        self.nothing_left();
    }

    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        for list in [
            "list -f csv -c n",
            "storage list -f csv",
            "network list -f csv",
            "image alias list -f csv",
        ] {
            let left = self.incus(list);
            let own: Vec<&str> = left
                .lines()
                .filter(|line| line.starts_with(self.name))
                .collect();
            assert_eq!(own, Vec::<&str>::new(), "left behind: {list}");
        }
    }
}

const SOURCE: &str = "\
apiVersion: evenkeel/v1
kind: Source
name: NAME
";

const HOST: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: NAME-pool }
spec: { driver: dir }
lifecycle: { prune: delete }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: NAME0 }
spec:
  ipv4: { address: 10.NET.0.1/24, nat: true }
  ipv6: { address: none }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: NAME }
spec:
  source: { builtin: busybox }
";

const ONE: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: NAME-one }
spec:
  image: NAME
  state: Running
  limits: { memory: 64MiB, processes: 100 }
  devices:
    root: { type: disk, path: /, pool: NAME-pool }
    eth0: { type: nic, network: NAME0, ipv4: 10.NET.0.10 }
";

const TWO: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: NAME-two }
spec:
  image: NAME
  state: Stopped
  devices:
    root: { type: disk, path: /, pool: NAME-pool }
    eth0: { type: nic, network: NAME0 }
";
