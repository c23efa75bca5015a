//! A new repository, from nothing to a running instance.

use crate::world::TestWorld;

runtime::own_processes_test! {
    fn a_new_repository_is_applied_as_it_is() {
        let world = TestWorld::new();
        let folder = world.path().join("manifests/edge");
        let folder = folder.to_str().expect("UTF-8");
        world.keel(&["init", folder]).with(0);
        let plan = world.keel(&["plan", "--detailed-exitcode", folder]).with(2);
        assert!(plan.stdout.contains("instance/hello"), "{}", plan.stdout);
        world.keel(&["apply", "--yes", folder]).with(0);
        let said = world.keel(&["exec", "hello", "--", "hostname"]).with(0);
        assert_eq!(said.stdout, "hello\n");
        world.keel(&["plan", "--detailed-exitcode", folder]).with(0);
        world.keel(&["drift", "--detailed-exitcode", folder]).with(0);
        world.keel(&["destroy", "--yes", "--no-trash", folder]).with(0);
    }
}
