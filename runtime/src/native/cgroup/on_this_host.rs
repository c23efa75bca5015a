//! Host tests: the limits really hold, on whichever generation this host has each controller.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manifests::path_io;

use super::limits::{
    BlockDevice, CpuAllowance, CpuChoice, CpuPlacement, CpuShare, DeviceIo, Enforce, IoLimits,
    MemoryLimit, Swap,
};
use super::*;

const MIB: u64 = 1 << 20;

/// An instance of a test: its cgroups and processes go with it, also when the test fails.
struct Instance {
    hierarchies: Hierarchies,
    host: Host,
    cgroups: InstanceCgroups,
    processes: Vec<Child>,
}

impl Instance {
    fn new(name: &str) -> Self {
        let hierarchies = Hierarchies::read().unwrap();
        let host = Host::read(&hierarchies).unwrap();
        let state = format!("test-{name}-{}", std::process::id());
        let cgroups = InstanceCgroups::of(&hierarchies, &state, "instance");
        drop(cgroups.ensure().unwrap());
        Self {
            hierarchies,
            host,
            cgroups,
            processes: Vec::new(),
        }
    }

    /// Starts `sh -c script` inside; its output can be read line by line, its input is open.
    fn start(&mut self, script: &str, user: u32) -> &mut Child {
        #[expect(clippy::disallowed_methods, reason = "a process to be limited")]
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .uid(user)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        instance::join(&self.cgroups.payload_folders(), child.id()).unwrap();
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        self.processes.push(child);
        self.processes.last_mut().unwrap()
    }

    /// As [`Instance::start`], and waits for its first line.
    fn started(&mut self, script: &str) -> String {
        let child = self.start(script, 0);
        line(child)
    }

    fn set(&self, wanted: &Limits) {
        let errors = set(wanted, &self.cgroups, &self.host);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(self.seen().all_known().as_ref(), Some(wanted));
        let snapshot = Snapshot::read(&self.cgroups, &self.host);
        let again = changes(wanted, &self.cgroups, &snapshot, &self.host);
        assert!(again.is_empty(), "nothing left to do: {again:?}");
    }

    fn seen(&self) -> LimitsSeen {
        let snapshot = Snapshot::read(&self.cgroups, &self.host);
        seen(&self.cgroups, &snapshot, &self.host)
    }

    fn alive(&mut self, index: usize) -> bool {
        self.processes[index].try_wait().unwrap().is_none()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let killed = self.cgroups.kill(Patience::default());
        for child in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
        let removed = self.cgroups.remove(Patience::default());
        if !std::thread::panicking() {
            killed.unwrap();
            removed.unwrap();
            for folder in self.cgroups.v1.iter().chain(&self.cgroups.v2) {
                assert!(
                    !folder.parent().unwrap().exists(),
                    "{} is gone",
                    folder.display()
                );
            }
        }
    }
}

fn line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    line.trim().to_owned()
}

fn memory(mib: u64, swap: Swap) -> Limits {
    Limits {
        memory: MemoryLimit {
            bytes: Some(mib * MIB),
            enforce: Enforce::Hard,
            swap,
        },
        ..Limits::default()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test of what the kernel does in a time"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test of what the kernel does in a time"
)]
fn now() -> Instant {
    Instant::now()
}

