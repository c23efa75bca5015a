//! The companion starts an instance again.

use runtime::host_test;
use runtime::native::container::{self, Restart};
use runtime::native::shim::{self, Found};

use crate::exec::output;
use crate::world::{PATIENCE, World, shim as program, wait_for};

fn quick(always: bool) -> Restart {
    Restart {
        always,
        first_pause_ms: 20,
        longest_pause_ms: 200,
        calm_ms: 60_000,
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = std::process::Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip runs");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `ip` of the host in the network namespace of a process.
fn nsenter_ip(pid: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new("nsenter")
        .args(["-t", pid, "-n", "ip"])
        .args(arguments)
        .output()
        .expect("nsenter runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

host_test! {
    fn a_reboot_keeps_disk_and_network_and_is_a_new_container() {
        let mut world = World::new(
            "ip link show eth0 | head -n 1; [ -e /again ] && exec sleep 1000; touch /again; \
             ip address add 192.0.2.9/32 dev eth0; ip link set eth0 down; ip link set eth0 name other; reboot -f",
        );
        world.plan.restart = Some(quick(false));
        let started = container::start(&world.plan, container::Coming::begin(program(), &world.plan.name), &mut |init| {
            let pid = init.pid.as_raw_nonzero().to_string();
            ip(&["link", "add", "keelt0", "type", "veth", "peer", "name", "eth0", "netns", &pid]);
            ip(&["link", "set", "keelt0", "up"]);
            for line in [
                "address add 10.9.9.2/24 dev eth0",
                "address add fd09::2/64 dev eth0",
                "link set eth0 up",
                "route add default via 10.9.9.1",
                "route add default via fd09::1",
            ] {
                let inside: Vec<&str> = line.split(' ').collect();
                nsenter_ip(&pid, &inside);
            }
            Ok(())
        });
        let started = started.expect("started");
        let before = ip(&["link", "show", "keelt0"]);
        wait_for("the restart", || {
            matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Running(running)) if running.init() != Some(started.init))
        });
        let running = world.running();
        assert_eq!(running.ask().expect("answered").restarts, 1);
        let (status, text, errors) = output(&running, &["ip", "link", "show", "eth0"], b"");
        assert_eq!(status, 0, "{text}{errors}; console {}", world.console());
        // What was configured when it was plugged is there again; what the guest added is not.
        let pid = running.init().expect("an init").as_raw_nonzero().to_string();
        let addresses = nsenter_ip(&pid, &["address", "show", "dev", "eth0", "scope", "global"]);
        assert!(addresses.contains("10.9.9.2/24") && addresses.contains("fd09::2/64"), "{addresses}");
        assert!(!addresses.contains("192.0.2.9"), "{addresses}");
        for (family, route) in [("-4", "default via 10.9.9.1 dev eth0"), ("-6", "default via fd09::1 dev eth0")] {
            let routes = nsenter_ip(&pid, &[family, "route", "show"]);
            assert!(routes.contains(route), "{routes}");
        }
        let index = |text: &str| text.split(':').next().map(str::to_owned);
        assert_eq!(index(&ip(&["link", "show", "keelt0"])), index(&before));
        running.stop(libc::SIGKILL, PATIENCE).expect("stopped");
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Ended(record)) if record.restarts == 1));
        wait_for("the end of the interface", || !std::path::Path::new("/sys/class/net/keelt0").exists());
    }
}

host_test! {
    fn accidents_restart_with_pauses_until_a_stop_is_asked_for() {
        let mut world = World::new("echo run; exit 1");
        world.plan.restart = Some(quick(true));
        world.start();
        wait_for("three runs", || world.console().matches("run").count() >= 3);
        wait_for("a pause", || matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Ended(_))));
        shim::stop_restarting(&world.plan.run_dir, PATIENCE).expect("stopped");
        assert!(!world.plan.run_dir.join("control").exists());
        let found = shim::adopt(&world.plan.run_dir).expect("adopt");
        assert!(matches!(found, Found::Ended(record) if record.end == shim::End::Code(1)));
    }
}

host_test! {
    fn the_present_init_is_found_when_its_companion_was_killed_after_a_restart() {
        let mut world = World::new("[ -e /again ] && exec sleep 1000; touch /again; exit 1");
        world.plan.restart = Some(quick(true));
        let started = world.start();
        wait_for("the restart", || {
            matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Running(running)) if running.init() != Some(started.init))
        });
        let present = world.running().init();
        rustix::process::kill_process(started.shim, rustix::process::Signal::KILL).expect("killed");
        wait_for("the companion's end", || world.running().ask().is_err());
        assert_eq!(world.running().init(), present);
    }
}

host_test! {
    fn a_halt_is_not_undone() {
        let mut world = World::new("poweroff -f");
        world.plan.restart = Some(quick(true));
        let (_, record) = world.run();
        assert_eq!((record.end, record.restarts), (shim::End::Signal(libc::SIGINT), 0));
    }
}

host_test! {
    fn a_start_ends_the_wait_of_the_companion_before() {
        let mut world = World::new("exit 1");
        world.plan.restart = Some(Restart { first_pause_ms: 60_000, longest_pause_ms: 60_000, ..quick(true) });
        let first = world.start();
        wait_for("the end", || matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Ended(_))));
        world.plan.generation = 2;
        world.plan.command = crate::world::program(&["/bin/sleep", "1000"]);
        world.start();
        // What is dead may still wait for the host's PID 1; it has no program any more.
        assert!(std::fs::read_link(format!("/proc/{}/exe", first.shim.as_raw_nonzero())).is_err());
        assert_eq!(world.running().state().generation, 2);
        let again = crate::world::chain(&world.try_start().expect_err("it runs"));
        assert_eq!(again, "the container runs already");
    }
}

host_test! {
    fn a_restart_that_fails_leaves_the_companion_among_the_mounts_of_the_host() {
        let mut world = World::new("while [ ! -e /data/go ]; do sleep 0.01; done; exit 1");
        std::fs::create_dir(world.path().join("data")).expect("a folder");
        world.plan.mounts = vec![crate::mounts::bind(&world, "data", "/data")];
        world.plan.restart = Some(Restart { first_pause_ms: 300, longest_pause_ms: 300, ..quick(true) });
        let started = world.start();
        std::fs::write(world.path().join("data/go"), "").expect("written");
        wait_for("the end", || matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Ended(_))));
        // Nothing can be cloned into a folder that is gone.
        std::fs::remove_dir(world.plan.cgroups.payload.as_ref().expect("a payload")).expect("removed");
        world.wait_for_console("start again: ");
        let mounts = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).expect("a namespace");
        let companion = started.shim.as_raw_nonzero().to_string();
        assert_eq!(mounts(&companion), mounts("self"));
    }
}
