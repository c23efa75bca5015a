//! `keel boot` after a start of the host.

use std::time::Instant;

use crate::footprint;
use crate::world::{TestWorld, shell};

/// What a start of the host does to what keel made: no process, link, rule, cgroup, mount or run folder is left.
pub(crate) fn restart_host(world: &TestWorld) {
    // A `/run` that outlives its host tells by the boot id that what it says is not true any more.
    restart_host_but_for_run(world);
    shell("rm -r /run/keel");
}

fn restart_host_but_for_run(world: &TestWorld) {
    footprint::kill_all();
    footprint::unmount_all(world.path());
    footprint::remove_cgroups(world.path());
    shell(
        "for link in $(ls /sys/class/net)
         do test $link = lo || ip link delete $link 2>/dev/null || true
         done
         nft flush ruleset
         sed -i 's/\"bootId\":\"[^\"]*/&0/' $(find /run/keel -name state.json)",
    );
    assert_eq!(shell("ls /sys/class/net").trim(), "lo");
}

fn running(world: &TestWorld) -> Vec<String> {
    let all = world
        .keel(&["get", "instances", "-o", "json"])
        .with(0)
        .json();
    let items = all["items"].as_array().expect("items");
    items
        .iter()
        .filter(|item| item["status"]["state"] == "Running")
        .map(|item| {
            item["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect()
}

fn plain(name: &str, boot: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {name} }}\nspec:\n  image: busybox\n  \
         boot: {boot}\n  devices:\n    root: {{ type: disk, path: /, pool: fast }}\n"
    )
}

runtime::own_processes_test! {
    fn everything_is_as_it_was_after_a_start_of_the_host() {
        let world = TestWorld::furnished();
        world.converge();
        let address = |world: &TestWorld| {
            let seen = world.get("instance/one");
            (seen["status"]["uid"].clone(), seen["status"]["addresses"].clone())
        };
        let before = address(&world);
        world.keel(&["exec", "one", "--", "sh", "-c", "echo kept >/root.txt"]).with(0);
        for restart in [restart_host, restart_host_but_for_run] {
            restart(&world);
            assert!(running(&world).is_empty());
            world.keel(&["plan", "--detailed-exitcode"]).with(2);
            world.keel(&["boot"]).with(0).saying("3 steps done");
            world.nothing_to_do();
            assert_eq!(address(&world), before);
            world.keel(&["exec", "two", "--", "ping", "-c1", "-W2", "10.77.0.10"]).with(0);
            assert_eq!(world.keel(&["exec", "one", "--", "cat", "/root.txt"]).with(0).stdout, "kept\n");
            assert_eq!(world.keel(&["exec", "one", "--", "cat", "/data/gold"]).with(0).stdout, "precious\n");
            // Again on a host where all is as it should be.
            let inits = (world.init("one"), world.init("two"));
            let report = world.keel(&["boot", "-o", "json"]).with(0).json();
            assert_eq!(report["batches"].as_array().map(Vec::len), Some(0), "{report:#}");
            assert_eq!(report["ran"].as_array().map(Vec::len), Some(2), "{report:#}");
            assert_eq!((world.init("one"), world.init("two")), inits);
        }
        let history = world.keel(&["history", "instance/one"]).with(0).stdout;
        assert!(history.contains("start began"), "{history}");
        assert!(world.keel(&["history"]).with(0).stdout.contains("keel boot"));
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn who_starts_with_the_host_and_in_which_order() {
        let world = TestWorld::furnished();
        world.unwrite("one.yaml");
        world.unwrite("two.yaml");
        for (name, boot) in [
            ("always", "{ autostart: true, priority: -5 }"),
            ("never", "{ autostart: false }"),
            ("ran", "{}"),
            ("stood", "{}"),
            ("first", "{ priority: 10, delay: 2s }"),
        ] {
            world.write(&format!("{name}.yaml"), &plain(name, boot));
        }
        world.converge();
        world.keel(&["stop", "stood", "always"]).with(0);
        restart_host(&world);
        // Others may be at work while the host starts: their lock is waited for.
        let lock = std::fs::File::open(world.state().join("lock")).expect("the lock");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locked");
        let booting = world.begin(&["boot", "-o", "json"]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(running(&world).is_empty());
        drop(lock);
        let began = Instant::now();
        let ended = crate::world::of_output(&booting.wait_with_output().expect("it ends")).with(0);
        assert!(began.elapsed().as_millis() >= 1900, "the pause was kept");
        assert_eq!(ended.json()["batches"].as_array().map(Vec::len), Some(3));
        assert_eq!(running(&world), ["always", "first", "ran"]);
        let started = |name: &str| {
            let events = world.keel(&["history", &format!("instance/{name}"), "-o", "json"]).with(0).json();
            events[0]["at"].as_str().expect("a time").to_owned()
        };
        assert!(started("first") < started("ran") && started("ran") < started("always"));

        // One that cannot start hinders none of the others, and is told.
        restart_host(&world);
        let uid = world.get("instance/first")["status"]["uid"].as_str().expect("a uid").to_owned();
        let definition = world.state().join("instances").join(&uid).join("definition.json");
        let text = manifests::path_io::read_to_string(&definition).expect("a definition");
        let broken = text.replace("\"image\":\"", "\"image\":\"0");
        assert_ne!(text, broken);
        manifests::path_io::write(&definition, broken).expect("broken by hand");
        world.keel(&["boot"]).with(7).saying("image");
        assert_eq!(running(&world), ["always", "ran"]);
        manifests::path_io::write(&definition, text).expect("mended by hand");
        world.keel(&["boot"]).with(0);
        assert_eq!(running(&world), ["always", "first", "ran"]);
        world.destroy();
    }
}