crate::host_test! {
    fn every_limit_that_is_set_is_seen() {
        let instance = Instance::new("seen");
        let can = |controller| instance.hierarchies.version(controller).is_some();
        let mut wanted = Limits::default();
        instance.set(&wanted);
        if can(Controller::Cpuset) {
            for cpus in [CpuChoice::Count(1), CpuChoice::Set("0".parse().unwrap()), CpuChoice::All] {
                wanted.cpuset = CpuPlacement { cpus, nodes: Some("0".parse().unwrap()) };
                instance.set(&wanted);
            }
        }
        if can(Controller::Cpu) {
            for (allowance, priority) in [
                (CpuAllowance::Soft(50), 3),
                (CpuAllowance::Hard { quota: 25_000, period: 100_000 }, 0),
                (CpuAllowance::Hard { quota: 300_000, period: 1_000_000 }, 10),
                (CpuAllowance::Soft(1), 0),
            ] {
                wanted.cpu = CpuShare { allowance, priority };
                instance.set(&wanted);
            }
        }
        if can(Controller::Memory) {
            for (bytes, enforce, swap) in [
                (Some(64_000_001), Enforce::Hard, Swap::Allowed),
                (Some(128 * MIB), Enforce::Hard, Swap::Forbidden),
                (Some(32 * MIB), Enforce::Hard, Swap::Bytes(MIB)),
                (Some(96 * MIB), Enforce::Soft, Swap::Allowed),
                (Some(48 * MIB), Enforce::Soft, Swap::Forbidden),
                (None, Enforce::Hard, Swap::Forbidden),
                (None, Enforce::Soft, Swap::Allowed),
            ] {
                wanted.memory = MemoryLimit { bytes, enforce, swap };
                instance.set(&wanted);
            }
        }
        if can(Controller::Hugetlb) {
            let size = instance.host.huge_pages[0];
            for limit in [Some(size * 3 + 1), Some(0), None] {
                wanted.hugepages = limit.map(|bytes| (size, bytes)).into_iter().collect();
                instance.set(&wanted);
            }
        }
        if can(Controller::Pids) {
            for processes in [Some(1), Some(4_000), None] {
                wanted.processes = processes;
                instance.set(&wanted);
            }
        }
        let weights = instance.cgroups.place(Controller::Io).is_some_and(|place| {
            ["blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight"]
                .iter()
                .any(|name| place.instance.join(name).exists())
        });
        for priority in [0, 5, 10].into_iter().filter(|_| weights) {
            wanted.io.priority = priority;
            instance.set(&wanted);
        }
        instance.set(&Limits::default());
    }
}

crate::host_test! {
    fn memory_above_the_limit_is_killed_inside_only() {
        // Which of the processes inside is killed, and how many, is the kernel's choice: where the first does not leave
        // within a second, it takes another one (oom_reaper, mm/oom_kill.c). So the bystander is another instance.
        let mut bystander = Instance::new("bystander");
        bystander.set(&memory(32, Swap::Forbidden));
        bystander.start("sleep 60", 0);
        let mut instance = Instance::new("oom");
        instance.set(&memory(32, Swap::Forbidden));
        // tail keeps a line in memory until it ends; this one never does.
        instance.start("head -c 200000000 /dev/zero | tail", 0);
        let status = instance.processes[0].wait().unwrap();
        let usage = instance.cgroups.usage();
        assert!(!status.success(), "tail was killed: {status}, {usage:?}");
        assert!(usage.out_of_memory_kills >= Some(1), "{status}, {usage:?}");
        assert!(usage.memory <= Some(32 * MIB), "{status}, {usage:?}");
        assert!(bystander.alive(0), "the other one lives");
        assert_eq!(bystander.cgroups.usage().out_of_memory_kills, Some(0));
    }
}

crate::host_test! {
    fn a_memory_limit_below_the_use_is_refused_and_nothing_is_killed() {
        let mut instance = Instance::new("held");
        let roomy = memory(300, Swap::Forbidden);
        instance.set(&roomy);
        let word = instance.started(
            "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo \"${#x}\"; read wait",
        );
        assert_eq!(word, "60000000");
        let tight = Limits { processes: Some(77), ..memory(20, Swap::Forbidden) };
        let errors = set(&tight, &instance.cgroups, &instance.host);
        assert!(
            matches!(
                errors.as_slice(),
                [LimitError::Refused { part: LimitPart::Memory, wanted, current }]
                    if *wanted == 20 * MIB && *current > 50 * MIB
            ),
            "{errors:?}"
        );
        let seen = instance.seen();
        assert_eq!(seen.memory, Seen::Known(roomy.memory.clone()), "the old limit holds");
        assert_eq!(seen.processes, Seen::Known(Some(77)), "its sibling is in force");
        assert!(instance.alive(0));
        assert_eq!(instance.cgroups.usage().out_of_memory_kills, Some(0));
        // Page cache gives way, so a limit above what cannot be reclaimed is taken.
        instance.set(&memory(200, Swap::Forbidden));
        assert!(instance.alive(0));
    }
}

