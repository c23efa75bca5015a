//! A world for one test: a busybox root, cgroups of its own, and everything gone at the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::path_io;
use runtime::native::container::plan::{
    CgroupPlan, ContainerPlan, Delegation, IdMap, MountPlan, MountSource, ProgramPlan, Propagation,
    RootPlan,
};
use runtime::native::container::seccomp::Seccomp;
use runtime::native::container::{self, Access, Started};
use runtime::native::shim::{self, ExitRecord, Found, Running};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where the host has cgroup controllers of version 1, as the tests need them.
const CONTROLLERS: [&str; 8] = [
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
];

/// Folders and cgroups of one test.
pub(crate) struct World {
    folder: TempDir,
    cgroups: Vec<PathBuf>,
    pub(crate) plan: ContainerPlan,
}

/// The built companion.
pub(crate) fn shim() -> &'static Path {
    static SHIM: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        runtime::testing::built_program("keel-shim", env!("CARGO_BIN_EXE_keel-shim"))
    });
    &SHIM
}

impl World {
    /// A container that runs a shell script as init.
    pub(crate) fn new(script: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("keel-test-")
            .tempdir()
            .expect("a folder");
        let layer = folder.path().join("layer");
        for name in ["bin", "dev", "proc", "sys", "etc", "tmp", "root"] {
            path_io::create_dir_all(layer.join(name)).expect("the layer");
        }
        let busybox = path_io::read("/bin/busybox").expect("busybox-static is installed");
        path_io::write(layer.join("bin/busybox"), busybox).expect("busybox in the layer");
        set_mode(&layer.join("bin/busybox"), 0o755);
        for name in [
            "sh", "cat", "ls", "sleep", "id", "mount", "umount", "stat", "readlink", "env",
            "touch", "mkdir", "ps", "echo", "hostname", "kill", "head", "dd", "stty", "tty",
            "grep", "chmod", "chown", "ln", "rm", "test", "nc", "ip", "true", "unshare", "sync",
            "poweroff", "reboot", "halt",
        ] {
            rustix::fs::symlink("busybox", layer.join("bin").join(name)).expect("an applet");
        }
        let writable = folder.path().join("writable");
        let run_dir = folder.path().join("run");
        for path in [&writable, &run_dir] {
            path_io::create_dir_all(path).expect("a folder");
            set_mode(path, 0o700);
        }
        // On a tmpfs, as /run is.
        rustix::mount::mount(
            "tmpfs",
            &run_dir,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            c"mode=0700",
        )
        .expect("a tmpfs");
        set_mode(folder.path(), 0o700);
        let name = format!("keel-test-{}", std::process::id());
        let (cgroups, plan) = cgroups(&name);
        let plan = ContainerPlan {
            name: "test".to_owned(),
            uid: "018f0000-0000-7000-8000-000000000000".to_owned(),
            generation: 1,
            run_dir,
            hostname: "box".to_owned(),
            root: RootPlan::Overlay {
                layers: vec![layer],
                writable,
            },
            ids: Some(IdMap::span(1_000_000, 65_536)),
            cgroups: plan,
            mounts: Vec::new(),
            devices: Vec::new(),
            files: Vec::new(),
            proc: Access::Mixed,
            sys: Access::Mixed,
            cgroup: Access::Mixed,
            command: program(&["/bin/sh", "-c", script]),
            capabilities: Default::default(),
            seccomp: Some(Seccomp::default()),
            limits: Vec::new(),
            sysctls: Vec::new(),
            time: None,
            restart: None,
            filters: None,
        };
        Self {
            folder,
            cgroups,
            plan,
        }
    }

