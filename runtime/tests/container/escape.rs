//! Attacks: an image or a container that wants more than it was given.

use std::path::Path;

use runtime::host_test;
use runtime::native::container::plan::FilePlan;
use runtime::native::container::seccomp::Seccomp;

use crate::exec::output;
use crate::mounts::bind;
use crate::world::{World, chain};

/// Names and contents of a folder of the host, to see that nothing happened to it.
fn fingerprint(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(folder)
        .expect("the decoy")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            format!("{} {:?}", path.display(), std::fs::read(&path).ok())
        })
        .collect();
    all.sort();
    all
}

fn decoy(world: &World) -> std::path::PathBuf {
    let decoy = world.path().join("victim");
    std::fs::create_dir(&decoy).expect("a folder");
    for name in ["null", "console", "resolv.conf", "sysrq-trigger"] {
        std::fs::write(decoy.join(name), "untouched").expect("a file");
    }
    // As inviting as it can be.
    crate::world::set_mode(world.path(), 0o777);
    crate::world::set_mode(&decoy, 0o777);
    decoy
}

host_test! {
    fn links_of_the_image_lead_nowhere() {
        let mut world = World::new("[ -c /dev/null ] && [ -d /proc/1 ] && [ -d /sys/class ] && cat /etc/resolv.conf /data/mine");
        let victim = decoy(&world);
        let before = fingerprint(&victim);
        let layer = world.layer();
        for name in ["dev", "proc", "sys"] {
            std::fs::remove_dir(layer.join(name)).expect("removed");
            rustix::fs::symlink(&victim, layer.join(name)).expect("a link");
        }
        rustix::fs::symlink(victim.join("resolv.conf"), layer.join("etc/resolv.conf")).expect("a link");
        rustix::fs::symlink(&victim, layer.join("data")).expect("a link");
        rustix::fs::symlink(&victim, layer.join("deep")).expect("a link");
        std::fs::create_dir(world.path().join("mine")).expect("a folder");
        std::fs::write(world.path().join("mine/mine"), "mine\n").expect("a file");
        world.plan.mounts = vec![bind(&world, "mine", "/data"), bind(&world, "mine", "/deep/under/it")];
        world.plan.files = vec![FilePlan {
            target: "/etc/resolv.conf".to_owned(),
            content: b"nameserver 192.0.2.1\n".to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            create_parents: true,
            only_if_absent: true,
            ours: Vec::new(),
        }];
        let (console, _) = world.run();
        assert_eq!(console, "nameserver 192.0.2.1\nmine\n");
        assert_eq!(fingerprint(&victim), before);
    }
}

host_test! {
    fn links_to_kernel_files_are_replaced_and_not_written_through() {
        let mut world = World::new("readlink /etc/hosts; cat /etc/hosts");
        rustix::fs::symlink("/proc/sys/kernel/hostname", world.layer().join("etc/hosts")).expect("a link");
        world.plan.files = vec![FilePlan {
            target: "/etc/hosts".to_owned(),
            content: b"evil\n".to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            create_parents: false,
            only_if_absent: false,
            ours: Vec::new(),
        }];
        let before = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let (console, _) = world.run();
        assert_eq!(console, "evil\n");
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name"), before);
    }
}

host_test! {
    fn links_of_the_image_in_dev_and_of_its_terminal_are_not_followed() {
        let world = World::new(
            "rm /dev/ptmx; ln -s /etc/decoy /dev/ptmx; umount -l /dev/pts; rm -r /dev/pts; ln -s /etc /dev/pts; echo ready; exec sleep 1000",
        );
        std::fs::write(world.layer().join("etc/ptmx"), "untouched").expect("a file");
        world.start();
        world.wait_for_console("ready");
        let error = runtime::native::container::exec::exec(
            &world.running(),
            crate::world::shim(),
            &crate::world::program(&["/bin/true"]),
            runtime::native::container::exec::StreamsPlan::Terminal { rows: 24, columns: 80 },
        );
        let text = chain(&error.expect_err("that is no devpts"));
        assert!(text.starts_with("open /dev/pts in the container: "), "{text}");
    }
}

