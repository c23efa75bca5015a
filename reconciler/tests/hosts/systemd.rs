//! Debian's systemd as the init of unprivileged containers.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::debian::{self, debian_test};
use crate::world::{TestWorld, shell};

/// How long a boot may take. An emulated processor with other work needs most of it.
const BOOT: Duration = Duration::from_secs(240);

/// `web` takes its address by DHCP, as Debian is used to; `db` has one that keel gives it.
fn debians(source: &str) -> TestWorld {
    let world = TestWorld::new();
    world.write(
        "keel.yaml",
        "apiVersion: evenkeel/v1\nkind: Source\nname: debian\n",
    );
    world.write("host.yaml", &HOST.replace("SOURCE", source));
    world.write("instances.yaml", INSTANCES);
    world
}

/// Waits until systemd says that it has started all, and none of it failed.
fn booted(world: &TestWorld, name: &str) {
    let deadline = Instant::now() + BOOT;
    loop {
        // At first there is no bus to ask over.
        let seen = world.keel(&[
            "exec",
            name,
            "--",
            "systemctl",
            "is-system-running",
            "--wait",
        ]);
        if seen.stdout == "running\n" {
            assert_eq!(seen.code, Some(0));
            return;
        }
        if seen.stdout == "degraded\n" || Instant::now() > deadline {
            let failed = world.keel(&["exec", name, "--", "systemctl", "--failed", "--no-pager"]);
            let log = world.keel(&["logs", name]);
            panic!("{seen:?}\n{}\n{}", failed.stdout, log.stdout);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for something that the guest does in its own time.
#[track_caller]
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn addresses(world: &TestWorld, name: &str) -> String {
    let command = [
        "exec", name, "--", "ip", "-4", "-o", "address", "show", "dev", "eth0",
    ];
    world.keel(&command).with(0).stdout
}

fn status(world: &TestWorld, name: &str) -> Value {
    world.get(&format!("instance/{name}"))["status"].clone()
}

debian_test! {
    fn systemd_runs_is_reached_and_stops() {
        let world = debians(&format!("{{ file: {} }}", debian::tarball().display()));
        world.converge();
        booted(&world, "web");
        booted(&world, "db");
        let failed = world.keel(&["exec", "web", "--", "systemctl", "--failed", "--no-legend"]).with(0);
        assert_eq!(failed.stdout, "");
        let journal = world.keel(&["exec", "web", "--", "journalctl", "-b", "--no-pager", "-o", "cat"]).with(0);
        assert!(journal.stdout.contains("Startup finished"), "{}", journal.stdout);
        // systemd says that it runs before all of its console is written.
        let deadline = std::time::Instant::now() + crate::world::PATIENCE;
        loop {
            let log = world.keel(&["logs", "web"]).with(0).stdout;
            if log.contains("Welcome to") && log.contains("multi-user.target") {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{log}");
        }
        // It is the root of its own users alone.
        let maps = world.keel(&["exec", "web", "--", "cat", "/proc/1/uid_map"]).with(0).stdout;
        let maps: Vec<&str> = maps.split_whitespace().collect();
        assert_eq!((maps[0], maps[2]), ("0", "65536"));
        assert_ne!(maps[1], "0");

        // DHCP by systemd-networkd, and an address by keel; each reaches the other.
        wait_for("an address by DHCP", || addresses(&world, "web").contains(" 10.66.0."));
        assert!(addresses(&world, "db").contains(" 10.66.0.20/24 "));
        let web = addresses(&world, "web");
        let web = web.split_whitespace().nth(3).and_then(|net| net.split('/').next()).expect("an address");
        world.keel(&["exec", "db", "--", "ping", "-c1", "-W5", web]).with(0);
        world.nothing_to_do();

        let began = Instant::now();
        world.keel(&["stop", "web", "db", "--hold", "1h", "--reason", "a test"]).with(0);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        for name in ["web", "db"] {
            let seen = status(&world, name);
            assert_eq!(seen["state"], json!("Stopped"));
            // Halting is how the init of a container ends that was asked to stop; it was not killed.
            assert_eq!((&seen["lastExit"]["signal"], &seen["lastExit"]["code"]), (&json!(libc_sigint()), &Value::Null));
            let log = world.keel(&["logs", name]).with(0).stdout;
            assert!(log.contains("System Halt") || log.contains("halt.target"), "{log}");
        }
        world.destroy();
    }
}

debian_test! {
    fn commands_in_a_system_have_streams_terminals_and_codes() {
        let world = debians(&format!("{{ file: {} }}", debian::tarball().display()));
        world.converge();
        booted(&world, "db");
        let run = |arguments: &[&str], input: &str| {
            let mut command = world.command(&[&["exec"], arguments].concat());
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("keel starts");
            child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
            crate::world::of_output(&child.wait_with_output().expect("it ends"))
        };
        let ended = run(&["db", "--", "sh", "-c", "cat; echo oops >&2; exit 9"], "hello\n");
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(9), "hello\n", "oops\n"));
        assert_eq!(run(&["db", "--", "sh", "-c", "kill -TERM $$"], "").code, Some(128 + 15));
        assert_eq!(run(&["db", "--", "no-such-command"], "").code, Some(127));
        assert_eq!(run(&["db", "--", "/etc/hostname"], "").code, Some(126));
        let terminal = run(&["--terminal", "db", "--", "sh", "-c", "tty; stty size; exit 4"], "");
        assert_eq!(terminal.code, Some(4));
        assert!(terminal.stdout.starts_with("/dev/pts/"), "{terminal:?}");
        // What is run is in the container's own tree of services, and ends with it.
        let groups = run(&["db", "--", "cat", "/proc/self/cgroup", "/proc/1/cgroup"], "");
        assert!(!groups.stdout.contains(".."), "{groups:?}");
        let left = world.begin(&["exec", "db", "--", "sleep", "1000"]);
        wait_for("the program", || {
            world.keel(&["exec", "db", "--", "pgrep", "-x", "sleep"]).code == Some(0)
        });
        world.keel(&["stop", "--force", "db", "--hold", "1h", "--reason", "a test"]).with(0);
        let ended = crate::world::of_output(&left.wait_with_output().expect("it ends"));
        assert_eq!(ended.code, Some(128 + 9), "{ended:?}");
        assert_eq!(status(&world, "db")["lastExit"]["signal"], json!(9));
        world.destroy();
    }
}

debian_test! {
    fn a_system_reboots_halts_and_is_restarted() {
        let world = debians(&format!("{{ file: {} }}", debian::tarball().display()));
        world.converge();
        booted(&world, "db");
        let boot = |world: &TestWorld| world.init("db");

        // Asked for inside: the companion starts it again, and it is as keel made it.
        let before = boot(&world);
        world.keel(&["exec", "db", "--", "touch", "/var/kept"]).with(0);
        world.keel(&["exec", "db", "--", "systemctl", "reboot"]);
        wait_for("another init", || {
            status(&world, "db")["pid"].as_u64().is_some_and(|pid| pid != u64::from(before))
        });
        booted(&world, "db");
        assert_eq!(status(&world, "db")["restarts"], json!(1));
        world.keel(&["exec", "db", "--", "test", "-e", "/var/kept"]).with(0);
        assert!(addresses(&world, "db").contains(" 10.66.0.20/24 "));
        world.keel(&["exec", "db", "--", "ping", "-c1", "-W5", "10.66.0.1"]).with(0);
        booted(&world, "web");
        world.nothing_to_do();

        // Asked for outside.
        let before = boot(&world);
        world.keel(&["restart", "db"]).with(0);
        assert_ne!(boot(&world), before);
        booted(&world, "db");

        // Halted inside, it stays down, which is a difference.
        world.keel(&["exec", "db", "--", "systemctl", "poweroff"]);
        wait_for("the halt", || status(&world, "db")["state"] == json!("Stopped"));
        assert_eq!(status(&world, "db")["lastExit"]["signal"], json!(libc_sigint()));
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2);
        assert!(drift.stdout.contains("live      Stopped"), "{}", drift.stdout);
        world.converge();
        booted(&world, "db");
        world.destroy();
    }
}

debian_test! {
    fn the_console_of_a_system_asks_for_a_login() {
        let world = debians(&format!("{{ file: {} }}", debian::tarball().display()));
        world.converge();
        booted(&world, "db");
        let mut console = world
            .command(&["console", "db"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("keel starts");
        let mut typed = console.stdin.take().expect("a pipe");
        let mut shown = console.stdout.take().expect("a pipe");
        typed.write_all(b"\r").expect("typed");
        let mut text = String::new();
        let mut piece = [0; 256];
        while !text.contains("login: ") {
            let length = shown.read(&mut piece).expect("read");
            assert!(length > 0, "the console ends after {text:?}");
            text.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
        typed.write_all(b"\x01q").expect("typed");
        assert!(console.wait().expect("it ends").success());
        // Leaving it leaves everything running.
        world.keel(&["exec", "db", "--", "systemctl", "is-active", "console-getty"]).with(0);
        world.destroy();
    }
}

debian_test! {
    fn slow_a_folder_is_an_image_as_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = folder.path().join("debian");
        shell(&format!(
            "mkdir {0} && tar -xpf {1} -C {0} --numeric-owner",
            tree.display(),
            debian::tarball().display()
        ));
        let world = debians(&format!("{{ rootfs: {} }}", tree.display()));
        world.converge();
        booted(&world, "db");
        booted(&world, "web");
        // The folder itself is only read.
        assert_eq!(shell(&format!("cat {}/etc/machine-id | wc -c", tree.display())).trim(), "0");
        world.destroy();
    }
}

/// Of halting and powering off (`reboot(2)`, in a pid namespace).
fn libc_sigint() -> i32 {
    2
}

const HOST: &str = "\
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
    address: 10.66.0.1/24
    nat: true
  ipv6:
    address: none
---
apiVersion: evenkeel/v1
kind: Image
metadata:
  name: debian
spec:
  source: SOURCE
";

const INSTANCES: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata:
  name: web
spec:
  image: debian
  state: Running
  limits: { memory: 256MiB, processes: 200 }
  files:
    /etc/systemd/network/eth0.network:
      content: \"[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\n\"
  devices:
    root: { type: disk, path: /, pool: fast }
    eth0: { type: nic, network: lan }
---
apiVersion: evenkeel/v1
kind: Instance
metadata:
  name: db
spec:
  image: debian
  state: Running
  limits: { memory: 256MiB, processes: 200 }
  devices:
    root: { type: disk, path: /, pool: fast }
    eth0: { type: nic, network: lan, ipv4: 10.66.0.20 }
";
