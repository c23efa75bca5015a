//! `keel run`: what moves, in a source or in the world, is put right by itself.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use manifests::path_io;

use crate::drifts::cgroup_file;
use crate::rebuilds::other_image;
use crate::running::Running;
use crate::world::{PATIENCE, TestWorld, shell};

/// The file that limits memory, of cgroup 2 or 1.
const MEMORY: [&str; 2] = ["memory.max", "memory.limit_in_bytes"];

/// What the issue promises for drift that an event tells of.
const AT_ONCE: Duration = Duration::from_secs(1);
/// On a machine with other work a second is no measure of keel.
const GRACE: Duration = Duration::from_secs(4);

/// Begins a controller.
pub(crate) fn begin(world: &TestWorld, arguments: &[&str]) -> Running {
    let command = world.command(&[&["run"], arguments].concat());
    Running::begin(command, &world.path().join("run.log"))
}

impl TestWorld {
    /// What the controller told so far.
    pub(crate) fn log(&self) -> String {
        path_io::read_to_string(self.path().join("run.log")).unwrap_or_default()
    }
}

/// Waits until something holds; answers how long that took.
#[track_caller]
pub(crate) fn until(what: &str, world: &TestWorld, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            panic!("{what}: not within {PATIENCE:?}\n{}", world.log());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

/// As [`until`]; tells how long that took.
#[track_caller]
fn told(what: &str, world: &TestWorld, holds: impl FnMut() -> bool) {
    println!("{what}: {:?}", until(what, world, holds));
}

#[track_caller]
pub(crate) fn soon(what: &str, world: &TestWorld, holds: impl FnMut() -> bool) {
    let took = until(what, world, holds);
    println!("{what}: {took:?}");
    assert!(took < AT_ONCE + GRACE, "{what} took {took:?}");
}

/// The state of an instance, if it is there.
pub(crate) fn state(world: &TestWorld, name: &str) -> Option<String> {
    let output = world
        .command(&["get", "instance", name, "-o", "json"])
        .output()
        .expect("keel starts");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    value["status"]["state"].as_str().map(str::to_owned)
}

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .output()
        .expect("git");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
}

