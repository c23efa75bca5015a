//! Programs executed in a running container.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use runtime::host_test;
use runtime::native::container::exec::{Session, SessionStreams, StreamsPlan, exec};
use runtime::native::container::relay::relay;
use runtime::native::shim::Running;

use crate::world::{World, chain, program, shim, wait_for};

fn begin(running: &Running, arguments: &[&str], streams: StreamsPlan) -> Session {
    match exec(running, shim(), &program(arguments), streams) {
        Ok(session) => session,
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// Runs a command with pipes and returns status, output and errors.
pub(crate) fn output(running: &Running, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut session = begin(running, arguments, StreamsPlan::Pipes);
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        let mut file = std::fs::File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(path)
            .expect("a file");
        file.write_all(content).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewound");
        file
    };
    let (input, output, errors) = (file("in", input), file("out", b""), file("err", b""));
    let status = relay(&mut session, input.as_fd(), output.as_fd(), errors.as_fd());
    let text = |mut file: std::fs::File| {
        std::io::Seek::rewind(&mut file).expect("rewound");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("text");
        text
    };
    (status.expect("a status"), text(output), text(errors))
}

host_test! {
    fn a_program_gets_its_input_and_gives_output_errors_and_status() {
        let world = World::new("exec sleep 1000");
        world.start();
        let running = world.running();
        let script = "cat; echo oops >&2; exit 3";
        assert_eq!(
            output(&running, &["sh", "-c", script], b"hello\n"),
            (3, "hello\n".to_owned(), "oops\n".to_owned())
        );
        let killed = output(&running, &["sh", "-c", "kill -TERM $$"], b"");
        assert_eq!(killed.0, 128 + libc::SIGTERM);
        let error = exec(&running, shim(), &program(&["nothing-like-it"]), StreamsPlan::Pipes);
        assert_eq!(
            chain(&error.expect_err("no such program")),
            "find nothing-like-it in the container's PATH: No such file or directory (os error 2)"
        );
    }
}

host_test! {
    fn a_program_has_a_large_output() {
        let world = World::new("exec sleep 1000");
        world.start();
        let (status, text, _) = output(&world.running(), &["head", "-c", "3000000", "/dev/zero"], b"");
        assert_eq!((status, text.len()), (0, 3_000_000));
    }
}

host_test! {
    fn a_silent_program_to_which_nobody_listens_is_hung_up() {
        let world = World::new("exec sleep 1000");
        world.start();
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let mut session = begin(&world.running(), &["sleep", "1000"], StreamsPlan::Pipes);
        drop(far);
        let status = relay(&mut session, near.as_fd(), near.as_fd(), near.as_fd());
        assert_eq!(status.expect("a status"), 128 + libc::SIGHUP);
    }
}

host_test! {
    fn a_program_is_in_every_cgroup_and_namespace_of_init() {
        let world = World::new("exec sleep 1000");
        let started = world.start();
        let running = world.running();
        let session = begin(&running, &["sleep", "1000"], StreamsPlan::Pipes);
        let payload = world.plan.cgroups.payload.clone().expect("a payload");
        let init = started.init.as_raw_nonzero().get();
        let pids = || -> BTreeSet<i32> {
            let text = std::fs::read_to_string(payload.join("cgroup.procs")).expect("procs");
            text.lines().filter_map(|line| line.parse().ok()).collect()
        };
        let other = *pids().iter().find(|&&pid| pid != init).expect("the executed program");
        wait_for("the program", || {
            std::fs::read_to_string(format!("/proc/{other}/comm")).is_ok_and(|name| name == "sleep\n")
        });
        let read = |pid: i32, what: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{what}")).expect("read")
        };
        assert_eq!(read(other, "cgroup"), read(init, "cgroup"));
        for namespace in ["user", "pid", "mnt", "uts", "ipc", "net", "cgroup", "time"] {
            let link = |pid| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).expect("link");
            assert_eq!(link(other), link(init), "{namespace}");
        }
        let confinement = |pid| {
            read(pid, "status")
                .lines()
                .filter(|line| {
                    ["Cap", "Seccomp", "NoNewPrivs", "Uid", "Gid", "Groups"]
                        .iter()
                        .any(|key| line.starts_with(key))
                })
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(confinement(other), confinement(init));
        session.signal(libc::SIGKILL).expect("killed");
        assert_eq!(session.wait().expect("a status"), 128 + libc::SIGKILL);
    }
}

