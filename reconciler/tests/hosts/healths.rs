//! Health checks: of containers and machines, made when somebody looks, waited for by what depends on them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::guest::PATIENCE;
use crate::machines::{machine, world};
use crate::world::TestWorld;

fn health(world: &TestWorld, name: &str) -> Value {
    world.get(&format!("instance/{name}"))["status"]["health"].clone()
}

#[track_caller]
fn until(world: &TestWorld, name: &str, word: &str) -> Value {
    let began = Instant::now();
    loop {
        let seen = health(world, name);
        if seen["status"] == word {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "it is not {word}: {seen:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

runtime::own_processes_test! {
    fn what_depends_on_one_that_is_healthy_late_begins_when_it_is() {
        let world = TestWorld::furnished();
        world.write("one.yaml", "");
        world.write("two.yaml", "");
        // Its own command asks for no address.
        let instance = |name: &str, more: &str| {
            format!(
                "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {name} }}\nspec:\n  image: busybox\n  state: Running\n  \
                 boot: {{ hostShutdownTimeout: 1s }}\n  devices:\n    root: {{ type: disk, path: /, pool: fast }}\n    eth0: {{ type: nic, network: lan, ipv4: {} }}\n{more}",
                if name == "db" { "10.77.0.20" } else { "10.77.0.21" }
            )
        };
        let command = "[/bin/sh, -c, \"mkdir /www; echo fine >/www/state; (sleep 3; httpd -p 8080 -h /www) & while true; do sleep 1; done\"]";
        let checks = "{ addresses: true, tcp: 8080, http: { port: 8080, path: /state }, exec: [grep, -q, fine, /www/state], interval: 1s, retries: 2, timeout: 20s }";
        world.write("db.yaml", &instance("db", &format!("  command: {command}\n  health: {checks}\n")));
        world.write("web.yaml", &instance("web", "dependsOn: [Instance/db]\n"));
        let began = Instant::now();
        world.keel(&["apply", "--yes"]).with(0);
        assert!(began.elapsed() > Duration::from_secs(3), "web did not wait");
        world.nothing_to_do();
        assert_eq!(health(&world, "db"), serde_json::json!({"status": "healthy"}));
        assert!(world.keel(&["get", "instances"]).with(0).stdout.contains("healthy"));
        assert!(health(&world, "web").is_null(), "it has no checks");
        world.keel(&["wait", "instance/db", "instance/web", "--for", "healthy", "--timeout", "5s"]).with(0);

        // Sick for a moment is not sick.
        world.keel(&["exec", "db", "--", "sh", "-c", "echo ill >/www/state"]).with(0);
        let seen = until(&world, "db", "unhealthy");
        assert_eq!(seen["failing"][0]["check"], "exec", "{seen:#}");
        assert_eq!(seen["failures"], 2, "{seen:#}");
        world.keel(&["wait", "instance/db", "--for", "healthy", "--timeout", "1s"]).with(1);
        world.keel(&["exec", "db", "--", "sh", "-c", "rm /www/state; killall httpd"]).with(0);
        let began = Instant::now();
        loop {
            let seen = health(&world, "db");
            let failing = seen["failing"].to_string();
            if ["tcp", "http", "exec"].iter().all(|name| failing.contains(name)) {
                assert!(failing.contains("efused"), "{seen:#}");
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{seen:#}");
        }
        world.keel(&["exec", "db", "--", "sh", "-c", "echo fine >/www/state; httpd -p 8080 -h /www"]).with(0);
        until(&world, "db", "healthy");

        // A start counts anew, and what hangs is not waited for.
        world.write("db.yaml", &instance("db", &format!("  command: {command}\n  health: {{ exec: [sleep, '100'], interval: 20s, timeout: 3s }}\n")));
        world.write("web.yaml", &instance("web", "  user: { changed: yes }\ndependsOn: [Instance/db]\n"));
        world.converge();
        let began = Instant::now();
        let seen = health(&world, "db");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let why = seen["failing"][0]["why"].as_str().unwrap_or_default();
        assert!(why.contains("still ran after"), "{seen:#}");
        let left = world.keel(&["exec", "db", "--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).with(0).stdout;
        assert!(!left.contains("sleep 100"), "it was ended: {left}");
        // One that is frozen is asked nothing.
        world.keel(&["freeze", "db"]).with(0);
        assert!(health(&world, "db").is_null());
        world.keel(&["unfreeze", "db"]).with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn the_agent_of_a_machine_tells_how_healthy_it_is() {
        let world = world("initrd-agent");
        let checks = "  health: { agent: true, addresses: true, exec: [test, '!', -e, /tmp/ill], interval: 1s, retries: 1, startPeriod: 2m }\n";
        world.write("vm.yaml", &machine("vm", "256MiB", checks));
        world.converge();
        let seen = health(&world, "vm");
        assert!(["starting", "healthy"].contains(&seen["status"].as_str().expect("a word")), "{seen:#}");
        until(&world, "vm", "healthy");
        world.keel(&["exec", "vm", "--", "touch", "/tmp/ill"]).with(0);
        // Within the start period failures do not count; without one they do at once.
        std::thread::sleep(Duration::from_millis(1500));
        let seen = health(&world, "vm");
        assert_eq!((&seen["status"], &seen["failing"][0]["check"]), (&"healthy".into(), &"exec".into()), "{seen:#}");
        world.write("vm.yaml", &machine("vm", "256MiB", &checks.replace(", startPeriod: 2m", ", cloudInit: true")));
        world.converge();
        let seen = until(&world, "vm", "unhealthy");
        let failing: Vec<_> = seen["failing"].as_array().expect("checks").iter().map(|one| one["check"].as_str().expect("a name")).collect();
        assert_eq!(failing, ["cloudInit", "exec"], "{seen:#}");
        world.keel(&["freeze", "vm"]).with(0);
        assert!(health(&world, "vm").is_null());
        world.destroy();
    }
}