    /// Python and what it needs, of the host, read-only.
    pub(crate) fn bind_programs_of_the_host(&mut self) {
        self.plan.mounts = ["usr", "lib", "lib64"]
            .map(|name| MountPlan {
                target: format!("/{name}"),
                what: MountSource::Bind {
                    path: Path::new("/").join(name),
                    shift: false,
                    recursive: false,
                    propagation: Propagation::Private,
                },
                read_only: true,
                nosuid_nodev: true,
            })
            .to_vec();
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.folder.path().join("layer")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.folder.path().join("writable/upper")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn try_start(&self) -> Result<Started, container::ContainerError> {
        container::start(
            &self.plan,
            container::Coming::begin(shim(), &self.plan.name),
            &mut |_| Ok(()),
        )
    }

    pub(crate) fn start(&self) -> Started {
        match self.try_start() {
            Ok(started) => started,
            Err(error) => panic!("{}", chain(&error)),
        }
    }

    pub(crate) fn running(&self) -> Running {
        match shim::adopt(&self.plan.run_dir) {
            Ok(Found::Running(running)) => *running,
            other => panic!("not running: {other:?}; console:\n{}", self.console()),
        }
    }

    pub(crate) fn console(&self) -> String {
        let path = self.plan.run_dir.join("console.log");
        path_io::read(path).map_or_else(
            |_| String::new(),
            |bytes| String::from_utf8_lossy(&bytes).replace('\r', ""),
        )
    }

    /// Runs the container to its end and returns its console and how it ended.
    pub(crate) fn run(&self) -> (String, ExitRecord) {
        let started = self.start();
        let record = match shim::adopt(&self.plan.run_dir).expect("adopt") {
            Found::Running(running) => running
                .gone(PATIENCE)
                .unwrap_or_else(|error| panic!("{}; console:\n{}", chain(&error), self.console())),
            _ => {
                wait_for("the exit record", || {
                    shim::exit_record(&self.plan.run_dir)
                        .expect("read")
                        .is_some()
                });
                shim::exit_record(&self.plan.run_dir).expect("read")
            }
        };
        let record = record.expect("the companion wrote the record");
        assert_eq!(record.init, started.init.as_raw_nonzero().get());
        (self.console(), record)
    }

    pub(crate) fn wait_for_console(&self, text: &str) {
        wait_for(text, || self.console().contains(text));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        match shim::adopt(&self.plan.run_dir) {
            Ok(Found::Running(running)) => drop(running.kill(PATIENCE)),
            _ => drop(shim::stop_restarting(&self.plan.run_dir, PATIENCE)),
        }
        let _ = rustix::mount::unmount(&self.plan.run_dir, rustix::mount::UnmountFlags::DETACH);
        for cgroup in self.cgroups.iter().rev() {
            for _ in 0..200 {
                remove_cgroup(cgroup);
                if !cgroup.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            if cgroup.exists() && !std::thread::panicking() {
                panic!("{} is left", cgroup.display());
            }
        }
    }
}

fn remove_cgroup(path: &Path) {
    if let Ok(entries) = std::fs::read_dir(path) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(path);
}

fn cgroups(name: &str) -> (Vec<PathBuf>, CgroupPlan) {
    let mut made = Vec::new();
    let mut plan = CgroupPlan {
        delegate: Some(Delegation {
            descendants: 500,
            depth: 20,
        }),
        ..CgroupPlan::default()
    };
    let root = Path::new("/sys/fs/cgroup");
    for controller in CONTROLLERS
        .iter()
        .filter(|controller| root.join(controller).is_dir())
    {
        let folder = root.join(controller).join(name);
        let _ = std::fs::create_dir(&folder);
        if *controller == "cpuset" {
            for file in ["cpuset.mems", "cpuset.cpus"] {
                let all = path_io::read_to_string(root.join("cpuset").join(file)).expect("cpuset");
                path_io::write_kernel_file(folder.join(file), all.trim()).expect("cpuset");
            }
        }
        plan.joins.push(folder.clone());
        made.push(folder);
    }
    let unified = root.join("unified");
    let unified = if unified.is_dir() {
        unified
    } else {
        root.to_path_buf()
    };
    let folder = unified.join(name);
    let payload = folder.join("payload");
    let monitor = folder.join("monitor");
    for path in [&folder, &payload, &monitor] {
        let _ = std::fs::create_dir(path);
        made.push(path.clone());
    }
    plan.payload = Some(payload);
    plan.monitor = Some(monitor);
    (made, plan)
}

pub(crate) fn program(arguments: &[&str]) -> ProgramPlan {
    ProgramPlan {
        arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
        environment: [
            ("PATH", "/bin:/sbin"),
            ("container", "lxc"),
            ("TERM", "linux"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        directory: "/".to_owned(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode)).expect("chmod");
}

pub(crate) fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if happened() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never happened: {what}");
}

/// An error with all its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
