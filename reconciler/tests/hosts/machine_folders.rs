//! Folders of the host in machines, and TPMs: what the guest sees, what the host keeps, and who dies when.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use manifests::path_io;

use crate::guest::{Guest, PATIENCE};
use crate::machines::{machine, world};
use crate::world::{TestWorld, shell};

/// The processes beside a machine: pid and what it is, by the name of the device.
fn helpers(world: &TestWorld) -> Vec<(u32, String, String)> {
    let seen = world.get("instance/vm");
    let run = seen["status"]["runFolder"].as_str().expect("a folder");
    let text = path_io::read_to_string(Path::new(run).join("helpers")).expect("helpers");
    let line = |line: &str| {
        let words: Vec<&str> = line.strip_prefix("helper ")?.split(' ').collect();
        Some((
            words[0].parse().ok()?,
            words[2].to_owned(),
            words[3].to_owned(),
        ))
    };
    text.lines().filter_map(line).collect()
}

fn helper(world: &TestWorld, device: &str) -> u32 {
    let all = helpers(world);
    let found = all.iter().find(|(_, _, of)| of == device);
    found.unwrap_or_else(|| panic!("{device} in {all:?}")).0
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[track_caller]
fn gone(pids: &[u32]) {
    let began = Instant::now();
    while pids.iter().any(|pid| runs(*pid)) {
        assert!(began.elapsed() < PATIENCE, "{pids:?} end");
    }
}

/// A folder of the host below the world with a file in it.
fn folder(world: &TestWorld, name: &str) -> PathBuf {
    let path = world.path().join(name);
    path_io::create_dir_all(&path).expect("a folder");
    path_io::write(path.join("file"), format!("from {name}\n")).expect("a file");
    path
}

fn devices(world: &TestWorld) -> String {
    let source = |name: &str| folder(world, name).display().to_string();
    format!(
        "    data: {{ type: disk, source: {}, path: /data }}\n    own: {{ type: disk, source: {}, path: /own, shift: true }}\n    \
         fixed: {{ type: disk, source: {}, path: /fixed, readonly: true, shift: true }}\n    tpm: {{ type: tpm }}\n",
        source("data"),
        source("own"),
        source("fixed")
    )
}

runtime::own_processes_test! {
    fn folders_are_seen_by_the_guest_as_they_are_shared() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", &devices(&world)));
        // Outside of what is shared, and a way there.
        path_io::write(world.path().join("secret"), "not yours\n").expect("a file");
        std::os::unix::fs::symlink(world.path().join("secret"), world.path().join("own/absolute")).expect("a link");
        std::os::unix::fs::symlink("../secret", world.path().join("own/relative")).expect("a link");
        shell(&format!("mkfifo {0}/own/pipe && mknod {0}/own/null c 1 3", world.path().display()));
        // Not shifted: for the guest it is nobody's, and what all may do it may.
        shell(&format!("chmod 0777 {}/data", world.path().display()));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        for name in ["data", "own", "fixed"] {
            guest.run(&format!("mkdir /{name} && mount -t virtiofs {name} /{name}"));
            assert_eq!(guest.run(&format!("cat /{name}/file")), format!("from {name}"));
        }
        // Shifted: its root is the host's there, and writes as it does.
        assert_eq!(guest.run("stat -c %u:%g /own/file"), "0:0");
        guest.run("echo written >/own/new && chown 7:8 /own/new && mkdir -m 0700 /own/deep && echo x >/own/deep/x");
        let new = world.path().join("own/new").metadata().expect("it is there");
        assert_eq!((new.uid(), new.gid()), (7, 8));
        assert_eq!(path_io::read_to_string(world.path().join("own/new")).expect("read"), "written\n");
        // Not shifted: the host's root is nobody, and what the guest makes is one of its own ids.
        assert_eq!(guest.run("stat -c %u:%g /data/file"), "65534:65534");
        let (said, code) = guest.try_run("echo x >/data/file");
        assert_ne!(code, "0", "{said}");
        guest.run("echo written >/data/new");
        let new = world.path().join("data/new").metadata().expect("it is there");
        let root = std::fs::read_to_string(format!("/proc/{}/uid_map", helper(&world, "data"))).expect("a map");
        let base: u32 = root.split_whitespace().nth(1).expect("a base").parse().expect("a number");
        assert_eq!((new.uid(), new.gid()), (base, base));
        assert!(base >= 100_000, "{base}");
        // Read-only, whatever the guest mounts.
        for attempt in ["echo x >/fixed/file", "touch /fixed/new", "mount -o remount,rw /fixed && touch /fixed/new", "rm /fixed/file"] {
            let (said, code) = guest.try_run(attempt);
            assert_ne!(code, "0", "{attempt}: {said}");
        }
        assert_eq!(path_io::read_to_string(world.path().join("fixed/file")).expect("read"), "from fixed\n");
        // Nothing leads out of it: links are the guest's own, and so are devices and pipes, of which it makes none that
        // counts on the host.
        for attempt in ["cat /own/absolute", "cat /own/relative", "cat /own/../secret", "cat /own/deep/../../secret", "mknod /own/kmsg c 1 11", "mknod /own/disk b 8 0"] {
            let (said, code) = guest.try_run(attempt);
            assert!(code != "0" && !said.contains("not yours"), "{attempt}: {said}");
        }
        guest.run("ln -s ../../../../../../../etc/passwd /own/out && ln -s / /own/up");
        let (said, _) = guest.try_run("cat /own/out /own/up/secret");
        assert!(!said.contains("not yours") && !said.contains("/root:/bin/bash"), "{said}");
        // What the host has as a pipe or a device is none of the host's for the guest.
        guest.run("(sleep 1; echo through >/own/pipe) & timeout 20 cat /own/pipe | grep through");
        guest.run("echo x >/own/made; chmod 6755 /own/made; mkfifo /own/fifo");
        assert!(!world.path().join("own/kmsg").exists() && !world.path().join("own/disk").exists());
        // What the host changes is seen.
        path_io::write(world.path().join("own/later"), "from the host\n").expect("a file");
        guest.wait_for("cat /own/later", "from the host");
        confined(&world);
        world.nothing_to_do();
        drop(guest);
        world.destroy();
    }
}

