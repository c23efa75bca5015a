//! The script that people run first.

use std::process::Command;

use crate::world::{TestWorld, ended, program, shell};

runtime::own_processes_test! {
    fn the_quickstart_shows_what_it_says() {
        let world = TestWorld::new();
        // It keeps a folder in /srv; that of this test is its own. Not a tmpfs: older kernels cannot shift its owners.
        let own = world.path().join("srv");
        shell(&format!("mkdir {0} && mount --bind {0} /srv", own.display()));
        let here = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), std::path::PathBuf::from);
        let script = here.join("../examples/quickstart.sh");
        let keel = program();
        let run = ended(
            Command::new("bash")
                .arg(&script)
                .env("KEEL_PROGRAMS", keel.parent().expect("a folder"))
                .env("KEEL_STATE_DIR", world.state())
                .env("KEEL_CLAIMS", world.path().join("claims")),
        )
        .with(0);
        for said in [
            "hello from a folder of the host",
            "2 packets received",
            "live      128MiB",
            "Nothing to do",
            "limit is 67108864 again",
            "destroy --yes --no-trash examples/quickstart",
        ] {
            assert!(run.stdout.contains(said), "no {said:?} in\n{}\n{}", run.stdout, run.stderr);
        }
        let manifests = here.join("../examples/quickstart");
        let manifests = manifests.to_str().expect("UTF-8");
        world.keel(&["destroy", "--yes", "--no-trash", manifests]).with(0);
        shell("umount /srv");
        world.nothing_left();
    }
}
