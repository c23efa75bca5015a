//! Attacks on what the host runs inside for a moment: the process that becomes an executed program.

use std::time::{Duration, Instant};

use runtime::host_test;
use runtime::native::container::exec::{StreamsPlan, exec};

use crate::exec::output;
use crate::world::{World, program};

/// Looks at every new process as fast as one processor can: its program, its memory, its descriptors. What belongs to
/// the container is none of its business; everything else is told as a line `LEAK …`.
const HUNTER: &str = r#"
import ctypes, os, stat, sys
c = ctypes.CDLL(None, use_errno=True)
own = {'1', str(os.getpid())}
tried = opened = 0
# Programs of the container: of its own image, and the interpreter that is bound into it.
def known(pid):
    try: return os.readlink(f'/proc/{pid}/exe').startswith(('/bin/busybox', '/usr/'))
    except OSError: return True
def leak(*words): print('LEAK', *words, flush=True)
def attempt(pid, what, flags):
    try: fd = os.open(f'/proc/{pid}/{what}', flags)
    except OSError: return
    if not known(pid): leak(what, 'could be opened')
    os.close(fd)
def program(pid):
    # CVE-2019-5736: a handle on the program first, which is opened for writing when it is no longer executed.
    try: fd = os.open(f'/proc/{pid}/exe', os.O_PATH)
    except OSError: return
    name = os.readlink(f'/proc/self/fd/{fd}')
    if not name.startswith(('/bin/busybox', '/usr/')):
        leak('exe', name)
        for _ in range(1000):
            try:
                os.close(os.open(f'/proc/self/fd/{fd}', os.O_WRONLY)); leak('exe could be written'); break
            except OSError: pass
    os.close(fd)
def descriptors(pid):
    global opened
    pidfd = c.syscall(434, int(pid), 0)
    if pidfd < 0: return
    for number in range(12):
        fd = c.syscall(438, pidfd, number, 0)
        if fd < 0: continue
        opened += 1
        mode = os.fstat(fd).st_mode
        # A program has pipes and terminals; the joiner has a socket, folders and namespaces.
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)) and os.path.basename(os.readlink(f'/proc/{pid}/exe')) != 'busybox':
            leak('descriptor', number, oct(mode))
        os.close(fd)
    os.close(pidfd)
def trace(pid):
    # PTRACE_SEIZE by a child, whose end detaches again: a traced process would wait for its tracer at its own end.
    child = os.fork()
    if child == 0:
        if c.ptrace(0x4206, int(pid), 0, 0) == 0 and not known(pid): leak('could be traced')
        os._exit(0)
    os.waitpid(child, 0)
print('hunting', flush=True)
while not os.path.exists('/tmp/stop'):
    for pid in os.listdir('/proc'):
        if not pid.isdigit() or pid in own: continue
        tried += 1
        try:
            program(pid); descriptors(pid)
            attempt(pid, 'mem', os.O_RDWR); attempt(pid, 'environ', os.O_RDONLY); attempt(pid, 'auxv', os.O_RDONLY)
            if tried % 7 == 0: trace(pid)
        except (OSError, ProcessLookupError): pass
print('tried', tried, 'descriptors', opened, flush=True)
"#;

/// Executes programs for a while in a container whose root hunts them.
fn hunted(least: usize, patience: Duration) {
    let mut world = World::new("exec sleep 1000");
    world.bind_programs_of_the_host();
    world.start();
    let running = world.running();
    let script = ["/usr/bin/python3", "-c", HUNTER];
    let mut hunter = exec(
        &running,
        crate::world::shim(),
        &program(&script),
        StreamsPlan::Pipes,
    )
    .expect("the hunter starts");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("found");
    let written = std::fs::File::create(&path).expect("a file");
    let thread = std::thread::spawn(move || {
        use std::os::fd::AsFd as _;
        let null = std::fs::File::open("/dev/null").expect("null");
        runtime::native::container::relay::relay(
            &mut hunter,
            null.as_fd(),
            written.as_fd(),
            written.as_fd(),
        )
        .expect("a status")
    });
    let found = || std::fs::read_to_string(&path).expect("what it found");
    crate::world::wait_for("the hunter", || found().contains("hunting"));
    let shim = std::fs::read(crate::world::shim()).expect("the companion");
    let begin = Instant::now();
    let mut count = 0;
    while count < least || begin.elapsed() < patience {
        assert_eq!(output(&running, &["true"], b"").0, 0);
        count += 1;
    }
    assert_eq!(output(&running, &["touch", "/tmp/stop"], b"").0, 0);
    assert_eq!(thread.join().expect("the hunter ends"), 0);
    let found = found();
    assert!(!found.contains("LEAK"), "{found}");
    // It saw processes, so it could have found something.
    assert!(
        found.contains("tried ") && !found.contains("tried 0"),
        "{found}"
    );
    let now = std::fs::read(crate::world::shim()).expect("the companion");
    assert!(now == shim, "keel-shim was changed");
}

host_test! {
    fn the_joiner_cannot_be_traced_read_or_overwritten() {
        hunted(40, Duration::from_secs(2));
    }
}

host_test! {
    fn slow_the_joiner_cannot_be_traced_read_or_overwritten_in_five_hundred_runs() {
        hunted(500, Duration::from_secs(20));
    }
}

host_test! {
    fn a_working_folder_never_leads_out() {
        let world = World::new("exec sleep 1000");
        world.start();
        let running = world.running();
        // CVE-2024-21626: descriptors of the joiner as working folder; and what an absolute path may come to.
        let folders = (3..24).map(|number| format!("/proc/self/fd/{number}"));
        for folder in folders.chain(["/proc/self/cwd/..".to_owned(), "/proc/1/root/..".to_owned()]) {
            let mut plan = program(&["sh", "-c", "pwd; ls /proc/self/cwd/; readlink /proc/self/cwd"]);
            plan.directory = folder.clone();
            let Ok(mut session) = exec(&running, crate::world::shim(), &plan, StreamsPlan::Pipes) else {
                continue;
            };
            let file = tempfile::tempfile().expect("a file");
            let null = std::fs::File::open("/dev/null").expect("null");
            use std::os::fd::AsFd as _;
            let status = runtime::native::container::relay::relay(
                &mut session,
                null.as_fd(),
                file.as_fd(),
                file.as_fd(),
            );
            assert_eq!(status.expect("a status"), 0);
            let mut text = String::new();
            let mut file = file;
            std::io::Seek::rewind(&mut file).expect("rewound");
            std::io::Read::read_to_string(&mut file, &mut text).expect("text");
            let lines: Vec<&str> = text.lines().collect();
            // The container's own root is all that is left of it.
            assert_eq!((lines.first(), lines.last()), (Some(&"/"), Some(&"/")), "{folder}: {text}");
            assert!(lines.contains(&"bin") && !lines.contains(&"home"), "{folder}: {text}");
        }
    }
}