host_test! {
    fn links_in_the_devices_of_an_image_lead_nowhere() {
        // CVE-2025-31133 and CVE-2025-52565: what is bound over, and what the console is, is never looked up by name.
        let world = World::new(
            "for f in console null ptmx pts/ptmx tty; do [ -c /dev/$f ] && [ ! -L /dev/${f#ptmx} ] || echo BAD $f; done; \
             echo out > /dev/console; echo null > /dev/null; echo ready; exec sleep 1000",
        );
        let victim = decoy(&world);
        let before = fingerprint(&victim);
        for (name, target) in [
            ("console", victim.join("console")),
            ("null", victim.join("null")),
            ("ptmx", victim.join("null")),
            ("tty", victim.join("null")),
            ("pts", victim.clone()),
            ("shm", victim.clone()),
            ("mqueue", victim.clone()),
        ] {
            rustix::fs::symlink(&target, world.layer().join("dev").join(name)).expect("a link");
        }
        world.start();
        world.wait_for_console("ready");
        assert_eq!(output(&world.running(), &["sh", "-c", "[ -c /dev/pts/0 ]"], b"").0, 0);
        assert!(!world.console().contains("BAD"), "{}", world.console());
        assert_eq!(fingerprint(&victim), before);
    }
}

host_test! {
    fn a_volume_over_proc_does_not_get_what_is_written_to_proc() {
        // CVE-2025-52881: the engine writes sysctls through a proc of its own.
        let mut world = World::new("cat /proc/sys/net/ipv4/ip_forward; echo ready; exec sleep 1000");
        let decoy = world.path().join("decoy");
        std::fs::create_dir_all(decoy.join("net/ipv4")).expect("a folder");
        std::fs::write(decoy.join("net/ipv4/ip_forward"), "untouched\n").expect("a file");
        world.plan.mounts = vec![bind(&world, "decoy", "/proc/sys")];
        world.plan.sysctls = vec![("net.ipv4.ip_forward".to_owned(), "1".to_owned())];
        let started = world.start();
        world.wait_for_console("ready");
        assert!(world.console().contains("untouched"), "{}", world.console());
        let text = std::fs::read_to_string(decoy.join("net/ipv4/ip_forward")).expect("still there");
        assert_eq!(text, "untouched\n");
        let init = started.init.as_raw_nonzero().to_string();
        let real = std::process::Command::new("nsenter")
            .args(["-t", &init, "-n", "cat", "/proc/sys/net/ipv4/ip_forward"])
            .output()
            .expect("nsenter starts");
        assert_eq!(String::from_utf8_lossy(&real.stdout), "1\n");
    }
}

host_test! {
    fn descriptors_of_the_companion_lead_to_no_program_of_the_host() {
        // The layer has no /usr: what runs from there is the host's.
        assert!(Path::new("/usr/bin/busybox").exists(), "busybox-static is installed");
        let program = |number: i32| {
            let up = format!("/proc/self/fd/{number}/../../../../../../../../usr/bin/busybox");
            crate::world::program(&[&up, "true"])
        };
        let mut world = World::new("exec sleep 1000");
        let init = world.plan.command.clone();
        for number in 3..32 {
            world.plan.command = program(number);
            let Err(error) = world.try_start() else {
                panic!("init ran a program of the host by descriptor {number}");
            };
            assert!(chain(&error).starts_with("execute /proc/self/fd/"), "{}", chain(&error));
        }
        world.plan.command = init;
        world.start();
        let running = world.running();
        for number in 3..32 {
            let streams = runtime::native::container::exec::StreamsPlan::Pipes;
            let ran = runtime::native::container::exec::exec(&running, crate::world::shim(), &program(number), streams);
            let error = ran.err().unwrap_or_else(|| panic!("a program of the host ran by descriptor {number}"));
            assert!(chain(&error).starts_with("execute /proc/self/fd/"), "{}", chain(&error));
        }
    }
}