/// Each process beside it is nobody on the host, gains nothing, and sees nothing of the host.
fn confined(world: &TestWorld) {
    let machine = world.init("vm");
    let user = |pid: u32| shell(&format!("awk '/^Uid/ {{print $2}}' /proc/{pid}/status"));
    for (pid, name, device) in helpers(world) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
        let field = |key: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
            line.unwrap_or_else(|| panic!("{key} in {status}"))
                .to_owned()
        };
        assert_eq!(
            (field("NoNewPrivs").as_str(), field("Seccomp").as_str()),
            ("1", "2"),
            "{name} {device}"
        );
        assert_ne!(user(pid).trim(), "0", "{name} {device}");
        let capabilities = field("CapEff");
        match name.as_str() {
            "swtpm" => {
                assert_eq!(capabilities, "0000000000000000");
                assert_ne!(user(pid), user(machine), "it is another user than QEMU");
            }
            // Of its own user namespace alone.
            _ => assert_ne!(
                std::fs::read_link(format!("/proc/{pid}/ns/user")).expect("a namespace"),
                std::fs::read_link("/proc/self/ns/user").expect("a namespace")
            ),
        }
        for kind in ["mnt", "net", "pid", "ipc", "uts"] {
            let of = |pid: &str| {
                std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace")
            };
            assert_ne!(of(&pid.to_string()), of("self"), "{name} {device} {kind}");
        }
        let open = shell(&format!("ls -l /proc/{pid}/fd"));
        assert!(
            !open.contains(world.path().to_str().expect("UTF-8")),
            "{name} {device}: {open}"
        );
    }
}

