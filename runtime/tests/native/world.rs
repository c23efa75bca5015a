//! A state folder with an engine, what is wanted of it, and what tests ask of both.

use std::path::Path;
use std::time::Duration;

use manifests::action::{Power, Verb};
use manifests::change::FieldChange;
use manifests::id::Address;
use manifests::kind::Kind;
use manifests::observed::Item;
use runtime::error::Class;
use runtime::native::{NativeConfig, NativeRuntime};
use runtime::runtime::{ExecRequest, ExitStatus, Operate as _, Runtime as _};
use runtime::testing::wanted::Wanted;
use serde_json::{Value, json};

/// A state folder with an engine and what is wanted of it.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) engine: NativeRuntime,
    pub(crate) wanted: Wanted,
}

/// Nothing that a test started outlives it, however the test ended.
impl Drop for World {
    fn drop(&mut self) {
        for kind in [Kind::Instance, Kind::Network, Kind::StoragePool] {
            for address in self.wanted.desired.resources.keys() {
                if address.kind == kind {
                    let _ = self.tried(address, Verb::Delete);
                }
            }
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        std::fs::create_dir_all("/run/keel").expect("the run folder");
        std::fs::create_dir(&state).expect("the state folder");
        let state_id = format!("{:08x}", std::process::id());
        let engine = NativeRuntime::open(NativeConfig {
            run: Path::new("/run/keel").join(&state_id),
            shared_run: "/run/keel/shared".into(),
            claims: folder.path().join("claims"),
            shim: runtime::testing::built_program("keel-shim", env!("CARGO_BIN_EXE_keel-shim")),
            state,
            state_id,
            accelerator: runtime::native::machine::Choice::Tcg,
        })
        .expect("the engine");
        let wanted = Wanted::new(folder.path());
        Self {
            folder,
            engine,
            wanted,
        }
    }

    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn want(&mut self, kind: Kind, name: &str, spec: &Value) -> Address {
        self.wanted.want(Address::new(kind, name), spec)
    }

    /// Performs a deed; a failure comes as its class and all its reasons.
    pub(crate) fn tried(&self, address: &Address, verb: Verb) -> Result<(), (Class, String)> {
        self.wanted.tried(&self.engine, address, verb).map(drop)
    }

    pub(crate) fn perform(&self, address: &Address, verb: Verb) {
        self.wanted.perform(&self.engine, address, verb);
    }

    pub(crate) fn look(&self, address: &Address) -> Item {
        Wanted::look(&self.engine, address)
    }

    /// Kills the first process of an instance, and waits until that is seen.
    pub(crate) fn kill_by_hand(&self, address: &Address) {
        shell(&format!("kill -9 {}", pid(&self.look(address))));
        for _ in 0..1000 {
            if self.look(address).status["state"] == json!("Stopped") {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{address} has not ended");
    }

    /// The fields in which the world differs from what is wanted.
    pub(crate) fn differences(&self) -> Vec<String> {
        self.wanted.differences(&self.engine)
    }

    /// The spec of an instance of busybox in the pool `fast`, with more on top.
    pub(crate) fn container_spec(&mut self, name: &str, more: &Value) -> Address {
        let mut spec = json!({
            "image": "busybox",
            "state": "Running",
            "devices": {"root": {"type": "disk", "path": "/", "pool": "fast"}},
        });
        merge(&mut spec, more);
        self.want(Kind::Instance, name, &spec)
    }

    /// A running instance of busybox, with its pool and image.
    pub(crate) fn container(&mut self, name: &str, more: &Value) -> Address {
        let pool = self.want(Kind::StoragePool, "fast", &json!({}));
        let image = json!({"source": {"builtin": "busybox"}});
        let image = self.want(Kind::Image, "busybox", &image);
        let instance = self.container_spec(name, more);
        for address in [&pool, &image, &instance] {
            self.perform(address, Verb::Create);
        }
        instance
    }

    /// The changes that one object waits for.
    pub(crate) fn changes(&self, address: &Address) -> Vec<FieldChange> {
        self.wanted.changes(&self.engine, address)
    }

    pub(crate) fn mend(&self) {
        let seen = self.engine.observe().expect("observed");
        for resource in self.wanted.desired.resources.values() {
            let item = seen
                .items
                .iter()
                .find(|item| item.address == resource.address);
            let changes: Vec<FieldChange> = item
                .map(|item| resource.spec.compare(&item.spec))
                .unwrap_or_default();
            if item.is_none_or(|item| !item.complete) {
                self.perform(&resource.address, Verb::Create);
            } else if changes
                .iter()
                .any(|change| change.path.as_str() == "/spec/state")
            {
                self.perform(
                    &resource.address,
                    Verb::Power {
                        power: Power::Start,
                    },
                );
            } else if !changes.is_empty() {
                self.perform(&resource.address, Verb::Update { changes });
            }
        }
    }

    pub(crate) fn run(&self, address: &Address, script: &str) -> ExitStatus {
        use std::os::fd::AsFd as _;
        let request = ExecRequest {
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            environment: Vec::new(),
            directory: None,
            uid: 0,
            gid: 0,
            terminal: false,
        };
        let null = std::fs::File::open("/dev/null").expect("null");
        let (output, errors) = (std::io::stdout(), std::io::stderr());
        self.engine
            .exec(
                address,
                &request,
                [null.as_fd(), output.as_fd(), errors.as_fd()],
            )
            .expect("executed")
    }
}

pub(crate) fn pid(item: &Item) -> i64 {
    item.status["pid"].as_i64().expect("a pid")
}

/// Writes a file of one of a process's cgroups; whether there is such a file.
pub(crate) fn by_hand(pid: i64, file: &str, value: &str) -> bool {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().expect("names"), parts.next().expect("a path"));
        let folder = match controllers {
            "" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
                format!("/sys/fs/cgroup{path}")
            }
            "" => format!("/sys/fs/cgroup/unified{path}"),
            name => format!("/sys/fs/cgroup/{name}{path}"),
        };
        let file = Path::new(&folder).join(file);
        if file.exists() {
            std::fs::write(&file, value).expect("written by hand");
            return true;
        }
    }
    false
}

pub(crate) fn shell(command: &str) {
    let status = std::process::Command::new("sh")
        .args(["-c", command])
        .status()
        .expect("sh");
    assert!(status.success(), "{command}");
}

/// The host's end of an instance's first link.
pub(crate) fn host_link(world: &World, address: &Address) -> String {
    let network = world.look(&Address::new(Kind::Network, "lan"));
    let ports = network.status["ports"].as_array().expect("ports").clone();
    let init = pid(&world.look(address));
    let inner = std::process::Command::new("nsenter")
        .args([
            "-t",
            &init.to_string(),
            "-n",
            "ip",
            "-o",
            "link",
            "show",
            "eth0",
        ])
        .output()
        .expect("ip");
    let inner = String::from_utf8(inner.stdout).expect("text");
    let index = inner
        .split("eth0@if")
        .nth(1)
        .and_then(|rest| rest.split(':').next())
        .expect("a peer")
        .to_owned();
    ports
        .iter()
        .filter_map(|port| port.as_str())
        .find(|port| {
            manifests::path_io::read_to_string(format!("/sys/class/net/{port}/ifindex"))
                .is_ok_and(|text| text.trim() == index)
        })
        .expect("the host's end")
        .to_owned()
}

/// Puts the entries of a map over those of another.
fn merge(base: &mut Value, more: &Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more.clone(),
    }
}
