//! What happens to a machine is told by QEMU, and a controller sees it at once.

use serde_json::json;

use crate::controller::{begin, soon, state, until};
use crate::guest::Guest;
use crate::machine_usb::monitor;
use crate::machines::{machine, world};

runtime::own_processes_test! {
    fn a_machine_that_somebody_pauses_by_its_monitor_goes_on_by_itself() {
        let world = world("initrd");
        world.write("vm.yaml", &machine("vm", "256MiB", ""));
        world.converge();
        let mut guest = Guest::of(&world, "vm");
        let pid = world.init("vm");
        let manifests = world.path().join("manifests").to_str().expect("UTF-8").to_owned();
        let running = begin(&world, &[&manifests]);
        until("it runs", &world, || {
            world.keel(&["status"]).stdout.contains("all is as it should be")
        });
        // Somebody looks at it until nothing of the start is under way any more: only the event can tell of the pause.
        std::thread::sleep(std::time::Duration::from_secs(3));
        monitor(&world, "stop", json!({}));
        // Whether QEMU runs it is known by the machine alone: asked for until it goes on.
        soon("a machine that was paused goes on", &world, || {
            state(&world, "vm").as_deref() == Some("Running")
        });
        assert_eq!(guest.run("echo on"), "on");
        assert_eq!(world.init("vm"), pid, "it was not restarted");
        running.leave();
        drop(guest);
        world.destroy();
    }
}