crate::host_test! {
    fn forks_beyond_the_limit_fail() {
        let mut instance = Instance::new("pids");
        instance.set(&Limits { processes: Some(6), ..Limits::default() });
        instance.start("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 60 & done; wait", 0);
        let mut patience = Patience::default();
        while instance.cgroups.usage().forks_refused.unwrap_or(0) == 0 {
            assert!(patience.wait(), "a fork fails: {:?}", instance.cgroups.usage());
        }
        assert!(instance.cgroups.processes().unwrap().len() <= 6);
    }
}

crate::host_test! {
    fn a_quota_holds_and_changes_live() {
        let mut instance = Instance::new("cpu");
        let hard = |quota| Limits {
            cpu: CpuShare { allowance: CpuAllowance::Hard { quota, period: 100_000 }, priority: 10 },
            ..Limits::default()
        };
        instance.set(&hard(10_000));
        instance.start("while :; do :; done", 0);
        let share = |instance: &Instance| {
            let (before, at) = (instance.cgroups.usage().cpu_nanoseconds.unwrap(), now());
            pause(Duration::from_millis(1000));
            let used = instance.cgroups.usage().cpu_nanoseconds.unwrap() - before;
            used as f64 / at.elapsed().as_nanos() as f64
        };
        let tight = share(&instance);
        assert!(tight > 0.01 && tight < 0.2, "10 % wanted, {tight} used");
        instance.set(&hard(1000));
        let tighter = share(&instance);
        assert!(tighter < 0.05 && tighter < tight, "1 % wanted, {tighter} used");
    }
}

crate::host_test! {
    fn a_count_of_cpus_is_balanced_over_instances() {
        let mut instance = Instance::new("cpuset");
        let one = Limits {
            cpuset: CpuPlacement { cpus: CpuChoice::Count(1), nodes: None },
            ..Limits::default()
        };
        instance.set(&one);
        let allowed = instance.started("grep Cpus_allowed_list /proc/self/status; read wait");
        let mine: CpuList = allowed.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(mine.len(), 1, "{allowed}");
        let state = instance.cgroups.home().unwrap().parent().unwrap().file_name().unwrap();
        let state = state.to_str().unwrap().strip_prefix("keel-").unwrap().to_owned();
        let load = cpuset::load(&instance.hierarchies, &state, "another", &instance.host).unwrap();
        if instance.host.cpus.len() > 1 {
            assert_eq!(load.keys().copied().collect::<CpuList>(), mine);
            let other = Host { load, ..instance.host.clone() };
            let second = InstanceCgroups::of(&instance.hierarchies, &state, "another");
            drop(second.ensure().unwrap());
            let errors = set(&one, &second, &other);
            let theirs = path_io::read_to_string(
                second.place(Controller::Cpuset).unwrap().payload.join("cpuset.cpus"),
            );
            second.remove(Patience::default()).unwrap();
            assert!(errors.is_empty(), "{errors:?}");
            assert_ne!(theirs.unwrap().parse::<CpuList>().unwrap(), mine);
        }
    }
}

crate::host_test! {
    fn cgroups_that_were_half_made_are_seen_and_removed() {
        let instance = Instance::new("half");
        let all: Vec<_> = instance.cgroups.v1.iter().chain(&instance.cgroups.v2).cloned().collect();
        for kept in &all {
            drop(instance.cgroups.ensure().unwrap());
            for folder in all.iter().filter(|folder| *folder != kept) {
                removal::remove_tree(folder, &mut Patience::default()).unwrap();
            }
            assert!(instance.cgroups.exist(), "{} is there", kept.display());
            instance.cgroups.kill(Patience::default()).unwrap();
            instance.cgroups.remove(Patience::default()).unwrap();
            assert!(!instance.cgroups.exist());
        }
    }
}

