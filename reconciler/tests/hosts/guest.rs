//! The guest of a machine, spoken to over its serial console; it answers as `tests/machine/tiny` says.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::world::TestWorld;

/// Emulated guests take their time, the more so beside others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// What the kernel of a guest is told.
pub(crate) const CMDLINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check";

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

/// An Image of the tiny guest, as a manifest.
pub(crate) fn tiny(initrd: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Image\nmetadata:\n  name: tiny\nspec:\n  type: virtual-machine\n  kernel: {}\n  \
         initrd: {}\n  cmdline: {CMDLINE}\n",
        image("kernel").display(),
        image(initrd).display()
    )
}

/// The console of a machine.
pub(crate) struct Guest {
    keel: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    heard: String,
}

impl Guest {
    /// Waits until the guest answers.
    #[track_caller]
    pub(crate) fn of(world: &TestWorld, name: &str) -> Self {
        Self::on(world, "state", name)
    }

    /// As [`Guest::of`], of a machine in another state folder.
    #[track_caller]
    pub(crate) fn on(world: &TestWorld, state: &str, name: &str) -> Self {
        let mut keel = world
            .command_on(state, &["console", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("keel starts");
        let input = keel.stdin.take().expect("its input");
        let mut from = keel.stdout.take().expect("its output");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut guest = Self {
            keel,
            input,
            output,
            heard: String::new(),
        };
        guest.awake();
        guest
    }

    /// Asks until there is an answer: what was said before somebody listened is not heard.
    #[track_caller]
    fn awake(&mut self) {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let word = format!("awake-{tries}");
            self.tell(&format!("echo {word}"));
            if self.listen_for(
                &format!("\n{word}\nkeel-guest done 0\n"),
                Duration::from_secs(3),
            ) {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "the guest says {:?}",
                self.heard
            );
        }
    }

    /// Listens until something is said; what came before it is forgotten.
    fn listen_for(&mut self, wanted: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(at) = format!("\n{}", self.heard).find(wanted) {
                self.heard.drain(..(at + wanted.len()).saturating_sub(1));
                return true;
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(rest) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).replace('\r', "");
                    self.heard.push_str(&text);
                }
                Err(_) => return false,
            }
        }
    }

    /// Types a line.
    pub(crate) fn tell(&mut self, command: &str) {
        self.input
            .write_all(format!("{command}\n").as_bytes())
            .expect("the console");
    }

    /// Runs a command in the guest; what it printed, and its exit code.
    #[track_caller]
    pub(crate) fn try_run(&mut self, command: &str) -> (String, String) {
        self.heard.clear();
        self.tell(command);
        let began = Instant::now();
        loop {
            if let Some((output, rest)) = self.heard.split_once("keel-guest done ")
                && let Some((code, _)) = rest.split_once('\n')
            {
                return (output.trim().to_owned(), code.trim().to_owned());
            }
            assert!(began.elapsed() < PATIENCE, "{command}: {:?}", self.heard);
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(1)) {
                let text = String::from_utf8_lossy(&bytes).replace('\r', "");
                self.heard.push_str(&text);
            }
        }
    }

    /// As [`Guest::try_run`], which must succeed.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> String {
        let (output, code) = self.try_run(command);
        assert_eq!(code, "0", "{command}: {output}");
        output
    }

    /// Runs a command until it prints something.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, command: &str, wanted: &str) -> String {
        let began = Instant::now();
        loop {
            let (output, _) = self.try_run(command);
            if output.contains(wanted) {
                return output;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{command}: no {wanted:?} in {output:?}"
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.keel.kill();
        let _ = self.keel.wait();
    }
}
