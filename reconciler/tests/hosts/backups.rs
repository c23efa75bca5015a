//! Backups: written on one pool, brought in on another of another state folder; kills, full disks, altered files.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manifests::path_io;
use serde_json::json;

use crate::guest::Guest;
use crate::machines;
use crate::world::{Ended, TestWorld, ended, shell};

/// A `keel` on the other state folder.
fn other(world: &TestWorld, arguments: &[&str]) -> Ended {
    ended(&mut world.command_on("other", arguments))
}

fn inside(world: &TestWorld, name: &str, line: &str) -> Ended {
    world.keel(&["exec", name, "--", "sh", "-c", line])
}

fn uid(seen: &serde_json::Value) -> String {
    seen["status"]["uid"].as_str().expect("a uid").to_owned()
}

/// The folder of the root volume of an instance.
pub(crate) fn volume(world: &TestWorld, state: &str, name: &str) -> PathBuf {
    let seen = ended(&mut world.command_on(state, &["get", "instance", name, "-o", "json"]));
    let uid = uid(&seen.with(0).json());
    world
        .path()
        .join(state)
        .join("pools/fast/instances")
        .join(uid)
}

/// The files of the snapshot `first` of a container: with its overlay's work beside them where they are a subvolume.
pub(crate) fn first(volume: &Path) -> PathBuf {
    let tree = volume.join("snapshots/first/tree");
    let upper = tree.join("upper");
    if upper.exists() { upper } else { tree }
}

/// All that can be seen of a tree, but for what an overlay notes of the very files below it.
pub(crate) fn told(tree: &Path) -> String {
    let attributes = "import os; [print(p, n, os.getxattr(p, n, follow_symlinks=False)) for f, _, a in os.walk('.') \
                      for p in [f] + [f + '/' + x for x in a] for n in os.listxattr(p, follow_symlinks=False) \
                      if n not in ('user.overlay.origin', 'user.overlay.impure', 'user.overlay.uuid')]";
    shell(&format!(
        "cd {} && find . \\( -type d -o -type c \\) -printf '%P %y %m %U %G %T@\\n' -o -printf '%P %y %m %U %G %s %n %T@ %l\\n' | sort; \
         find . -type c -exec stat -c '%n %t:%T' {{}} + | sort; python3 -c \"{attributes}\" | sort; \
         find . -type f -exec sha256sum {{}} + | sort",
        tree.display()
    ))
}

pub(crate) const MAKE: &str = "mkdir -p /own/deep && cd /own && echo before >file && ln file deep/again && ln -s /etc/hosts link && \
                    mkfifo pipe && chown 1000:5 deep && chmod 4711 file && touch -d 2001-02-03 deep/again && rm /bin/vi && \
                    rm -r /etc/init.d && mkdir /etc/init.d && touch '/own/a name\nwith a line'";

/// What no program of busybox makes, put there by hand.
pub(crate) fn by_hand(upper: &Path) {
    let own = upper.join("own");
    // Its path may be longer than an address of a socket is.
    let folder = std::fs::File::open(&own).expect("a folder");
    let socket = format!(
        "/proc/self/fd/{}/socket",
        std::os::fd::AsRawFd::as_raw_fd(&folder)
    );
    std::os::unix::net::UnixListener::bind(socket).expect("a socket");
    let flags = rustix::fs::XattrFlags::empty();
    let capability = [&[1, 0, 0, 2][..], &[0, 4, 0, 0], &[0; 12]].concat();
    rustix::fs::setxattr(own.join("file"), "security.capability", &capability, flags).expect("set");
    rustix::fs::setxattr(own.join("deep"), "user.note", b"mine", flags).expect("set");
    shell(&format!(
        "cd {} && truncate -s 64M hole && printf x | dd of=hole bs=1 seek=33554432 conv=notrunc 2>/dev/null && \
         touch -d '1999-12-31 23:59:59.123456789 UTC' hole && touch -h -d '1960-01-01 UTC' link",
        own.display()
    ));
}