host_test! {
    fn nothing_of_the_host_is_mounted_or_named_in_a_container() {
        let world = World::new("cat /proc/self/mountinfo; ls /; cat /proc/1/cgroup; exit 0");
        let (console, _) = world.run();
        let path = world.path().display().to_string();
        assert!(!console.contains(&path), "the host's path shows:\n{console}");
        assert!(!console.contains("keel-test-"), "{console}");
        assert!(!console.contains(" /sys/fs/cgroup/memory "), "{console}");
        assert!(console.contains("0::/\n"), "{console}");
    }
}

host_test! {
    fn limits_and_other_cgroups_cannot_be_written() {
        let mut world = World::new(
            "cd /sys/fs/cgroup; ls; mkdir own && echo 0 > own/cgroup.procs && echo moved; \
             echo 1 > cgroup.kill; echo 1 > cgroup.freeze; echo max > cgroup.max.depth; echo max > cgroup.max.descendants; \
             i=0; while [ $i -lt 30 ]; do mkdir child$i 2>/dev/null || break; i=$((i+1)); done; echo made $i; \
             mkdir /tmp/c; mount -t cgroup -o memory none /tmp/c && echo 1 > /tmp/c/memory.limit_in_bytes; \
             [ -e /tmp/c/release_agent ] && echo agent; echo end",
        );
        world.plan.cgroups.delegate.as_mut().expect("delegated").descendants = 10;
        let (console, _) = world.run();
        assert!(console.contains("moved") && console.contains("made 9") && console.ends_with("end\n"), "{console}");
        assert_eq!(console.matches("ermission denied").count() + console.matches("not permitted").count(), 5, "{console}");
        assert!(!console.contains("agent"), "{console}");
    }
}

host_test! {
    fn masked_and_read_only_parts_of_proc_and_sys() {
        let world = World::new(
            "for f in kcore keys sysrq-trigger timer_list; do [ -e /proc/$f ] && stat -c '%n %t:%T' /proc/$f; done; \
             echo 1 > /proc/sys/kernel/sysrq; echo x > /proc/sys/kernel/core_pattern; echo b > /proc/sysrq-trigger; \
             echo 1 > /sys/kernel/mm/ksm/run; for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sys/fs/binfmt_misc/register \
               /sys/kernel/uevent_helper /sys/kernel/kexec_loaded /sys/firmware/efi/efivars/x /sys/power/state \
               /sys/class/thermal/thermal_zone0/mode /sys/module/kernel/parameters/panic /proc/mtrr /proc/scsi/scsi \
               /proc/acpi/wakeup /sys/fs/cgroup/release_agent; do [ -e $f ] && echo 1 > $f && echo WROTE $f; done; \
             cat /proc/kmsg && echo READ kmsg; [ -e /dev/kmsg ] && echo FOUND kmsg; [ -e /dev/mem ] && echo FOUND mem; \
             grep -m 1 -v '^0*  *\\|^0000000000000000 ' /proc/kallsyms && echo READ kallsyms; \
             echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward",
        );
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
        let (console, _) = world.run();
        for word in ["WROTE", "READ", "FOUND"] {
            assert!(!console.contains(word), "{console}");
        }
        for line in console.lines().filter(|line| line.starts_with("/proc/")) {
            assert!(line.ends_with(" 1:3"), "{line}");
        }
        assert!(console.contains("/proc/keys 1:3") && console.ends_with("1\n"), "{console}");
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern"), pattern);
    }
}

