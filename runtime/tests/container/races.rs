//! Attacks in time: what a mount or a file lands on is exchanged again and again while containers start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtime::host_test;
use runtime::native::container::plan::FilePlan;

use crate::mounts::bind;
use crate::world::World;

/// Exchanges two names as fast as it can, until it is dropped.
struct Exchange {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Exchange {
    fn begin(one: PathBuf, two: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !seen.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &two, flags)
                    .expect("exchanged");
                count += 1;
            }
            count
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends it and says how often it exchanged.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("it ends")
    }
}

/// All names and contents below a folder of the host.
fn tree(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let kind = std::fs::symlink_metadata(&path).expect("metadata");
        all.push(format!(
            "{} {:?}",
            path.display(),
            std::fs::read(&path).ok()
        ));
        if kind.is_dir() {
            all.extend(tree(&path));
        }
    }
    all.sort();
    all
}

/// A volume that two containers share: one of them exchanges a folder in it for a link to the host while the other
/// starts with a mount and a file below it.
fn race(least: usize, patience: Duration) {
    let mut world =
        World::new("cat /proc/self/mountinfo >/dev/null; cat /shared/place/deep/it/mine; exit 0");
    let victim = world.path().join("victim");
    let shared = world.path().join("shared");
    let mine = world.path().join("mine");
    for folder in [&victim, &shared, &mine] {
        std::fs::create_dir(folder).expect("a folder");
        crate::world::set_mode(folder, 0o777);
    }
    for name in ["deep", "file"] {
        std::fs::create_dir(victim.join(name)).expect("a folder");
    }
    crate::world::set_mode(world.path(), 0o755);
    std::fs::write(victim.join("kept"), "untouched").expect("a file");
    std::fs::write(mine.join("mine"), "mine\n").expect("a file");
    std::fs::create_dir(shared.join("place")).expect("a folder");
    rustix::fs::symlink(&victim, shared.join("other")).expect("a link");
    let before = tree(&victim);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");

    let mut volume = bind(&world, "shared", "/shared");
    volume.read_only = false;
    world.plan.mounts = vec![volume, bind(&world, "mine", "/shared/place/deep/it")];
    world.plan.files = vec![FilePlan {
        target: "/shared/place/file/written".to_owned(),
        content: b"evil".to_vec(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        create_parents: true,
        only_if_absent: false,
        ours: Vec::new(),
    }];
    let exchange = Exchange::begin(shared.join("place"), shared.join("other"));
    let begin = Instant::now();
    let mut tries = 0;
    while tries < least || begin.elapsed() < patience {
        tries += 1;
        world.plan.generation += 1;
        // Some starts fail: what was a folder is a link by then. None may reach the host.
        if world.try_start().is_ok() {
            crate::world::wait_for("its end", || {
                matches!(
                    runtime::native::shim::adopt(&world.plan.run_dir),
                    Ok(runtime::native::shim::Found::Ended(_))
                )
            });
        }
        assert_eq!(tree(&victim), before);
    }
    let exchanged = exchange.end();
    // What was in the way is the volume's and no keel's to replace.
    let kinds = ["place", "other"].map(|name| {
        let found = std::fs::symlink_metadata(shared.join(name)).expect("still there");
        found.is_symlink()
    });
    assert!(kinds.contains(&true), "the link of the volume is gone");
    assert!(exchanged > 100, "only {exchanged} exchanges");
    assert_eq!(
        std::fs::read_to_string("/proc/self/mountinfo").expect("mounts"),
        mounts
    );
}

host_test! {
    fn a_place_that_is_exchanged_for_a_link_leads_nowhere() {
        race(20, Duration::from_secs(2));
    }
}

host_test! {
    fn slow_a_place_that_is_exchanged_for_a_link_leads_nowhere_in_three_hundred_starts() {
        race(300, Duration::from_secs(20));
    }
}