runtime::own_processes_test! {
    fn what_moves_in_the_world_is_put_right_at_once_and_an_invalid_edit_changes_nothing() {
        let world = TestWorld::furnished();
        let manifests = world.path().join("manifests").to_str().expect("UTF-8").to_owned();
        let running = begin(&world, &[&manifests]);
        // What is changed while a step waits until it is seen is mended when that step has failed, not at once.
        until("it runs", &world, || world.log().contains("settled"));
        assert_eq!(state(&world, "one").as_deref(), Some("Running"));
        // A second controller is refused: two would not know of each other.
        world.keel(&["run", &manifests]).with(6);

        let limit = cgroup_file(&world, &MEMORY);
        let read = |file: &Path| path_io::read_to_string(file).unwrap_or_default();
        let wanted = read(&limit);
        path_io::write_kernel_file(&limit, "33554432").expect("changed by hand");
        soon("a limit is as before", &world, || read(&limit) == wanted);

        let init = world.init("one");
        let pid = rustix::process::Pid::from_raw(i32::try_from(init).expect("a pid"));
        rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::KILL).expect("killed");
        soon("a dead init lives again", &world, || {
            state(&world, "one").as_deref() == Some("Running") && world.init("one") != init
        });

        let tables = || {
            let output = Command::new("nft").args(["list", "tables"]).output().expect("nft");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let all = tables();
        let table = all.lines().next().expect("a table").to_owned();
        let words: Vec<&str> = std::iter::once("delete").chain(table.split(' ')).collect();
        assert!(Command::new("nft").args(words).status().expect("nft").success());
        soon("a table of the firewall is back", &world, || tables().contains(&table));

        // Suspended it is left alone, and taken up again when that ends.
        world.keel(&["suspend", "instance/one", "--reason", "its disk is looked at", "--until", "1h"]).with(0);
        let limit = cgroup_file(&world, &MEMORY);
        // What was under way by then comes to its end.
        std::thread::sleep(Duration::from_millis(500));
        path_io::write_kernel_file(&limit, "33554432").expect("changed by hand");
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(read(&limit).trim(), "33554432", "it is suspended");
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("its disk is looked at"), "{plan}");
        world.keel(&["resume", "instance/one"]).with(0);
        soon("what was suspended is as it should be", &world, || read(&limit) == wanted);
        world.keel(&["resume", "instance/one"]).with(1).saying("is not suspended");

        // What it follows is not changed beside it.
        let refused = world.keel(&["apply", "--yes"]);
        refused.with(4).saying("a controller follows the source");

        let before = world.init("one");
        world.write("broken.yaml", "kind: [\n");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(world.init("one"), before, "nothing was done for what means nothing");
        // Over its socket, with anybody's client.
        let id = path_io::read_to_string(world.path().join("state/id")).expect("an id");
        let socket = format!("/run/keel/{}/api.sock", id.trim());
        let told = Command::new("curl")
            .args(["-fsS", "--unix-socket", &socket, "http://localhost/v1/status", "http://localhost/v1/objects/instance/one"])
            .output()
            .expect("curl");
        let (told, said) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert!(told.contains("broken.yaml") && told.contains("\"sync\":\"synced\""), "{told}{said}");
        let status = world.keel(&["status"]).with(0).stdout;
        assert!(status.contains("The controller") && status.contains("is refused"), "{status}");
        let events = world.keel(&["events"]).with(0).stdout;
        assert!(events.contains("instance/one: start"), "{events}");
        world.keel(&["approve", "0123456789abcdef"]).with(4).saying("no plan with the digest");
        running.leave();
        world.keel(&["events"]).with(1).saying("no controller runs");
        assert!(!Path::new(&socket).exists(), "it is gone with the controller");
        assert_eq!(state(&world, "one").as_deref(), Some("Running"), "it goes on without");
        world.unwrite("broken.yaml");
        world.nothing_to_do();
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn commits_of_a_repository_are_followed_and_one_that_means_nothing_is_passed_over() {
        let world = TestWorld::furnished();
        let work = world.path().join("manifests");
        let bare = world.path().join("bare.git");
        let bare = bare.to_str().expect("UTF-8");
        git(world.path(), &["init", "-q", "--bare", "-b", "main", bare]);
        git(&work, &["init", "-q", "-b", "main"]);
        let commit = |words: &str| {
            git(&work, &["add", "-A"]);
            git(&work, &["commit", "-q", "-m", words]);
            git(&work, &["push", "-q", bare, "main"]);
        };
        commit("first");
        let settings = world.path().join("controller.yaml");
        let text = format!(
            "apiVersion: evenkeel/v1\nkind: Controller\nsources:\n- name: crash\n  git: {{ url: {bare}, branch: main, interval: 1h }}\n"
        );
        path_io::write(&settings, text).expect("written");
        let settings = settings.to_str().expect("UTF-8");
        let once = world.keel(&["run", "--config", settings, "--once"]);
        once.with(0);
        assert_eq!(state(&world, "one").as_deref(), Some("Running"));

        let running = begin(&world, &["--config", settings]);
        let limit = cgroup_file(&world, &MEMORY);
        let before = path_io::read_to_string(&limit).expect("a limit");
        world.write("one.yaml", &world.one().replace("64MiB", "96MiB"));
        commit("more memory");
        soon("a commit is in force", &world, || {
            path_io::read_to_string(&limit).is_ok_and(|now| now != before)
        });
        world.write("broken.yaml", "kind: [\n");
        commit("broken");
        git(&work, &["revert", "--no-edit", "HEAD"]);
        world.write("one.yaml", &world.one().replace("64MiB", "80MiB"));
        commit("mended");
        soon("the next good commit is in force", &world, || {
            path_io::read_to_string(&limit).is_ok_and(|now| now.trim() == "83886080")
        });
        running.leave();
        world.keel(&["destroy", "--source", "crash", "--no-trash", "--yes"]).with(0);
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn an_instance_that_is_not_well_with_its_new_image_goes_back_by_itself() {
        let world = TestWorld::furnished();
        let tree = other_image(&world);
        let one = world.one().replace("image: busybox", "image: other");
        let one = one.replacen("spec:\n", "lifecycle: { onImageChange: rebuild }\nspec:\n  health: { exec: [test, '!', -e, /etc/broken], interval: 1s, retries: 1, timeout: 10s }\n", 1);
        world.write("one.yaml", &one);
        let manifests = world.path().join("manifests").to_str().expect("UTF-8").to_owned();
        let running = begin(&world, &[&manifests]);
        told("it runs", &world, || world.log().contains("settled"));
        let inside = |line: &str| world.keel(&["exec", "one", "--", "sh", "-c", line]).code == Some(0);
        assert!(inside("echo mine >/kept.txt"), "{}", world.log());
        // The same name, another content.
        let next = world.path().join("next");
        shell(&format!("cp -a {0} {1} && touch {1}/etc/broken", tree.display(), next.display()));
        let text = format!(
            "apiVersion: evenkeel/v1\nkind: Image\nmetadata: {{ name: other }}\nspec: {{ source: {{ rootfs: {} }} }}\n",
            next.display()
        );
        world.write("other.yaml", &text);
        told("it goes back", &world, || world.log().contains("it goes back to what it was"));
        told("it is what it was", &world, || inside("test ! -e /etc/broken && test -e /kept.txt"));
        told("that is told", &world, || world.keel(&["plan"]).stdout.contains("what it was before is back"));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(inside("test -e /kept.txt"), "it is left alone");
        running.leave();
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
    }
}