/// How often the TPM was reset in all its life: what it keeps, read by `TPM2_ReadClock` (TPM 2.0 part 3, 29.1).
fn tpm_resets(guest: &mut Guest) -> u32 {
    let command = r"exec 3<>/dev/tpm0; printf '\200\001\000\000\000\012\000\000\001\201' >&3; head -c 35 <&3 | od -An -v -tx1 | tr -d ' \n'";
    let answer = guest.run(command);
    // A header of 10 bytes, the time, the clock, and the count.
    let count = answer
        .get(52..60)
        .unwrap_or_else(|| panic!("an answer, not {answer}"));
    u32::from_str_radix(count, 16).expect("a number")
}

runtime::own_processes_test! {
    fn who_serves_a_part_dies_with_its_machine_and_is_missed_before() {
        let world = world("initrd");
        let with = |more: &str| machine("vm", "256MiB", more).replace("boot: {", "boot: { autorestart: true,");
        // A folder that is not there is told so, and one that is a disk.
        let (nowhere, disk) = (world.path().join("nowhere"), world.path().join("disk"));
        for (source, why) in [(&nowhere, "No such file"), (&disk, "is no folder")] {
            path_io::write(&disk, "").expect("a file");
            let more = format!("    data: {{ type: disk, source: {}, path: /data }}\n", source.display());
            world.write("vm.yaml", &with(&more));
            world.keel(&["apply", "--yes"]).with(7).saying(why);
        }
        world.write("vm.yaml", &with(&devices(&world)));
        world.converge();
        let all: Vec<u32> = helpers(&world).iter().map(|(pid, ..)| *pid).collect();
        assert_eq!(all.len(), 4);
        let resets = tpm_resets(&mut Guest::of(&world, "vm"));
        // One of them dies: that is seen, with what to do.
        shell(&format!("kill -9 {}", helper(&world, "data")));
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2);
        assert!(drift.stdout.contains("devices.data"), "{}", drift.stdout);
        let seen = world.get("instance/vm");
        let device = &seen["status"]["devices"]["data"];
        assert_eq!(device["present"], false, "{seen:#}");
        assert!(device["reason"].as_str().is_some_and(|why| why.contains("virtiofsd has ended")), "{seen:#}");
        assert_eq!(seen["status"]["restartPending"][0], "devices.data");
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("NEXT START"), "{plan}");
        world.keel(&["apply", "--yes"]).with(0);
        let log = world.keel(&["logs", "vm"]).with(0).stdout;
        assert!(log.contains("virtiofsd of data: it was killed by signal 9"), "{log}");
        world.keel(&["restart", "vm"]).with(0);
        gone(&all);
        world.nothing_to_do();
        // After an accident the companion starts all of them again.
        let all: Vec<u32> = helpers(&world).iter().map(|(pid, ..)| *pid).collect();
        shell(&format!("kill -9 {}", world.init("vm")));
        gone(&all);
        let began = Instant::now();
        while world.get("instance/vm")["status"]["restarts"] != 2 {
            assert!(began.elapsed() < PATIENCE, "it is started again");
        }
        world.nothing_to_do();
        // The TPM knows that it was there before.
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(guest.run("cat /sys/class/tpm/tpm0/tpm_version_major"), "2");
        assert!(tpm_resets(&mut guest) > resets, "it counts on from {resets}");
        drop(guest);
        let all: Vec<u32> = helpers(&world).iter().map(|(pid, ..)| *pid).collect();
        let pid = world.init("vm");
        let companion = shell(&format!("awk '/^PPid/ {{print $2}}' /proc/{pid}/status"));
        shell(&format!("kill -9 {companion}"));
        world.nothing_to_do();
        assert!(all.iter().all(|pid| runs(*pid)), "they outlive the companion");
        shell(&format!("kill -9 {}", helper(&world, "tpm")));
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2);
        assert!(drift.stdout.contains("devices.tpm"), "{}", drift.stdout);
        world.destroy();
        gone(&all);
    }
}
