//! `keel shutdown` before the host goes down, and `keel boot` after its start.

use crate::boot::restart_host;
use crate::guest::{Guest, PATIENCE};
use crate::machines::{machine, world};
use crate::world::TestWorld;

fn container(name: &str, more: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {name} }}\nspec:\n  image: busybox\n  state: Running\n  \
         devices:\n    root: {{ type: disk, path: /, pool: fast }}\n{more}"
    )
}

/// When it was stopped.
fn stopped_at(world: &TestWorld, name: &str) -> u64 {
    let seen = world.get(&format!("instance/{name}"));
    assert_eq!(seen["status"]["state"], "Stopped", "{seen:#}");
    assert_eq!(seen["status"]["lastState"], "Running", "{seen:#}");
    let at = seen["status"]["lastExit"]["at"].as_str();
    let at: jiff::Timestamp = at
        .unwrap_or_else(|| panic!("{seen:#}"))
        .parse()
        .expect("a time");
    u64::try_from(at.as_millisecond()).expect("a time of now")
}

runtime::own_processes_test! {
    fn what_runs_is_stopped_as_its_manifest_says_and_goes_on_with_the_host() {
        let world = world("initrd");
        // One that takes no note of being asked is ended after its time, or at once where that is said.
        let deaf = "  command: [/bin/sh, -c, \"trap '' TERM PWR; while true; do sleep 1; done\"]\n";
        let patient = format!("{deaf}  boot: {{ hostShutdownTimeout: 2s, stopPriority: 5 }}\n");
        world.write("patient.yaml", &container("patient", &patient));
        world.write("quick.yaml", &container("quick", &format!("{deaf}  boot: {{ hostShutdownAction: forceStop }}\n")));
        world.write("db.yaml", &container("db", "  boot: { stopPriority: 9 }\n"));
        world.write("web.yaml", &container("web", "  boot: { stopPriority: -1 }\ndependsOn: [Instance/db]\n"));
        world.write("vm.yaml", &machine("vm", "256MiB", "").replace("boot: {", "boot: { hostShutdownAction: statefulStop, stopPriority: -5,"));
        world.write("off.yaml", &container("off", "").replace("Running", "Stopped"));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        guest.run("echo kept >/tmp/mark");
        drop(guest);
        let told = world.keel(&["shutdown"]).with(0);
        assert!(told.stderr.contains("5 instances stopped"), "{}", told.stderr);
        let at = |name| stopped_at(&world, name);
        // By priority; what another needs after it, whatever its own.
        assert!(at("patient") < at("quick"), "{} {}", at("patient"), at("quick"));
        assert!(at("quick") <= at("web") && at("web") <= at("db") && at("db") <= at("vm"));
        let saved = &world.get("instance/vm")["status"]["savedState"];
        assert!(saved["bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{saved:#}");
        assert!(world.keel(&["history", "instance/web"]).with(0).stdout.contains("stop with the host"));
        // Again: nothing runs any more.
        world.keel(&["shutdown", "-o", "json"]).with(0).saying("0 instances");
        restart_host(&world);
        world.keel(&["boot"]).with(0);
        let mut guest = Guest::of(&world, "vm");
        assert_eq!(guest.run("cat /tmp/mark"), "kept");
        drop(guest);
        assert_eq!(world.get("instance/off")["status"]["state"], "Stopped");
        world.nothing_to_do();
        // Where no state can be saved, it is stopped all the same.
        let run = world.get("instance/vm")["status"]["runFolder"].as_str().expect("it runs").to_owned();
        let path = std::path::Path::new(&run).join("qmp");
        let mut qmp = runtime::native::machine::qmp::Qmp::connect(&path, PATIENCE).expect("a monitor");
        qmp.execute("device_add", serde_json::json!({"driver": "usb-tablet", "id": "stranger"})).expect("it is plugged in");
        drop(qmp);
        world.keel(&["shutdown"]).with(0);
        let seen = world.get("instance/vm");
        assert!(seen["status"]["savedState"].is_null(), "{seen:#}");
        assert_eq!(seen["status"]["lastExit"]["reason"], "guest-shutdown", "{seen:#}");
        world.keel(&["boot"]).with(0);
        world.nothing_to_do();
        world.destroy();
    }
}
