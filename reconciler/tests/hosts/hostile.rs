//! Guests that mean harm, met by the commands of `keel`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use crate::world::{TestWorld, shell};

/// Exchanges two names as fast as it can, until it is ended.
struct Exchange(Arc<AtomicBool>, std::thread::JoinHandle<u64>);

impl Exchange {
    fn begin(one: PathBuf, two: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !seen.load(Ordering::Relaxed) {
                let (here, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                rustix::fs::renameat_with(here, &one, here, &two, flags).expect("exchanged");
                count += 1;
            }
            count
        });
        Self(stop, thread)
    }

    fn end(self) -> u64 {
        self.0.store(true, Ordering::Relaxed);
        self.1.join().expect("it ends")
    }
}

/// Writes the guest's file into a folder again, unless that is the link at the moment: the test must not fall for it.
fn refill(folder: &Path) {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(folder) = rustix::fs::open(folder, flags, Mode::empty()) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&folder, "kept", flags, Mode::from_raw_mode(0o666));
        let _ = file.map(|file| rustix::io::write(file, b"of the guest\n"));
    }
}

/// CVE-2018-15664: a folder of the guest is exchanged for a link to the host while files go in and out through it.
fn copies(least: usize) {
    let world = TestWorld::furnished();
    world.write("two.yaml", "");
    let victim = world.path().join("victim");
    let shared = world.path().join("shared");
    for folder in [&victim, &shared.join("place")] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    for folder in [world.path(), &victim, &shared, &shared.join("place")] {
        shell(&format!("chmod 777 {}", folder.display()));
    }
    std::fs::write(victim.join("kept"), "of the host\n").expect("a file");
    std::fs::write(shared.join("place/kept"), "of the guest\n").expect("a file");
    rustix::fs::symlink(&victim, shared.join("other")).expect("a link");
    let disk = format!(
        "    shared: {{ type: disk, source: {}, path: /shared, shift: true }}\n",
        shared.display()
    );
    world.write("one.yaml", &(world.one() + &disk));
    world.keel(&["apply", "--yes"]).with(0);
    let from = world.path().join("pushed");
    std::fs::write(&from, "pushed\n").expect("a file");
    let from = from.to_str().expect("UTF-8");
    let exchange = Exchange::begin(shared.join("place"), shared.join("other"));
    let (mut pulled, mut pushed) = (0, 0);
    for _ in 0..least {
        let read = world.keel(&["file", "cat", "one/shared/place/kept"]);
        if read.code == Some(0) {
            // What was pushed before may be in the guest's folder by now.
            assert!(
                ["of the guest\n", "pushed\n", ""].contains(&read.stdout.as_str()),
                "{read:?}"
            );
            pulled += 1;
        }
        for target in ["one/shared/place/kept", "one/shared/place/new"] {
            let pushing = ["file", "push", "-p", from, target];
            if world.keel(&pushing).code == Some(0) {
                pushed += 1;
            }
        }
        assert_eq!(
            shell(&format!("cat {0}/*; ls {0}", victim.display())),
            "of the host\nkept\n"
        );
        // For the next read.
        for place in ["place", "other"] {
            refill(&shared.join(place));
        }
    }
    assert!(
        exchange.end() > 100 && pulled + pushed > 0,
        "{pulled} pulled, {pushed} pushed"
    );
    assert_eq!(
        shell(&format!("cat {0}/*; ls {0}", victim.display())),
        "of the host\nkept\n"
    );
    world.destroy();
}

runtime::own_processes_test! {
    fn files_go_in_and_out_of_the_guest_alone() {
        copies(10);
    }
}

runtime::own_processes_test! {
    fn slow_files_go_in_and_out_of_the_guest_alone_two_hundred_times() {
        copies(200);
    }
}