host_test! {
    fn the_attack_surface_is_what_the_policy_says() {
        // Calls by number through a small C program would need a compiler; python is there where tests are built, and
        // its root is bound read-only into the container.
        let probe = r#"
import ctypes, errno, os, platform
c = ctypes.CDLL(None, use_errno=True)
def call(name, *a):
    ctypes.set_errno(0)
    r = c.syscall(*a)
    print(name, 'ok' if r >= 0 else errno.errorcode[ctypes.get_errno()])
call('bpf', 321, 0, 0, 0)
call('userfaultfd', 323, 1)
call('io_uring_setup', 425, 4, ctypes.create_string_buffer(256))
call('perf_event_open', 298, 0, 0, -1, -1, 0)
call('kexec_load', 246, 0, 0, 0, 0)
call('init_module', 175, 0, 0, 0)
call('finit_module', 313, 0, 0, 0)
call('open_by_handle_at', 304, 0, 0, 0)
call('swapon', 167, 0, 0)
call('tiocsti', 16, 0, 0x5412, ctypes.create_string_buffer(b'x'))
call('tiocsti with high bits', 16, 0, 0xdead00005412, ctypes.create_string_buffer(b'x'))
call('tioclinux', 16, 0, 0x541c, ctypes.create_string_buffer(b'\2'))
call('vsock', 41, 40, 1, 0)
call('umount2 force', 166, ctypes.create_string_buffer(b'/'), 1)
call('clone3', 435, 0, 0)
call('unshare user', 272, 0x10000000)
call('unshare mount', 272, 0x20000)
call('keyctl', 250, 0, -3, 0)
call('add_key', 248, b'user', b'probe', b'x', 1, -3)
call('mount overlay', 165, b'o', b'/tmp', b'nothing', 0, 0)
call('reboot', 169, 0, 0, 0, 0)
call('userfaultfd of the kernel', 323, 0)
call('io_uring_enter', 426, 0, 0, 0, 0, 0)
call('io_uring_register', 427, 0, 0, 0, 0)
call('kexec_file_load', 320, 0, 0, 0, 0, 0)
call('delete_module', 176, b'x', 0)
call('iopl', 172, 3)
call('ioperm', 173, 0, 1, 1)
call('swapoff', 168, b'/x')
call('acct', 163, b'/x')
call('lookup_dcookie', 212, 0, 0, 0)
call('syslog', 103, 3, ctypes.create_string_buffer(100), 100)
call('settimeofday', 164, ctypes.create_string_buffer(16), 0)
call('clone user', 56, 0x10000000 | 17, 0, 0, 0, 0)
call('fanotify of contents', 300, 4, 0)
call('mount debugfs', 165, b'd', b'/tmp', b'debugfs', 0, 0)
call('mknod of a device', 133, b'/tmp/node', 0o20666, 0x103)
call('setns of init\'s user namespace', 308, os.open('/proc/1/ns/user', os.O_RDONLY), 0x10000000)
call('oom_score_adj', 1, os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-500', 4)
"#;
        let table = [
            ("bpf", "EPERM"), ("userfaultfd", "EPERM"), ("io_uring_setup", "ENOSYS"), ("perf_event_open", "EPERM"),
            ("kexec_load", "ENOSYS"), ("init_module", "ENOSYS"), ("finit_module", "ENOSYS"),
            ("open_by_handle_at", "ENOSYS"), ("swapon", "EPERM"), ("tiocsti", "EPERM"),
            ("tiocsti with high bits", "EPERM"), ("tioclinux", "EPERM"), ("vsock", "EAFNOSUPPORT"),
            ("umount2 force", "EACCES"), ("clone3", "ENOSYS"), ("unshare user", "EPERM"), ("unshare mount", "ok"),
            ("keyctl", "ok"), ("add_key", "ok"), ("mount overlay", "ENODEV"), ("reboot", "EINVAL"),
            ("userfaultfd of the kernel", "EPERM"), ("io_uring_enter", "ENOSYS"), ("io_uring_register", "ENOSYS"),
            ("kexec_file_load", "ENOSYS"), ("delete_module", "ENOSYS"), ("iopl", "EPERM"), ("ioperm", "EPERM"),
            ("swapoff", "EPERM"), ("acct", "EPERM"), ("lookup_dcookie", "EPERM"), ("syslog", "EPERM"),
            ("settimeofday", "EPERM"), ("clone user", "EPERM"), ("fanotify of contents", "EPERM"),
            ("mount debugfs", "EPERM"), ("mknod of a device", "EPERM"),
            ("setns of init's user namespace", "EINVAL"), ("oom_score_adj", "EACCES"),
        ];
        let mut world = World::new("exec sleep 1000");
        world.bind_programs_of_the_host();
        world.start();
        let (status, text, errors) = output(&world.running(), &["/usr/bin/python3", "-"], probe.as_bytes());
        assert_eq!(status, 0, "{errors}");
        let found: Vec<(&str, &str)> = text.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        assert_eq!(found, table);
    }
}

host_test! {
    fn allow_and_deny_lists_hold_for_init_and_for_what_is_executed() {
        let mut world = World::new("unshare -U true && echo nested; exec sleep 1000");
        world.plan.seccomp = Some(Seccomp {
            nesting: true,
            deny: vec!["sethostname".to_owned()],
            ..Seccomp::default()
        });
        world.start();
        world.wait_for_console("nested");
        let (status, _, errors) = output(&world.running(), &["hostname", "other"], b"");
        assert_ne!(status, 0);
        assert!(errors.contains("not permitted"), "{errors}");
    }
}

host_test! {
    fn an_executed_program_gives_nothing_of_the_host_away_while_it_starts() {
        // Each new process is looked at as fast as the container can, while the host executes again and again.
        let world = World::new(
            "echo ready; while true; do for p in /proc/[0-9]*; do \
               case $p in /proc/1|/proc/$$) continue;; esac; \
               case $(cat $p/stat 2>/dev/null) in *') '?' 0 '*) echo SAW;; esac; \
               e=$(readlink $p/exe 2>/dev/null); case $e in ''|/bin/busybox) ;; *) echo \"LEAK exe $e\";; esac; \
               for f in $p/fd/*; do l=$(readlink $f 2>/dev/null); case $l in ''|pipe:*|/dev/pts/*|/dev/console|/proc/*|/dev/null) ;; *) echo \"LEAK fd $l\";; esac; done; \
               r=$(readlink $p/root 2>/dev/null); case $r in ''|/) ;; *) echo \"LEAK root $r\";; esac; \
             done; done",
        );
        world.start();
        world.wait_for_console("ready");
        let running = world.running();
        let file = std::fs::read(crate::world::shim()).expect("the companion");
        // Whose parent is outside of the container was executed from there: some of them must have been met.
        let met = || world.console().matches("SAW").count();
        let mut executed = 0;
        while executed < 100 || (met() < 5 && executed < 3000) {
            assert_eq!(output(&running, &["true"], b"").0, 0);
            executed += 1;
        }
        assert!(met() >= 5, "none of {executed} programs was looked at");
        assert!(!world.console().contains("LEAK"), "{}", world.console());
        assert_eq!(std::fs::read(crate::world::shim()).expect("the companion"), file);
    }
}

host_test! {
    fn a_flood_of_output_stays_bounded_and_harms_nobody() {
        let world = World::new("exec dd if=/dev/zero bs=64k count=200");
        world.run();
        let length = |name: &str| std::fs::metadata(world.plan.run_dir.join(name)).map_or(0, |found| found.len());
        assert!(length("console.log") <= 1 << 20 && length("console.log.1") <= 1 << 20);
        assert!(length("console.log.1") > 900_000);
    }
}

host_test! {
    fn a_full_disk_loses_output_and_nothing_else() {
        let world = World::new("exec dd if=/dev/zero bs=64k count=20");
        let options = rustix::mount::MountFlags::empty();
        rustix::mount::mount_remount(&world.plan.run_dir, options, c"size=256k").expect("a small disk");
        let (_, record) = world.run();
        assert!(record.lost > 500_000, "{record:?}");
    }
}
