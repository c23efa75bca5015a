//! Roots of limited size are made bigger: live where the kernel lets keel, else told and done while they are stopped.

use std::process::Command;

use serde_json::json;

use crate::world::{Ended, TWO, TestWorld, ended, program, shell};

/// A `keel` whose root lacks CAP_SYS_RESOURCE, as on many virtual machines and in containers.
fn poor(world: &TestWorld, arguments: &[&str]) -> Ended {
    let rich = world.command(arguments);
    let mut command = Command::new("setpriv");
    command
        .args([
            "--bounding-set",
            "-sys_resource",
            "--inh-caps",
            "-sys_resource",
            "--",
        ])
        .arg(program())
        .args(arguments)
        .env_clear();
    if let Some(folder) = rich.get_current_dir() {
        command.current_dir(folder);
    }
    for (name, value) in rich.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    ended(&mut command)
}

/// Bytes of the root file system of `two`, as it sees it itself.
fn root_of_two(world: &TestWorld) -> u64 {
    let script = ["exec", "two", "--", "stat", "-f", "-c", "%b %S", "/"];
    let text = world.keel(&script).with(0).stdout;
    let numbers = text.split_whitespace().map(|n| n.parse::<u64>());
    numbers.map(|number| number.expect("a number")).product()
}

fn two(size: &str, processes: u32) -> String {
    let limits = format!("  state: Running\n  limits: {{ processes: {processes} }}\n");
    TWO.replace("32MiB", size)
        .replace("  state: Running\n", &limits)
}

const MIB: u64 = 1 << 20;

runtime::own_processes_test! {
    fn a_root_grows_with_its_neighbours_whatever_the_kernel_lets_keel_do() {
        let world = TestWorld::furnished();
        world.write("one.yaml", "");
        world.write("two.yaml", &two("32MiB", 50));
        poor(&world, &["apply", "--yes"]).with(0);
        assert!(root_of_two(&world) < 32 * MIB);
        world.write("two.yaml", &two("64MiB", 77));
        let page = poor(&world, &["plan"]).with(0).stdout;
        assert!(page.contains("NEXT START") && page.contains("CAP_SYS_RESOURCE"), "{page}");
        // Its sibling is in force at once, and nothing is called failed.
        poor(&world, &["apply", "--yes"]).with(0);
        let seen = world.get("instance/two");
        assert_eq!(seen["spec"]["limits"]["processes"], json!(77), "{seen:#}");
        assert_eq!(seen["spec"]["devices"]["root"]["size"], json!("32MiB"), "{seen:#}");
        assert_eq!(seen["status"]["restartPending"], json!(["devices.root.size"]), "{seen:#}");
        let page = poor(&world, &["plan", "--detailed-exitcode"]).with(0).stdout;
        assert!(page.contains("In force after a restart"), "{page}");
        poor(&world, &["drift", "--detailed-exitcode"]).with(0);
        poor(&world, &["restart", "two"]).with(0);
        assert!(root_of_two(&world) > 48 * MIB);
        let page = poor(&world, &["plan", "--detailed-exitcode"]).with(0).stdout;
        assert!(!page.contains("restart"), "{page}");

        // With the wish to restart at once, one apply does all of it.
        let at_once = "metadata:\n  name: two\nlifecycle:\n  onRestartNeeded: now\n";
        let bigger = two("96MiB", 77).replace("metadata:\n  name: two\n", at_once);
        world.write("two.yaml", &bigger);
        poor(&world, &["apply", "--yes"]).with(0);
        assert!(root_of_two(&world) > 80 * MIB);
        poor(&world, &["plan", "--detailed-exitcode"]).with(0);

        // Nobody shrinks what is mounted; it is said when it can be done.
        world.write("two.yaml", &two("64MiB", 77));
        let page = world.keel(&["plan"]).with(0).stdout;
        assert!(page.contains("Waits until it is stopped"), "{page}");
        world.keel(&["stop", "two", "--hold", "1h", "--reason", "smaller"]).with(0);
        world.keel(&["apply", "--yes"]);
        assert_eq!(world.get("instance/two")["spec"]["devices"]["root"]["size"], json!("64MiB"));
        world.keel(&["start", "two"]).with(0);

        // An end by accident leaves the root mounted, which is no obstacle.
        let init = world.init("two");
        shell(&format!("kill -9 {init}"));
        world.wait_for_state("two", "Stopped");
        world.write("two.yaml", &two("80MiB", 77));
        poor(&world, &["apply", "--yes"]).with(0);
        assert!(root_of_two(&world) > 64 * MIB);
        if rich() {
            world.write("two.yaml", &two("128MiB", 77));
            let page = world.keel(&["plan"]).with(0).stdout;
            assert!(page.contains("LIVE"), "{page}");
            let init = world.init("two");
            world.converge();
            assert!(root_of_two(&world) > 100 * MIB);
            assert_eq!(world.init("two"), init);
        }
        world.destroy();
    }
}

/// Whether the kernel lets this root grow what is mounted.
pub(crate) fn rich() -> bool {
    let sets = rustix::thread::capabilities(None).expect("capabilities");
    let wanted = rustix::thread::CapabilitySet::SYS_RESOURCE;
    sets.effective.contains(wanted)
}