runtime::own_processes_test! {
    fn nothing_that_a_guest_says_drives_a_terminal() {
        let world = TestWorld::furnished();
        world.write("two.yaml", "");
        world.converge();
        // Sets the clipboard, the title, asks the terminal to answer, and clears the screen.
        let evil = r"\033]52;c;ZXZpbA==\007\033]0;evil\007\033[6n\033[2J\233evil\r\n";
        let script = format!("printf '{evil}' > /dev/console; printf '{evil}' > /etc/motd");
        world.keel(&["exec", "one", "--", "sh", "-c", &script]).with(0);
        let commands: [&[&str]; 9] = [
            &["logs", "one"],
            &["drift"],
            &["drift", "-o", "json"],
            &["plan"],
            &["plan", "-o", "json"],
            &["get"],
            &["describe", "instance", "one"],
            &["apply", "--yes"],
            &["history"],
        ];
        for command in commands {
            let ended = world.keel(command);
            for text in [&ended.stdout, &ended.stderr] {
                let driving = text.chars().find(|&letter| letter.is_control() && letter != '\n');
                assert_eq!(driving, None, "keel {command:?} says {text:?}");
            }
        }
        // Who asks for the bytes gets them.
        assert!(world.keel(&["logs", "--raw", "one"]).with(0).stdout.contains('\u{1b}'));
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn users_are_nested_only_where_the_manifest_says_so() {
        let world = TestWorld::furnished();
        world.write("two.yaml", "");
        let unshare = ["exec", "one", "--", "unshare", "-U", "true"];
        for (security, nested) in [
            ("{}", false),
            ("{ seccomp: { profile: unconfined } }", false),
            ("{ nesting: true }", true),
        ] {
            let text = world.one().replace("  state: Running\n", &format!("  state: Running\n  security: {security}\n"));
            world.write("one.yaml", &text);
            world.keel(&["apply", "--yes"]).with(0);
            world.keel(&["restart", "one"]).with(0);
            let ended = world.keel(&unshare);
            assert_eq!(ended.code == Some(0), nested, "{security}: {ended:?}");
        }
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn bombs_go_off_inside() {
        let world = TestWorld::furnished();
        world.converge();
        // Memory: what asks for it is killed, its instance and its neighbour go on.
        let ended = world.keel(&["exec", "one", "--", "tail", "/dev/zero"]);
        assert_eq!(ended.code, Some(128 + 9), "{ended:?}");
        world.keel(&["exec", "one", "--", "true"]).with(0);
        // Processes: more are refused than the limit allows.
        let bomb = "bomb() { bomb | bomb & }; bomb; sleep 1000";
        let lit = world.begin(&["exec", "one", "--", "sh", "-c", bomb]);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let seen = world.keel(&["exec", "two", "--", "ping", "-c1", "-W5", "10.77.0.1"]);
            assert_eq!(seen.code, Some(0), "{seen:?}");
        }
        let count = world.get("instance/one")["status"]["usage"]["processes"].as_u64();
        assert!(count.is_none_or(|count| count <= 100), "{count:?}");
        world.keel(&["stop", "--force", "one", "--hold", "1h", "--reason", "a bomb"]).with(0);
        drop(lit.wait_with_output());
        // A full root of limited size harms nobody else.
        let full = world.keel(&["exec", "two", "--", "sh", "-c", "dd if=/dev/zero of=/fill bs=1M count=64; rm /fill"]);
        assert!(full.stderr.contains("No space left"), "{full:?}");
        // Nor does one that is full of names.
        let names = "n=0; while true > /f$n; do n=$((n+1)); done; echo $n; rm -f /f*";
        let full = world.keel(&["exec", "two", "--", "sh", "-c", names]);
        assert!(full.stderr.contains("No space left"), "{full:?}");
        assert!(full.stdout.trim().parse::<u32>().is_ok_and(|count| count > 1000), "{full:?}");
        world.keel(&["start", "one"]).with(0);
        world.keel(&["apply", "--yes"]).with(0);
        world.keel(&["exec", "one", "--", "touch", "/alive"]).with(0);
        world.destroy();
    }
}
