//! The companion: control socket, console, what happens when somebody dies.

use std::time::Duration;

use runtime::host_test;
use runtime::native::container;
use runtime::native::shim::{self, End, Found};

use crate::world::{PATIENCE, World, wait_for};

host_test! {
    fn the_console_is_attached_and_typed_into() {
        let world = World::new("while read line; do echo got $line; stty size; done");
        world.start();
        let console = world.running().attach_console().expect("attached");
        console.resize(21, 77).expect("sized");
        console.write(b"first\n").expect("typed");
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        wait_for("the answer", || {
            let length = console.read(&mut buffer).expect("read").expect("it runs");
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            seen.contains("got first") && seen.contains("21 77")
        });
        drop(console);
        // Detached, the container goes on, and its output is kept.
        let again = world.running().attach_console().expect("attached again");
        again.write(b"second\n").expect("typed");
        world.wait_for_console("got second");
    }
}

host_test! {
    fn a_container_that_is_asked_to_stop_stops_by_itself_or_is_killed() {
        let mut world = World::new("trap 'exit 4' TERM; echo ready; while true; do sleep 0.01; done");
        world.start();
        world.wait_for_console("ready");
        let stopped = world.running().stop(libc::SIGTERM, PATIENCE).expect("stopped");
        assert!(stopped.by_itself);
        assert_eq!(stopped.record.expect("a record").end, End::Code(4));

        world.plan.generation = 2;
        world.plan.command = crate::world::program(&["/bin/sleep", "1000"]);
        world.start();
        let running = world.running();
        running.freeze().expect("frozen");
        let stopped = running.stop(libc::SIGTERM, Duration::from_millis(50)).expect("stopped");
        assert!(!stopped.by_itself);
        let record = stopped.record.expect("a record");
        assert_eq!((record.end, record.generation), (End::Signal(libc::SIGKILL), 2));
    }
}

host_test! {
    fn a_halt_and_a_reboot_from_inside_are_told_apart() {
        for (command, signal) in [("poweroff -f", libc::SIGINT), ("reboot -f", libc::SIGHUP)] {
            let world = World::new(command);
            let (console, record) = world.run();
            assert_eq!(record.end, End::Signal(signal), "{command}: {console}");
        }
    }
}

host_test! {
    fn a_container_outlives_its_companion_and_its_end_is_then_not_guessed() {
        let world = World::new("exec sleep 1000");
        let started = world.start();
        let witness = world.running().second_witness().expect("handles");
        rustix::process::kill_process(started.shim, rustix::process::Signal::KILL).expect("killed");
        let shim_path = format!("/proc/{}", started.shim.as_raw_nonzero());
        wait_for("the companion's end", || !std::path::Path::new(&shim_path).exists());
        let running = world.running();
        let answer = running.ask();
        assert!(matches!(answer, Err(shim::ShimError::Path(_))), "{answer:?}");
        let written = rustix::io::write(&witness.master, b"x").expect("the console lives");
        assert_eq!(written, 1);
        assert!(running.kill(PATIENCE).expect("killed").is_none());
        let found = shim::adopt(&world.plan.run_dir).expect("adopt");
        assert!(matches!(found, Found::Lost(state) if state.generation == 1));
    }
}

host_test! {
    fn a_state_of_another_boot_is_of_no_process() {
        let world = World::new("exec sleep 1000");
        world.start();
        let path = world.plan.run_dir.join("state.json");
        let text = std::fs::read_to_string(&path).expect("state");
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id");
        std::fs::write(&path, text.replace(id.trim(), "00000000-0000-0000-0000-000000000000")).expect("written");
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Lost(_))));
        std::fs::write(&path, text.replacen("\"startTime\":", "\"startTime\":9", 1)).expect("written");
        // The companion knows better than an old file.
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Running(_))));
        std::fs::write(&path, text).expect("restored");
    }
}

host_test! {
    fn only_the_owner_of_the_folder_may_talk_to_the_companion() {
        let world = World::new("exec sleep 1000");
        world.start();
        crate::world::set_mode(world.path(), 0o755);
        crate::world::set_mode(&world.plan.run_dir, 0o755);
        crate::world::set_mode(&world.plan.run_dir.join("control"), 0o777);
        let path = world.plan.run_dir.join("control");
        // Ids belong to a thread in the kernel: only this one is somebody else.
        let answer = std::thread::spawn(move || {
            use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType};
            let nobody = rustix::fs::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("nobody");
            let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)
                .expect("a socket");
            let address = SocketAddrUnix::new(path).expect("an address");
            rustix::net::connect(&socket, &address).expect("the folder was opened to all");
            let _ = rustix::net::send(&socket, &[0], SendFlags::NOSIGNAL);
            let mut bytes = [0; 64];
            rustix::net::recv(&socket, &mut bytes[..], RecvFlags::empty()).map_or(0, |(length, _)| length)
        });
        assert_eq!(answer.join().expect("the thread ends"), 0, "somebody else was answered");
        world.running().ask().expect("root is answered");
    }
}

host_test! {
    fn a_companion_that_does_not_answer_is_not_taken_for_one_that_has_gone() {
        let mut world = World::new("exec sleep 1000");
        world.plan.restart = Some(container::Restart { always: true, first_pause_ms: 1, longest_pause_ms: 1, calm_ms: 1 });
        let started = world.start();
        rustix::process::kill_process(started.shim, rustix::process::Signal::STOP).expect("stopped");
        let began = std::time::Instant::now();
        let running = world.running();
        assert!(running.ask().is_err());
        assert!(began.elapsed() < Duration::from_secs(2), "looking waits for it: {:?}", began.elapsed());
        running.kill(PATIENCE).expect("killed");
        // Else it would go on some day, and start the instance again.
        let shim_path = format!("/proc/{}", started.shim.as_raw_nonzero());
        wait_for("the companion's end", || !std::path::Path::new(&shim_path).exists());
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Lost(_))));
    }
}

host_test! {
    fn consoles_leave_room_for_who_stops_the_instance() {
        let mut world = World::new("exec sleep 1000");
        world.plan.restart = Some(container::Restart { always: true, first_pause_ms: 1, longest_pause_ms: 1, calm_ms: 1 });
        world.start();
        let consoles: Vec<_> = (0..6).map(|_| world.running().attach_console()).collect();
        assert_eq!(consoles.iter().filter(|console| console.is_ok()).count(), 4, "{consoles:?}");
        let stopped = world.running().kill(PATIENCE).expect("killed");
        assert_eq!(stopped.expect("the companion wrote").end, End::Signal(libc::SIGKILL));
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Ended(_))));
    }
}

host_test! {
    fn what_was_frozen_with_its_companion_is_seen_and_thawed() {
        let world = World::new("exec sleep 1000");
        world.start();
        let payload = world.plan.cgroups.payload.clone().expect("cgroup 2");
        let freeze = payload.parent().expect("a folder").join("cgroup.freeze");
        let by_hand = || manifests::path_io::write_kernel_file(&freeze, "1").expect("frozen by hand");
        assert!(!world.running().frozen().expect("known"));
        by_hand();
        let began = std::time::Instant::now();
        // More than its queue takes.
        for _ in 0..20 {
            assert!(world.running().frozen().expect("known"));
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        world.running().thaw().expect("thawed");
        world.running().ask().expect("it answers again");
        by_hand();
        assert!(world.running().kill(PATIENCE).expect("killed").is_some());
    }
}
