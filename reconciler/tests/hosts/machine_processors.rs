//! On which processors of the host those of a machine run.

use std::collections::BTreeMap;

use crate::guest::Guest;
use crate::machines::{machine, world};
use crate::world::{TestWorld, shell};

/// The processors of the host on which each of the machine may run, with its thread.
fn pins(world: &TestWorld) -> BTreeMap<String, (String, String)> {
    let pid = world.init("vm");
    let told = shell(&format!(
        "for task in /proc/{pid}/task/*; do read -r name <$task/comm
         case $name in 'CPU '*) awk -v name=\"$name\" -v id=${{task##*/}} '/^Cpus_allowed_list/ {{print name \"=\" $2 \"=\" id}}' $task/status;; esac
         done"
    ));
    told.lines()
        .map(|line| {
            let mut parts = line.split('=').map(str::to_owned);
            let mut part = || parts.next().expect("three parts");
            let name = part();
            let number = name
                .trim_start_matches("CPU ")
                .split('/')
                .next()
                .expect("a number")
                .to_owned();
            (number, (part(), part()))
        })
        .collect()
}

fn places(world: &TestWorld) -> Vec<String> {
    pins(world).into_values().map(|(place, _)| place).collect()
}

runtime::own_processes_test! {
    fn each_processor_of_a_set_has_one_of_the_machine() {
        let world = world("initrd");
        let with = |cpu: &str| machine("vm", "256MiB", "").replace("limits: { memory", &format!("limits: {{ cpu: {cpu}, memory"));
        world.write("vm.yaml", &with("\"0-1\""));
        world.converge();
        drop(Guest::of(&world, "vm"));
        let pid = world.init("vm");
        assert_eq!(places(&world), ["0", "1"]);
        // By hand: told and mended.
        let (_, thread) = pins(&world)["1"].clone();
        shell(&format!("taskset -p -c 0-1 {thread}"));
        let drift = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
        assert!(drift.contains("limits.cpu"), "{drift}");
        world.converge();
        assert_eq!(places(&world), ["0", "1"]);
        // Others, live; and where only a number is asked for, they run where they like.
        world.write("vm.yaml", &with("2"));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("LIVE"), "{plan}");
        world.converge();
        assert_eq!(places(&world), ["0-1", "0-1"]);
        world.write("vm.yaml", &with("1"));
        world.keel(&["apply", "--yes"]).with(0);
        world.keel(&["stop", "vm", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        world.keel(&["start", "vm"]).with(0);
        world.write("vm.yaml", &with("\"1-1\""));
        world.converge();
        assert_eq!(places(&world), ["1"]);
        // What is plugged in has its own, too.
        world.write("vm.yaml", &with("\"0-1\""));
        world.converge();
        assert_eq!(places(&world), ["0", "1"]);
        assert_ne!(world.init("vm"), pid);
        world.destroy();
    }
}
