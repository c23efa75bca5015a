//! Start, monitor, console, end.

use runtime::native::machine;
use runtime::native::machine::plan::BootPlan;
use runtime::native::machine::seen::{Power, look};
use runtime::native::shim::{self, End, Found};
use runtime::own_processes_test;

use crate::world::{PATIENCE, World, chain};

own_processes_test! {
    fn a_machine_boots_answers_and_is_switched_off_from_inside() {
        let world = World::new();
        world.start();
        let mut guest = world.guest();
        assert_eq!(guest.run("nproc"), "1");
        let seen = look(&mut world.qmp()).expect("a look");
        assert_eq!((seen.power(), seen.processors, seen.memory), (Power::Running, 1, Some(256 << 20)));
        let running = world.running();
        guest.tell("poweroff");
        let record = world.end(&running);
        assert_eq!((record.end, record.reason.as_deref()), (End::Code(0), Some("guest-shutdown")));
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Ended(same)) if same == record));
    }
}

own_processes_test! {
    fn the_power_button_is_heard() {
        let world = World::new();
        world.start();
        world.guest();
        let running = world.running();
        let mut qmp = world.qmp();
        // It is told to whoever listens at that moment: one pressed before the guest's own program does is lost, so it is
        // pressed again, as `keel stop` does.
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE && qmp.power_down().is_ok() {
            if running.wait(std::time::Duration::from_secs(5)).expect("a look") {
                break;
            }
        }
        let record = world.end(&running);
        assert_eq!(record.reason.as_deref(), Some("guest-shutdown"));
    }
}

own_processes_test! {
    fn a_reboot_from_inside_is_no_end() {
        let world = World::new();
        let started = world.start();
        let mut guest = world.guest();
        guest.run("echo before >/tmp/mark");
        guest.tell("reboot");
        let mut again = String::new();
        let began = std::time::Instant::now();
        while again.matches("keel-guest ready").count() < 2 {
            assert!(began.elapsed() < PATIENCE, "{again}");
            std::thread::sleep(std::time::Duration::from_millis(200));
            again = std::fs::read_to_string(world.plan.run_dir.join("console.log")).expect("the log");
        }
        assert_eq!(world.running().init(), Some(started.init));
        assert_eq!(guest.run("ls /tmp"), "");
    }
}

own_processes_test! {
    fn a_panic_of_the_guest_is_told() {
        let mut world = World::new();
        if let BootPlan::Direct { cmdline, .. } = &mut world.plan.hardware.boot {
            // Stays where it is instead of rebooting: the device for panics tells.
            *cmdline = cmdline.replace("panic=-1", "panic=0");
        }
        world.start();
        let mut guest = world.guest();
        let running = world.running();
        guest.tell("echo c >/proc/sysrq-trigger");
        let record = world.end(&running);
        assert_eq!(record.reason.as_deref(), Some("guest-panicked"));
    }
}

own_processes_test! {
    fn what_the_emulator_complains_of_is_kept() {
        let mut world = World::new();
        world.plan.hardware.memory.bytes = 1 << 60;
        world.plan.hardware.memory.most = 0;
        world.start();
        let running = shim::adopt(&world.plan.run_dir).expect("a look");
        if let Found::Running(running) = running {
            running.gone(PATIENCE).expect("an end");
        }
        let said = machine::complaints(&world.plan.run_dir);
        assert!(said.contains("memory"), "{said}");
    }
}

own_processes_test! {
    fn a_failing_start_names_the_call_and_leaves_nothing() {
        let mut world = World::new();
        world.plan.emulator = "/usr/bin/no-such-emulator".into();
        let error = world.try_start().expect_err("there is no such program");
        let text = chain(&error);
        assert!(text.contains("no-such-emulator"), "{text}");
        assert!(matches!(shim::adopt(&world.plan.run_dir), Ok(Found::Absent)));
    }
}
