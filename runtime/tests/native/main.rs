//! The native engine as the floor above uses it: what is performed is seen, what is changed by hand is seen, what is
//! deleted is gone.

#![allow(
    clippy::disallowed_methods,
    clippy::type_complexity,
    reason = "a test changes the world by hand and waits for it"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use manifests::action::{Action, Power, Verb};
use manifests::change::FieldChange;
use manifests::desired::{Budget, DesiredSet, Resource, SourceInfo, Windows};
use manifests::diagnostic::Origin;
use manifests::id::{Address, Mark, SourceName, Uid};
use manifests::kind::{Kind, Spec};
use manifests::lifecycle::Lifecycle;
use manifests::observed::Item;
use runtime::native::{NativeConfig, NativeRuntime};
use runtime::runtime::{Context, ExecRequest, ExitStatus, Operate as _, Runtime as _};
use serde_json::{Value, json};

/// A state folder with an engine and what is wanted of it.
struct World {
    _folder: tempfile::TempDir,
    engine: NativeRuntime,
    desired: DesiredSet,
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        std::fs::create_dir_all("/run/keel").expect("the run folder");
        std::fs::create_dir(&state).expect("the state folder");
        let state_id = format!("{:08x}", std::process::id());
        let engine = NativeRuntime::open(NativeConfig {
            run: Path::new("/run/keel").join(&state_id),
            shared_run: "/run/keel/shared".into(),
            claims: folder.path().join("claims"),
            shim: env!("CARGO_BIN_EXE_keel-shim").into(),
            state,
            state_id,
        })
        .expect("the engine");
        let desired = DesiredSet {
            source: SourceInfo {
                name: SourceName::new("test"),
                root: folder.path().to_path_buf(),
                revision: None,
                partial: None,
            },
            resources: BTreeMap::new(),
            external: Vec::new(),
            budget: Budget::default(),
            windows: Windows::default(),
            host: None,
        };
        Self {
            _folder: folder,
            engine,
            desired,
        }
    }

    fn want(&mut self, kind: Kind, name: &str, spec: &Value) -> Address {
        let address = Address::new(kind, name);
        let resource = Resource {
            address: address.clone(),
            spec: Spec::deserialize(kind, spec).expect("a spec"),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            lifecycle: Lifecycle::default_of(kind),
            previous: Vec::new(),
            needs: Vec::new(),
            origin: Origin::default(),
            provenance: BTreeMap::new(),
        };
        self.desired.resources.insert(address.clone(), resource);
        address
    }

    fn perform(&self, address: &Address, verb: Verb) {
        let uid = Uid::derive(&uuid::Uuid::nil(), address);
        let mark = Mark {
            source: SourceName::new("test"),
            uid,
        };
        let action = Action {
            verb,
            address: address.clone(),
            uid,
            mark,
        };
        let context = Context {
            cancel: &NEVER,
            timeout: Duration::from_secs(20),
            now: jiff::Timestamp::UNIX_EPOCH,
            progress: &|_| {},
        };
        if let Err(error) = self.engine.perform(&action, &self.desired, &context) {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            panic!("{text}");
        }
    }

    fn look(&self, address: &Address) -> Item {
        self.engine
            .look(address)
            .expect("seen")
            .unwrap_or_else(|| panic!("{address} is there"))
    }

    /// The fields in which the world differs from what is wanted.
    fn differences(&self) -> Vec<String> {
        let seen = self.engine.observe().expect("observed");
        assert!(seen.unclear.is_empty(), "{:?}", seen.unclear);
        let mut found = Vec::new();
        for resource in self.desired.resources.values() {
            match seen
                .items
                .iter()
                .find(|item| item.address == resource.address)
            {
                None => found.push(format!("{} is missing", resource.address)),
                Some(item) => {
                    assert_eq!(item.unseen, []);
                    if !item.complete {
                        found.push(format!("{} is not complete", resource.address));
                    }
                    found.extend(resource.spec.compare(&item.spec).iter().map(|change| {
                        format!(
                            "{} {} {} → {}",
                            resource.address,
                            change.path.dotted(),
                            change.before,
                            change.after
                        )
                    }));
                }
            }
        }
        found
    }

    fn mend(&self) {
        let seen = self.engine.observe().expect("observed");
        for resource in self.desired.resources.values() {
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

    fn run(&self, address: &Address, script: &str) -> ExitStatus {
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

fn pid(item: &Item) -> i64 {
    item.status["pid"].as_i64().expect("a pid")
}

fn shell(command: &str) {
    let status = std::process::Command::new("sh")
        .args(["-c", command])
        .status()
        .expect("sh");
    assert!(status.success(), "{command}");
}

runtime::host_test! {
    fn what_is_wanted_is_made_seen_mended_and_removed() {
        let mut world = World::new();
        let treasure = tempfile::tempdir().expect("a folder of the host");
        std::fs::write(treasure.path().join("precious"), "gold").expect("written");
        let pool = world.want(Kind::StoragePool, "fast", &json!({}));
        let network = world.want(Kind::Network, "lan", &json!({
            "ipv4": {"address": "10.77.0.1/24"}, "ipv6": {"address": "none"}}));
        let image = world.want(Kind::Image, "busybox", &json!({"source": {"builtin": "busybox"}}));
        let instance = |address: &str| json!({
            "image": "busybox",
            "state": "Running",
            "limits": {"memory": "64MiB", "processes": 100, "cpu": 1},
            "files": {"/etc/motd": {"content": "hello\n", "enforce": true}},
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": "fast"},
                "data": {"type": "disk", "source": treasure.path(), "path": "/data", "shift": true},
                "eth0": {"type": "nic", "network": "lan", "ipv4": address},
            },
        });
        let one = world.want(Kind::Instance, "one", &instance("10.77.0.10"));
        let two = world.want(Kind::Instance, "two", &instance("10.77.0.11"));
        for address in [&pool, &network, &image, &one, &two] {
            world.perform(address, Verb::Create);
        }
        assert_eq!(world.differences(), Vec::<String>::new());
        assert_eq!(world.run(&one, "ping -c1 -W2 10.77.0.11 >/dev/null"), ExitStatus::Code(0));
        assert_eq!(world.run(&one, "test \"$(cat /data/precious)\" = gold"), ExitStatus::Code(0));
        assert_eq!(world.run(&one, "exit 7"), ExitStatus::Code(7));

        let init = pid(&world.look(&one));
        let cgroup = std::fs::read_to_string(format!("/proc/{init}/cgroup")).expect("cgroups");
        let by_hand = |file: &str, value: &str| {
            for line in cgroup.lines() {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next().expect("names"), parts.next().expect("a path"));
                let folder = match controllers {
                    "" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => format!("/sys/fs/cgroup{path}"),
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
        };
        let link = manifests_link(&world, &one);
        let cases: Vec<(&str, Box<dyn Fn() + '_>)> = vec![
            ("limits.memory", Box::new(|| assert!(by_hand("memory.limit_in_bytes", "128M") || by_hand("memory.max", "128M")))),
            ("limits.processes", Box::new(|| assert!(by_hand("pids.max", "50")))),
            ("devices.eth0", Box::new(|| shell(&format!("ip link delete {link}")))),
            ("devices.eth0.connected", Box::new(|| shell(&format!("ip link set {link} down")))),
            ("devices.eth0.ipv4", Box::new(|| shell(&format!("nsenter -t {init} -n ip address flush dev eth0")))),
            ("ipv4.address", Box::new(|| shell("ip address del 10.77.0.1/24 dev lan"))),
            ("ipv4.nat", Box::new(|| shell("nft flush ruleset"))),
            ("ipv4.dhcp.enabled", Box::new(|| {
                let text = std::process::Command::new("pgrep").args(["--ns", &std::process::id().to_string(), "--nslist", "net", "dnsmasq"]).output().expect("pgrep");
                let pids = String::from_utf8(text.stdout).expect("pids");
                assert_eq!(pids.lines().count(), 1, "{pids:?}");
                shell(&format!("kill -9 {pids}"));
            })),
            ("files./etc/motd.content", Box::new(|| shell(&format!("nsenter -t {init} -m -U -S 0 -G 0 /bin/sh -c 'echo bye >/etc/motd'")))),
            ("devices.data", Box::new(|| shell(&format!("nsenter -t {init} -m umount /data")))),
            ("state", Box::new(|| world.perform(&one, Verb::Power { power: Power::Freeze }))),
        ];
        for (field, by_hand) in cases {
            by_hand();
            let found = world.differences();
            assert!(found.iter().any(|line| line.contains(&format!(" {field} "))), "{field} by hand is seen: {found:?}");
            if field == "state" {
                world.perform(&one, Verb::Power { power: Power::Unfreeze });
            } else {
                world.mend();
            }
            assert_eq!(world.differences(), Vec::<String>::new(), "after mending {field}");
        }
        shell(&format!("kill -9 {init}"));
        assert!(world.differences().iter().any(|line| line.contains("state \"Stopped\"")), "{:?}", world.differences());
        let exit = world.look(&one).status["lastExit"].clone();
        assert_eq!(exit["signal"], json!(9), "{exit}");
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new(), "after init was killed");
        assert_eq!(world.run(&two, "ping -c1 -W2 10.77.0.10 >/dev/null"), ExitStatus::Code(0));

        for address in [&two, &one, &network, &image, &pool] {
            world.perform(address, Verb::Delete);
        }
        assert_eq!(std::fs::read_to_string(treasure.path().join("precious")).expect("still there"), "gold");
        let left = world.engine.observe().expect("observed");
        assert_eq!(left.items, []);
        let state_id = format!("{:08x}", std::process::id());
        for line in std::fs::read_to_string("/proc/mounts").expect("mounts").lines() {
            assert!(!line.contains(&state_id), "left mounted: {line}");
        }
        let mut links: Vec<_> = Vec::new();
        for _ in 0..100 {
            links = manifests::path_io::list("/sys/class/net").expect("links");
            if links.len() == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(links, [Path::new("/sys/class/net/lo")]);
        shell(&format!("! find /sys/fs/cgroup -maxdepth 2 -name 'keel-{state_id}' | grep ."));
    }
}

/// The host's end of an instance's first link.
fn manifests_link(world: &World, address: &Address) -> String {
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
