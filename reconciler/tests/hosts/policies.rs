//! Policies of a source, met by the commands.

use crate::world::TestWorld;

const POLICY: &str = "\
apiVersion: evenkeel/v1
kind: Policy
metadata: { name: small }
spec:
  match: { kinds: [Instance] }
  expression: has(object.spec.limits.memory) && byteSize(object.spec.limits.memory) <= byteSize(\"64MiB\")
  message: every instance has a limit of at most 64 MiB
";

runtime::own_processes_test! {
    fn what_a_policy_denies_is_not_done_and_the_rest_is() {
        let world = TestWorld::furnished();
        world.write("policies.yaml", POLICY);
        // `two` has no limit.
        let plan = world.keel(&["plan"]).with(4);
        assert!(plan.stdout.contains("policy small: every instance has a limit of at most 64 MiB"), "{plan:?}");
        world.keel(&["apply", "--yes"]).with(7);
        assert_eq!(world.get("instance/one")["status"]["state"], "Running");
        world.keel(&["get", "instance/two"]).with(1);
        // Nothing passes it but git.
        world.keel(&["apply", "--yes", "--approve", "G106"]).with(7);
        world.write("policies.yaml", &POLICY.replace("kinds: [Instance]", "kinds: [Instance], names: [one]"));
        world.keel(&["plan"]).with(0);
        world.keel(&["apply", "--yes"]).with(0);
        world.keel(&["plan", "--detailed-exitcode"]).with(0);
        // One that is none stops everything, with its line.
        world.write("policies.yaml", &POLICY.replace("byteSize(object", "byteSise(object"));
        for command in ["validate", "plan", "apply"] {
            world
                .keel(&[command])
                .with(3)
                .saying("did you mean `byteSize`?")
                .saying("policies.yaml:6:15");
        }
        world.keel(&["explain", "P0401"]).with(0);
        world.keel(&["explain", "G106"]).with(0);
        world.destroy();
    }
}
