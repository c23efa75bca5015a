//! A world for one test: a run folder, and a machine that answers on its serial port.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::native::container::Coming;
use runtime::native::container::Started;
use runtime::native::container::plan::CgroupPlan;
use runtime::native::machine::command_line::sockets;
use runtime::native::machine::plan::{Accelerator, BootPlan, Hardware, Memory, Processors};
use runtime::native::machine::qmp::Qmp;
use runtime::native::machine::{self, MachineError, MachinePlan};
use runtime::native::shim::console::Console;
use runtime::native::shim::{self, Found, Running};
use tempfile::TempDir;

/// Emulated guests take their time, the more so beside others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The built companion.
pub(crate) fn shim() -> &'static Path {
    static SHIM: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        runtime::testing::built_program("keel-shim", env!("CARGO_BIN_EXE_keel-shim"))
    });
    &SHIM
}

/// A file of the guest images; `tests/machine.sh` makes them.
pub(crate) fn image(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../.cache/machine")
        .join(name);
    assert!(
        path.exists(),
        "{} is not there: tests/machine.sh makes it",
        path.display()
    );
    path.canonicalize().expect("an image")
}

/// A folder and the plan of a machine in it.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) plan: MachinePlan,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("keel-test-")
            .tempdir()
            .expect("a folder");
        let run_dir = folder.path().join("run");
        std::fs::create_dir(&run_dir).expect("a folder");
        // On a tmpfs, as /run is.
        rustix::mount::mount(
            "tmpfs",
            &run_dir,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            c"mode=0700",
        )
        .expect("a tmpfs");
        let plan = MachinePlan {
            name: "test".to_owned(),
            uid: "018f0000-0000-7000-8000-000000000000".to_owned(),
            generation: 1,
            run_dir,
            cgroups: CgroupPlan::default(),
            ids: (1_000_000, 1_000_000),
            emulator: machine::emulator().expect("qemu-system is installed"),
            helpers: Vec::new(),
            hardware: Hardware {
                name: "test".to_owned(),
                uuid: "018f0000-0000-7000-8000-000000000000".to_owned(),
                accelerator: Accelerator::Tcg,
                boot: BootPlan::Direct {
                    kernel: image("kernel"),
                    initrd: Some(image("initrd")),
                    cmdline: "console=ttyS0 quiet panic=-1 no_timer_check".to_owned(),
                },
                processors: Processors {
                    count: 1,
                    sockets: 1,
                    cores: 2,
                    threads: 1,
                },
                memory: Memory {
                    bytes: 256 << 20,
                    most: 1 << 30,
                    huge_pages: None,
                },
                disks: Vec::new(),
                nics: Vec::new(),
                folders: Vec::new(),
                tpm: None,
                passed: Vec::new(),
                incoming: None,
            },
            limits: Vec::new(),
            restart: None,
        };
        Self { folder, plan }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn try_start(&self) -> Result<Started, MachineError> {
        let taps: BTreeMap<String, OwnedFd> = BTreeMap::new();
        let companion = Coming::begin(shim(), &self.plan.name);
        machine::start(&self.plan, companion, &taps)
    }

    pub(crate) fn start(&self) -> Started {
        self.try_start().unwrap_or_else(|error| {
            panic!(
                "{}: {}",
                chain(&error),
                machine::complaints(&self.plan.run_dir)
            )
        })
    }

    pub(crate) fn running(&self) -> Box<Running> {
        match shim::adopt(&self.plan.run_dir).expect("a look") {
            Found::Running(running) => running,
            other => panic!("{other:?}: {}", machine::complaints(&self.plan.run_dir)),
        }
    }

    pub(crate) fn qmp(&self) -> Qmp {
        let path = self.plan.run_dir.join(sockets::CONTROL);
        Qmp::connect(&path, PATIENCE).unwrap_or_else(|error| {
            panic!(
                "{}: {}",
                chain(&error),
                machine::complaints(&self.plan.run_dir)
            )
        })
    }

    /// Waits until the guest answers.
    pub(crate) fn guest(&self) -> Guest {
        let console = self.running().attach_console().expect("the console");
        let mut guest = Guest {
            console,
            heard: String::new(),
        };
        // What it said before we listened is in the log.
        let log = std::fs::read_to_string(self.plan.run_dir.join("console.log"));
        if !log.unwrap_or_default().contains("keel-guest ready") {
            guest.wait_for("keel-guest ready");
        }
        guest
    }

    /// Waits for the end and reads its record.
    pub(crate) fn end(&self, running: &Running) -> runtime::native::shim::ExitRecord {
        running
            .gone(PATIENCE)
            .expect("an end")
            .expect("a record of the end")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Ok(Found::Running(running)) = shim::adopt(&self.plan.run_dir) {
            let _ = running.kill(Duration::from_secs(30));
        }
        let _ = rustix::mount::unmount(&self.plan.run_dir, rustix::mount::UnmountFlags::DETACH);
    }
}

/// The guest at the other end of the serial port.
pub(crate) struct Guest {
    console: Console,
    heard: String,
}

impl Guest {
    fn wait_for(&mut self, wanted: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(at) = self.heard.find(wanted)
                && let Some(end) = self.heard[at..].find('\n')
            {
                let rest = self.heard.split_off(at + end + 1);
                return std::mem::replace(&mut self.heard, rest);
            }
            assert!(
                began.elapsed() < PATIENCE,
                "no {wanted:?} in {:?}",
                self.heard
            );
            let mut buffer = [0; 4096];
            match self.console.read(&mut buffer).expect("the console") {
                Some(length) => {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    self.heard.push_str(&text.replace('\r', ""));
                }
                None => panic!("the machine has ended; it said {:?}", self.heard),
            }
        }
    }

    /// Runs a command in the guest; what it printed.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.console
            .write(format!("{command}\n").as_bytes())
            .expect("the console");
        let answer = self.wait_for("keel-guest done ");
        let (output, code) = answer
            .rsplit_once("keel-guest done ")
            .expect("the end of an answer");
        assert_eq!(code.trim(), "0", "{command}: {output}");
        output.trim().to_owned()
    }

    /// Runs a command that ends the guest.
    pub(crate) fn tell(&mut self, command: &str) {
        self.console
            .write(format!("{command}\n").as_bytes())
            .expect("the console");
    }
}

/// An error with all its reasons in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