crate::host_test! {
    fn what_instances_share_outlives_one_that_ends_while_another_begins() {
        let ends = Instance::new("shared");
        let state = ends.cgroups.home().unwrap().parent().unwrap().file_name().unwrap();
        let state = state.to_str().unwrap().strip_prefix("keel-").unwrap();
        let begins = InstanceCgroups::of(&ends.hierarchies, state, "another");
        for _ in 0..2 {
            let joining = begins.ensure().unwrap();
            ends.cgroups.remove(Patience::default()).unwrap();
            begins.remove_unused(Patience::new(Duration::from_millis(20)));
            for folder in begins.payload_folders().iter().chain(begins.monitors()).chain(&begins.monitor()) {
                assert!(folder.is_dir(), "{} is there", folder.display());
            }
            drop(joining);
            begins.remove_unused(Patience::default());
            assert!(!begins.exist());
        }
    }
}

crate::host_test! {
    fn a_disk_limit_slows_writes_down() {
        let mut instance = Instance::new("io");
        let image = "/run/disk";
        path_io::write(image, vec![0u8; 16 << 20]).unwrap();
        let loops = crate::sys::command::run("losetup", ["--find", "--show", image], None).unwrap();
        let device = String::from_utf8(loops).unwrap().trim().to_owned();
        let number = path_io::read_to_string(format!("/sys/block/{}/dev", &device[5..])).unwrap();
        let number = BlockDevice::try_from(number).unwrap();
        assert_eq!(io::whole_disk(number).unwrap(), number);
        let limits = |write_bytes| Limits {
            io: IoLimits {
                devices: [(number, DeviceIo { write_bytes, ..DeviceIo::default() })]
                    .into_iter()
                    .filter(|(_, io)| !io.is_unlimited())
                    .collect(),
                ..IoLimits::default()
            },
            ..Limits::default()
        };
        let time = |instance: &mut Instance| {
            let at = now();
            let done = instance.started(&format!(
                "dd if=/dev/zero of={device} bs=256k count=8 oflag=direct 2>/dev/null && echo done"
            ));
            assert_eq!(done, "done");
            at.elapsed()
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            instance.set(&limits(Some(MIB)));
            let slow = time(&mut instance);
            assert!(slow > Duration::from_millis(1000), "2 MiB at 1 MiB/s took {slow:?}");
            instance.set(&limits(None));
            let fast = time(&mut instance);
            assert!(fast < slow / 2, "without a limit it took {fast:?}, with one {slow:?}");
        }));
        crate::sys::command::run("losetup", ["--detach", &device], None).unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }
}

crate::host_test! {
    fn freezing_stops_and_thawing_goes_on_whoever_froze() {
        let mut instance = Instance::new("freeze");
        instance.start("while :; do :; done", 0);
        assert_eq!(instance.cgroups.frozen().unwrap(), Frozen::Thawed);
        let used = |instance: &Instance| instance.cgroups.usage().cpu_nanoseconds.unwrap();
        let runs = |instance: &Instance| {
            let before = used(instance);
            pause(Duration::from_millis(100));
            used(instance) - before > 1_000_000
        };
        assert!(runs(&instance));
        instance.cgroups.freeze(Patience::default()).unwrap();
        assert_eq!(instance.cgroups.frozen().unwrap(), Frozen::Frozen);
        assert!(!runs(&instance));
        instance.cgroups.thaw().unwrap();
        assert_eq!(instance.cgroups.frozen().unwrap(), Frozen::Thawed);
        assert!(runs(&instance));
        let mut by_hand: Vec<(std::path::PathBuf, &str)> = Vec::new();
        if let Some(place) = instance.cgroups.place(Controller::Freezer) {
            by_hand.push((place.payload.join("freezer.state"), "FROZEN"));
        }
        if let Some(v2) = &instance.cgroups.v2 {
            by_hand.push((v2.join("cgroup.freeze"), "1"));
        }
        assert!(!by_hand.is_empty());
        for (file, word) in by_hand {
            path_io::write_kernel_file(&file, word).unwrap();
            let mut patience = Patience::default();
            while instance.cgroups.frozen().unwrap() != Frozen::Frozen {
                assert!(patience.wait(), "{} freezes", file.display());
            }
            instance.cgroups.thaw().unwrap();
            assert_eq!(instance.cgroups.frozen().unwrap(), Frozen::Thawed);
            assert!(runs(&instance), "after {}", file.display());
        }
    }
}