host_test! {
    fn a_program_has_a_terminal_of_the_container() {
        let world = World::new("exec sleep 1000");
        world.start();
        let running = world.running();
        let script = "tty; stty size; read line; echo got $line; stty size";
        let mut session = begin(
            &running,
            &["sh", "-c", script],
            StreamsPlan::Terminal { rows: 33, columns: 101 },
        );
        session.resize(40, 120).expect("resized");
        let SessionStreams::Terminal(master) = &session.streams else {
            panic!("a terminal was asked for");
        };
        rustix::io::write(master, b"word\n").expect("typed");
        let (read, write) = std::io::pipe().expect("a pipe");
        let (nothing, _kept) = std::io::pipe().expect("a pipe");
        let write = OwnedFd::from(write);
        let status = relay(&mut session, nothing.as_fd(), write.as_fd(), write.as_fd());
        assert_eq!(status.expect("a status"), 0);
        drop(write);
        let mut text = String::new();
        std::io::BufReader::new(read).read_to_string(&mut text).expect("text");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(lines.contains(&"/dev/pts/1") && lines.contains(&"got word"), "{text}");
        assert_eq!(lines.last(), Some(&"40 120"), "{text}");
    }
}

host_test! {
    fn nothing_of_the_host_is_open_in_a_program() {
        let world = World::new("ls -l /proc/self/fd; echo done; exec sleep 1000");
        world.start();
        world.wait_for_console("done");
        let running = world.running();
        let (_, text, _) = output(&running, &["sh", "-c", "ls -l /proc/$$/fd; readlink /proc/self/cwd; readlink /proc/self/root"], b"");
        for text in [text.clone(), world.console()] {
            for line in text.lines().filter_map(|line| Some(line.split_once(" -> ")?.1)) {
                let fine = ["/dev/pts/0", "pipe:["].iter().any(|known| line.starts_with(known))
                    // The folder that ls itself reads.
                    || line.starts_with("/proc/");
                assert!(fine, "{line} in\n{text}");
            }
        }
        assert!(text.ends_with("/\n/\n"), "{text}");
    }
}

host_test! {
    fn a_frozen_container_refuses_programs_and_thaws() {
        let world = World::new("exec sleep 1000");
        world.start();
        let running = world.running();
        running.freeze().expect("frozen");
        assert!(running.frozen().expect("known"));
        let error = exec(&running, shim(), &program(&["true"]), StreamsPlan::Pipes);
        assert_eq!(chain(&error.expect_err("frozen")), "the container is frozen");
        running.thaw().expect("thawed");
        assert_eq!(output(&running, &["true"], b"").0, 0);
        running.freeze().expect("frozen again, for the end to kill");
    }
}

host_test! {
    fn an_init_that_its_own_root_froze_holds_nobody_up() {
        let world = World::new("exec sleep 1000");
        world.start();
        let running = world.running();
        let payload = world.plan.cgroups.payload.clone().expect("cgroup 2");
        // As the container's root may: the folder is its own.
        let own = payload.join("own");
        std::fs::create_dir(&own).expect("a folder");
        let init = running.init().expect("an init").as_raw_nonzero().to_string();
        manifests::path_io::write_kernel_file(own.join("cgroup.procs"), &init).expect("moved");
        manifests::path_io::write_kernel_file(own.join("cgroup.freeze"), "1").expect("frozen");
        wait_for("the freeze", || {
            manifests::path_io::read_to_string(own.join("cgroup.events")).is_ok_and(|text| text.contains("frozen 1"))
        });
        let error = exec(&running, shim(), &program(&["true"]), StreamsPlan::Pipes).expect_err("frozen");
        assert_eq!(chain(&error), "the container is frozen");
        running.kill(crate::world::PATIENCE).expect("killed all the same");
    }
}