runtime::own_processes_test! {
    fn a_container_is_the_same_on_another_pool_of_another_state_folder() {
        let world = TestWorld::furnished();
        let kept = tempfile::tempdir().expect("a folder");
        let file = |name: &str| kept.path().join(name).display().to_string();
        let host = crate::world::HOST;
        world.write("host.yaml", &host.replace("driver: dir", "driver: btrfs\n  size: 512MiB"));
        world.converge();
        for name in ["one", "two"] {
            inside(&world, name, MAKE).with(0);
            world.keel(&["snapshot", "create", name, "first", "--description", "before"]).with(0);
            inside(&world, name, "echo after >/own/file").with(0);
        }
        // While it runs, it only stands still for a copy.
        world.keel(&["backup", "export", "one", "-o", &file("live")]).with(0);
        assert_eq!(world.get("instance/one")["status"]["state"], "Running");
        world.nothing_to_do();
        let mut before = Vec::new();
        let mut firsts = Vec::new();
        for name in ["one", "two"] {
            world.keel(&["stop", name, "--force", "--hold", "1h", "--reason", "test"]).with(0);
            let volume = volume(&world, "state", name);
            by_hand(&volume.join("disk/upper"));
            before.push(told(&volume.join("disk/upper")));
            firsts.push(told(&first(&volume)));
            world.keel(&["backup", "export", name, "-o", &file(name)]).with(0);
            assert_eq!(told(&volume.join("disk/upper")), *before.last().expect("told"), "it is only read");
            assert!(!volume.join("snapshots/.new-.passing").exists());
        }
        world.keel(&["backup", "export", "one", "-o", &file("one")]).with(4).saying("is there already");
        world.keel(&["backup", "export", "one", "-o", &file("bare"), "--snapshots", "none", "--without-image"]).with(0);
        world.keel(&["backup", "export", "one", "-o", &file("first"), "--snapshot", "first"]).with(0);
        world.keel(&["backup", "export", "one", "-o", &file("none"), "--snapshot", "nope"]).with(1).saying("there is no snapshot nope");
        assert!(!kept.path().join("none").exists());
        let exported = world.keel(&["backup", "export", "one", "-o", &file("told"), "--snapshots", "none"]).with(0);
        assert!(exported.stderr.contains("left out: data: "), "a folder of the host: {exported:?}");
        for name in ["live", "one", "two", "bare", "first"] {
            let checked = world.keel(&["backup", "verify", &file(name), "-o", "json"]).with(0).json();
            assert_eq!(checked["faults"], json!([]), "{checked:#}");
            assert_eq!(checked["backup"]["format"], "keel-backup");
        }
        let one = world.keel(&["backup", "verify", &file("one")]).with(0).stdout;
        assert!(one.contains("snapshots/first") && one.contains("nothing is wrong with it"), "{one}");
        // Beside itself, on the same pool, under another name.
        world.keel(&["backup", "import", &file("one"), "--name", "again"]).with(0);
        let again = volume(&world, "state", "again");
        assert_eq!(told(&again.join("disk/upper")), before[0]);
        world.keel(&["snapshot", "restore", "again", "first", "--yes"]).with(0);
        assert_eq!(told(&again.join("disk/upper")), firsts[0]);
        let size = |name: &str| kept.path().join(name).metadata().expect(name).len();
        assert!(size("bare") < size("one") && size("one") < 8 << 20, "holes are not in it");
        world.destroy();

        // On a pool of another driver, in another state folder.
        world.write("host.yaml", host);
        for name in ["one.yaml", "two.yaml"] {
            world.unwrite(name);
        }
        other(&world, &["apply", "--yes"]).with(0);
        other(&world, &["backup", "import", &file("bare"), "--name", "bare"]).with(0);
        for (at, name) in ["one", "two"].iter().enumerate() {
            other(&world, &["backup", "import", &file(name)]).with(0);
            other(&world, &["backup", "import", &file(name)]).with(4).saying("already");
            let folder = volume(&world, "other", name);
            if *name == "two" {
                // It has a file system of its own, which nobody has mounted.
                shell(&format!("mount -o loop {0}/disk.ext4 {0}/disk", folder.display()));
            }
            assert_eq!(told(&folder.join("disk/upper")), before[at], "{name}");
            assert_eq!(told(&first(&folder)), firsts[at], "{name}");
            let blocks = shell(&format!("stat -c %b {}/disk/upper/own/hole", folder.display()));
            assert!(blocks.trim().parse::<u64>().expect("blocks") < 1024, "holes stay holes");
            if *name == "two" {
                shell(&format!("umount {}/disk", folder.display()));
            }
        }
        other(&world, &["backup", "import", &file("first"), "--name", "early"]).with(0);
        let early = volume(&world, "other", "early");
        assert_eq!(told(&early.join("disk/upper")), firsts[0]);
        // Its manifest takes it on: nothing is made anew.
        world.write("one.yaml", &world.one());
        world.write("two.yaml", crate::world::TWO);
        let plan = other(&world, &["plan"]).with(4).stdout;
        assert!(!plan.contains("CREATE") && plan.contains("instance/one"), "{plan}");
        assert!(plan.contains("instance/early") && plan.contains("DELETE"), "what is declared nowhere goes to the trash: {plan}");
        other(&world, &["apply", "--yes", "--approve", "G102"]).with(0);
        other(&world, &["plan", "--detailed-exitcode"]).with(0);
        let run = |line: &str| other(&world, &["exec", "one", "--", "sh", "-c", line]);
        run("test $(stat -c %u:%g:%a /own/deep) = 1000:5:755 && test ! -e /bin/vi && test -z \"$(ls /etc/init.d)\" && grep -q after /own/file").with(0);
        other(&world, &["snapshot", "restore", "one", "first", "--yes"]).with(0);
        run("grep -q before /own/file").with(0);
        other(&world, &["destroy", "--no-trash", "--yes"]).with(0);
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn a_stopped_machine_comes_back_with_its_disk_its_snapshots_and_its_kernel() {
        let world = machines::world("initrd");
        let kept = tempfile::tempdir().expect("a folder");
        let file = kept.path().join("vm").display().to_string();
        let live = kept.path().join("live").display().to_string();
        world.write("vm.yaml", &machines::machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        let disk = guest.run("ls /dev/vda /dev/sda 2>/dev/null | head -1");
        let disk = disk.trim().to_owned();
        let write = |guest: &mut Guest, word: &str, at: u32| {
            guest.run(&format!("printf {word} | dd of={disk} bs=4096 seek={at} conv=fsync 2>/dev/null; sync"));
        };
        write(&mut guest, "first", 10);
        world.keel(&["snapshot", "create", "vm", "a", "--description", "before"]).with(0);
        write(&mut guest, "second", 20);
        // While it runs: a snapshot meanwhile, of which nothing is left.
        world.keel(&["backup", "export", "vm", "-o", &live]).with(0);
        let names = world.keel(&["snapshot", "list", "vm", "-o", "json"]).with(0).json();
        assert_eq!(names.as_array().map(Vec::len), Some(1), "{names:#}");
        world.nothing_to_do();
        write(&mut guest, "third", 30);
        drop(guest);
        world.keel(&["stop", "vm", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        world.keel(&["backup", "export", "vm", "-o", &file]).with(0);
        for file in [&file, &live] {
            world.keel(&["backup", "verify", file]).with(0);
        }
        world.destroy();

        for name in ["vm.yaml", "tiny.yaml"] {
            world.unwrite(name);
        }
        other(&world, &["apply", "--yes"]).with(0);
        other(&world, &["backup", "import", &live, "--name", "live"]).with(0);
        other(&world, &["backup", "import", &file]).with(0);
        world.write("tiny.yaml", &crate::guest::tiny("initrd"));
        world.write("vm.yaml", &machines::machine("vm", "256MiB", ""));
        world.write("live.yaml", &machines::machine("live", "256MiB", ""));
        other(&world, &["apply", "--yes"]).with(0);
        let look = |name: &str, at: u32, word: &str| {
            let mut guest = Guest::on(&world, "other", name);
            let read = format!("dd if={disk} bs=4096 skip={at} count=1 2>/dev/null | head -c {}", word.len());
            assert_eq!(guest.run(&read).trim(), word, "{name} at {at}");
        };
        look("vm", 10, "first");
        look("vm", 20, "second");
        look("vm", 30, "third");
        look("live", 20, "second");
        other(&world, &["plan", "--detailed-exitcode"]).with(0);
        other(&world, &["snapshot", "restore", "vm", "a", "--yes"]).with(0);
        look("vm", 10, "first");
        let mut guest = Guest::on(&world, "other", "vm");
        let read = format!("dd if={disk} bs=4096 skip=20 count=1 2>/dev/null | head -c 6 | tr -d '\\0'");
        assert_eq!(guest.run(&read).trim(), "");
        drop(guest);
        other(&world, &["destroy", "--no-trash", "--yes"]).with(0);
        world.nothing_left();
    }
}

/// What an import has left in the other state folder.
fn left(world: &TestWorld) -> String {
    shell(&format!(
        "cd {}/other && find imports pools/fast/instances images instances -mindepth 1 -maxdepth 1 2>/dev/null | grep -v aliases | sort; true",
        world.path().display()
    ))
}

runtime::own_processes_test! {
    fn what_is_killed_leaves_nothing_half_made() {
        let world = TestWorld::furnished();
        let kept = tempfile::tempdir().expect("a folder");
        let file = kept.path().join("one").display().to_string();
        world.unwrite("two.yaml");
        world.converge();
        inside(&world, "one", "mkdir /own; for i in $(seq 300); do dd if=/dev/urandom of=/own/$i bs=64k count=2 2>/dev/null; done").with(0);
        let killed = |state: &str, arguments: &[&str], after: Duration| {
            let mut command = world.command_on(state, arguments);
            let mut keel = command
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("keel starts");
            std::thread::sleep(after);
            let running = keel.try_wait().expect("its status").is_none();
            let _ = keel.kill();
            keel.wait().expect("its end");
            running
        };
        let began = Instant::now();
        world.keel(&["backup", "export", "one", "-o", &file]).with(0);
        let whole = began.elapsed();
        let mut hit = 0;
        for step in 1..10 {
            let target = kept.path().join("cut").display().to_string();
            hit += u32::from(killed("state", &["backup", "export", "one", "-o", &target], whole * step / 10));
            let names: Vec<PathBuf> = path_io::list(kept.path()).expect("listed");
            assert!(names.iter().all(|path| path.ends_with("one") || path.ends_with("cut")), "{names:?}");
            if kept.path().join("cut").exists() {
                world.keel(&["backup", "verify", &target]).with(0);
                path_io::remove_file(&target).expect("removed");
            }
        }
        assert!(hit > 2, "{hit} were killed");
        // Whatever is done next lets it go on and clears up.
        world.keel(&["snapshot", "run-due"]).with(0);
        assert_eq!(world.get("instance/one")["status"]["state"], "Running");
        assert!(!volume(&world, "state", "one").join("snapshots/.new-.passing").exists());
        world.nothing_to_do();
        world.destroy();

        world.unwrite("one.yaml");
        other(&world, &["apply", "--yes"]).with(0);
        let before = left(&world);
        let began = Instant::now();
        other(&world, &["backup", "import", &file, "--name", "timed"]).with(0);
        let whole = began.elapsed();
        other(&world, &["apply", "--yes", "--no-trash", "--approve", "G102,G101"]).with(0);
        assert_eq!(left(&world), before, "it is declared nowhere");
        let mut hit = 0;
        for step in 1..16 {
            hit += u32::from(killed("other", &["backup", "import", &file], whole * step / 16));
            other(&world, &["snapshot", "run-due"]).with(0);
            match other(&world, &["get", "instance", "one", "-o", "json"]).code {
                Some(0) => {
                    other(&world, &["apply", "--yes", "--no-trash", "--approve", "G102,G101"]).with(0);
                }
                _ => assert_eq!(left(&world), before, "killed at {step} of 16"),
            }
        }
        assert!(hit > 4, "{hit} were killed");
        other(&world, &["backup", "import", &file]).with(0);
        other(&world, &["destroy", "--no-trash", "--yes"]).with(0);
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn a_full_disk_an_altered_file_and_what_the_project_forbids_leave_nothing_behind() {
        let world = TestWorld::furnished();
        let kept = tempfile::tempdir().expect("a folder");
        let small = kept.path().join("small");
        shell(&format!("mkdir {0} && mount -t tmpfs -o size=4M none {0}", small.display()));
        let file = kept.path().join("one").display().to_string();
        world.unwrite("two.yaml");
        world.converge();
        inside(&world, "one", "dd if=/dev/urandom of=/big bs=1M count=12 2>/dev/null").with(0);
        let there = small.join("one").display().to_string();
        world.keel(&["backup", "export", "one", "-o", &there]).with(1).saying("No space left on device");
        assert_eq!(path_io::list(&small).expect("listed").len(), 0);
        assert_eq!(world.get("instance/one")["status"]["state"], "Running");
        world.nothing_to_do();
        world.keel(&["backup", "export", "one", "-o", &file]).with(0);
        shell(&format!("umount {}", small.display()));
        // Altered in the middle, cut short: told, and not brought in.
        let bytes = path_io::read(&file).expect("read");
        for (name, altered) in [
            ("altered", { let mut all = bytes.clone(); let at = all.len() / 2; all[at] ^= 1; all }),
            ("short", bytes[..bytes.len() / 2].to_vec()),
        ] {
            let path = kept.path().join(name);
            path_io::write(&path, altered).expect("written");
            let path = path.display().to_string();
            world.keel(&["backup", "verify", &path]).with(1);
            world.keel(&["backup", "import", &path, "--name", "new"]).with(1);
            world.keel(&["get", "instance/new"]).with(1);
        }
        world.keel(&["backup", "import", &file]).with(4).saying("there is an instance/one already");
        world.keel(&["backup", "import", &file, "--name", "new", "--pool", "nope"]).with(1).saying("there is no storage pool nope");
        world.keel(&["backup", "import", &file, "--name", "not_a name"]).with(3);
        // What the manifests of the source around forbid is forbidden here too.
        world.write("rules.yaml", "apiVersion: evenkeel/v1\nkind: Policy\nmetadata: { name: small }\nspec:\n  match: { kinds: [Instance], names: [new] }\n  \
                                   expression: byteSize(object.spec.limits.memory) <= byteSize(\"32MiB\")\n  message: at most 32 MiB\n");
        world.keel(&["backup", "import", &file, "--name", "new"]).with(4).saying("at most 32 MiB");
        world.write("rules.yaml", "apiVersion: evenkeel/v1\nkind: Project\nmetadata: { name: shop }\nspec:\n  restrictions: { enabled: true }\n");
        world.keel(&["--project", "shop", "backup", "import", &file, "--name", "new"]).with(3).saying("project shop does not allow");
        world.unwrite("rules.yaml");
        // Encrypted, only who has the key reads it.
        let sealed = kept.path().join("sealed").display().to_string();
        let keys = |name: &str| format!("{}/src/secrets/vectors/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = path_io::read_to_string(keys("key")).expect("a key");
        let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a recipient");
        world.keel(&["backup", "export", "one", "-o", &sealed, "--recipient", "age1nobody"]).with(64).saying("is no recipient of age");
        world.keel(&["backup", "export", "one", "-o", &sealed, "--recipient", recipient]).with(0);
        world.keel(&["backup", "verify", &sealed]).with(1).saying("it is encrypted, and no --identity was given");
        world.keel(&["backup", "verify", &sealed, "--identity", &keys("other")]).with(1).saying("opens it");
        world.keel(&["backup", "verify", &sealed, "--identity", &keys("key")]).with(0);
        world.keel(&["backup", "verify", &file, "--identity", &keys("key")]).with(0);
        world.keel(&["backup", "import", &sealed, "--identity", &keys("key"), "--name", "new"]).with(0);
        world.keel(&["apply", "--yes", "--no-trash"]).with(0);
        // A pool without room for it.
        let before = left_in(&world);
        shell(&format!("mkdir -p {0} && mount -t tmpfs -o size=40M none {0}", small.display()));
        world.write("small.yaml", &format!("apiVersion: evenkeel/v1\nkind: StoragePool\nmetadata: {{ name: small }}\nspec: {{ driver: dir, source: {}/pool }}\nlifecycle: {{ prune: delete }}\n", small.display()));
        world.keel(&["apply", "--yes"]).with(0);
        shell(&format!("dd if=/dev/zero of={}/filler bs=1M count=30 2>/dev/null || true", small.display()));
        world.keel(&["backup", "import", &file, "--name", "new", "--pool", "small"]).with(4).saying("bytes");
        assert_eq!(shell(&format!("ls {}/pool/instances", small.display())), "");
        assert_eq!(left_in(&world), before);
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        shell(&format!("umount {}", small.display()));
        world.nothing_left();
    }
}

fn left_in(world: &TestWorld) -> String {
    shell(&format!(
        "cd {} && find imports pools/fast/instances images instances -mindepth 1 -maxdepth 1 2>/dev/null | sort; true",
        world.state().display()
    ))
}

/// A `keel` that stands still once it writes its backup.
fn writing(world: &TestWorld, arguments: &[&str]) -> std::process::Child {
    let mut keel = world
        .command(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("keel starts");
    let told = keel.stderr.as_mut().expect("its words");
    let mut lines = std::io::BufReader::new(told).lines();
    assert!(
        lines.any(|line| line.expect("a line").ends_with("writing")),
        "it begins to write"
    );
    signal(&keel, rustix::process::Signal::STOP);
    keel
}

fn signal(keel: &std::process::Child, signal: rustix::process::Signal) {
    let process = rustix::process::Pid::from_child(keel);
    rustix::process::kill_process(process, signal).expect("a signal");
}

runtime::own_processes_test! {
    fn others_go_on_while_a_backup_is_written() {
        let world = TestWorld::furnished();
        let kept = tempfile::tempdir().expect("a folder");
        let file = |name: &str| kept.path().join(name).display().to_string();
        world.converge();
        inside(&world, "one", "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null").with(0);
        inside(&world, "two", "dd if=/dev/urandom of=/big bs=1M count=16 2>/dev/null").with(0);
        world.keel(&["snapshot", "create", "one", "first"]).with(0);
        world.keel(&["stop", "two", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        // Of what runs it reads a copy and snapshots: all may be done but to remove those.
        let mut keel = writing(&world, &["backup", "export", "one", "-o", &file("one")]);
        world.keel(&["backup", "export", "one", "-o", &file("again")]).with(1).saying("a backup of it is being written");
        world.keel(&["snapshot", "delete", "one", "first", "--yes"]).with(1).saying("a backup of it is being written");
        world.keel(&["snapshot", "create", "one", "second"]).with(0);
        inside(&world, "one", "rm /big").with(0);
        world.keel(&["stop", "one", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        world.keel(&["start", "one"]).with(0);
        // Of what is stopped it reads the very files.
        let mut other = writing(&world, &["backup", "export", "two", "-o", &file("two")]);
        let refused = world.keel(&["start", "two"]);
        assert!(refused.code != Some(0) && format!("{refused:?}").contains("a backup of it is being written"), "{refused:?}");
        // Killed, it stands in nobody's way. Who comes next sweeps, and not what the first one reads.
        let _ = other.kill();
        other.wait().expect("its end");
        let copy = volume(&world, "state", "one").join("snapshots/.new-.passing");
        world.keel(&["start", "two"]).with(0);
        assert!(copy.exists());
        world.nothing_to_do();
        signal(&keel, rustix::process::Signal::CONT);
        assert!(keel.wait().expect("its end").success());
        world.keel(&["backup", "verify", &file("one")]).with(0);
        let listed = world.keel(&["backup", "verify", &file("one"), "-o", "json"]).with(0).json();
        let root = listed["parts"].as_array().expect("parts").iter().find(|part| part["name"] == "root").expect("the root");
        assert!(root["bytes"].as_u64().expect("bytes") > 60 << 20, "as it was when it began: {root}");
        world.keel(&["snapshot", "delete", "one", "first", "--yes"]).with(0);
        // Killed, it leaves nothing.
        let mut keel = writing(&world, &["backup", "export", "one", "-o", &file("killed")]);
        let _ = keel.kill();
        keel.wait().expect("its end");
        assert!(copy.exists(), "it was copied");
        world.keel(&["snapshot", "run-due"]).with(0);
        assert!(!copy.exists() && !world.state().join("reading").exists());
        assert!(!kept.path().join("killed").exists() && !kept.path().join("two").exists());
        world.nothing_to_do();
        world.destroy();
        world.nothing_left();
    }
}
