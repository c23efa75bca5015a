//! What is wanted is made, seen, and taken down again without a trace.

use crate::footprint;
use crate::world::{TestWorld, shell};

runtime::own_processes_test! {
    fn what_is_applied_is_there_and_what_is_destroyed_leaves_nothing() {
        let world = TestWorld::furnished();
        world.keel(&["plan", "--detailed-exitcode"]).with(2);
        world.converge();
        assert_eq!(world.keel(&["exec", "one", "--", "cat", "/data/gold"]).with(0).stdout, "precious\n");
        world.keel(&["exec", "two", "--", "ping", "-c1", "-W2", "10.77.0.10"]).with(0);
        // The check itself sees what is there.
        assert!(shell("nft list tables").contains("table"));
        assert!(footprint::processes().len() >= 5);
        world.destroy();
        // And all of it again on what is left.
        world.converge();
        world.destroy();
    }
}