crate::host_test! {
    fn killing_leaves_nothing_whatever_its_state() {
        let mut instance = Instance::new("kill");
        instance.cgroups.kill(Patience::default()).unwrap();
        let forks = "f() { sleep 60 & sleep 60 & }; for i in 1 2 3 4 5; do f; done; echo up; wait";
        for frozen_by in ["nobody", "us", "v1"] {
            assert_eq!(instance.started(forks), "up");
            assert!(instance.cgroups.processes().unwrap().len() > 10);
            match (frozen_by, instance.cgroups.place(Controller::Freezer)) {
                ("us", _) => instance.cgroups.freeze(Patience::default()).unwrap(),
                ("v1", Some(place)) => {
                    path_io::write_kernel_file(place.payload.join("freezer.state"), "FROZEN").unwrap();
                }
                _ => {}
            }
            instance.cgroups.kill(Patience::default()).unwrap();
            assert!(instance.cgroups.processes().unwrap().is_empty(), "frozen by {frozen_by}");
            instance.cgroups.thaw().unwrap();
        }
        // One that somebody moved out of cgroup2 is still ours by the other hierarchies.
        if !instance.cgroups.v1.is_empty()
            && let Some(v2) = instance.hierarchies.v2.clone()
        {
            let pid = instance.start("sleep 60", 0).id();
            instance::join(std::slice::from_ref(&v2.base), pid).unwrap();
            assert!(instance.cgroups.processes().unwrap().contains(&pid));
            instance.cgroups.kill(Patience::default()).unwrap();
            assert!(instance.cgroups.processes().unwrap().is_empty());
        }
    }
}

crate::host_test! {
    fn the_containers_root_can_make_some_cgroups_and_touch_no_limit() {
        let mut instance = Instance::new("delegate");
        let Some(payload) = instance.cgroups.payload() else {
            // Without cgroup2 nothing is handed over.
            return;
        };
        let within = Delegation { descendants: 10, depth: 2 };
        instance.cgroups.delegate(100_000, 100_000, within).unwrap();
        let child = instance.start(
            &format!(
                "cd {}; n=0; for i in $(seq 50); do mkdir c$i && n=$((n+1)); done; mkdir -p c1/a/b;
                 w=0; for f in cgroup.kill cgroup.freeze cgroup.max.descendants ../cgroup.procs; do
                     (echo 1 > $f) && w=$((w+1)); done; (echo $$ > c1/cgroup.procs) && w=$((w+100)); echo $n $w; read wait",
                payload.display()
            ),
            100_000,
        );
        assert_eq!(line(child), "10 100");
        let text = path_io::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        let folders = instance.cgroups.folders_of_process(&text);
        assert_eq!(folders.last(), Some(&payload.join("c1")));
        // The guard's drop removes what was made below.
    }
}

crate::host_test! {
    fn init_and_its_like_get_the_priority_of_the_host_out_of_memory_killer() {
        let mut instance = Instance::new("score");
        let child = instance.start("echo 300 > /proc/self/oom_score_adj & wait; sleep 60 & echo up; wait", 0);
        let init = child.id();
        assert_eq!(line(child), "up");
        oom::set_oom_priority(&instance.cgroups, init, 500).unwrap();
        assert_eq!(oom::seen_oom_priority(init), Seen::Known(500));
        for pid in instance.cgroups.processes().unwrap() {
            assert_eq!(oom::seen_oom_priority(pid), Seen::Known(500));
        }
        oom::set_oom_priority(&instance.cgroups, init, 0).unwrap();
        assert_eq!(oom::seen_oom_priority(init), Seen::Known(0));
    }
}

