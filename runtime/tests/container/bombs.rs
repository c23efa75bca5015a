//! Small bombs: what a container may use up is bounded, and its neighbour and the host go on.

use runtime::host_test;
use runtime::native::container::plan::IdMap;

use crate::exec::output;
use crate::world::World;

host_test! {
    fn terminals_and_keys_of_a_container_are_its_own() {
        let mut world = World::new("exec sleep 1000");
        world.bind_programs_of_the_host();
        world.start();
        let running = world.running();
        let before = std::fs::read_to_string("/proc/sys/kernel/pty/nr").expect("a number");
        let bomb = r#"
import ctypes, os
kept = []
try:
    while len(kept) < 5000: kept.append(os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY))
except OSError as error: print('terminals', len(kept), error.strerror)
c = ctypes.CDLL(None, use_errno=True)
keys = 0
while keys < 100000 and c.syscall(248, b'user', b'k%d' % keys, b'x' * 100, 100, -3) >= 0: keys += 1
print('keys', keys, os.strerror(ctypes.get_errno()))
"#;
        let (status, text, errors) = output(&running, &["/usr/bin/python3", "-c", bomb], b"");
        assert_eq!(status, 0, "{errors}");
        let number = |word: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("{text}"));
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        // The container's devpts has a bound of its own; keys are counted for its own user alone.
        assert!((1..=1024).contains(&number("terminals")), "{text}");
        assert!(number("keys") < 100_000, "{text}");
        crate::world::wait_for("the terminals to be free again", || {
            let now = std::fs::read_to_string("/proc/sys/kernel/pty/nr").expect("a number");
            now.trim().parse::<u64>().expect("a number") <= before.trim().parse::<u64>().expect("a number") + 1
        });
        // The container itself is as well as before: its console, and a terminal for whoever comes.
        assert_eq!(output(&running, &["true"], b"").0, 0);
    }
}

host_test! {
    fn inotify_instances_of_a_container_are_its_own() {
        let bomb = r#"
import ctypes, os, time
c = ctypes.CDLL(None, use_errno=True)
count = 0
while count < 100000 and c.inotify_init1(0) >= 0: count += 1
print(count, os.strerror(ctypes.get_errno()), flush=True)
time.sleep(1000)
"#;
        let mut world = World::new(&format!("exec /usr/bin/python3 -c '{bomb}'"));
        // Not the ids of containers of other tests that may run beside.
        world.plan.ids = Some(IdMap::span(300_000_000, 65_536));
        world.bind_programs_of_the_host();
        world.start();
        world.wait_for_console("Too many open files");
        // The host has its own, and so has everybody else.
        for _ in 0..3 {
            let instance = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC);
            instance.expect("the host has inotify instances left");
        }
    }
}