crate::host_test! {
    fn only_allowed_devices_open() {
        let mut instance = Instance::new("devices");
        let check = "t() { (: < $1) 2>/dev/null && echo -n \"$1 \"; }; t /dev/null; t /dev/zero; t /run/kmsg; echo; read wait";
        crate::sys::command::run("mknod", ["/run/kmsg", "c", "1", "11"], None).unwrap();
        assert_eq!(instance.cgroups.devices(), Seen::Known(DeviceAccess::All));
        assert_eq!(instance.started(check), "/dev/null /dev/zero /run/kmsg");
        let mut rules = DeviceRules::defaults();
        instance.cgroups.set_devices(&DeviceAccess::Rules(rules.clone())).unwrap();
        assert_eq!(instance.cgroups.devices(), Seen::Known(DeviceAccess::Rules(rules.clone())));
        assert_eq!(instance.started(check), "/dev/null /dev/zero");
        rules.add("c 1:11 r".parse().unwrap());
        for _ in 0..2 {
            instance.cgroups.set_devices(&DeviceAccess::Rules(rules.clone())).unwrap();
            assert_eq!(instance.cgroups.devices(), Seen::Known(DeviceAccess::Rules(rules.clone())));
            assert_eq!(instance.started(check), "/dev/null /dev/zero /run/kmsg");
        }
        let few: DeviceRules = "c 1:3 rw".parse().unwrap();
        instance.cgroups.set_devices(&DeviceAccess::Rules(few.clone())).unwrap();
        assert_eq!(instance.cgroups.devices(), Seen::Known(DeviceAccess::Rules(few)));
        assert_eq!(instance.started(check), "/dev/null");
        instance.cgroups.set_devices(&DeviceAccess::All).unwrap();
        assert_eq!(instance.cgroups.devices(), Seen::Known(DeviceAccess::All));
        assert_eq!(instance.started(check), "/dev/null /dev/zero /run/kmsg");
    }
}

crate::host_test! {
    fn what_cgroup2_does_is_done_by_v1_where_it_is_alone() {
        let hierarchies = Hierarchies::read().unwrap();
        let alone = [Controller::Freezer, Controller::Devices]
            .iter()
            .all(|controller| hierarchies.v1_of(*controller).is_some());
        if !alone {
            // cgroup2 alone: its own ways are what the other tests go.
            return;
        }
        let mut instance = Instance::new("v1");
        let v1 = Hierarchies { v2: None, ..hierarchies };
        let state = format!("test-v1-{}", std::process::id());
        let only = InstanceCgroups::of(&v1, &state, "instance");
        instance.start("while :; do :; done", 0);
        only.freeze(Patience::default()).unwrap();
        assert_eq!(only.frozen().unwrap(), Frozen::Frozen);
        only.thaw().unwrap();
        assert_eq!(only.frozen().unwrap(), Frozen::Thawed);
        let rules = DeviceRules::defaults();
        only.set_devices(&DeviceAccess::Rules(rules.clone())).unwrap();
        assert_eq!(only.devices(), Seen::Known(DeviceAccess::Rules(rules.clone())));
        // What it may use before and after it may use all the time.
        let user = "while [ ! -e /run/stop ]; do true < /dev/null || exec echo refused; done 2>/dev/null; echo none";
        let child = instance.start(user, 0);
        for _ in 0..400 {
            only.set_devices(&DeviceAccess::All).unwrap();
            only.set_devices(&DeviceAccess::Rules(rules.clone())).unwrap();
        }
        path_io::write("/run/stop", "").unwrap();
        assert_eq!(line(child), "none");
        assert_eq!(only.frozen().unwrap(), Frozen::Thawed);
        let check = "(: < /run/kmsg) 2>/dev/null && echo open || echo closed; read wait";
        crate::sys::command::run("mknod", ["/run/kmsg", "c", "1", "11"], None).unwrap();
        assert_eq!(instance.started(check), "closed");
        only.set_devices(&DeviceAccess::All).unwrap();
        assert_eq!(only.devices(), Seen::Known(DeviceAccess::All));
        assert_eq!(instance.started(check), "open");
        only.freeze(Patience::default()).unwrap();
        only.kill(Patience::default()).unwrap();
        assert!(only.processes().unwrap().is_empty());
    }
}
